"""Photos from files: upright, and refused if they are damaged or bombs."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffusers_nested import SubjectError
from diffusers_nested.cli.generate import read_images
from diffusers_nested.data import load_image
from diffusers_nested.photos import open_photo
from tiny_pipeline import photo

# Every way in which we open a photo ourselves.
OPENERS = {
    "open_photo": open_photo,
    "data": load_image,
    "command line": lambda file: read_images([f"person={file}"])["person"][0],
}


@pytest.fixture(params=OPENERS.values(), ids=OPENERS)
def read(request: pytest.FixtureRequest):
    return request.param


def png(width: int, height: int, data: bytes = b"") -> bytes:
    """A grey PNG that claims a size, whatever its data."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


# EXIF's orientation -> how the stored picture is to be turned
TURNED = {
    1: lambda pixels: pixels,
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    6: lambda pixels: np.rot90(pixels, -1),
    8: lambda pixels: np.rot90(pixels),
}


@pytest.mark.parametrize("orientation", TURNED)
def test_photos_are_upright(read, tmp_path: Path, orientation: int):
    stored = photo(3).crop((0, 0, 16, 10))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(np.asarray(read(tmp_path / "a.png")), TURNED[orientation](np.asarray(stored)))


def test_transparent_parts_become_white(tmp_path: Path):
    Image.new("RGBA", (8, 8), (255, 0, 0, 0)).save(tmp_path / "a.png")
    for name in ("data", "command line"):
        assert np.array_equal(np.asarray(OPENERS[name](tmp_path / "a.png")), np.full((8, 8, 3), 255))


# A little more than the limit of PIL, at which it warns, and more than twice that, at which it raises.
@pytest.mark.parametrize("pixels", [1.1, 3])
def test_bombs_are_refused(read, tmp_path: Path, pixels: float):
    side = int(((Image.MAX_IMAGE_PIXELS or 0) * pixels) ** 0.5)
    (tmp_path / "a.png").write_bytes(png(side, side))
    with pytest.raises(SubjectError, match=r"a\.png.*MAX_IMAGE_PIXELS"):
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


@pytest.mark.parametrize("name", ["gone.png", "."])
def test_no_file(read, tmp_path: Path, name: str):
    with pytest.raises(SubjectError):
        read(tmp_path / name)


@pytest.mark.filterwarnings("ignore:.*:UserWarning:PIL")  # Pillow's, of odd metadata
@pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "gif", "tiff", "bmp"])
def test_damaged_files_give_a_picture_or_our_error(tmp_path: Path, kind: str):
    """Of formats without checksums a picture may still come out."""
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
