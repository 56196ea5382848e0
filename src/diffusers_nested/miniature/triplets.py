"""Training sets of the miniature world, drawn by lot: photos, captions and targets."""

import zlib
from collections.abc import Callable, Mapping

import numpy as np

from ..data import Triplet
from ..errors import NestedAdapterError
from .drawing import render
from .language import plain_caption
from .world import Look, Person, Pet, Scene, portrait, random_person, random_pet, random_scene, snapshot

_DRAWN: Mapping[str, Callable[..., Person | Pet]] = {"people": random_person, "pets": random_pet}


def caption_of(scene: Scene) -> str:
    """A training caption with "person" and "pet", in a wording that depends on the scene alone."""
    return plain_caption(scene, np.random.default_rng(zlib.crc32(repr(scene).encode()))).text


def draw_triplets(
    name: str,
    count: int,
    seed: int,
    held_out: bool = False,
    photo_is_target: bool = False,
) -> list[Triplet]:
    """Draw (photo, caption, target) of many identities; one target in four shows a person and a pet.

    Seven photos in ten are portraits, the others show the subject in some scene. The caption says nothing about the
    identity: what the picture shows of it can only come from the photo.

    Args:
        name: ``"people"`` or ``"pets"``.
        count: How many.
        seed: The same seed draws the same triplets.
        held_out: Draw identities that no model of the miniature was trained on, not the others.
        photo_is_target: Use the target as the photo, as the paper does for pets (section 3.3).

    Raises:
        NestedAdapterError: ``name`` is neither of the two.
    """
    if name not in _DRAWN:
        raise NestedAdapterError(f"The miniature has no triplets of {name!r}. Draw {' or '.join(_DRAWN)}.")
    rng = np.random.default_rng(seed)
    triplets = []
    for _ in range(count):
        subject = _DRAWN[name](rng, held_out)
        photo = portrait(subject) if rng.random() < 0.7 else snapshot(rng, subject)
        target = _target(rng, subject)
        seen, wanted = render(photo, rng), render(target, rng)
        triplets.append(Triplet(wanted if photo_is_target else seen, caption_of(target), wanted))
    return triplets


def _target(rng: np.random.Generator, subject: Person | Pet) -> Scene:
    subjects: tuple[Person | Pet, ...] = (subject,)
    if rng.random() < 0.25:
        other = random_pet(rng) if isinstance(subject, Person) else random_person(rng)
        subjects = (subject, other) if rng.random() < 0.5 else (other, subject)
    scene = random_scene(rng, subjects)
    # the caption must hold the subject's word: no king, wizard, chef or clown
    looks = tuple(Look(look.shirt, look.hat, look.expression) for look in scene.looks)
    return Scene(subjects, looks, scene.place, scene.style)
