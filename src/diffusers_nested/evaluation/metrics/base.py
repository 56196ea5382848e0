"""What is measured on a picture."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from PIL import Image

from ..references import Reference
from ..shots import Shot

Scores = Mapping[str, float | None]


class Metric(ABC):
    """One metric of a comparison.

    Attributes:
        name: Column of the results; a metric of several columns names the others ``"<name> <part>"``.
        needs_plain: Whether pictures are compared with those of the plain pipeline.
    """

    needs_plain = False

    def __init__(self, name: str) -> None:
        self.name = name

    def to(self, device: str) -> None:  # noqa: B027
        """Say where to compute; metrics without a model need not know."""

    def check(self, references: Sequence[Reference]) -> None:  # noqa: B027
        """Look at the subjects before any picture is made.

        Raises:
            NestedAdapterError: They cannot be measured, for example as a photo shows no face.
        """

    @abstractmethod
    def score(
        self, pictures: Sequence[Image.Image], shots: Sequence[Shot], plain: Sequence[Image.Image] | None
    ) -> list[Scores]:
        """Measure pictures.

        Args:
            pictures: One per shot, RGB.
            shots: What they were to show.
            plain: The plain pipeline's pictures of the same shots, for metrics that need them.

        Returns:
            Per picture, column -> value. None is a failure, such as no face found, and is counted as one; a column
            that does not apply to a prompt is left out.
        """
