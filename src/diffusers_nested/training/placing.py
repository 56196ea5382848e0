"""Subjects of a training batch, placed on its rows."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..injection import Kind, PlacedSubject, ProjectedSubject, RowGroup, rows_of


def row_groups(
    kind: Kind, projected: Mapping[str, tuple[Tensor, ...]], positions: Tensor, counts: Sequence[int]
) -> list[RowGroup]:
    """Groups of rows that have as many subjects.

    Args:
        kind: Of all subjects.
        projected: Layer path -> what it reads of the M subjects, each (M, …), those of the first row first.
        positions: Where they act, (M, T).
        counts: How many subjects each row has.
    """
    rows = {count: [row for row, one in enumerate(counts) if one == count] for count in sorted(set(counts))}
    if len(rows) == 1:
        return [RowGroup(_slots(kind, projected, positions, counts, range(len(counts))))]
    groups = []
    for members in rows.values():
        others = [row for row in range(len(counts)) if row not in members]
        placed = _slots(kind, projected, positions, counts, members)
        here, rest = (rows_of(some, positions.device) for some in (members, others))
        groups.append(RowGroup(placed, here, rest, batch=len(counts)))
    return groups


def _slots(
    kind: Kind,
    projected: Mapping[str, tuple[Tensor, ...]],
    positions: Tensor,
    counts: Sequence[int],
    members: Sequence[int],
) -> list[PlacedSubject]:
    """The first subjects of these rows, then the second ones, and so on."""
    firsts = [sum(counts[:row]) for row in members]
    slots = []
    for slot in range(counts[members[0]]):
        chosen = [first + slot for first in firsts]
        layers = {path: tuple(_chosen(x, chosen) for x in read) for path, read in projected.items()}
        slots.append(PlacedSubject((ProjectedSubject(kind, layers),), _chosen(positions, chosen)))
    return slots


def _chosen(x: Tensor, chosen: Sequence[int]) -> Tensor:
    """These rows of a tensor, as a view if they are evenly spaced."""
    step = chosen[1] - chosen[0] if len(chosen) > 1 else 1
    if list(chosen) == list(range(chosen[0], chosen[-1] + 1, step)):
        return x[chosen[0] : chosen[-1] + 1 : step]
    return x.index_select(0, torch.tensor(chosen, device=x.device))
