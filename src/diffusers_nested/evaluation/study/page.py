"""The page of a study: one HTML file that holds everything but who made which picture."""

import base64
import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from ..pictures import load
from ..rows import write_atomically
from .pairs import Pair

TEMPLATE = Path(__file__).parent / "page.html"
_SIDE, _SMALL = 768, 160  # pixels: larger pictures are reduced, smaller ones are kept exactly


def write_page(pairs: Sequence[Pair], path: Path) -> Path:
    """Write a page, and beside it the key that tells who made which picture.

    Args:
        pairs: From ``choose_pairs``.
        path: Of the page.

    Returns:
        Path of the key; answers cannot be read without it, and raters need not see it.
    """
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
    content = {"pairs": shown, "images": [_data_uri(load(file)) for file in images]}
    study = hashlib.blake2b(json.dumps(content).encode(), digest_size=6).hexdigest()
    key = {
        "study": study,
        "first": str(pairs[0].first),
        "pairs": [
            {
                "subject": pair.subject,
                "prompt": pair.prompt,
                "seed": pair.seed,
                "left": str(pair.sides[0]),
                "right": str(pair.sides[1]),
            }
            for pair in pairs
        ],
    }
    # "<" is written so that no text in the data can end the script element
    data = json.dumps({"study": study, **content}).replace("<", "\\u003c")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, TEMPLATE.read_text(encoding="utf-8").replace("__DATA__", data))
    key_path = path.with_suffix(".key.json")
    write_atomically(key_path, json.dumps(key, indent=1, ensure_ascii=False) + "\n")
    return key_path


def _data_uri(picture: Image.Image) -> str:
    """A picture inlined; small ones without loss."""
    kind = "png" if max(picture.size) <= _SMALL else "jpeg"
    picture.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, format=kind, **({} if kind == "png" else {"quality": 92}))
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
