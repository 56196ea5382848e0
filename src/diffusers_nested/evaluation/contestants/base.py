"""What takes part in a comparison."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from PIL import Image

from ..shots import Shot

Generate = Callable[[Sequence[Shot], float], list[Image.Image]]


class Contestant(ABC):
    """One way of putting a subject into a picture.

    Attributes:
        name: In the results.
        scales: The strengths at which it is measured.
    """

    def __init__(self, name: str, scales: Sequence[float]) -> None:
        self.name = name
        self.scales = tuple(scales)

    def fingerprint(self) -> str:
        """Changes when what was named in the settings is no longer the same, such as files that were overwritten."""
        return ""

    @abstractmethod
    def loaded(self, pipeline: Any, call: Mapping[str, Any]) -> AbstractContextManager[Generate]:
        """A context in which the pipeline is set up for this contestant, and as it was after it.

        Args:
            pipeline: The pipeline of the comparison.
            call: Keywords for its call.

        Returns:
            From shots and a scale to one picture each.

        Raises:
            NestedAdapterError: It does not fit the pipeline; the pipeline is unchanged then.
        """


class Plain(Contestant):
    """The pipeline alone: the subject's word is just a word."""

    def __init__(self, name: str) -> None:
        super().__init__(name, (0.0,))

    @contextmanager
    def loaded(self, pipeline: Any, call: Mapping[str, Any]) -> Iterator[Generate]:
        """Nothing to be set up."""
        yield lambda shots, scale: run(pipeline, shots, call)


def run(pipeline: Any, shots: Sequence[Shot], call: Mapping[str, Any], **keywords: Any) -> list[Image.Image]:
    """Call the pipeline for some shots, each with its own noise."""
    return pipeline(
        [shot.prompt for shot in shots], generator=[shot.generator() for shot in shots], **{**call, **keywords}
    ).images
