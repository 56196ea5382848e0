"""The comparison itself: every contestant at every scale makes every picture, and all are measured."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from tqdm.auto import tqdm

from ..errors import NestedAdapterError
from ..files.lock import held
from ..files.write_whole import write_whole
from .contestants import Contestant, Generate, Plain
from .metrics import checked_scores
from .pictures import is_kept, load, picture_name, save, save_photos
from .prepare import Comparison, prepare
from .processes import Processes
from .report import write_report
from .rows import RESULTS, Key, Row, RowWriter, gather_rows, key_of, read_rows
from .settings import EvaluationSettings
from .shots import Shot

SETTINGS = "settings.json"


def evaluate(settings: EvaluationSettings) -> Path:
    """Compare contestants, alone or with other processes under ``accelerate launch``.

    Whatever is in the folder already is not made again, so a comparison that was cut off is gone on with by calling
    this again with the same settings. Several machines need a folder that they share.

    Args:
        settings: What is compared, on what, by what.

    Returns:
        The folder, with ``results.jsonl``, ``summary.json``, the plot and the sheets.

    Raises:
        NestedAdapterError: Anything does not fit together, or the folder is of another comparison or in use; no
            picture has been made then.
    """
    processes = Processes(settings.device)
    try:
        comparison = prepare(settings, processes.device)
        _check_same(settings.folder, comparison.definition)  # by all: nobody waits then for one that has given up
        with _folder(settings.folder, processes):
            _run(settings.folder, comparison, processes)
    finally:
        processes.close()
    return settings.folder


@contextmanager
def _folder(folder: Path, processes: Processes) -> Iterator[None]:
    """The folder, for these processes alone; the first of them sees to that."""
    if not processes.is_main:
        yield
        return
    with held(folder, "comparison", "folder"):
        yield


def _run(folder: Path, comparison: Comparison, processes: Processes) -> None:
    if processes.is_main:
        _check_same(folder, comparison.definition)  # again, as nobody else can change it now
        _start(folder, comparison)
    processes.wait()
    _Sweep(comparison, processes).run()
    processes.wait()
    if processes.is_main:
        gather_rows(folder, _order(comparison))
        write_report(folder, comparison)


def _start(folder: Path, comparison: Comparison) -> None:
    """What there is once: the settings, the photos, and the rows of earlier runs in one file."""
    write_whole(folder / SETTINGS, json.dumps(comparison.definition, indent=1, ensure_ascii=False) + "\n")
    gather_rows(folder, _order(comparison))
    for reference in comparison.references:
        save_photos(folder, reference)


def _check_same(folder: Path, definition: dict[str, Any]) -> None:
    """Raise if the folder's results are of other settings; further contestants may join.

    Raises:
        NestedAdapterError: Names the settings that differ.
    """
    path = folder / SETTINGS
    if not path.is_file():
        _check_empty(folder)
        return
    earlier = _earlier(path)
    now = json.loads(json.dumps(definition))
    changed = [name for name in now if name != "contestants" and now[name] != earlier.get(name)]
    there = earlier["contestants"]
    changed += [f"contestants.{name}" for name in there if there[name] != now["contestants"].get(name)]
    if changed:
        raise NestedAdapterError(
            f"{folder} holds results of other settings; these differ: {', '.join(changed)}. Take another folder, "
            "or the settings that are in its settings.json; contestants may be added."
        )


def _earlier(path: Path) -> dict[str, Any]:
    """The definition that a folder's results are of."""
    try:
        earlier = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise NestedAdapterError(
            f"Cannot read {path}: {error}. It says what the results depend on; take another folder if it is lost."
        ) from error
    if not isinstance(earlier, dict) or not isinstance(earlier.get("contestants"), dict):
        raise NestedAdapterError(f"{path} does not hold the settings of a comparison. Take another folder.")
    return earlier


def _check_empty(folder: Path) -> None:
    """Raise if there are results of settings that are not known.

    Raises:
        NestedAdapterError: There are.
    """
    found = [path.name for path in (folder / RESULTS, *folder.glob("rows-*.jsonl")) if read_rows(path)]
    if found:
        raise NestedAdapterError(
            f"{folder} holds results ({found[0]}) but not {SETTINGS}, which says what they are of. Take another folder."
        )


def _order(comparison: Comparison) -> list[Key]:
    return [
        (contestant.name, scale, *shot.key)
        for contestant in comparison.contestants
        for scale in contestant.scales
        for shot in comparison.shots
    ]


@dataclass(frozen=True)
class _Batch:
    """Pictures that one contestant makes at one scale in one call, and which of them are missing."""

    scale: float
    shots: Sequence[Shot]
    missing: frozenset[Shot]


class _Sweep:
    """This process's part of a comparison."""

    def __init__(self, comparison: Comparison, processes: Processes) -> None:
        self._comparison = comparison
        self._folder = comparison.settings.folder
        self._processes = processes
        self._done = {key_of(row) for row in read_rows(self._folder / RESULTS)}
        self._writer = RowWriter(self._folder, processes.index)

    def run(self) -> None:
        """Make and measure what is missing."""
        work = {contestant: self._missing(contestant) for contestant in self._comparison.contestants}
        total = sum(len(batch.shots) for batches in work.values() for batch in batches)
        with tqdm(total=total, desc="Pictures", disable=not self._processes.is_main) as bar:
            for contestant, batches in work.items():
                if not batches:
                    continue
                bar.set_postfix_str(contestant.name)
                with self._loaded(contestant) as generate:
                    for batch in batches:
                        self._do(contestant, generate, batch)
                        bar.update(len(batch.shots))

    def _missing(self, contestant: Contestant) -> list[_Batch]:
        """The batches of this process that are not complete; they are made whole, with the same pictures together."""
        index, count = self._processes.index, self._processes.count
        batches = []
        for scale in contestant.scales:
            for shots in self._comparison.batches()[index::count]:
                missing = frozenset(shot for shot in shots if not self._is_done(contestant, scale, shot))
                batches += [_Batch(scale, shots, missing)] if missing else []
        return batches

    def _is_done(self, contestant: Contestant, scale: float, shot: Shot) -> bool:
        if (contestant.name, scale, *shot.key) not in self._done:
            return False
        return not self._keeps(contestant) or is_kept(self._folder / picture_name(contestant, scale, shot))

    def _keeps(self, contestant: Contestant) -> bool:
        return self._comparison.settings.save_pictures or contestant is self._comparison.plain

    @contextmanager
    def _loaded(self, contestant: Contestant) -> Iterator[Generate]:
        with torch.no_grad(), contestant.loaded(self._comparison.pipeline, self._comparison.call) as generate:
            yield generate

    def _do(self, contestant: Contestant, generate: Generate, batch: _Batch) -> None:
        pictures = _checked(generate(batch.shots, batch.scale), len(batch.shots), contestant.name)
        if self._keeps(contestant):
            for shot, picture in zip(batch.shots, pictures, strict=True):
                save(self._folder / picture_name(contestant, batch.scale, shot), picture)
        rows = self._measure(contestant, batch, pictures)
        new = [row for row in rows if key_of(row) not in self._done]
        self._writer.append(new)
        self._done.update(map(key_of, new))

    def _measure(self, contestant: Contestant, batch: _Batch, pictures: Sequence[Image.Image]) -> list[Row]:
        plain = self._plain_pictures(batch.shots)
        scores: list[dict[str, float | None]] = [{} for _ in pictures]
        for metric in self._comparison.metrics:
            for row, values in zip(scores, checked_scores(metric, pictures, batch.shots, plain), strict=True):
                twice = row.keys() & values.keys()
                if twice:
                    raise NestedAdapterError(
                        f"metrics.{metric.name} fills the column {min(twice)!r}, which another metric has filled "
                        "already. Rename one of them."
                    )
                row.update(values)
        return [
            {
                "contestant": contestant.name,
                "scale": batch.scale,
                "subject": shot.reference.name,
                "prompt": shot.prompt,
                "seed": shot.seed,
                "picture": picture_name(contestant, batch.scale, shot) if self._keeps(contestant) else None,
                "scores": values,
            }
            for shot, values in zip(batch.shots, scores, strict=True)
        ]

    def _plain_pictures(self, shots: Sequence[Shot]) -> list[Image.Image] | None:
        plain: Plain | None = self._comparison.plain
        if plain is None:
            return None
        return [load(self._folder / picture_name(plain, plain.scales[0], shot)) for shot in shots]


def _checked(pictures: Any, count: int, name: str) -> list[Image.Image]:
    """The pictures of a contestant, as RGB.

    Raises:
        NestedAdapterError: It returned something else.
    """
    if not isinstance(pictures, list) or len(pictures) != count:
        raise NestedAdapterError(f"The contestant {name!r} must return a list of {count} pictures, got {pictures!r}.")
    wrong = [picture for picture in pictures if not isinstance(picture, Image.Image)]
    if wrong:
        raise NestedAdapterError(f"The contestant {name!r} must return PIL images, got a {type(wrong[0]).__name__}.")
    return [picture.convert("RGB") for picture in pictures]
