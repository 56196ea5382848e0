"""Photos from files and in memory: turned upright, in RGB, refused if damaged or too large."""

import io
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diffusers_nested import Subject, SubjectError
from diffusers_nested.cli.subjects import read_images
from diffusers_nested.data import load_image
from diffusers_nested.images.photos import FORMATS, open_photo, to_pil
from pngs import png
from subject_cases import PHOTO, only
from tiny_pipeline import photo


def opened(file: Path) -> Image.Image:
    """Open a file as users do who ignore warnings about bombs; its pixels are not loaded yet."""
    limit = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        return Image.open(io.BytesIO(file.read_bytes()))
    finally:
        Image.MAX_IMAGE_PIXELS = limit


# All ways in which the package opens a photo.
OPENERS = {
    "open_photo": open_photo,
    "data": load_image,
    "command line": lambda file: read_images([f"person={file}"])["person"][0],
}
# All ways in which a photo that the user opened is passed on.
OPENED = {
    "encoder": lambda file: to_pil(opened(file)),
    "data, opened": lambda file: load_image(opened(file)),
    "subject": lambda file: to_pil(only(opened(file)).images[0]),
}


@pytest.fixture(params=OPENERS.values(), ids=OPENERS)
def read_file(request: pytest.FixtureRequest):
    return request.param


@pytest.fixture(params=[*OPENERS.values(), *OPENED.values()], ids=[*OPENERS, *OPENED])
def read(request: pytest.FixtureRequest):
    return request.param


# EXIF orientation -> how to turn the stored picture
TURNED = {
    1: lambda pixels: pixels,
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: np.rot90(pixels),
}


@pytest.mark.parametrize("orientation", TURNED)
def test_photos_are_upright(read, tmp_path: Path, orientation: int):
    stored = photo(3).crop((0, 0, 16, 10))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(np.asarray(read(tmp_path / "a.png")), TURNED[orientation](np.asarray(stored)))


@pytest.mark.parametrize("kind", ["png", "webp", "tiff"])
@pytest.mark.parametrize("change", [Image.Image.copy, lambda image: image.convert("RGB"), to_pil])
def test_copies_of_photos_are_turned_once(tmp_path: Path, kind: str, change):
    """Pillow keeps the tag in copies, as their pixels are still in the stored orientation."""
    stored = photo(3).crop((0, 0, 16, 10))
    exif = Image.Exif()
    exif[0x0112] = 6
    stored.save(tmp_path / "a", kind, exif=exif, lossless=True)
    expected = TURNED[6](np.asarray(stored))
    once = to_pil(change(opened(tmp_path / "a")))
    assert np.array_equal(np.asarray(once), expected)
    assert np.array_equal(np.asarray(to_pil(once)), expected)


def test_damaged_exif_in_memory():
    image = photo()
    image.info["exif"] = b"Exif\0\0no TIFF at all"
    with pytest.raises(SubjectError, match=r"the pet.*EXIF.*without"):
        to_pil(image, "the pet")


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("RGBA", (255, 0, 0, 0), (255, 255, 255)),
        ("RGBA", (255, 0, 0, 51), (255, 204, 204)),
        ("LA", (0, 0), (255, 255, 255)),
        ("PA", (0, 0), (255, 255, 255)),
        ("RGBa", (0, 0, 0, 0), (255, 255, 255)),
        ("CMYK", (0, 255, 255, 0), (255, 0, 0)),
        ("YCbCr", (128, 128, 128), (128, 128, 128)),
        ("HSV", (0, 255, 255), (255, 0, 0)),
        ("1", 1, (255, 255, 255)),
        ("L", 7, (7, 7, 7)),
    ],
)
def test_what_becomes_of_every_mode(mode: str, colour, expected):
    pixels = np.asarray(to_pil(Image.new(mode, (4, 4), colour)))
    assert np.abs(pixels.astype(int) - np.full((4, 4, 3), expected)).max() <= 1


@pytest.mark.parametrize("mode", ["I", "F", "La", "I;16", "I;16B"])
def test_more_than_eight_bits_are_refused(mode: str):
    image = Image.new(mode, (4, 4), 1 if mode != "La" else (1, 1))
    for give in (to_pil, only, lambda given: only(Subject(PHOTO, mask=given))):
        with pytest.raises(SubjectError, match=rf"{mode}.*65535"):
            give(image)


def test_the_advice_on_sixteen_bits_helps():
    pixels = np.arange(16, dtype=np.uint16).reshape(4, 4) * 4369
    image = Image.fromarray(pixels)
    assert np.array_equal(np.asarray(to_pil(np.asarray(image) / 65535)), np.stack([pixels // 257] * 3, -1))


def test_transparent_parts_become_white(tmp_path: Path):
    Image.new("RGBA", (8, 8), (255, 0, 0, 0)).save(tmp_path / "a.png")
    for name in ("data", "command line"):
        assert np.array_equal(np.asarray(OPENERS[name](tmp_path / "a.png")), np.full((8, 8, 3), 255))


@pytest.mark.parametrize("kind", [*FORMATS, "MPO"])
def test_formats_of_photos_are_read(read, tmp_path: Path, kind: str):
    """Of several frames, the first is used."""
    frames = {"save_all": True, "append_images": [Image.new("RGB", (24, 24))]} if kind in ("GIF", "MPO", "WEBP") else {}
    Image.new("RGB", (24, 24), (200, 30, 30)).save(tmp_path / "a", kind, **frames)
    pixels = np.asarray(to_pil(read(tmp_path / "a")), int)
    assert np.abs(pixels - (200, 30, 30)).max() < 8


@pytest.mark.parametrize("kind", ["AVIF", "DDS", "TGA", "PPM", "ICO", "SGI"])
def test_other_formats_are_refused(read_file, tmp_path: Path, kind: str):
    Image.init()
    if kind not in Image.SAVE:
        pytest.skip(f"this Pillow writes no {kind}")
    photo(size=16).save(tmp_path / "a.bin", kind)
    with pytest.raises(SubjectError, match=r"a\.bin.*JPEG.*Convert it"):
        read_file(tmp_path / "a.bin")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_named_pipes_are_not_opened(read_file, tmp_path: Path):
    os.mkfifo(tmp_path / "a.png")
    end = os.open(tmp_path / "a.png", os.O_RDWR | os.O_NONBLOCK)  # otherwise a failing test would block
    try:
        with pytest.raises(SubjectError, match=r"a\.png' is not a regular file[^:]*$"):
            read_file(tmp_path / "a.png")
    finally:
        os.close(end)


# Slightly above PIL's limit, where it warns, and above twice the limit, where it raises.
@pytest.mark.parametrize("pixels", [1.1, 3])
def test_bombs_are_refused(read, tmp_path: Path, pixels: float):
    side = int(((Image.MAX_IMAGE_PIXELS or 0) * pixels) ** 0.5)
    (tmp_path / "a.png").write_bytes(png(side, side))
    with pytest.raises(SubjectError, match=r"too large .*MAX_IMAGE_PIXELS"):
        read(tmp_path / "a.png")


def test_the_limit_is_that_of_pillow(read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    photo(size=32).save(tmp_path / "a.png")
    read(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 32 * 32 - 1)
    with pytest.raises(SubjectError):
        read(tmp_path / "a.png")


def test_ribbons_are_refused(read, tmp_path: Path):
    Image.new("L", (1, 3000)).save(tmp_path / "a.png")
    with pytest.raises(SubjectError, match="1 x 3000"):
        read(tmp_path / "a.png")


# Arrays and tensors that repeat one pixel, and so take no memory; and why they are refused.
HUGE = int((Image.MAX_IMAGE_PIXELS or 0) ** 0.5) + 1
LARGE = {
    "bomb": ((HUGE, HUGE), "MAX_IMAGE_PIXELS"),
    "ribbon": ((1_000_000, 1), "1 x 1000000"),
    "flat ribbon": ((1, 1_000_000), "1000000 x 1"),
}


@pytest.mark.parametrize(("size", "match"), LARGE.values(), ids=LARGE)
@pytest.mark.parametrize("give", [to_pil, only], ids=["encoder", "subject"])
def test_arrays_are_measured_as_files_are(size: tuple[int, int], match: str, give):
    for image in (
        np.broadcast_to(np.uint8(0), (*size, 3)),
        np.broadcast_to(np.float32(0), size),
        torch.zeros(1, 1, 1).expand(3, *size),
        torch.zeros(1, 1, 1, dtype=torch.uint8).expand(4, *size),
    ):
        with pytest.raises(SubjectError, match=match):
            give(image)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_rounding_beyond_the_range_is_cut_off(dtype):
    pixels = torch.full((2, 4, 3), 0.5, dtype=dtype)
    pixels[0], pixels[1, 0] = -5e-4, 1.0005
    for image in (pixels.numpy(), pixels.movedim(-1, 0)):
        got = np.asarray(to_pil(image))
        assert got[0].max() == 0 and got[1, 0].min() == 255 and got[1, 1:].min() == got[1, 1:].max() == 128
        with pytest.raises(SubjectError, match=r"from -0\.1\d* to .* clip it"):
            only(image - 0.1)


@pytest.mark.parametrize("give", [to_pil, only], ids=["encoder", "subject"])
def test_images_without_pixels(give):
    for image, match in (
        (Image.new("RGB", (0, 5)), "0 x 5"),
        (np.zeros((5, 0, 3), np.uint8), r"\(5, 0, 3\)"),
        (torch.zeros(3, 8, 8, device="meta"), "no pixels"),
        (torch.zeros(3, 8, 8).to_sparse(), "no pixels"),
    ):
        with pytest.raises(SubjectError, match=match):
            give(image)


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "gif", "tiff"])
@pytest.mark.parametrize("give", [to_pil, only, lambda image: only(Subject(PHOTO, mask=image))])
def test_opened_files_that_are_cut_off_or_closed(tmp_path: Path, kind: str, give):
    photo(size=48).save(tmp_path / "a", kind)
    whole = (tmp_path / "a").read_bytes()
    (tmp_path / "b").write_bytes(whole[: len(whole) * 3 // 4])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            cut = opened(tmp_path / "b")
        except OSError:  # this format fails at once
            cut = None
        with Image.open(tmp_path / "a") as closed:
            pass
        # Pillow holds on to the data of WebP
        for image in filter(None, (cut, None if kind == "webp" else closed)):
            with pytest.raises(SubjectError, match=r"cannot be read.*complete"):
                give(image)


@pytest.mark.parametrize("name", ["gone.png", "."])
def test_no_file(read_file, tmp_path: Path, name: str):
    with pytest.raises(SubjectError):
        read_file(tmp_path / name)


@pytest.mark.filterwarnings("ignore:.*:UserWarning:PIL")  # Pillow warns about odd metadata
@pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "gif", "tiff", "bmp"])
def test_damaged_files_give_a_picture_or_our_error(tmp_path: Path, kind: str):
    """Formats without checksums may still give a picture."""
    buffer = io.BytesIO()
    photo(size=24).save(buffer, kind)
    whole, rng = buffer.getvalue(), np.random.default_rng(7)
    refused = 0
    for _ in range(60):
        damaged = bytearray(whole[: rng.integers(1, len(whole) + 1)])
        for place in rng.integers(0, len(damaged), 3):
            damaged[place] = rng.integers(256)
        (tmp_path / "a").write_bytes(damaged)
        try:
            open_photo(tmp_path / "a")
        except SubjectError:
            refused += 1
    assert refused > 10
