"""Which files of a folder belong to a published adapter, and which stay at home."""

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from ..errors import PublishError
from .scores import EVALUATION

CARD = "README.md"
_PICTURES = (".png", ".jpg", ".jpeg", ".webp")
_PICTURE_FOLDERS = (".", "samples", "images")
# diffusion_pytorch_model[.variant][-00001-of-00002].safetensors, and the index of shards
_WEIGHTS = re.compile(r"diffusion_pytorch_model(?:\.(?P<variant>[\w]+))?(?:-\d+-of-\d+)?\.safetensors")
_INDEX = re.compile(r"diffusion_pytorch_model\.safetensors\.index(?:\.(?P<variant>[\w]+))?\.json")
_OTHERS = re.compile(
    rf"config\.json|{re.escape(EVALUATION)}|LICENSE(\.md|\.txt)?"
    r"|image_encoder/config\.json|(image_encoder|feature_extractor)/preprocessor_config\.json"
)
_ENCODER_WEIGHTS = re.compile(r"image_encoder/model(-\d+-of-\d+)?\.safetensors(\.index\.json)?")


@dataclass(frozen=True)
class Contents:
    """The files of a folder by what becomes of them; names are relative to the folder.

    Attributes:
        files: Those that are published, with their content where it is not the file's own.
        left_out: Files and folders that are not, with the number of files.
        pictures: Those of ``files`` that are pictures.
        variants: Variants of the weights; None for those without a name.
    """

    files: dict[str, Path | bytes]
    left_out: dict[str, int]
    pictures: list[str]
    variants: list[str | None]

    @property
    def has_image_encoder(self) -> bool:
        """Whether the adapter brings its own."""
        return "image_encoder/config.json" in self.files


def read_contents(folder: Path) -> Contents:
    """Sort the files of an adapter's folder.

    Raises:
        PublishError: A picture or a configuration cannot be read.
    """
    files: dict[str, Path | bytes] = {}
    left_out: Counter[str] = Counter()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        if _belongs(name):
            files[name] = path
        elif name != CARD:
            left_out[name.split("/")[0] + ("/" if "/" in name else "")] += 1
    pictures = [name for name in files if name.endswith(_PICTURES)]
    for name in pictures:
        _check_picture(folder / name)
    for name in files:
        if name.endswith("config.json"):
            files[name] = _for_others(folder / name)
    return Contents(files, dict(left_out), pictures, _variants(files))


def weights_variant(name: str) -> str | None:
    """The variant of a file of weights, "" for those without a name; None if it is no such file."""
    match = _WEIGHTS.fullmatch(name) or _INDEX.fullmatch(name)
    return None if match is None else match["variant"] or ""


def names_a_folder(name: str) -> bool:
    """Whether the name of an image encoder is a path of this machine, and none of the Hub."""
    return name.startswith((".", "~")) or "/" not in name or Path(name).is_absolute() or Path(name).exists()


def is_outdated(name: str, files: Mapping[str, Any], subfolder: str | None) -> bool:
    """Whether a file of a repository must go, as the files that replace it have other names.

    These are shards and indices of the same weights, which would be loaded with the new ones or in their place.

    Args:
        name: A file of the repository that is not among the new ones.
        files: The new files, by their paths in the repository.
        subfolder: Where the adapter is in the repository.
    """
    prefix = f"{subfolder}/" if subfolder else ""
    if not name.startswith(prefix):
        return False
    new = [path.removeprefix(prefix) for path in files]
    variant = weights_variant(name.removeprefix(prefix))
    if variant is not None:
        return variant in {weights_variant(path) for path in new}
    is_encoder = _ENCODER_WEIGHTS.fullmatch(name.removeprefix(prefix)) is not None
    return is_encoder and any(_ENCODER_WEIGHTS.fullmatch(path) for path in new)


def _belongs(name: str) -> bool:
    is_picture = name.endswith(_PICTURES) and str(PurePosixPath(name).parent) in _PICTURE_FOLDERS
    return (
        is_picture
        or weights_variant(name) is not None
        or any(kind.fullmatch(name) for kind in (_OTHERS, _ENCODER_WEIGHTS))
    )


def _variants(files: Mapping[str, Any]) -> list[str | None]:
    found = {weights_variant(name) for name in files}
    return [name or None for name in sorted(name for name in found if name is not None)]


def _check_picture(path: Path) -> None:
    try:
        with Image.open(path) as image:
            image.verify()
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise PublishError(f"{path} is not a picture that can be shown ({error}). Mend it, or take it out.") from error


def _for_others(path: Path) -> Path | bytes:
    """A configuration, or its content without the paths of this machine."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise PublishError(f"{path} is not JSON ({error}). Save the adapter again.") from error
    if not isinstance(values, dict):
        return path
    kept = {name: value for name, value in values.items() if name != "_name_or_path"}
    if isinstance(kept.get("image_encoder"), str) and names_a_folder(kept["image_encoder"]):
        kept["image_encoder"] = None
    return path if kept == values else (json.dumps(kept, indent=2) + "\n").encode()
