"""Where and how a subject's keys and values wait for the layers that read them.

By default they lie on the UNet's device, in its type, and as attention reads them. They may also wait on another
device, or in 8 bits with one factor per token and head,

    x ≈ s q,    s = max |x| / q_max,    q = x / s in 8 bits,

and are then loaded by a layer when it runs, and freed when it has run.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..attention import SubjectValues

# the largest number of each type of 8 bits
EIGHT_BITS = {torch.int8: 127.0, torch.float8_e4m3fn: 448.0}


@dataclass(frozen=True, eq=False)
class Stored:
    """A tensor that waits elsewhere, or in 8 bits.

    Attributes:
        values: The values, or q.
        scale: s, one for each vector of the last dimension, (…, 1) in float32; None if the values are what they are.
        dtype: The type in which it is read.
    """

    values: Tensor
    scale: Tensor | None
    dtype: torch.dtype

    def load(self, device: torch.device) -> Tensor:
        """The tensor, on the device of the layer that reads it."""
        values = _moved(self.values, device)
        if self.scale is None:
            return values
        return (values.float() * _moved(self.scale, device)).to(self.dtype)


# What a layer reads of a subject, (K̆, V̆) or (V̆,), each (1 or rows, H, N, d), or its tokens: at hand, or stored.
Read = tuple[Tensor, ...] | tuple[Stored, ...]


@dataclass(frozen=True)
class Storage:
    """Where and how what layers read of subjects waits for them.

    Attributes:
        device: Where; None for the UNet's device.
        dtype: A type of 8 bits; None for the UNet's type.
    """

    device: torch.device | None = None
    dtype: torch.dtype | None = None

    def keep(self, read: Sequence[Tensor]) -> Read:
        """Store what a layer reads."""
        if self.dtype is None and self.device in (None, read[0].device):
            return tuple([x.contiguous() for x in read])
        return tuple([self._stored(x) for x in read])

    def _stored(self, x: Tensor) -> Stored:
        values, scale = (x, None) if self.dtype is None else in_8_bits(x, self.dtype)
        return Stored(self._put(values), None if scale is None else self._put(scale), x.dtype)

    def _put(self, x: Tensor) -> Tensor:
        device = x.device if self.device is None else self.device
        if x.device.type == "cuda" and device.type == "cpu":
            # from memory that the system cannot move, a GPU fetches on its own
            return torch.empty(x.shape, dtype=x.dtype, device=device, pin_memory=True).copy_(x)
        return x.to(device).contiguous()


@dataclass(frozen=True, eq=False)
class WaitingValues:
    """A subject as a layer sees it, whose keys and values are loaded when the layer runs.

    Attributes:
        read: What is stored of the subject of all rows, or of each row's.
        subject: Everything else; it has neither key nor value.
    """

    read: tuple[tuple[Stored, ...], ...]
    subject: SubjectValues

    def load(self, device: torch.device) -> SubjectValues:
        """The subject with its keys and values."""
        return _with_values(self.subject, [[one.load(device) for one in row] for row in self.read])


def split_heads(read: Sequence[Tensor], heads: int) -> list[Tensor]:
    """What an adapter projects for a layer, as attention reads it: views (B, H, N, d) of (B, N, H · d)."""
    return [x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in read]


def in_8_bits(x: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The values q of the shape of x, in a type of ``EIGHT_BITS``, and s, (…, 1) in float32."""
    wide = x.float()
    # a vector of zeros has any scale but 0
    scale = (wide.abs().amax(-1, keepdim=True) / EIGHT_BITS[dtype]).clamp(min=torch.finfo(torch.float32).tiny)
    wide = (wide / scale).clamp(-EIGHT_BITS[dtype], EIGHT_BITS[dtype])
    return (wide if dtype.is_floating_point else wide.round()).to(dtype), scale


def read_or_wait(subject: SubjectValues, read: Sequence[Read]) -> SubjectValues | WaitingValues:
    """The subject with what is read of it in all rows, or in each; as soon as it is at hand."""
    if isinstance(read[0][0], Stored):
        return WaitingValues(tuple(read), subject)  # pyright: ignore[reportArgumentType]
    return _with_values(subject, read)  # pyright: ignore[reportArgumentType]


def bare(subject: SubjectValues | WaitingValues) -> SubjectValues:
    """The subject, or all of it that is at hand."""
    return subject.subject if isinstance(subject, WaitingValues) else subject


def changed(subject: SubjectValues | WaitingValues, **values: Any) -> SubjectValues | WaitingValues:
    """The subject with other values of some attributes."""
    new = replace(bare(subject), **values)
    return replace(subject, subject=new) if isinstance(subject, WaitingValues) else new


def size_of(read: Read) -> tuple[int, torch.dtype]:
    """Width of the values that a layer reads, H d, or of tokens, and the type in which it reads them."""
    last = read[-1]
    shape = last.values.shape if isinstance(last, Stored) else last.shape
    return shape[-1] * (shape[1] if len(shape) == 4 else 1), last.dtype


def loaded(subjects: Sequence[SubjectValues | WaitingValues], device: torch.device) -> tuple[SubjectValues, ...]:
    """The subjects of a layer that runs on the device, with their keys and values."""
    return tuple([one.load(device) if isinstance(one, WaitingValues) else one for one in subjects])


def _with_values(subject: SubjectValues, read: Sequence[Sequence[Tensor]]) -> SubjectValues:
    *keys, value = read[0] if len(read) == 1 else [torch.cat(column) for column in zip(*read, strict=True)]
    return replace(subject, key=keys[0] if keys else None, value=value)


def _moved(x: Tensor, device: torch.device) -> Tensor:
    # what leaves a GPU must have arrived before the CPU reads it
    return x.to(device, non_blocking=x.device.type == "cpu")
