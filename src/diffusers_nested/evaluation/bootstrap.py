"""Means with bootstrap intervals over subjects."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Interval(NamedTuple):
    """A mean and its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float


def bootstrap_mean(values: Sequence[Sequence[float]] | np.ndarray, samples: int = 2000, seed: int = 0) -> Interval:
    """Mean over subjects with a percentile bootstrap interval.

    The bootstrap draws subjects, not pictures, as pictures of the same subject are not independent.

    Args:
        values: One row per subject, with one entry per picture.
        samples: Number of bootstrap samples.
        seed: Seed of the bootstrap.
    """
    per_subject = np.asarray(values, dtype=np.float64).reshape(len(values), -1).mean(axis=1)
    drawn = np.random.default_rng(seed).integers(0, len(per_subject), (samples, len(per_subject)))
    means = per_subject[drawn].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(per_subject.mean()), float(low), float(high))
