"""Triplets as the paper trains."""

import numpy as np

from diffusers_nested.miniature.world import CLOTH
from recipes.miniature.bundled.photographs import PLACES, SHIRTS, draw_photographs, head_of


def test_they_are_photographs_and_parts_of_themselves():
    for name, word in (("people", "person"), ("pets", "pet")):
        for triplet in draw_photographs(name, 40, seed=1):
            assert word in triplet.text.split() or f"{word}," in triplet.text
            assert not {"watercolor", "watercolour", "pencil", "neon", "hat", "cap"} & set(triplet.text.split())
            colours = {tuple(one) for one in triplet.input_image.reshape(-1, 3)}
            assert colours <= {tuple(one) for one in triplet.target_image.reshape(-1, 3)}
            assert triplet.input_image.shape == triplet.target_image.shape == (32, 32, 3)
    assert set(SHIRTS) - {"grey"} < set(CLOTH) and len(PLACES) == 3


def test_the_same_seed_draws_the_same():
    first, again, other = (draw_photographs("people", 5, seed=seed) for seed in (3, 3, 4))
    pairs = list(zip(first, again, strict=True))
    assert all(np.array_equal(a.target_image, b.target_image) and a.text == b.text for a, b in pairs)
    assert not all(np.array_equal(a.target_image, b.target_image) for a, b in zip(first, other, strict=True))


def test_a_head_is_the_upper_part_of_a_subject():
    mask = np.zeros((32, 32), bool)
    mask[8:20, 12:20] = True  # the head
    mask[20:30, 6:26] = True  # the body
    picture = np.zeros((32, 32, 3), np.uint8)
    picture[8:20, 12:20] = 200
    picture[20:30, 6:26] = 90
    crop = head_of(picture, mask)
    assert (crop == 200).all(2).mean() > 0.4 and (crop == 90).all(2).mean() < 0.2
