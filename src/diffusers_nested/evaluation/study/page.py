"""The page of a study: one self-contained HTML file that does not tell who made which picture."""

import base64
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from ...errors import NestedAdapterError
from ...files.write_whole import write_whole
from ..pictures import load
from .pairs import Pair

TEMPLATE = Path(__file__).parent / "page.html"
_SIDE, _SMALL = 768, 160  # pixels: larger pictures are reduced, smaller ones stay lossless


def write_page(pairs: Sequence[Pair], path: Path) -> Path:
    """Write a page, and beside it the key that tells who made which picture.

    Args:
        pairs: From ``choose_pairs``.
        path: Path of the page.

    Returns:
        Path of the key. Answers cannot be read without it; raters should not see it.

    Raises:
        NestedAdapterError: A picture cannot be read, or the key of another study would be overwritten.
    """
    content = _content(pairs)
    study = hashlib.blake2b(json.dumps(content).encode(), digest_size=6).hexdigest()
    # "<" is escaped so that no text in the data can end the script element
    data = json.dumps({"study": study, **content}).replace("<", "\\u003c")
    key, key_path = _key(study, pairs), path.with_suffix(".key.json")
    _check_free(key_path, key)
    path.parent.mkdir(parents=True, exist_ok=True)
    # the key first: a page without its key is useless
    write_whole(key_path, json.dumps(key, indent=1, ensure_ascii=False) + "\n")
    write_whole(path, TEMPLATE.read_text(encoding="utf-8").replace("__DATA__", data))
    return key_path


def _content(pairs: Sequence[Pair]) -> dict[str, Any]:
    """What the page shows: every image once, and the pairs by the numbers of their images."""
    images = list(dict.fromkeys(file for pair in pairs for file in (*pair.photos, *pair.pictures)))
    number = {file: i for i, file in enumerate(images)}
    shown = [
        {
            "prompt": pair.prompt,
            "photos": [number[photo] for photo in pair.photos],
            "pictures": [number[picture] for picture in pair.pictures],
        }
        for pair in pairs
    ]
    return {"pairs": shown, "images": [_data_uri(load(file)) for file in images]}


def _key(study: str, pairs: Sequence[Pair]) -> dict[str, Any]:
    """Who made which picture."""
    sides = [
        {
            "subject": pair.subject,
            "prompt": pair.prompt,
            "seed": pair.seed,
            "left": str(pair.sides[0]),
            "right": str(pair.sides[1]),
        }
        for pair in pairs
    ]
    return {"study": study, "first": str(pairs[0].first), "pairs": sides}


def _check_free(key_path: Path, key: Mapping[str, Any]) -> None:
    """Raise rather than overwrite the key of a study that may have been sent out.

    Raises:
        NestedAdapterError: There is a key of another study, or another file with its name.
    """
    if not key_path.exists():
        return
    try:
        earlier = json.loads(key_path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        earlier = None
    if earlier != key:
        raise NestedAdapterError(
            f"{key_path} is the key of another study, whose answers would become unreadable. Choose another --output, "
            "or move page and key away."
        )


def _data_uri(picture: Image.Image) -> str:
    """A picture as a data URI; small ones without loss."""
    kind = "png" if max(picture.size) <= _SMALL else "jpeg"
    picture.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, format=kind, **({} if kind == "png" else {"quality": 92}))
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
