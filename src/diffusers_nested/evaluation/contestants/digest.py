"""Digests of files, to notice changes."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

_CHUNK = 1 << 20


def digest_of(paths: Iterable[str | Path]) -> str:
    """Digest of the files at these paths and in these folders; names that are not paths add nothing."""
    digest = hashlib.blake2b(digest_size=12)
    for path in map(Path, paths):
        files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
        for file in filter(Path.is_file, files):
            digest.update(file.name.encode())
            with file.open("rb") as opened:
                while chunk := opened.read(_CHUNK):
                    digest.update(chunk)
    return digest.hexdigest()
