"""Prompts for the next base, in the place of those of ``diffusers_nested.miniature.prompts``.

They are held-out wordings: no style, place or garment stands in them as in any training caption (see
``diffusers_nested.miniature.language.splits``).
"""

PROMPTS = (
    "a {} dressed in a red blouse, a real photo, at the seaside",
    "in winter, a snapshot of a smiling {} dressed in a blue blouse",
    "as a photo: a sad {} having on a yellow jumper among trees",
    "a {} dressed in a snow white sweater and a green cap, a real photo, in a dry desert",
    "a {} wearing a lilac top, in watercolour, downtown",
    "by a window, a glowing neon image of a {} dressed in a crimson sweater",
)
PAIR_PROMPTS = (
    "a smiling person dressed in a blue blouse and a pet dressed in a red blouse, a real photo, at the seaside",
    "in winter, a snapshot of a pet dressed in a green cap and a sad person having on a snow white jumper",
    "a person wearing an olive top and a pet, in watercolour, in a dry desert",
    "as a photo: a sad person who has on a lemon cap and a pet dressed in a red blouse downtown",
    "as a photo: a pet wearing a lilac top and a person dressed in a blue blouse in a green forest",
)
