"""From a training folder to shards, archives that are read from one end to the other."""

import hashlib
import io
import json
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..data import TripletFolder
from ..data.images import size_of
from ..data.shards import EXAMPLES, FORMAT, INDEX, shard_name
from ..data.triplets import Triplet
from ..errors import NestedAdapterError
from ..files.json_files import parse_json
from ..files.jsonl import Row, write_jsonl
from ..files.lock import LOCK, held
from ..files.write_whole import write_whole

_NOTES = ".shards.json"  # what the shards of an unfinished folder are made of
_CHUNK = 1 << 20  # bytes


@dataclass(frozen=True)
class Packed:
    """What was written.

    Attributes:
        examples: Number of examples.
        shards: Number of shards.
    """

    examples: int
    shards: int


def write_shards(source: Path, output: Path, examples_per_shard: int = 1000) -> Packed:
    """Write a training folder as shards, or go on where an earlier start has ended.

    The files are the same, byte for byte, whatever ended early. Shards that are there already are kept; of a finished
    folder, all checksums are compared.

    Args:
        source: A training folder, as ``TripletFolder`` reads it.
        output: The folder of the shards.
        examples_per_shard: Of the last one, what is left.

    Raises:
        NestedAdapterError: The source is not complete or has a picture that cannot be opened, or the output holds
            something else; nothing has been written then. Or a finished shard is damaged.
        OSError: A file cannot be written, for example on a full disk; no file is incomplete.
    """
    triplets = TripletFolder(source)
    _check_output(source, output)
    described = [_described(i, triplets[i]) for i in tqdm(range(len(triplets)), "Reading")]
    definition = {"examples_per_shard": examples_per_shard, "source": _digest(described)}
    with held(output, "preparation", "OUT"):
        _check_definition(output, definition)
        if not (output / _NOTES).is_file():
            write_whole(output / _NOTES, json.dumps(definition) + "\n")
        shards, rows = [], []
        for first in tqdm(range(0, len(described), examples_per_shard), "Writing", unit="shard"):
            part = described[first : first + examples_per_shard]
            path = output / shard_name(len(shards))
            if not path.is_file() or path.stat().st_size != _bytes(part):
                write_whole(path, lambda to, part=part: _write(to, part))
            shards.append(_entry(path, len(part)))
            rows += [_row(len(shards) - 1, example) for example in _placed(part)]
        _finish(output, shards, rows)
    return Packed(len(described), len(shards))


def _check_output(source: Path, output: Path) -> None:
    if source.resolve() == output.resolve():
        raise NestedAdapterError(f"OUT {output} is the training folder itself. Name another folder.")
    if output.is_file():
        raise NestedAdapterError(f"OUT {output} is a file. Name a folder.")
    found = sorted(path.name for path in output.iterdir()) if output.is_dir() else []
    if [name for name in found if name != LOCK] and _NOTES not in found:
        raise NestedAdapterError(
            f"OUT {output} already holds {found[0]}, but no shards to go on from. Name another one."
        )


def _check_definition(output: Path, definition: dict[str, Any]) -> None:
    file = output / _NOTES
    earlier = parse_json(file.read_bytes(), str(file)) if file.is_file() else definition
    if earlier != definition:
        changed = "examples per shard" if earlier.get("source") == definition["source"] else "pictures or captions"
        raise NestedAdapterError(f"OUT {output} was begun with other {changed}. Name another folder.")


def _described(number: int, triplet: Triplet) -> dict[str, Any]:
    """An example and its files: word or None -> the photo, and the target."""
    target, photos = Path(triplet.target_image), {word: Path(photo) for word, photo in triplet.photos.items()}
    files = {f"{number:08d}.target{_ending(target)}": target}
    for place, photo in enumerate(photos.values(), 1):
        files[f"{number:08d}.input{place if len(photos) > 1 else ''}{_ending(photo)}"] = photo
    members = [
        {"name": name, "file": file, "bytes": file.stat().st_size, "size": list(size_of(file))}
        for name, file in files.items()
    ]
    note = {"text": triplet.text, **({} if None in photos else {"words": list(photos)})}
    text = json.dumps(note, ensure_ascii=False).encode()
    return {"text": triplet.text, "words": list(photos), "members": members, "note": (f"{number:08d}.json", text)}


def _ending(file: Path) -> str:
    """The ending of a file's name, by which other programs know a picture."""
    return file.suffix.lower() if re.fullmatch(r"\.[A-Za-z0-9]{1,8}", file.suffix) else ""


def _digest(described: list[dict[str, Any]]) -> str:
    digest = hashlib.sha256()
    for example in described:
        kept = [[one[key] for key in ("name", "bytes", "size")] for one in example["members"]]
        digest.update(json.dumps([example["note"][1].decode(), kept]).encode())
    return digest.hexdigest()


def _write(path: Path, part: list[dict[str, Any]]) -> None:
    """Write an archive that depends on nothing but its content: no times, no owners."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for example in part:
            name, text = example["note"]
            archive.addfile(_info(name, len(text)), io.BytesIO(text))
            for one in example["members"]:
                content = one["file"].read_bytes()
                if len(content) != one["bytes"]:
                    raise NestedAdapterError(f"{one['file']} has changed meanwhile. Start again in another folder.")
                archive.addfile(_info(one["name"], len(content)), io.BytesIO(content))


def _info(name: str, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size = size
    return info


def _placed(part: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The examples of a shard, with the offset of each picture."""
    offset = 0
    for example in part:
        offset += tarfile.BLOCKSIZE + _padded(len(example["note"][1]))
        members = []
        for one in example["members"]:
            members.append({**one, "offset": offset + tarfile.BLOCKSIZE})
            offset += tarfile.BLOCKSIZE + _padded(one["bytes"])
        yield {**example, "members": members}


def _bytes(part: list[dict[str, Any]]) -> int:
    """How long the archive is, with its end."""
    last = list(_placed(part))[-1]["members"][-1]
    end = last["offset"] + _padded(last["bytes"]) + 2 * tarfile.BLOCKSIZE
    return -(-end // tarfile.RECORDSIZE) * tarfile.RECORDSIZE


def _padded(size: int) -> int:
    return -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


def _row(shard: int, example: dict[str, Any]) -> Row:
    target, *photos = ({key: one[key] for key in ("name", "offset", "bytes", "size")} for one in example["members"])
    return {
        "shard": shard,
        "text": example["text"],
        "photos": [list(pair) for pair in zip(example["words"], photos, strict=True)],
        "target": target,
    }


def _entry(path: Path, examples: int) -> Row:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return {"name": path.name, "examples": examples, "bytes": path.stat().st_size, "sha256": digest.hexdigest()}


def _finish(output: Path, shards: list[Row], rows: list[Row]) -> None:
    """Write the lists, the index last; or compare the shards of a finished folder with it."""
    file = output / INDEX
    index = {"format": FORMAT, "shards": shards}
    if file.is_file():
        listed = {one["name"]: one for one in parse_json(file.read_bytes(), str(file)).get("shards", [])}
        damaged = [one["name"] for one in shards if listed.get(one["name"]) != one]
        if damaged:
            raise NestedAdapterError(
                f"The shard {output / damaged[0]} differs from the one that was written. Delete it, and start again."
            )
    write_jsonl(output / EXAMPLES, rows)
    write_whole(file, json.dumps(index, indent=1) + "\n")
