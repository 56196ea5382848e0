"""Names of files that belong to a published adapter. All other files are neither uploaded nor removed.

Relative to the adapter's folder, locally and in the repository, these files are the adapter's:

- ``config.json`` and ``evaluation.json``;
- ``diffusion_pytorch_model[.VARIANT][-00001-of-00002].safetensors`` and
  ``diffusion_pytorch_model.safetensors.index[.VARIANT].json``;
- ``image_encoder/``: ``config.json``, ``preprocessor_config.json``, ``model[-00001-of-00002].safetensors`` and
  ``model.safetensors.index.json``;
- ``feature_extractor/preprocessor_config.json``;
- the same in ``image_encoder_2/`` and ``feature_extractor_2/`` and so on, for adapters that read several vision towers.

The author's files are ``README.md``, ``LICENSE`` (also ``.md`` and ``.txt``), and pictures beside the config and in
``samples/`` and ``images/``. They are uploaded with the adapter, but never removed because of their names.
"""

import re
import unicodedata

from ..errors import AdapterLoadError, PublishError
from ..files import shown
from ..files.limits import MAX_TOWERS
from ..vision import numbered
from ..vision.tower_files import check_name
from .scores import EVALUATION

CARD = "README.md"
CONFIG = "config.json"
ENCODER, FEATURES = "image_encoder", "feature_extractor"
ENCODERS = tuple(numbered(ENCODER, number + 1) for number in range(MAX_TOWERS))
_OF_TOWERS = (*ENCODERS, *(numbered(FEATURES, number + 1) for number in range(MAX_TOWERS)))
FOLDERS = (*_OF_TOWERS, "samples", "images")
_PICTURE = re.compile(r"((samples|images)/)?[^/]+\.(png|jpe?g|webp)", re.IGNORECASE | re.DOTALL)
_WEIGHTS = re.compile(r"diffusion_pytorch_model(?:\.(?P<variant>\w+))?(?:-\d+-of-\d+)?\.safetensors")
_INDEX = re.compile(r"diffusion_pytorch_model\.safetensors\.index(?:\.(?P<variant>\w+))?\.json")
_NUMBER = f"(_[2-{MAX_TOWERS}])?"
_OTHERS = re.compile(
    rf"config\.json|{re.escape(EVALUATION)}|feature_extractor{_NUMBER}/preprocessor_config\.json"
    rf"|image_encoder{_NUMBER}/((preprocessor_)?config\.json"
    r"|model(-\d+-of-\d+)?\.safetensors|model\.safetensors\.index\.json)"
)
_AUTHORS = re.compile(rf"{re.escape(CARD)}|LICENSE(\.md|\.txt)?")


def is_adapters(name: str) -> bool:
    """Whether a file is the adapter's, so that the next publish replaces or removes it."""
    return weights_variant(name) is not None or _OTHERS.fullmatch(name) is not None


def is_picture(name: str) -> bool:
    """Whether a file is a picture for the card."""
    return _PICTURE.fullmatch(name) is not None


def is_published(name: str) -> bool:
    """Whether a file in an adapter's folder is uploaded."""
    return is_adapters(name) or is_picture(name) or _AUTHORS.fullmatch(name) is not None


def weights_variant(name: str) -> str | None:
    """The variant of a weight file, "" if it has none; None for other files."""
    match = _WEIGHTS.fullmatch(name) or _INDEX.fullmatch(name)
    return None if match is None else match["variant"] or ""


def names_a_folder(name: str) -> bool:
    """Whether the name of an image encoder must be a local path, because it is not valid on the Hub."""
    try:
        check_name(name)
    except AdapterLoadError:
        return True
    return False


def check_path(path: str, what: str) -> None:
    """Raise unless a path is valid in a repository.

    Args:
        path: The path, with ``/`` between folders.
        what: What it is, for the message.

    Raises:
        PublishError: It is not text, leads out of the repository, or contains unprintable characters.
    """
    parts = path.split("/") if isinstance(path, str) else [""]
    unreadable = isinstance(path, str) and any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for char in path)
    if unreadable or any("\\" in part or part.strip() in ("", ".", "..", ".git") for part in parts):
        raise PublishError(
            f"{what} {shown(path)} cannot be a path in a repository. Rename it: no control characters, no backslash, "
            "no empty name, '.', '..' or '.git' between slashes."
        )


def check_subfolder(subfolder: str | None) -> None:
    """Raise unless an adapter can be published to this folder of a repository.

    Raises:
        PublishError: It is not a valid path, or the folder belongs to the adapter at the top.
    """
    if subfolder is None:
        return
    check_path(subfolder, "subfolder")
    if set(_OF_TOWERS) & set(subfolder.split("/")):
        raise PublishError(
            f"subfolder {subfolder!r} is reserved for an adapter's image encoder. Give the adapter a folder of its own."
        )


def check_branch(revision: str | None) -> None:
    """Raise unless this can be the name of a branch.

    Raises:
        PublishError: It is not a valid name in Git, or is the hash of a commit.
    """
    if revision is None:
        return
    forbidden = not isinstance(revision, str) or re.search(
        r"[\s\x00-\x1f\x7f~^:?*\[\\]|\.\.|//|@\{|\.lock(/|$)|(^|/)[.-]|[/.]$|^$|^@$", revision
    )
    if forbidden or not revision.isprintable() or re.fullmatch("[0-9a-f]{40}", revision):
        raise PublishError(
            f"revision {shown(revision)} cannot be the name of a branch. Give one such as 'next'; it is created if "
            "necessary."
        )
