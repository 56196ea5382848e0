"""Pictures without their metadata: location, camera, comments, thumbnails, and notes of other software.

The compressed pixels are copied, not re-encoded. The colour profile and the EXIF orientation are kept.
"""

import io
import re
import struct
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from ..errors import PublishError

_DAMAGED = (OSError, ValueError, SyntaxError, EOFError, IndexError, TypeError, KeyError, OverflowError, struct.error)
_BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)
_ORIENTATION = 0x0112
_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_KEPT = frozenset(
    b"IHDR PLTE IDAT IEND tRNS gAMA cHRM sRGB iCCP cICP mDCV mDCv cLLI cLLi sBIT pHYs bKGD acTL fcTL fdAT".split()
)
_WEBP_KEPT = frozenset((b"VP8X", b"ICCP", b"ANIM", b"ANMF", b"ALPH", b"VP8 ", b"VP8L"))
_WEBP_EXIF, _WEBP_XMP = 0x08, 0x04  # flags
# in scan data, FF 00 is a plain byte and FF D0 to FF D7 are restart markers; any other marker ends it
_JPEG_MARKER = re.compile(rb"\xff+[^\x00\x01\xd0-\xd7\xff]", re.DOTALL)


def without_metadata(path: Path) -> bytes | None:
    """The picture without metadata; None if the file has none.

    Raises:
        PublishError: It is not a complete PNG, JPEG or WebP file, or has too many pixels.
    """
    try:
        data = path.read_bytes()
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            cleaned = _cleaned(data)
            with Image.open(io.BytesIO(cleaned)) as image:
                image.load()
    except _BOMBS as error:
        raise PublishError(f"{path} has too many pixels ({error}) Make it smaller, or remove it.") from error
    except _DAMAGED as error:
        raise PublishError(
            f"{path} is not a picture that can be shown: {_fault(error)}. Save it as PNG, JPEG or WebP, or remove it."
        ) from error
    return None if cleaned == data else cleaned


def _fault(error: Exception) -> str:
    return "it is damaged or of another kind" if isinstance(error, UnidentifiedImageError) else str(error)


def _cleaned(data: bytes) -> bytes:
    with Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP")) as image:
        kind, exif = image.format, _turn(image)
    if kind == "PNG":
        return _png(data, exif)
    return _webp(data, exif) if kind == "WEBP" else _jpeg(data, exif)


def _turn(image: Image.Image) -> bytes:
    """EXIF with the orientation alone; empty if the picture is upright."""
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except _DAMAGED:
        return b""  # unreadable for everyone else too
    if orientation not in range(2, 9):
        return b""
    exif = Image.Exif()
    exif[_ORIENTATION] = orientation
    return exif.tobytes().removeprefix(b"Exif\0\0")


def _jpeg(data: bytes, exif: bytes) -> bytes:
    parts = [b"\xff\xd8"]
    if exif:
        parts.append(_segment(0xE1, b"Exif\0\0" + exif))
    place = 2
    while (start := _JPEG_MARKER.search(data, place)) is not None:
        marker, place = data[start.end() - 1], start.end()
        if marker == 0xD9:
            parts.append(b"\xff\xd9")
            break  # the rest belongs to other pictures, such as previews
        end = place + int.from_bytes(data[place : place + 2], "big")
        parts.append(_kept_segment(marker, data[place + 2 : end]))
        place = end
        if marker == 0xDA:
            following = _JPEG_MARKER.search(data, place)
            place = len(data) if following is None else following.start()
            parts.append(data[end:place])
    return b"".join(parts)


def _kept_segment(marker: int, content: bytes) -> bytes:
    if marker == 0xE0 and content.startswith(b"JFIF\0"):
        return _segment(marker, content[:12] + b"\0\0")  # without a thumbnail
    if marker == 0xEE and content.startswith(b"Adobe"):
        return _segment(marker, content[:12])  # how colours are stored
    is_profile = marker == 0xE2 and content.startswith(b"ICC_PROFILE\0")
    is_note = 0xE0 <= marker <= 0xEF or marker == 0xFE
    return b"" if is_note and not is_profile else _segment(marker, content)


def _segment(marker: int, content: bytes) -> bytes:
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(content) + 2) + content


def _png(data: bytes, exif: bytes) -> bytes:
    parts, place = [_PNG_START], len(_PNG_START)
    while parts[-1][4:8] != b"IEND":
        end = place + 12 + struct.unpack_from(">I", data, place)[0]
        if data[place + 4 : place + 8] in _PNG_KEPT:
            parts.append(data[place:end])
        place = end
    if exif:
        checked = b"eXIf" + exif
        parts.insert(2, struct.pack(">I", len(exif)) + checked + struct.pack(">I", zlib.crc32(checked)))
    return b"".join(parts)


def _webp(data: bytes, exif: bytes) -> bytes:
    chunks = [(name, content) for name, content in _riff_chunks(data) if name in _WEBP_KEPT]
    if exif:
        chunks.append((b"EXIF", exif))
    body = b"".join(_riff_chunk(name, _with_flags(name, content, bool(exif))) for name, content in chunks)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def _with_flags(name: bytes, content: bytes, has_exif: bool) -> bytes:
    if name != b"VP8X":
        return content
    return bytes([content[0] & ~(_WEBP_EXIF | _WEBP_XMP) | _WEBP_EXIF * has_exif]) + content[1:]


def _riff_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    place, end = 12, 8 + struct.unpack_from("<I", data, 4)[0]
    while place < min(end, len(data)):
        name, size = struct.unpack_from("<4sI", data, place)
        yield name, data[place + 8 : place + 8 + size]
        place += 8 + size + size % 2


def _riff_chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)
