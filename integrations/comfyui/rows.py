"""Which rows of ComfyUI's batch hold the prompts of subjects: told by their content.

A batch consists of chunks, one for each conditioning that is computed together: areas, prompts and negative prompts in
any order. If prompts of several lengths come together, ComfyUI repeats the shorter ones up to a common multiple.
"""

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor


class KnownRows:
    """Rows that are already known, for a ``Placement``.

    Attributes:
        numbers: The number of the prompt that each row of the next batch holds; None for rows without subjects.
    """

    has_found = True

    def __init__(self) -> None:
        self.numbers: list[int | None] = []

    def add(self, positive: Tensor, num_prompts: int, negative: Tensor | None = None) -> None:
        """Nothing to do: the rows are known."""

    def find(self, encoder_hidden_states: Tensor, frames: int = 1) -> list[int | None]:
        """The prompt number of every row."""
        return self.numbers

    def find_negative(self, encoder_hidden_states: Tensor, frames: int = 1) -> list[int | None]:
        """None for every row: negative prompts stay plain."""
        return [None] * len(self.numbers)

    def pictures(self, rows: Sequence[int | None]) -> list[int]:
        """The picture that each row belongs to: prompts with the same number are one picture each."""
        seen: Counter[int] = Counter()
        pictures = []
        for number in rows:
            pictures.append(-1 if number is None else seen[number])
            seen[-1 if number is None else number] += 1
        return pictures


def lengthened(states: Tensor, like: Tensor) -> Tensor | None:
    """Embeddings (1, t, D) as they are in a batch (rows, T, D), (1, T, D); None if they cannot be there."""
    times, rest = divmod(like.shape[1], states.shape[1])
    fits = not rest and states.shape[2] == like.shape[2]
    return states.to(like.device, like.dtype).repeat(1, times, 1) if fits else None


def repeated(positions: Sequence[int], own: int, length: int) -> tuple[int, ...]:
    """Positions in embeddings of ``own`` positions that are repeated up to ``length``."""
    return tuple(position + start for start in range(0, length, own) for position in positions)


def find_rows(states: Tensor, prompts: Sequence[Tensor | None], kinds: Sequence[int]) -> list[int | None]:
    """The number of the prompt that each row holds, None for rows without one.

    If the positive prompt is also the negative one, only its rows on the positive side count.

    Args:
        states: What reaches the UNet, (rows, T, D).
        prompts: Their embeddings as they are in this batch; see ``lengthened``.
        kinds: Of each chunk of the batch, 0 if it is of the positive side.
    """
    numbers: list[int | None] = [None] * len(states)
    for number, prompt in enumerate(prompts):
        if prompt is not None:
            same = (states == prompt).flatten(1).all(dim=1).tolist()
            numbers = [number if fits and old is None else old for fits, old in zip(same, numbers, strict=True)]
    per_chunk = len(states) // max(len(kinds), 1)
    if not per_chunk:
        return numbers
    sides = [kinds[min(row // per_chunk, len(kinds) - 1)] for row in range(len(states))]
    if any([number is not None and side == 0 for number, side in zip(numbers, sides, strict=True)]):
        numbers = [number if side == 0 else None for number, side in zip(numbers, sides, strict=True)]
    return numbers


def holds_any(states: object, prompts: Sequence[Tensor]) -> bool:
    """Whether a conditioning's embeddings are one of the prompts."""
    if not isinstance(states, Tensor):
        return False
    return any([one.shape == states.shape and torch.equal(one.to(states), states) for one in prompts])
