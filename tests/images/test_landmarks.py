"""The aligned crop of a photographed face; all but the last skipped where the extra ``faces`` is not installed."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import diffusers_nested
from diffusers_nested import DependencyError, FaceNotFoundError, SubjectError
from diffusers_nested.images import landmarks

PHOTO = Path(__file__).parents[1] / "data" / "photos" / "astronaut.jpg"


@pytest.fixture
def finder() -> landmarks.FaceFinder:
    pytest.importorskip("dlib")
    pytest.importorskip("face_recognition_models")
    return landmarks.face_finder()


def test_the_face_is_found_where_it_is(finder):
    with Image.open(PHOTO) as photo:
        (square,) = finder.find(photo)
    # her eyes are at about (93, 101) and (136, 103), her mouth at (115, 140): read off the photo
    eyes, mouth = np.array([114.5, 102]), np.array([115, 140])
    np.testing.assert_allclose(square.mean(0), eyes + 0.1 * (mouth - eyes), atol=2)
    assert landmarks.side_of(square) == pytest.approx(4 * 43, rel=0.05)


def test_crops_of_a_photo_turned_or_enlarged_are_alike(finder):
    crop = np.asarray(diffusers_nested.prepare_face(PHOTO), dtype=float)
    assert crop.shape == (512, 512, 3)
    with Image.open(PHOTO) as photo:
        large = photo.resize((photo.width * 6, photo.height * 6), Image.Resampling.BICUBIC)  # searched in a smaller one
        turned = photo.rotate(12, Image.Resampling.BICUBIC, expand=True)
    for other in (large, turned):
        again = np.asarray(diffusers_nested.prepare_face(other), dtype=float)
        inner = (slice(128, 384), slice(128, 384))
        assert np.abs(again[inner] - crop[inner]).mean() < 12 < np.abs(again[inner][:, ::-1] - crop[inner]).mean()


def test_without_a_face(finder):
    with pytest.raises(FaceNotFoundError, match=r"100 x 80 pixels.*another photo") as caught:
        diffusers_nested.prepare_face(Image.new("RGB", (100, 80), "grey"))
    assert isinstance(caught.value, SubjectError)


def test_the_extra_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "dlib", None)
    landmarks.face_finder.cache_clear()
    with pytest.raises(DependencyError, match="the extra 'faces'"):
        diffusers_nested.prepare_face(PHOTO)
