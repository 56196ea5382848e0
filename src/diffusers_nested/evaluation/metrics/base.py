"""The interface of metrics."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from ...errors import NestedAdapterError
from ..references import Reference
from ..shots import Shot

Scores = Mapping[str, float | None]


class Metric(ABC):
    """One metric of a comparison.

    Attributes:
        name: Column of the results; further columns of a metric are named ``"<name> <part>"``.
        needs_plain: Whether pictures are compared with those of the plain pipeline.
    """

    needs_plain = False

    def __init__(self, name: str) -> None:
        self.name = name

    def to(self, device: str) -> None:  # noqa: B027
        """Move to a device; metrics without a model ignore it."""

    def check(self, references: Sequence[Reference]) -> None:  # noqa: B027
        """Check the subjects before any picture is made.

        Raises:
            NestedAdapterError: They cannot be measured, for example because a photo shows no face.
        """

    @abstractmethod
    def score(
        self, pictures: Sequence[Image.Image], shots: Sequence[Shot], plain: Sequence[Image.Image] | None
    ) -> list[Scores]:
        """Measure pictures.

        Args:
            pictures: One per shot, RGB.
            shots: What they should show.
            plain: The plain pipeline's pictures of the same shots, for metrics that need them.

        Returns:
            Per picture, column -> value. None counts as a failure, such as no face found; leave out columns that do
            not apply to a prompt.
        """


def checked_scores(
    metric: Metric, pictures: Sequence[Image.Image], shots: Sequence[Shot], plain: Sequence[Image.Image] | None
) -> list[dict[str, float | None]]:
    """Measure, and round scores to six decimals; NaN and infinite scores are failures.

    Raises:
        NestedAdapterError: The metric returned something else.
    """
    found = metric.score(pictures, shots, plain)
    if not isinstance(found, list) or len(found) != len(pictures):
        raise NestedAdapterError(
            f"metrics.{metric.name} must return a list of {len(pictures)} tables, one per picture, got {found!r}."
        )
    return [_checked(metric, one) for one in found]


def _checked(metric: Metric, scores: Any) -> dict[str, float | None]:
    if not isinstance(scores, Mapping) or not all(isinstance(column, str) for column in scores):
        raise NestedAdapterError(f"metrics.{metric.name} must return a table column -> number, got {scores!r}.")
    return {column: _rounded(metric, column, value) for column, value in scores.items()}


def _rounded(metric: Metric, column: str, value: Any) -> float | None:
    if value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise NestedAdapterError(
            f"metrics.{metric.name} must return numbers or None, got {value!r} for {column!r}."
        ) from error
    return round(number, 6) if math.isfinite(number) else None
