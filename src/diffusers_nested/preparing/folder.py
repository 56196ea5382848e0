"""From a folder of photos to a training set."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from ..data.folder import METADATA
from ..environment.processes import launched_processes, process_index
from ..errors import NestedAdapterError
from ..files.jsonl import Row, write_jsonl
from .captions import read_captions
from .names import FILES, find_photos, share_of, shown_name
from .photo import PhotoPreparer, made_from
from .settings import PrepareSettings
from .sheet import write_sheet
from .subjects import Crops, FaceCrops, SegmentCrops
from .words import SubjectWord, read_nouns
from .work import REJECTS, SHEET, WorkFolder


@dataclass(frozen=True)
class Prepared:
    """What became of the photos.

    Attributes:
        photos: Number of photos.
        examples: Number of examples; a photo with several faces may give several.
        rejects: Reason -> how often it occurred.
        waiting: Number of photos that other processes have still to prepare; the last of them writes the lists.
    """

    photos: int
    examples: int
    rejects: dict[str, int]
    waiting: int


def prepare(settings: PrepareSettings) -> Prepared:
    """Make a training set of a folder of photos, or go on where an earlier start has ended.

    Of several processes, as ``accelerate launch`` starts them or with ``RANK`` and ``WORLD_SIZE`` in their
    environments, each takes its share, and the one that ends last writes ``metadata.jsonl``, ``rejects.jsonl`` and
    ``contact-sheet.png``. The files are the same, byte for byte, however many there were and whatever ended early.

    Raises:
        NestedAdapterError: Something does not fit together; nothing has been written then. Or no photo became an
            example; ``rejects.jsonl`` says why.
        DependencyError: Faces are to be found, but the extra ``faces`` is not installed.
        OSError: A file cannot be written, for example on a full disk; no file is incomplete.
    """
    index, count = process_index(), launched_processes()
    names = find_photos(settings.source, settings.output)
    captions = read_captions(settings.source, names, settings.captions)
    if not captions and settings.captioner is None:
        raise NestedAdapterError(
            f"No photo of {settings.source} has a caption beside it, such as photo.txt for photo.jpg. Write them, or "
            "give captions or a captioner."
        )
    nouns = read_nouns(settings.nouns, settings.kind)
    word = SubjectWord(settings.word, nouns)
    device = settings.device or _own_device(index)
    crops, segmenter = _crops(settings, word, device)
    captioner = _captioner(settings, device)
    definition = _definition(settings, nouns, segmenter, captioner)
    work = WorkFolder(settings.output, index, count)
    with work.opened(definition):
        sources = {name: made_from(settings.source, name, captions) for name in names}
        caption = None if captioner is None else captioner.caption
        preparer = PhotoPreparer(settings.source, settings.output, crops, word, captions, caption)
        _prepare_all(preparer, work, settings.output, share_of(names, index, count), sources)
        return _finish(settings.output, work, names, sources)


def _crops(settings: PrepareSettings, word: SubjectWord, device: str) -> tuple[Crops, str | None]:
    """What finds the subject, and the digest of its model."""
    limits = (settings.min_size, settings.min_sharpness)
    if settings.segmenter is None:
        return FaceCrops(settings.faces == "all", *limits), None
    from .models import Segmenter

    segmenter = Segmenter(settings.segmenter, word, device)
    return SegmentCrops(segmenter, settings.background == "white", *limits), segmenter.digest


def _captioner(settings: PrepareSettings, device: str) -> Any:
    if settings.captioner is None:
        return None
    from .models import Captioner

    return Captioner(settings.captioner, device)


def _own_device(index: int) -> str:
    """The GPU of this process, if there are any."""
    return f"cuda:{index % torch.cuda.device_count()}" if torch.cuda.is_available() else "cpu"


def _definition(
    settings: PrepareSettings, nouns: Sequence[str], segmenter: str | None, captioner: Any
) -> dict[str, Any]:
    own = {"faces": settings.faces} if settings.kind == "faces" else {"background": settings.background}
    return {
        "kind": settings.kind,
        "subject_token": settings.word,
        **own,
        "min_size": settings.min_size,
        "min_sharpness": settings.min_sharpness,
        "nouns": sorted(nouns),
        "segmenter": segmenter,
        "captioner": None if captioner is None else captioner.digest,
    }


def _prepare_all(
    preparer: PhotoPreparer, work: WorkFolder, output: Path, share: Sequence[str], sources: dict[str, list[Any]]
) -> None:
    rows = work.rows()
    pending = [name for name in share if not _is_done(rows.get(shown_name(name)), sources[name], output)]
    left = set(pending)
    rejects = sum(bool(rows[shown_name(name)]["rejects"]) for name in share if name not in left)
    with tqdm(total=len(share), initial=len(share) - len(pending), unit="photo", disable=not pending) as bar:
        for name in pending:
            row = preparer.prepare(name)
            work.add({"photo": shown_name(name), "from": sources[name], **row})
            rejects += bool(row["rejects"])
            bar.set_postfix(rejects=rejects, refresh=False)
            bar.update()


def _delete(output: Path, names: Iterable[str]) -> None:
    for name in names:
        file = output / name
        if file.parent.resolve().is_relative_to(output.resolve()):  # whatever the notes say
            file.unlink(missing_ok=True)


def _is_done(row: Row | None, expected: list[Any], output: Path) -> bool:
    """Whether a photo's row was made from what is there now, and its files are there."""
    if row is None or row["from"] != expected:
        return False
    return all((output / example[column]).is_file() for example in row["examples"] for column in FILES)


def _finish(output: Path, work: WorkFolder, names: Sequence[str], sources: dict[str, list[Any]]) -> Prepared:
    """Write the lists, if all processes are done."""
    with work.alone():
        rows = work.rows()
        waiting = sum(not _is_done(rows.get(shown_name(name)), sources[name], output) for name in names)
        if waiting:
            return Prepared(len(names), 0, {}, waiting)
        ordered = [rows[shown_name(name)] for name in names]
        examples = [example for row in ordered for example in row["examples"]]
        rejects = [reject for row in ordered for reject in row["rejects"]]
        write_sheet(output / SHEET, output, examples)
        write_jsonl(output / REJECTS, rejects)
        write_jsonl(output / METADATA, examples)
        # of photos that are gone or have become rejects, nothing stays: their owner may have taken them back
        _delete(output, work.made() - {example[column] for example in examples for column in FILES})
    reasons = dict(Counter(reject["reason"] for reject in rejects).most_common())
    if not examples:
        listed = ", ".join(f"{reason} ({times})" for reason, times in reasons.items())
        raise NestedAdapterError(
            f"None of the {len(names)} photos became an example: {listed}. {output / REJECTS} says it of each; mend "
            "the captions or the limits, and name another folder."
        )
    return Prepared(len(names), len(examples), reasons, 0)
