"""Files that are where they seem to be."""

from pathlib import Path

from ..errors import AdapterLoadError


def file_in(folder: Path, name: str) -> Path:
    """The path of a file that lies in a folder, also by where its links lead.

    A downloaded repository is a folder of links into the cache of huggingface_hub, which are followed.

    Raises:
        FileNotFoundError: There is no such file.
        AdapterLoadError: It is a link to somewhere else.
    """
    path = folder / name
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    real = path.resolve()
    if not any(real.is_relative_to(root) for root in _roots(folder)):
        raise AdapterLoadError(
            f"{path} is a link to {real}, outside of the folder. Put the file itself there if it is meant to be read."
        )
    return path


def _roots(folder: Path) -> list[Path]:
    """Where the files of a folder may really be: in it, or in the cache's store if it is a snapshot in the cache."""
    folder = folder.resolve()
    roots = [folder]
    for inner in (folder, *folder.parents):
        if inner.parent.name == "snapshots" and "--" in inner.parent.parent.name:
            repository = inner.parent.parent  # <cache>/models--user--name/snapshots/<commit>
            roots += [store for store in (repository / "blobs", repository.parent / "blobs") if not store.is_symlink()]
    return roots
