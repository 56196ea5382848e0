"""Photos, models and preparations of them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from diffusers_nested import miniature
from diffusers_nested.preparing import Prepared, PrepareSettings, prepare
from diffusers_nested.preparing import work as work_module
from tiny_vision import save_captioner, save_segmenter

PHOTOS = Path(__file__).parents[1] / "data" / "photos"
CAPTIONS = {
    "cat.jpg": "a cat on a blanket",
    "bruno.png": "A dog by the sea",
    "some more/miso é.png": "portrait of an animal",
    "some more/bruno.png": "two dogs",
}


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a segmenter and a captioner."""
    folder = tmp_path_factory.mktemp("models")
    save_segmenter(folder / "segmenter")
    save_captioner(folder / "captioner", "a dog sleeping in its basket")
    return folder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder with photos of pets, and texts beside them; the last of them is a reject."""
    folder = tmp_path / "photos"
    (folder / "some more").mkdir(parents=True)
    shutil.copy(PHOTOS / "cat.jpg", folder)
    for name in CAPTIONS:
        if name != "cat.jpg":
            miniature.example("miso" if "miso" in name else "bruno").save(folder / name)
        (folder / name).with_suffix(".txt").write_text(CAPTIONS[name], encoding="utf-8")
    return folder


Prepare = Callable[..., Prepared]


@pytest.fixture
def pets(models: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> Prepare:
    """Prepares the photos; waits for no other process."""
    monkeypatch.setattr(work_module, "_PATIENCE", 0)

    def run(output: Path, index: int = 0, count: int = 1, **settings: Any) -> Prepared:
        monkeypatch.setenv("RANK", str(index))
        monkeypatch.setenv("WORLD_SIZE", str(count))
        given = {"source": source, "segmenter": str(models / "segmenter"), "min_sharpness": 0.0, **settings}
        return prepare(PrepareSettings("pets", output=output, device="cpu", **given))

    return run


@pytest.fixture(scope="session")
def kept() -> dict[str, bytes]:
    """The training set that nothing disturbed, once a test has made it."""
    return {}


@pytest.fixture
def whole(pets: Prepare, tmp_path: Path, kept: dict[str, bytes]) -> dict[str, bytes]:
    """The training set of a run that nothing disturbed."""
    if not kept:
        pets(tmp_path / "undisturbed")
        kept.update(tree(tmp_path / "undisturbed"))
    return kept


def tree(folder: Path) -> dict[str, bytes]:
    """Everything in a training set but the notes of the processes."""
    files = (path for path in folder.rglob("*") if path.is_file())
    names = {path.relative_to(folder).as_posix(): path for path in files}
    return {name: path.read_bytes() for name, path in names.items() if not name.startswith(f"{work_module.WORK}/")}


def rows(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def reasons(output: Path) -> dict[str, str]:
    return {row["file_name"]: row["reason"] for row in rows(output / "rejects.jsonl")}
