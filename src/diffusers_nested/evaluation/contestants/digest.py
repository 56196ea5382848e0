"""Digests of files, to notice changes."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

_CHUNK = 1 << 20
# What stands beside a model and is not loaded with it: cards, samples and results, and what training leaves.
_KINDS = {"", ".jpeg", ".jpg", ".jsonl", ".lock", ".log", ".md", ".png", ".webp"}
_NAMES = {"evaluation.json", "training_config.json", "LICENSE.txt"}
_FOLDERS = ("after-", "checkpoint-", "samples", "images", "validation", "logs", ".")


def digest_of(paths: Iterable[str | Path]) -> str:
    """Digest of the files at these paths, and of those in these folders that a model is loaded from.

    Names that are not paths add nothing.
    """
    digest = hashlib.blake2b(digest_size=12)
    for path in map(Path, paths):
        files = sorted(file for file in path.rglob("*") if _is_loaded(file, path)) if path.is_dir() else [path]
        for file in filter(Path.is_file, files):
            digest.update(file.name.encode())
            with file.open("rb") as opened:
                while chunk := opened.read(_CHUNK):
                    digest.update(chunk)
    return digest.hexdigest()


def _is_loaded(file: Path, folder: Path) -> bool:
    """Whether a file of a model's folder belongs to the model."""
    within = file.relative_to(folder)
    is_beside = file.suffix.lower() in _KINDS or within.name in _NAMES or within.parts[0].startswith(_FOLDERS)
    return not is_beside and file.is_file()
