"""The aligned crop: points of a face land where FFHQ has them, whichever way the head is turned."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from diffusers_nested.images.align import SIDE, Landmarks, crop_box, crop_square, face_square, sharpness, side_of

EYES, DEPTH, MIDDLE = 60.0, 66.0, np.array([160.0, 140.0])  # pixels between the eyes, down to the mouth; their middle


def turned(degrees: float) -> Landmarks:
    angle = np.radians(degrees)
    right = np.array([np.cos(angle), np.sin(angle)])
    down = np.array([-np.sin(angle), np.cos(angle)])
    return Landmarks(MIDDLE - EYES / 2 * right, MIDDLE + EYES / 2 * right, MIDDLE + DEPTH * down)


def dots(face: Landmarks) -> Image.Image:
    """The points, each in a channel of its own."""
    rows, columns = np.indices((300, 320))
    points = (face.left_eye, face.right_eye, face.mouth)
    blobs = [255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 18) for x, y in points]
    return Image.fromarray(np.stack(blobs, -1).round().astype(np.uint8))


def centre(channel: np.ndarray) -> np.ndarray:
    rows, columns = np.indices(channel.shape)
    return np.array([(columns * channel).sum(), (rows * channel).sum()]) / channel.sum()


@pytest.mark.parametrize("degrees", [0, 25, -70, 90, 180])
def test_points_land_in_their_places(degrees: float):
    face = turned(degrees)
    half = max(2 * EYES, 1.8 * DEPTH)  # FFHQ's square: this from the centre, which is a tenth of the way to the mouth
    assert side_of(face_square(face)) == pytest.approx(2 * half)
    pixels = np.asarray(crop_square(dots(face), face_square(face)), dtype=float)
    assert pixels.shape == (SIDE, SIDE, 3)
    per_pixel, middle = SIDE / (2 * half), SIDE / 2 - 0.5
    eye_row, mouth_row = middle - 0.1 * DEPTH * per_pixel, middle + 0.9 * DEPTH * per_pixel
    expected = [
        (middle - EYES / 2 * per_pixel, eye_row),
        (middle + EYES / 2 * per_pixel, eye_row),
        (middle, mouth_row),
    ]
    for channel, place in enumerate(expected):
        np.testing.assert_allclose(centre(pixels[..., channel]), place, atol=0.1)


def test_beyond_its_edges_the_picture_is_mirrored():
    pixels = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    box = np.asarray(crop_box(picture, (-15, 5, 25, 45)))
    assert np.array_equal(box[:35, 15:], pixels[5:, :25])
    assert np.array_equal(box[:35, :15], pixels[5:, :15][:, ::-1])
    assert np.array_equal(box[35:, 15:], pixels[-5:, :25][::-1])
    square = np.array([[-20, 0], [-20, 40], [20, 40], [20, 0]]) - 0.5
    crop = np.asarray(crop_square(picture, square, side=40), dtype=float)
    np.testing.assert_allclose(crop, crop[:, ::-1], atol=1)
    np.testing.assert_allclose(crop[:, 20:].mean((0, 1)), pixels[:, :20].mean((0, 1)), atol=3)


def test_a_large_picture_is_averaged_not_sampled():
    stripes = Image.fromarray(np.tile(np.uint8([[0, 255]]), (2048, 1024)))
    square = np.array([[0, 0], [0, 2047], [2047, 2047], [2047, 0]], dtype=float)
    inner = np.asarray(crop_square(stripes, square, side=64), dtype=float)[4:-4, 4:-4]
    np.testing.assert_allclose(inner, 127.5, atol=12)


def test_sharpness_falls_with_blur():
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (256, 256), dtype=np.uint8))
    values = [sharpness(noise.filter(ImageFilter.GaussianBlur(radius))) for radius in (0, 1, 2, 4)]
    assert values == sorted(values, reverse=True)
    # white noise of variance v: the Laplacian's weights 4, -1, -1, -1, -1 give 20 v
    assert values[0] == pytest.approx(20 * np.asarray(noise, dtype=float).var(), rel=0.05)
    assert sharpness(Image.new("RGB", (300, 200), "red")) == 0
