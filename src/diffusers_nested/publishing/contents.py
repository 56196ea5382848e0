"""Which files of a folder are published, and which are not."""

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import AdapterLoadError, PublishError
from ..files import read_index
from .names import CARD, ENCODERS, FOLDERS, check_path, is_picture, is_published, names_a_folder, weights_variant
from .own_files import check_folder, own_file, read_own_json
from .pictures import without_metadata


@dataclass(frozen=True)
class Contents:
    """The files of a folder, sorted by what happens to them; names are relative to the folder.

    Attributes:
        files: The published files: paths, or the content where it differs from the file.
        left_out: The other files and folders -> number of files in them.
        pictures: The pictures among ``files``.
        cleaned: The pictures from which metadata were removed.
        variants: The variants of the weights; None stands for the one without a name.
        has_card: Whether there is a README.md, which is not among ``files``.
    """

    files: dict[str, Path | bytes]
    left_out: dict[str, int]
    pictures: list[str]
    cleaned: list[str]
    variants: list[str | None]
    has_card: bool

    @property
    def own_encoders(self) -> list[int]:
        """The numbers of the vision towers that the adapter comes with."""
        return [number for number, folder in enumerate(ENCODERS, 1) if f"{folder}/config.json" in self.files]


def read_contents(folder: Path) -> Contents:
    """Sort the files of an adapter's folder.

    Raises:
        PublishError: A file to publish is a link out of the folder, is not a regular file or cannot be read, or a
            picture or configuration is invalid.
    """
    names = sorted(_names(folder))
    paths = {name: own_file(folder, name) for name in names if is_published(name)}
    unused = _unused_weights(paths)
    left_out: Counter[str] = Counter()
    for name in names:
        if name not in paths or name in unused:
            left_out[name if name in unused else _top(name)] += 1
    files: dict[str, Path | bytes] = {name: paths[name] for name in paths if name not in unused and name != CARD}
    for name in files:
        check_path(name, f"In {folder}, the file")
    pictures = [name for name in files if is_picture(name)]
    files |= {name: _for_others(paths[name]) for name in files if name.endswith("config.json")}
    cleaned = {name: data for name in pictures if (data := without_metadata(paths[name])) is not None}
    return Contents({**files, **cleaned}, dict(left_out), pictures, list(cleaned), _variants(files), CARD in paths)


def _names(folder: Path) -> Iterator[str]:
    """All files below the folder; links to folders are followed only for the folders of an adapter."""

    def refuse(error: OSError) -> None:
        if Path(error.filename) in (folder, *(folder / name for name in FOLDERS)):
            raise PublishError(f"{error.filename} cannot be read ({error}). Make it readable.") from error

    linked = [name for name in FOLDERS if (folder / name).is_symlink() and (folder / name).is_dir()]
    for name in linked:
        check_folder(folder, name)
    for top in (folder, *(folder / name for name in linked)):
        for inner, _, files in os.walk(top, onerror=refuse):
            yield from ((Path(inner) / file).relative_to(folder).as_posix() for file in files)


def _top(name: str) -> str:
    return name.split("/")[0] + ("/" if "/" in name else "")


def _unused_weights(paths: Mapping[str, Path]) -> set[str]:
    """Weights that loading ignores: shards and an index beside a single file, and shards that no index lists."""
    groups: dict[str, set[str]] = {}
    for name in paths:
        variant = weights_variant(name)
        if variant is not None:
            groups.setdefault(variant, set()).add(name)
    unused: set[str] = set()
    for variant, group in groups.items():
        stem = "diffusion_pytorch_model"
        whole, index = f"{stem}.{variant}.safetensors", f"{stem}.safetensors.index.{variant}.json"
        if not variant:
            whole, index = f"{stem}.safetensors", f"{stem}.safetensors.index.json"
        unused |= group - _used(paths, whole, index)
    for folder in ENCODERS:
        whole = f"{folder}/model.safetensors"
        encoder = {name for name in paths if name.startswith(f"{folder}/model")}
        unused |= encoder - _used(paths, whole, f"{whole}.index.json")
    return unused


def _used(paths: Mapping[str, Path], whole: str, index: str) -> set[str]:
    if whole in paths or index not in paths:
        return {whole}
    prefix = index[: index.rfind("/") + 1]
    try:
        shards = {prefix + shard for shard in read_index(paths[index])}
    except AdapterLoadError as error:
        raise PublishError(str(error)) from error
    strange = sorted(shard for shard in shards if not is_published(shard))
    if strange:
        raise PublishError(f"{paths[index]} lists {strange[0]!r}, which is not a valid name of a shard. Save it again.")
    return {index, *shards}


def _variants(files: Mapping[str, Any]) -> list[str | None]:
    found = {weights_variant(name) for name in files}
    return [name or None for name in sorted(name for name in found if name is not None)]


def _for_others(path: Path) -> Path | bytes:
    """A configuration's path, or its content without local paths if it has any."""
    values = read_own_json(path)
    if not isinstance(values, dict):
        return path
    kept = {name: value for name, value in values.items() if name != "_name_or_path"}
    if "image_encoder" in kept:
        named = kept["image_encoder"]
        kept["image_encoder"] = (
            list(map(_name_for_others, named)) if isinstance(named, list) else _name_for_others(named)
        )
    is_same = kept == values
    return path if is_same else (json.dumps(kept, indent=2) + "\n").encode()


def _name_for_others(name: Any) -> Any:
    """The name of an image encoder, if it is not a folder of this machine."""
    return None if isinstance(name, str) and names_a_folder(name) else name
