"""What a form means: subjects, keywords and pictures to draw, or an error that names the field."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from diffusers_nested import NestedAdapterError, SubjectError
from diffusers_nested.app.masks import painted
from diffusers_nested.app.shots import Compare, Drawn, Shot, arranged, shots_of
from diffusers_nested.app.wish import SubjectForm, Wish, subjects_of


@pytest.fixture
def photo(tmp_path: Path) -> str:
    file = tmp_path / "photo.png"
    Image.new("RGB", (8, 6), (10, 20, 30)).save(file)
    return str(file)


def drawing(*layers: np.ndarray) -> dict[str, Any]:
    return {"background": None, "layers": list(layers), "composite": None}


def test_subjects_have_the_fields_of_their_form(photo: str):
    mask = np.zeros((4, 4, 4), np.uint8)
    mask[1, 2] = (79, 70, 229, 153)
    forms = [
        SubjectForm([photo, photo], " person ", share=0.25, mask=drawing(mask)),
        SubjectForm(word="pet"),  # without photos it is nobody
        SubjectForm([photo], "king", "person"),
    ]
    subjects = subjects_of(forms)
    assert list(subjects) == ["Subject 1", "Subject 3"]
    first, third = subjects.values()
    assert (first.token, first.adapter_name, first.image_weights) == ("person", None, [0.75, 0.25])
    assert np.argwhere(first.mask).tolist() == [[1, 2]] and np.asarray(first.mask).max() == 1
    assert (third.token, third.adapter_name, third.image_weights, third.mask) == ("king", "person", None, None)
    assert isinstance(third.image, list)
    assert [image.getpixel((0, 0)) for image in third.image] == [(10, 20, 30)]


def test_a_mask_is_where_any_layer_is_painted():
    one, other = (np.zeros((2, 3, 4), np.uint8) for _ in range(2))
    one[0, 0, 3], other[1, 2, 3] = 255, 1
    assert np.array_equal(painted(drawing(one, other)), [[1, 0, 0], [0, 0, 1]])
    for nothing in (None, {}, drawing(), {"layers": None}, drawing(np.full((2, 3, 4), (9, 9, 9, 0), np.uint8))):
        assert painted(nothing) is None


def test_keywords_of_a_picture(photo: str):
    subjects = subjects_of([SubjectForm([photo], "person")])
    wish = Wish("a person", " ", subjects, scale=2.0, seed=7, num_inference_steps=3, guidance_scale=5.0)
    plain, personal = wish.keywords(7, None), wish.keywords(8, 0.5)
    assert plain.pop("generator").initial_seed() == 7 and personal.pop("generator").initial_seed() == 8
    (subject,) = personal.pop("nested_adapter_image")
    assert (subject.token, subject.scale) == ("person", 0.5)
    assert plain == personal
    assert plain == {"prompt": "a person", "negative_prompt": None, "num_inference_steps": 3, "guidance_scale": 5.0}


def test_pictures_of_a_series_are_drawn_once(photo: str):
    wish = Wish("a person", subjects=subjects_of([SubjectForm([photo], "person")]), scale=2.0, seed=7)
    shots = {compare: [(shot.seed, shot.scale) for shot in shots_of(wish, compare)] for compare in Compare}
    assert shots[Compare.NOTHING] == [(7, 2.0), (7, None)]
    assert shots[Compare.SEEDS] == [(7, 2.0), (7, None), (8, 2.0), (9, 2.0), (10, 2.0)]
    assert shots[Compare.SCALES] == [(7, 2.0), (7, None), (7, 0.5), (7, 1.0), (7, 1.5)]
    drawn = {shot: Image.new("L", (1, 1), i) for i, shot in enumerate(shots_of(wish, Compare.SCALES))}
    pictures = arranged(wish, Compare.SCALES, Drawn(drawn, []))
    assert (pictures.plain.getpixel((0, 0)), pictures.personal.getpixel((0, 0))) == (1, 0)
    assert [picture.getpixel((0, 0)) for picture, _ in pictures.series] == [2, 3, 4, 0]
    assert [caption for _, caption in pictures.series][:2] == ["λ = 0.5", "λ = 1"]


def test_without_photos_only_the_prompt_is_drawn():
    wish = Wish("a person", seed=7)
    assert shots_of(wish, Compare.NOTHING) == shots_of(wish, Compare.SCALES) == [Shot(7, None)]
    shots = shots_of(wish, Compare.SEEDS)
    assert [(shot.seed, shot.scale) for shot in shots] == [(seed, None) for seed in (7, 8, 9, 10)]
    drawn = Drawn(dict.fromkeys(shots, Image.new("L", (1, 1))), [])
    assert arranged(wish, Compare.SEEDS, drawn).personal is None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"prompt": "  "}, "The prompt is empty"),
        ({"scale": None}, "The scale is empty, expected a number of at least 0"),
        ({"scale": 1e39}, r"The scale is 1e\+39"),
        ({"scale": float("nan")}, "The scale is nan"),
        ({"seed": -1}, "The seed is -1, expected a whole number from 0"),
        ({"seed": 1.5}, "The seed is 1.5"),
        ({"num_inference_steps": 0}, "The number of steps is 0, expected a whole number from 1 to 200"),
        ({"num_inference_steps": 10**9}, "The number of steps"),
        ({"guidance_scale": "4"}, "The guidance scale is 4"),
        ({"guidance_scale": float("inf")}, "The guidance scale is inf"),
    ],
)
def test_values_that_cannot_be_used_are_named(values: dict[str, Any], message: str):
    with pytest.raises(NestedAdapterError, match=message):
        Wish(**{"prompt": "a person", **values})


def test_forms_that_cannot_be_used_are_named(photo: str, tmp_path: Path):
    text = tmp_path / "secret-name.txt"
    text.write_text("no picture")
    cases = [
        (SubjectForm([photo], " "), "Subject 2 has photos but no word"),
        (SubjectForm([photo, str(text)], "pet"), "Photo 2 of Subject 2 cannot be read"),
        (SubjectForm([photo, photo], "pet", share=2.0), "The blend of Subject 2 is 2.0"),
        (SubjectForm([photo, photo], "pet", share=None), "The blend of Subject 2 is empty"),
    ]
    for form, message in cases:
        with pytest.raises((SubjectError, NestedAdapterError), match=message) as caught:
            subjects_of([SubjectForm(), form])
        assert str(tmp_path) not in str(caught.value)  # where visitors' photos lie is nobody's business
