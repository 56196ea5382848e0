"""Pairs of pictures of the same subject, prompt and noise by two contestants, from folders of results."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np

from ...errors import NestedAdapterError
from ...files import file_in, shown
from ..pictures import PHOTOS, check_names
from ..rows import RESULTS, read_rows
from .alike import check_alike

_Shot = tuple[str, str, int]  # subject, prompt, seed
_Made = tuple[Path, Path]  # folder of the comparison, picture


@dataclass(frozen=True)
class Side:
    """A contestant at one of its scales."""

    contestant: str
    scale: float

    def __str__(self) -> str:
        """Its name on the command line."""
        return f"{self.contestant}@{self.scale:g}"


@dataclass(frozen=True)
class Pair:
    """Two pictures to choose from.

    Attributes:
        subject: Name of the subject.
        prompt: The prompt of both.
        seed: Seed of their noise.
        photos: The subject's photos.
        first: The contestant that is compared with the others.
        sides: Contestants of the left and the right picture.
        pictures: The left and the right picture.
    """

    subject: str
    prompt: str
    seed: int
    photos: tuple[Path, ...]
    first: Side
    sides: tuple[Side, Side]
    pictures: tuple[Path, Path]


def choose_pairs(folders: Sequence[Path], named: Sequence[str], count: int, seed: int = 0) -> list[Pair]:
    """Draw random pairs of the first contestant with each of the others, balanced over others and sides.

    Args:
        folders: Folders of comparisons that kept their pictures.
        named: At least two contestants, as ``NAME`` or, if there are several scales, ``NAME@SCALE``.
        count: How many pairs, at most.
        seed: Seed of the draw.

    Raises:
        NestedAdapterError: There are no results, a contestant is unknown or its scale ambiguous, contestants share no
            picture, a picture is not in its folder, or folders have other settings of the call, other photos of a
            subject, or different pictures of one contestant.
    """
    if seed < 0:
        raise NestedAdapterError(f"The seed of a study must be at least 0, got {seed}.")
    of_folders = [_pictures(folder) for folder in folders]
    check_alike(folders)
    made: dict[Side, dict[_Shot, _Made]] = {}
    for found in of_folders:
        for side, shots in found.items():
            made.setdefault(side, {}).update(shots)
    sides = [_side(name, list(made)) for name in named]
    for side in sides:
        _check_made_once(side, [found[side] for found in of_folders if side in found])
    if len(set(sides)) < 2 or len(set(sides)) < len(sides):
        raise NestedAdapterError(
            f"A study needs at least two different contestants, got {', '.join(map(str, sides)) or 'none'}. There are: "
            f"{', '.join(map(str, made))}."
        )
    if count < len(sides) - 1:
        raise NestedAdapterError(
            f"A study needs at least 1 pair for each contestant after the first, {len(sides) - 1} in all, got {count}."
        )
    rng = np.random.default_rng(seed)
    columns = [_pairs_with(made, sides[0], other, rng) for other in sides[1:]]
    drawn = [pair for row in zip(*columns, strict=False) for pair in row][:count]
    return [drawn[i] for i in rng.permutation(len(drawn))]


def _pictures(folder: Path) -> dict[Side, dict[_Shot, _Made]]:
    """Side -> shot -> picture of one folder."""
    rows = read_rows(folder / RESULTS)
    if not rows:
        raise NestedAdapterError(f"{folder} holds no results. Name the output folder of `diffusers-nested evaluate`.")
    made: dict[Side, dict[_Shot, _Made]] = {}
    for row in rows:
        picture = None if row["picture"] is None else _within(folder, row["picture"])
        if picture is not None:
            side, shot = Side(row["contestant"], row["scale"]), (row["subject"], row["prompt"], row["seed"])
            made.setdefault(side, {})[shot] = folder, picture
    if not made:
        raise NestedAdapterError(f"{folder} holds no pictures. Compare again with save_pictures = true.")
    return made


def _check_made_once(side: Side, made: Sequence[Mapping[_Shot, _Made]]) -> None:
    """Raise if several folders have different pictures of one contestant for the same shot.

    Raises:
        NestedAdapterError: They have.
    """
    seen: dict[_Shot, _Made] = {}
    for shots in made:
        for shot, (folder, picture) in shots.items():
            first, known = seen.setdefault(shot, (folder, picture))
            if known != picture and known.read_bytes() != picture.read_bytes():
                raise NestedAdapterError(
                    f"{side} has different pictures of {shot[0]!r} in {first} and {folder}. Leave one folder out, or "
                    "give the contestant another name in one of them."
                )


def _within(folder: Path, name: str) -> Path | None:
    """A file of the folder, whose results somebody else may have written; None if it does not exist.

    Raises:
        NestedAdapterError: It is outside the folder.
    """
    if any(path.is_absolute() or path.drive or ".." in path.parts for path in _read_as_path(name)) or "\0" in name:
        raise NestedAdapterError(
            f"The results in {folder} name {shown(name)}, which is not in it. A study only reads pictures of its "
            "folders."
        )
    try:
        return file_in(folder, name)
    except FileNotFoundError:
        return None


def _read_as_path(name: str) -> tuple[PurePosixPath, PureWindowsPath]:
    return PurePosixPath(name), PureWindowsPath(name)


def _side(name: str, sides: Sequence[Side]) -> Side:
    head, _, tail = name.rpartition("@")
    scale = _number(tail)
    found = [side for side in sides if side.contestant == name or (side.contestant, side.scale) == (head, scale)]
    if len(found) != 1:
        what = "has several scales" if found else "is not among the results"
        raise NestedAdapterError(f"The contestant {name!r} {what}. There are: {', '.join(map(str, sides))}.")
    return found[0]


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _pairs_with(
    made: Mapping[Side, Mapping[_Shot, _Made]], first: Side, other: Side, rng: np.random.Generator
) -> list[Pair]:
    """All pairs with one other contestant in random order; sides alternate."""
    shared = sorted(made[first].keys() & made[other].keys())
    if not shared:
        raise NestedAdapterError(
            f"{first} and {other} share no subject, prompt and seed. Compare them with the same settings."
        )
    turn = int(rng.integers(2))
    pairs = []
    for number, index in enumerate(rng.permutation(len(shared))):
        sides = (first, other) if (number + turn) % 2 else (other, first)
        (folder, left), (_, right) = (made[side][shared[index]] for side in sides)
        subject, prompt, seed = shared[index]
        pairs.append(Pair(subject, prompt, seed, _photos(folder, subject), first, sides, (left, right)))
    return pairs


def _photos(folder: Path, subject: str) -> tuple[Path, ...]:
    """The subject's photos, if any were kept.

    Raises:
        NestedAdapterError: They are outside the folder.
    """
    check_names("subject", [subject])
    place = f"{PHOTOS}/{subject}"
    names = sorted(path.name for path in (folder / place).glob("*.png"))
    return tuple(photo for name in names if (photo := _within(folder, f"{place}/{name}")) is not None)
