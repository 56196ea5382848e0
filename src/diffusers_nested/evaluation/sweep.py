"""Running a comparison: every contestant makes every picture at every scale, and all are measured."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from tqdm.auto import tqdm

from ..environment.devices import usable_device
from ..errors import NestedAdapterError
from ..files.lock import held
from ..files.write_whole import write_whole
from .contestants import Contestant, Generate, Plain
from .earlier import SETTINGS, check_same
from .metrics import checked_scores
from .pictures import is_kept, load, picture_name, save, save_photos
from .prepare import Comparison, prepare
from .processes import Processes
from .report import write_report
from .rows import RESULTS, Key, Row, RowWriter, gather_rows, key_of, read_rows
from .settings import EvaluationSettings
from .shots import Shot


def evaluate(settings: EvaluationSettings) -> Path:
    """Compare contestants, alone or with other processes under ``accelerate launch``.

    Existing results are not made again: call this again with the same settings to resume an interrupted comparison.
    Several machines need a shared folder.

    Args:
        settings: Settings of the comparison.

    Returns:
        The folder, with ``results.jsonl``, ``summary.json``, the plot and the sheets.

    Raises:
        NestedAdapterError: Something does not fit together, or the folder belongs to another comparison or is in use;
            no picture has been made then.
    """
    if settings.device is not None:
        usable_device(settings.device, "device")
    processes = Processes(settings.device)
    try:
        comparison = prepare(settings, processes.device)
        check_same(settings.folder, comparison.definition)  # in all processes, so that none waits for one that failed
        with _folder(settings.folder, processes):
            _run(settings.folder, comparison, processes)
    finally:
        processes.close()
    return settings.folder


@contextmanager
def _folder(folder: Path, processes: Processes) -> Iterator[None]:
    """Keep the folder for these processes alone; the main one holds the lock."""
    if not processes.is_main:
        yield
        return
    with held(folder, "comparison", "folder"):
        yield


def _run(folder: Path, comparison: Comparison, processes: Processes) -> None:
    if processes.is_main:
        check_same(folder, comparison.definition)  # again, now that nobody else can change it
        _start(folder, comparison)
    processes.wait()
    _Sweep(comparison, processes).run()
    processes.wait()
    if processes.is_main:
        gather_rows(folder, _order(comparison))
        write_report(folder, comparison)


def _start(folder: Path, comparison: Comparison) -> None:
    """Write what exists once: settings, photos, and the rows of earlier runs in one file."""
    write_whole(folder / SETTINGS, json.dumps(comparison.definition, indent=1, ensure_ascii=False) + "\n")
    gather_rows(folder, _order(comparison))
    for reference in comparison.references:
        save_photos(folder, reference)


def _order(comparison: Comparison) -> list[Key]:
    return [
        (contestant.name, scale, *shot.key)
        for contestant in comparison.contestants
        for scale in contestant.scales
        for shot in comparison.shots
    ]


@dataclass(frozen=True)
class _Batch:
    """Pictures that one contestant makes at one scale in one call, and those among them that are missing."""

    scale: float
    shots: Sequence[Shot]
    missing: frozenset[Shot]


class _Sweep:
    """This process's share of a comparison."""

    def __init__(self, comparison: Comparison, processes: Processes) -> None:
        self._comparison = comparison
        self._folder = comparison.settings.folder
        self._processes = processes
        self._done = {key_of(row) for row in read_rows(self._folder / RESULTS)}
        self._writer = RowWriter(self._folder, processes.index)

    def run(self) -> None:
        """Make and measure the missing pictures."""
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
        """This process's incomplete batches; each is made again as a whole, with the same pictures together."""
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
                        f"metrics.{metric.name} fills the column {min(twice)!r}, as another metric does. Rename "
                        "one of them."
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
    """Check the pictures of a contestant, and convert them to RGB.

    Raises:
        NestedAdapterError: It returned something else.
    """
    if not isinstance(pictures, list) or len(pictures) != count:
        raise NestedAdapterError(f"The contestant {name!r} must return a list of {count} pictures, got {pictures!r}.")
    wrong = [picture for picture in pictures if not isinstance(picture, Image.Image)]
    if wrong:
        raise NestedAdapterError(f"The contestant {name!r} must return PIL images, got a {type(wrong[0]).__name__}.")
    return [picture.convert("RGB") for picture in pictures]
