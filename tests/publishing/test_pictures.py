"""Uploaded pictures: the same pixels, colors and orientation, but no metadata."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms, ImageOps, PngImagePlugin

from diffusers_nested import PublishError
from diffusers_nested.publishing.pictures import without_metadata

SECRET = b"48.8584 N 2.2945 E"
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def noise(mode: str) -> Image.Image:
    """Pixels in any mode, taller than wide."""
    made = Image.fromarray(np.random.default_rng(0).integers(0, 256, (37, 23, 4), np.uint8), "RGBA")
    if mode == "I;16":
        return Image.fromarray(np.arange(37 * 23, dtype=np.uint16).reshape(37, 23) * 70)
    return made.convert("RGB").convert(mode) if mode != "RGBA" else made


def exif(orientation: int = 1) -> bytes:
    """Location, camera and maker notes."""
    made = Image.Exif()
    made[ExifTags.Base.Orientation] = orientation
    made[ExifTags.Base.Make] = SECRET.decode()
    made.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitude] = (48.0, 51.0, 30.0)
    made.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = SECRET
    return made.tobytes()


def texts() -> PngImagePlugin.PngInfo:
    made = PngImagePlugin.PngInfo()
    made.add_text("Comment", SECRET.decode())
    made.add_itxt("XML:com.adobe.xmp", SECRET.decode())
    made.add(b"tIME", bytes(7))
    made.add(b"prVt", SECRET)  # a private chunk of somebody's software
    return made


XMP = b"<x:xmpmeta>" + SECRET + b"</x:xmpmeta>"
JPEG = {"format": "JPEG", "comment": SECRET, "xmp": XMP, "icc_profile": PROFILE}
WEBP = {"format": "WEBP", "xmp": XMP, "icc_profile": PROFILE}
CASES = {
    "jpeg": ("RGB", 1, {**JPEG, "quality": 90}),
    "jpeg on its side": ("RGB", 6, JPEG),
    "progressive jpeg": ("RGB", 8, {**JPEG, "progressive": True}),
    "jpeg with restarts": ("RGB", 1, {**JPEG, "restart_marker_blocks": 1}),
    "grey jpeg": ("L", 1, {**JPEG, "icc_profile": None}),
    "jpeg for print": ("CMYK", 1, {**JPEG, "icc_profile": None}),
    "several in one jpeg": ("RGB", 1, {"format": "MPO", "save_all": True, "append_images": [noise("RGB")]}),
    "png": ("RGB", 1, {"format": "PNG", "pnginfo": texts(), "icc_profile": PROFILE}),
    "png on its side": ("RGBA", 3, {"format": "PNG", "pnginfo": texts()}),
    "png of a palette": ("P", 1, {"format": "PNG", "pnginfo": texts(), "transparency": 3}),
    "png of 16 bits": ("I;16", 1, {"format": "PNG", "pnginfo": texts()}),
    "png of 1 bit": ("1", 1, {"format": "PNG", "pnginfo": texts()}),
    "moving png": ("RGB", 1, {"format": "PNG", "save_all": True, "append_images": [noise("L").convert("RGB")]}),
    "webp": ("RGB", 1, WEBP),
    "webp without loss": ("RGBA", 6, {**WEBP, "lossless": True}),
    "moving webp": ("RGB", 1, {**WEBP, "save_all": True, "append_images": [noise("L").convert("RGB")]}),
}


def frames(data: bytes) -> list[np.ndarray]:
    with Image.open(io.BytesIO(data)) as image:
        count = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
        made = []
        for number in range(count):
            image.seek(number)
            made.append(np.asarray(image))
        return made


@pytest.mark.parametrize("name", CASES)
def test_pixels_stay_and_what_else_is_said_goes(tmp_path, name):
    mode, orientation, keywords = CASES[name]
    path = tmp_path / "picture"
    noise(mode).save(path, exif=exif(orientation), **keywords)
    path.write_bytes(path.read_bytes() + SECRET)  # behind the picture
    before = path.read_bytes()
    cleaned = without_metadata(path)
    assert cleaned is not None and path.read_bytes() == before
    assert SECRET in before and SECRET not in cleaned
    assert all(np.array_equal(*pair) for pair in zip(frames(before), frames(cleaned), strict=True))
    with Image.open(io.BytesIO(before)) as old, Image.open(io.BytesIO(cleaned)) as new:
        assert dict(new.getexif()) == ({} if orientation == 1 else {ExifTags.Base.Orientation: orientation})
        assert not new.getexif().get_ifd(ExifTags.IFD.GPSInfo) and not {"xmp", "comment", "Comment"} & new.info.keys()
        assert new.info.get("icc_profile") == old.info.get("icc_profile")
        assert new.info.get("transparency") == old.info.get("transparency")
        assert np.array_equal(ImageOps.exif_transpose(new), ImageOps.exif_transpose(old))
    path.write_bytes(cleaned)
    assert without_metadata(path) is None  # nothing left to remove


def test_a_thumbnail_goes(tmp_path):
    """A thumbnail may show parts that were cropped from the picture."""
    path = tmp_path / "a.jpg"
    noise("RGB").save(path)
    data = path.read_bytes()
    header = b"JFIF\0\1\1\0\0\1\0\1\2\2" + SECRET[:12]
    old = data[2 : 4 + struct.unpack(">H", data[4:6])[0]]
    path.write_bytes(data.replace(old, b"\xff\xe0" + struct.pack(">H", len(header) + 2) + header, 1))
    assert SECRET[:12] not in (without_metadata(path) or path.read_bytes())


def png(width: int, height: int, pixels: bytes) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")


def test_colours_of_16_bits_are_not_rounded(tmp_path):
    """PIL reads only 8 bits, so the file's own bytes must be kept."""
    path = tmp_path / "a.png"
    path.write_bytes(png(1, 1, b"\0\x12\x34\x56\x78\x9a\xbc"))
    assert without_metadata(path) is None


def bitmap(path: Path) -> None:
    noise("RGB").save(path, format="BMP")


def cut(kind: str, by: int):
    def write(path: Path) -> None:
        noise("RGB").save(path, format=kind)
        path.write_bytes(path.read_bytes()[:-by])

    return write


NOT_SHOWN = {
    "text": lambda path: path.write_text("text"),
    "nothing": lambda path: path.write_bytes(b""),
    "a bitmap": bitmap,
    "half a jpeg": cut("JPEG", 400),
    "half a png": cut("PNG", 400),
    "a png without its end": cut("PNG", 12),
    "half a webp": cut("WEBP", 100),
    "a bomb": lambda path: path.write_bytes(png(100_000, 100_000, b"\0")),
    "a large picture": lambda path: path.write_bytes(png(10_000, 10_000, b"\0")),
}


@pytest.mark.parametrize("name", NOT_SHOWN)
def test_what_cannot_be_shown_is_named(tmp_path, name):
    path = tmp_path / "a.png"
    NOT_SHOWN[name](path)
    with pytest.raises(PublishError, match=r"a\.png .*remove it"):
        without_metadata(path)
