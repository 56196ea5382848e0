"""The paired loss: what the right subject is worth, with everything else the same.

The plain loss depends mostly on the noise and hardly moves. The paired loss is measured three times on one fixed batch
with fixed noise: with each example's own subject, with the next example's, and with none. Their differences are the
signal.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from ..adapter import NestedAdapter
from .noise import Places
from .objective import Objective
from .samples import Samples


class PairedLoss:
    """Measures the adapter on one fixed batch.

    Args:
        objective: The loss.
        samples: The batch.
        places: Where its examples stand, from which their noise follows.
        autocast: Makes the context in which the adapter computes.
    """

    def __init__(
        self,
        objective: Objective,
        samples: Samples,
        places: Places,
        autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        self._objective = objective
        self._samples = samples
        self._autocast = autocast
        self._drawn = objective.draw(samples, places)
        for lost in (self._drawn.dropped, self._drawn.no_caption, self._drawn.no_photo):
            lost.zero_()

    @torch.no_grad()
    def measure(self, adapter: NestedAdapter) -> torch.Tensor:
        """Losses with the right subject, a wrong one, and none: (3,)."""
        losses = [self._loss(adapter, shift) for shift in (0, 1)]
        losses.append(self._objective.losses(self._samples, self._drawn).mean())
        return torch.stack(losses)

    def _loss(self, adapter: NestedAdapter, shift: int) -> torch.Tensor:
        with self._autocast():
            projected = adapter(self._samples.features.roll(shift, dims=0))
        with self._objective.acting(projected, self._samples.positions, self._samples.counts):
            return self._objective.losses(self._samples, self._drawn).mean()


def paired_row(losses: Sequence[float]) -> dict[str, float]:
    """The three losses and their differences, by name; positive gains mean that the subject helps."""
    right, wrong, none = losses
    return {
        "loss_right": right,
        "loss_wrong": wrong,
        "loss_none": none,
        "gain_over_wrong": wrong - right,
        "gain_over_none": none - right,
    }
