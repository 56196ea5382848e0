"""Where the subjects of a comparison come from: folders, lists of files, or a registered world."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import NestedAdapterError
from .options import take
from .references import Reference
from .worlds import split_name, world_of

_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
logger = logging.getLogger(__name__)


def load_references(given: Any) -> list[Reference]:
    """Load the subjects of a comparison.

    Args:
        given: A list of ``Reference``; a list of ``{"name", "word", "images"}`` with ``images`` a list of files or,
            without ``word``, a dict word -> files; or a dict with either ``source``, such as ``"miniature:people"``,
            or ``folder`` and ``word``: every picture and every sub-folder of pictures in it is a subject. ``count`` and
            ``photos`` limit the number of subjects and of photos per subject; a source draws that many.

    Raises:
        NestedAdapterError: There are no subjects, two have the same name, or a photo cannot be read.
    """
    if isinstance(given, Mapping):
        references = _from_source(given) if "source" in given else _from_folder(given)
    elif isinstance(given, Sequence) and not isinstance(given, str):
        references = [one if isinstance(one, Reference) else _from_entry(one) for one in given]
    else:
        raise NestedAdapterError(f"subjects must be a table or an array of tables, got {given!r}.")
    if not references:
        raise NestedAdapterError(f"There are no subjects in {given!r}.")
    names = [reference.name for reference in references]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise NestedAdapterError(f"Several subjects have the name {', '.join(twice)}. Names must differ.")
    for reference in references:
        _ = reference.fingerprint  # reads every photo
    return references


def _from_source(given: Mapping[str, Any]) -> list[Reference]:
    options = take("subjects", given, source=str, count=(int, 100), photos=(int, 1))
    world, kind = split_name(options["source"])
    return world_of(world).references(kind, options["count"], options["photos"])


def _from_folder(given: Mapping[str, Any]) -> list[Reference]:
    options = take("subjects", given, folder=str, word=str, count=(int, None), photos=(int, None))
    folder = Path(options["folder"])
    if not folder.is_dir():
        raise NestedAdapterError(f"The folder of the subjects, {folder}, does not exist.")
    if options["photos"] == 0:
        raise NestedAdapterError("subjects.photos must be at least 1, got 0.")
    references = []
    for path in _visible(folder):
        files = _pictures(path) if path.is_dir() else [path] if _is_picture(path) else []
        if files:
            name = path.name if path.is_dir() else path.stem
            references.append(Reference(name, {options["word"]: files[: options["photos"]]}))
        elif path.is_dir():
            raise NestedAdapterError(f"{path} holds no pictures ({', '.join(_SUFFIXES)}). Add some, or remove it.")
        else:
            logger.info("ignoring %s, which is not a picture (%s)", path, ", ".join(_SUFFIXES))
    return references[: options["count"]]


def _pictures(folder: Path) -> list[Path]:
    return [path for path in _visible(folder) if _is_picture(path)]


def _visible(folder: Path) -> list[Path]:
    """The files in a folder, without hidden ones."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in _SUFFIXES


def _from_entry(given: Any) -> Reference:
    if not isinstance(given, Mapping):
        raise NestedAdapterError(f"A subject must be a table with name, word and images, got {given!r}.")
    if isinstance(given.get("images"), Mapping):
        options = take("subjects", given, name=str, images=dict)
        images = options["images"]
    else:
        options = take("subjects", given, name=str, word=str, images=list)
        images = {options["word"]: options["images"]}
    empty = [word for word, files in images.items() if not isinstance(files, list) or not files]
    if empty or not images:
        raise NestedAdapterError(f"The subject {options['name']!r} has no images; list at least one file.")
    return Reference(options["name"], {word: tuple(files) for word, files in images.items()})
