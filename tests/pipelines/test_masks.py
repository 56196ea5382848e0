"""Subjects that act in a part of the picture only."""

import numpy as np
import pytest
import torch
from brute_force import brute_subject_of, install
from cases import CASES, PROMPT
from PIL import Image

from diffusers_nested import Subject, SubjectError
from tiny_pipeline import photo

CASE = CASES[0]
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def pipeline(adapters):
    pipeline = CASE.build()
    pipeline.load_nested_adapter([adapters["person"], adapters["pet"]])
    return pipeline


def run(pipeline, *subjects, **keywords):
    return CASE.run(pipeline, nested_adapter_image=list(subjects), **keywords)


def formula(subjects):
    plain = CASE.build()
    install(plain.unet, lambda count: [[], subjects])
    return CASE.run(plain)


def picture_mask(columns: slice) -> np.ndarray:
    """A mask of the 16 x 16 picture with 1 in some columns."""
    mask = np.zeros((16, 16), np.float32)
    mask[:, columns] = 1
    return mask


def by_query(mask: np.ndarray) -> dict[int, torch.Tensor]:
    """The mask at the 8 x 8 and 4 x 4 queries of the tiny UNet: means of squares of pixels."""
    tensor = torch.from_numpy(mask)
    return {n * n: tensor.reshape(n, 16 // n, n, 16 // n).mean((1, 3)).flatten() for n in (8, 4)}


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_a_masked_subject_equals_the_formula(pipeline, adapters, scale):
    mask = picture_mask(slice(0, 7))  # an odd edge: some queries lie half inside
    ours = run(pipeline, Subject(photo(1), token="person", mask=mask, scale=scale))
    expected = formula([brute_subject_of(adapters["person"], [photo(1)], masks=by_query(mask), scale=scale)])
    assert np.abs(ours - expected).max() < TOLERANCE
    everywhere = run(pipeline, Subject(photo(1), token="person", scale=scale))
    assert np.abs(ours - everywhere).max() > 10 * TOLERANCE


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_two_masked_subjects_at_one_word_equal_the_formula(pipeline, adapters, scale):
    left, right = picture_mask(slice(0, 7)), picture_mask(slice(7, 16))
    ours = run(
        pipeline,
        Subject(photo(1), token="person", mask=left, scale=scale),
        Subject(photo(2), token="person", adapter_name="person", mask=right, scale=scale),
    )
    made = [
        brute_subject_of(adapters["person"], [photo(i)], masks=by_query(mask), scale=scale)
        for i, mask in ((1, left), (2, right))
    ]
    assert np.abs(ours - formula(made)).max() < TOLERANCE


def test_a_masked_subject_beside_one_without_equals_the_formula(pipeline, adapters):
    mask = picture_mask(slice(4, 12))
    ours = run(pipeline, Subject(photo(1), token="person", mask=mask), Subject(photo(2), token="pet"))
    made = [
        brute_subject_of(adapters["person"], [photo(1)], masks=by_query(mask)),
        brute_subject_of(adapters["pet"], [photo(2)], PROMPT, "pet"),
    ]
    assert np.abs(ours - formula(made)).max() < TOLERANCE


def test_where_masks_overlap_the_word_is_shared(pipeline, adapters):
    everywhere = np.ones((16, 16), np.float32)
    subjects = [Subject(photo(i), token="person", adapter_name="person", mask=everywhere) for i in (1, 2)]
    half = {n: torch.full((n,), 0.5) for n in (64, 16)}
    made = [brute_subject_of(adapters["person"], [photo(i)], masks=half) for i in (1, 2)]
    assert np.abs(run(pipeline, *subjects) - formula(made)).max() < TOLERANCE


def test_all_kinds_of_masks_mean_the_same(pipeline):
    mask = picture_mask(slice(0, 8))
    expected = run(pipeline, Subject(photo(1), token="person", mask=mask))
    picture = Image.fromarray((mask * 255).astype(np.uint8))
    for given in (picture, torch.from_numpy(mask), mask > 0, (mask * 255).astype(np.uint8), mask[::2, ::2]):
        assert np.array_equal(run(pipeline, Subject(photo(1), token="person", mask=given)), expected)


def test_a_mask_of_ones_is_no_mask(pipeline):
    masked = run(pipeline, Subject(photo(1), token="person", mask=np.ones((3, 5))))
    assert np.abs(masked - run(pipeline, Subject(photo(1), token="person"))).max() < TOLERANCE


def test_masks_differ_between_the_prompts_of_a_batch(pipeline):
    noise = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(5))
    masks = [picture_mask(slice(0, 8)), picture_mask(slice(8, 16))]
    subjects = [[Subject(photo(i), token="person", mask=mask)] for i, mask in enumerate(masks)]
    both = CASE.run(pipeline, prompt=[PROMPT, PROMPT], nested_adapter_image=subjects, latents=noise.clone())
    for i in range(2):
        single = run(pipeline, *subjects[i], latents=noise[i : i + 1].clone())
        assert np.abs(both[i] - single[0]).max() < TOLERANCE


@pytest.mark.parametrize(
    "mask",
    ["left", np.zeros((4, 4)), np.ones((4, 4, 3)), np.ones((4, 0)), np.full((4, 4), 2.0), np.full((4, 4), np.nan)],
    ids=["text", "zero", "channels", "empty", "too large", "nan"],
)
def test_bad_masks_are_refused(pipeline, mask):
    with pytest.raises(SubjectError):
        run(pipeline, Subject(photo(1), token="person", mask=mask))


def test_two_subjects_at_one_word_need_two_masks(pipeline):
    masked = Subject(photo(1), token="person", mask=picture_mask(slice(0, 8)))
    with pytest.raises(SubjectError):
        run(pipeline, masked, Subject(photo(2), token="person", adapter_name="person"))
