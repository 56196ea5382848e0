"""Subjects of earlier calls, whose photos need not be encoded and whose tokens need not be projected again."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Any

import torch
from torch import Tensor, nn

from ..compat import writes_into
from ..errors import NestedAdapterError
from ..injection import Read

DEFAULT_SIZE = 2
_SAMPLES = 8  # numbers of each weight


@dataclass(frozen=True, eq=False)
class SubjectReading:
    """What the layers read of a subject, whatever its word, scale, weights and mask.

    Attributes:
        layers: Layer path -> what the layer reads.
        num_tokens: Of all its images together.
        empty: The same of an empty image; None if it is not read, or cannot be encoded.
    """

    layers: Mapping[str, Read]
    num_tokens: int
    empty: "SubjectReading | None" = None


@dataclass(frozen=True)
class CacheKey:
    """What a reading follows from.

    Attributes:
        adapter: Name of the adapter.
        state: Everything but the photos: weights, types, devices. A reading from another state is never used again.
        content: The photos or the embeddings.
    """

    adapter: str
    state: Hashable
    content: Hashable


class SubjectCache:
    """The subjects that were used last. Copies of it are empty.

    Args:
        size: How many are kept.
    """

    def __init__(self, size: int = DEFAULT_SIZE) -> None:
        self._size = size
        self._lock = Lock()
        self._kept: OrderedDict[CacheKey, SubjectReading] = OrderedDict()

    def __reduce__(self) -> Any:
        return SubjectCache, (self._size,)

    def __len__(self) -> int:
        """How many subjects are kept."""
        return len(self._kept)

    @property
    def is_off(self) -> bool:
        """Whether nothing is kept."""
        return not self._size

    def resize(self, size: Any) -> None:
        """Forget all, and keep this many from now on.

        Raises:
            NestedAdapterError: The size is not a whole number of at least 0.
        """
        if isinstance(size, bool) or not isinstance(size, int) or size < 0:
            raise NestedAdapterError(
                f"The cache's size is {size!r}, expected a whole number of at least 0: how many subjects are kept "
                "between calls. Pass 0 to keep none."
            )
        with self._lock:
            self._size = size
            self._kept.clear()

    def clear(self) -> None:
        """Forget all."""
        self.resize(self._size)

    def drop(self, adapter: str) -> None:
        """Forget the subjects of an adapter."""
        self._keep_if(lambda key: key.adapter != adapter)

    def get(self, key: CacheKey) -> SubjectReading | None:
        """The subject; None if it is not kept. Then those of the adapter's earlier states are forgotten."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        self._keep_if(lambda other: other.adapter != key.adapter or other.state == key.state)
        return None

    def put(self, key: CacheKey, reading: SubjectReading) -> None:
        """Keep a subject, in place of the one that was used longest ago."""
        with self._lock:
            self._kept[key] = reading
            while len(self._kept) > self._size:
                self._kept.popitem(last=False)

    def _keep_if(self, wanted: Callable[[CacheKey], bool]) -> None:
        with self._lock:
            for key in [key for key in self._kept if not wanted(key)]:
                del self._kept[key]


def digest_of(x: Tensor) -> Hashable:
    """Shape, type and content of a tensor."""
    data = x.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
    return tuple(x.shape), x.dtype, hashlib.blake2b(data).digest()


@torch.no_grad()
def weights_state(module: nn.Module) -> Hashable | None:
    """What changes whenever a module's weights change; None if a part is in training or torch does not tell.

    Torch counts the writes into a weight, but not those into its ``data``, so some numbers of each are looked at, too.
    """
    tensors = [*module.parameters(), *module.buffers()]
    writes = [writes_into(x) for x in tensors]
    if any([part.training for part in module.modules()]) or None in writes:
        return None
    samples: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
    for x in tensors:
        samples.setdefault((x.device, x.dtype), []).append(_samples(x))
    looked_at = tuple([(kind, digest_of(torch.cat(parts))) for kind, parts in samples.items()])
    return tuple(writes), looked_at


def _samples(x: Tensor) -> Tensor:
    """A few numbers of a weight, spread over it; there are a thousand weights, so in as few operations as possible."""
    count = min(_SAMPLES, x.numel())
    return x.contiguous().as_strided((count,), (x.numel() // max(count, 1),))


def computing_state(device: torch.device) -> Hashable:
    """What else changes numbers that a device computes, or what may be done with them later."""
    autocast = torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else None
    return device, autocast, torch.get_float32_matmul_precision(), torch.is_inference_mode_enabled()
