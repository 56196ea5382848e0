"""Faces by dlib, on a portrait that comes with scikit-image; skipped where the extra ``faces`` is not installed."""

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from diffusers_nested.evaluation import Reference, Shot, make_metric
from diffusers_nested.evaluation.metrics.outside import change_outside, grown
from diffusers_nested.images.faces import DlibFaces

pytest.importorskip("dlib")
pytest.importorskip("face_recognition_models")


@pytest.fixture(scope="module")
def astronaut() -> Image.Image:
    data = pytest.importorskip("skimage.data")
    return Image.fromarray(data.astronaut())


@pytest.fixture(scope="module")
def faces():
    return DlibFaces()


def test_the_face_is_found(faces, astronaut):
    left, top, right, bottom = faces.locate(astronaut)
    # her eyes are at about (205, 115) and (245, 110), her mouth at (225, 155) of 512 x 512
    for x, y in ((205, 115), (245, 110), (225, 155)):
        assert left < x / 512 < right and top < y / 512 < bottom
    assert right - left < 0.3
    assert faces.locate(Image.new("RGB", (256, 256), "grey")) is None


def test_a_person_is_known_again(faces, astronaut):
    darker = ImageEnhance.Brightness(astronaut.resize((400, 400)).crop((50, 0, 350, 300))).enhance(0.7)
    one, again, none = faces.embed([astronaut, darker, Image.new("RGB", (256, 256), "grey")])
    assert one.shape == (128,) and none is None
    assert faces.similarity(one, one) == pytest.approx(1.0)
    assert faces.similarity(one, again) == pytest.approx(1 - np.sqrt(((one - again) ** 2).sum()))
    assert faces.similarity(one, again) > 0.6


def test_a_missing_face_is_a_failure(astronaut):
    metric = make_metric("identity", "dlib")
    ada = Reference("ada", {"person": [astronaut]})
    metric.check([ada])
    shots = [Shot(ada, "a person", 0, seed) for seed in (0, 1)]
    rows = metric.score([astronaut, Image.new("RGB", (256, 256), "grey")], shots, None)
    assert rows == [{"identity": pytest.approx(1.0)}, {"identity": None}]


def test_outside_of_the_face(faces, astronaut):
    pixels = np.asarray(astronaut).copy()
    pixels[60:200, 180:270] = 0  # the face
    metric = make_metric("outside", {"kind": "outside", "box": "face"})
    blank = Image.new("RGB", astronaut.size)
    shots = [Shot(Reference("ada", {"person": [astronaut]}), "a person", 0, 0)] * 3
    pictures, plain = [astronaut, Image.fromarray(pixels), blank], [astronaut, astronaut, blank]
    same, face_changed, nobody = (row["outside"] for row in metric.score(pictures, shots, plain))
    assert same == 0 and nobody is None
    box = grown(faces.locate(astronaut))
    assert face_changed == pytest.approx(change_outside(pictures[1], astronaut, box))
    assert face_changed < np.abs(pixels / 255.0 - np.asarray(astronaut) / 255.0).mean() / 10
