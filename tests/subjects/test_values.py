"""The values of a subject: what is refused, and what comes out in normal form."""

import dataclasses
from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image

from diffusers_nested.errors import SubjectError
from diffusers_nested.subjects import Subject
from subject_cases import CAT, DOG, INF, NAN, ONE, PHOTO, TOKENS, only, resolve


def test_subject_is_a_frozen_record_of_optional_fields():
    assert [field.name for field in dataclasses.fields(Subject)] == [
        "image",
        "image_embeds",
        "token",
        "adapter_name",
        "scale",
        "image_weights",
        "token_indices",
        "mask",
        "start",
        "end",
    ]
    unset = vars(Subject())
    assert (unset.pop("start"), unset.pop("end")) == (0.0, 1.0)
    assert all(value is None for value in unset.values())
    with pytest.raises(dataclasses.FrozenInstanceError):
        Subject().scale = 1.0  # pyright: ignore[reportAttributeAccessIssue]


def test_subjects_with_tensors_are_compared_without_error():
    assert Subject(image=CAT) != Subject(image=CAT.clone())
    assert len({Subject(image=CAT), Subject(image_embeds=TOKENS)}) == 2


class TestRefusedImages:
    @pytest.mark.parametrize(
        "image",
        [
            np.zeros(8),
            np.zeros((3, 8, 8)),
            np.zeros((8, 8, 2)),
            np.zeros((1, 8, 8, 3)),
            np.zeros((0, 8, 3)),
            torch.zeros(()),
            torch.zeros(8, 8),
            torch.zeros(8, 8, 3),
            torch.zeros(2, 8, 8),
            torch.zeros(1, 3, 8, 8),
            torch.zeros(3, 0, 8),
        ],
        ids=lambda image: str(tuple(image.shape)),
    )
    def test_wrong_shape_of_an_image(self, image):
        with pytest.raises(SubjectError) as error:
            resolve(image, adapters=ONE)
        assert str(tuple(image.shape)) in str(error.value)

    @pytest.mark.parametrize(
        "image",
        [
            np.full((8, 8), NAN),
            np.full((8, 8), "a"),
            np.full((8, 8), None),
            np.full((8, 8), True),
            np.full((8, 8), 255.0),
            torch.full((3, 8, 8), -0.5),
            torch.full((3, 8, 8), 255),
            torch.full((3, 8, 8), INF),
        ],
        ids=lambda image: str(image.dtype),
    )
    def test_unusable_pixels(self, image):
        with pytest.raises(SubjectError, match=str(image.dtype)):
            resolve(image, adapters=ONE)


class TestMasks:
    @pytest.mark.parametrize(
        "mask",
        [
            np.full((2, 2), "a"),
            np.full((2, 2), None),
            torch.ones(2, 2, dtype=torch.complex64),
            torch.ones(2, 2, device="meta"),
            torch.ones(2, 2).to_sparse(),
        ],
        ids=lambda mask: f"{mask.dtype} {getattr(mask, 'layout', '')}",
    )
    def test_what_holds_no_numbers(self, mask):
        with pytest.raises(SubjectError, match=r"mask of .* Convert it"):
            only(Subject(PHOTO, mask=mask))

    def test_arrays_in_any_order(self):
        rows = np.array([[0.0, 0.25], [0.5, 1.0]], np.float32)
        read_only = rows.copy()
        read_only.flags.writeable = False
        for mask in (rows[::-1][::-1], rows.astype(">f4"), read_only, rows.astype(np.float64)):
            got = only(Subject(PHOTO, mask=mask)).mask
            assert got is not None and np.array_equal(got.numpy(), rows)
        backwards = only(Subject(PHOTO, mask=rows[::-1])).mask
        assert backwards is not None and np.array_equal(backwards.numpy(), rows[::-1])

    def test_a_rounding_beyond_the_range_is_cut_off(self):
        got = only(Subject(PHOTO, mask=np.array([[-1e-6, 1 + 1e-6], [0.5, 1.0]], np.float32))).mask
        assert got is not None and got.tolist() == [[0.0, 1.0], [0.5, 1.0]]
        for far in (-0.01, 1.01, 255.0, float("nan")):
            with pytest.raises(SubjectError, match=rf"from .*{far:g}.* expected 0 to 1.*clip\(0, 1\)"):
                only(Subject(PHOTO, mask=np.array([[0.5, far]], np.float32)))
        with pytest.raises(SubjectError, match=r"shape \(1, 2, 2\), expected \(height, width\)"):
            only(Subject(PHOTO, mask=np.ones((1, 2, 2), np.float32)))

    @pytest.mark.parametrize("form", [np.asarray, torch.from_numpy, Image.fromarray], ids=["numpy", "torch", "PIL"])
    def test_ones_of_uint8_are_not_white(self, form):
        with pytest.raises(SubjectError, match="0 and 1 in uint8"):
            only(Subject(PHOTO, mask=form(np.ones((2, 2), np.uint8))))
        assert only(Subject(PHOTO, mask=np.ones((2, 2), bool))).mask.all()

    def test_transparent_parts_are_no_mask(self):
        mask = Image.new("RGBA", (4, 2), (255, 255, 255, 0))
        mask.paste((255, 255, 255, 255), (0, 0, 2, 2))
        assert only(Subject(PHOTO, mask=mask)).mask.tolist() == [[1, 1, 0, 0]] * 2

    def test_masks_are_turned_as_their_exif_data_say(self, tmp_path):
        exif = Image.Exif()
        exif[0x0112] = 6  # stored lying on its left side
        Image.fromarray(np.array([[255, 0, 0, 0], [0] * 4], np.uint8)).save(tmp_path / "mask.png", exif=exif)
        for mask in (tmp_path / "mask.png", Image.open(tmp_path / "mask.png")):
            assert only(Subject(PHOTO, mask=mask)).mask.tolist() == [[0, 1], [0, 0], [0, 0], [0, 0]]


class TestNumbersOfNumpy:
    def test_infinite_ones_are_refused(self):
        for weight in (np.float16("inf"), np.float32("inf")):
            with pytest.raises(SubjectError):
                only(Subject([PHOTO, PHOTO], image_weights=[weight, 1.0]))

    @pytest.mark.filterwarnings("error")
    def test_others_are_numbers(self):
        got = only(Subject([PHOTO, PHOTO], image_weights=[np.float16(0.5), np.float32(0.5)], scale=np.float16(2)))
        assert got.scale == 2.0


class TestRefusedEmbeds:
    @pytest.mark.parametrize("shape", [(4, 6), (1, 1, 4, 6), (6,), (0, 4, 6), (1, 0, 6)], ids=str)
    def test_shape(self, shape: tuple[int, ...]):
        for form in (torch.zeros(shape), [TOKENS, torch.zeros(shape)], {"person": torch.zeros(shape)}):
            with pytest.raises(SubjectError) as error:
                resolve(embeds=form, adapters=ONE)
            assert str(shape) in str(error.value)

    @pytest.mark.parametrize("bad", [NAN, INF, -INF])
    def test_not_finite(self, bad: float):
        tokens = TOKENS.clone()
        tokens[0, 2, 3] = bad
        with pytest.raises(SubjectError, match=r"\(1, 4, 6\)"):
            resolve(embeds=tokens, adapters=ONE)

    def test_not_floating_point(self):
        with pytest.raises(SubjectError, match=r"torch\.int64"):
            resolve(embeds=TOKENS.long(), adapters=ONE)

    @pytest.mark.parametrize("other", [torch.zeros(1, 5, 6), torch.zeros(1, 4, 7)], ids=lambda x: str(x.shape))
    def test_different_shapes(self, other: torch.Tensor):
        with pytest.raises(SubjectError) as error:
            resolve(embeds=[TOKENS, other], adapters=ONE)
        assert "(1, 4, 6)" in str(error.value)
        assert str(tuple(other.shape)) in str(error.value)

    @pytest.mark.parametrize("value", [PHOTO, DOG, "tokens.pt"], ids=lambda value: type(value).__name__)
    def test_type(self, value):
        with pytest.raises(SubjectError, match=type(value).__name__):
            resolve(embeds=value, adapters=ONE)


def short(value) -> str:
    return repr(value)[:20]


class TestRefusedValues:
    @pytest.mark.parametrize(
        "weights",
        [
            *[(1,), (1, 1, 1), (), (1, -1), (0, 0), (1, NAN), (1, INF), (1, 10**400), (1, "1"), (True, True)],
            *[1.0, "11", torch.ones(3)],
        ],
        ids=short,
    )
    def test_image_weights(self, weights):
        with pytest.raises(SubjectError, match=r"image_weights.*2 "):
            resolve(Subject([PHOTO, DOG], image_weights=weights), adapters=ONE)
        with pytest.raises(SubjectError, match=r"image_weights.*2 "):
            resolve(Subject(image_embeds=[TOKENS, TOKENS], image_weights=weights), adapters=ONE)

    @pytest.mark.parametrize("weights", [[3, 1], (0, 0.5), np.array([3, 1]), torch.tensor([0.25, 0.75])], ids=repr)
    def test_image_weights_that_serve(self, weights):
        got = only(Subject([PHOTO, DOG], image_weights=weights)).image_weights
        assert got == tuple(float(weight) for weight in weights)
        assert all(type(weight) is float for weight in got or ())

    @pytest.mark.parametrize("scale", [NAN, INF, -INF, -0.1, True, False, "1", [1.0], 1e39, 10**400], ids=short)
    def test_scale(self, scale):
        with pytest.raises(SubjectError) as error:
            resolve(Subject(PHOTO, scale=scale), adapters=ONE)
        assert repr(scale) in str(error.value)

    @pytest.mark.parametrize("scale", [0, 1, 2.5, np.float32(0.5), Fraction(1, 2)], ids=repr)
    def test_scale_that_serves(self, scale):
        got = only(Subject(PHOTO, scale=scale)).scale
        assert got == float(scale)
        assert type(got) is float

    @pytest.mark.parametrize("indices", [(), (-1,), (1, 1), (1.0,), ("1",), (True,), 3, "3", (None,)], ids=repr)
    def test_token_indices(self, indices):
        with pytest.raises(SubjectError) as error:
            resolve(Subject(PHOTO, token_indices=indices), adapters=ONE)
        assert repr(indices) in str(error.value)

    @pytest.mark.parametrize("indices", [[5], (6, 5), range(2, 4), [np.int64(3)]], ids=repr)
    def test_token_indices_that_serve(self, indices):
        got = only(Subject(PHOTO, token_indices=indices)).token_indices
        assert got == tuple(indices)
        assert all(type(index) is int for index in got or ())

    @pytest.mark.parametrize("word", ["", "  ", 3, b"pet"], ids=repr)
    def test_word(self, word):
        for image, token in ((PHOTO, word), ({word: PHOTO}, None), (Subject(PHOTO, token=word), None)):
            with pytest.raises(SubjectError) as error:
                resolve(image, token=token, adapters=ONE)
            assert repr(word) in str(error.value)

    def test_none_as_a_word_of_a_dict(self):
        with pytest.raises(SubjectError, match="None"):
            resolve({None: PHOTO}, adapters=ONE)

    @pytest.mark.parametrize(
        "form",
        [
            {"person": PHOTO},
            Subject(PHOTO),
            [Subject(PHOTO)],
            [{"person": PHOTO}],
            [[Subject(PHOTO)]],
        ],
    )
    def test_word_given_beside_a_form_that_names_its_words(self, form):
        with pytest.raises(SubjectError, match="nested_adapter_token='child'"):
            resolve(form, token="child", adapters=ONE)
