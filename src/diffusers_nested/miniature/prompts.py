"""Prompts of the miniature, and what they name in the terms of its recogniser."""

from collections.abc import Sequence

from .recogniser import TRAITS

PROMPTS = (
    "a photo of a {} wearing a red shirt on the beach",
    "a photo of a smiling {} wearing a blue shirt in the snow",
    "a photo of a sad {} wearing a yellow shirt in the forest",
    "a photo of a {} wearing a white shirt and a green hat in the desert",
    "a watercolor of a {} wearing a purple shirt in the city",
)
_STYLES = {"watercolor": "watercolor", "pencil drawing": "pencil", "neon picture": "neon", "photo": "photo"}


def words_of(prompt: str) -> list[str]:
    """The words of a prompt, in lower case and without commas."""
    return prompt.lower().replace(",", " ").split()


def wanted(prompt: str, order: Sequence[str]) -> list[dict[str, str]]:
    """What a prompt asks for.

    Args:
        prompt: The prompt.
        order: The words of its subjects, in the order in which the prompt names them.

    Returns:
        Per subject, those of place, style, shirt, hat and expression that the prompt names. Place and style hold for
        all subjects; clothes belong to the subject before them, an expression to the one after it.
    """
    words = words_of(prompt)
    text = f" {' '.join(words)} "
    styles = [answer for style, answer in _STYLES.items() if f" {style} of " in text]
    sites = [word for word in words if word in TRAITS["scene.place"]]
    shared = [*(("style", style) for style in styles[:1]), *(("place", site) for site in sites[:1])]
    named = [dict(shared) for _ in order]
    places = [words.index(word) for word in order]
    for i, word in enumerate(words):
        before = max((n for n, place in enumerate(places) if place < i), default=0)
        after = min((n for n, place in enumerate(places) if place > i), default=len(order) - 1)
        if word in ("shirt", "hat") and words[i - 1] in TRAITS[f"scene.{word}"]:
            named[before][word] = words[i - 1]
        elif word in TRAITS["scene.expression"]:
            named[after]["expression"] = word
    return named
