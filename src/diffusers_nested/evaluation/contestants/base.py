"""The interface of contestants, and the plain pipeline."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from PIL import Image

from ..references import Reference
from ..shots import Shot

Generate = Callable[[Sequence[Shot], float], list[Image.Image]]


class Contestant(ABC):
    """A way of putting a subject into a picture.

    Attributes:
        name: In the results.
        scales: The strengths at which it is measured.
    """

    def __init__(self, name: str, scales: Sequence[float]) -> None:
        self.name = name
        self.scales = tuple(scales)

    def check(self, references: Sequence[Reference]) -> None:
        """Check that the contestant can draw these subjects, before anything is loaded.

        Raises:
            NestedAdapterError: It cannot.
        """
        return

    def fingerprint(self) -> str:
        """Changes if something that the settings name changes, such as overwritten files."""
        return ""

    def check_loaded(self, pipeline: Any, shots: Sequence[Shot]) -> None:
        """Check that what ``loaded`` has set up can draw these shots, before any picture is made.

        Raises:
            NestedAdapterError: It cannot.
        """
        return

    @abstractmethod
    def loaded(self, pipeline: Any, call: Mapping[str, Any]) -> AbstractContextManager[Generate]:
        """A context in which the pipeline is set up for this contestant; afterwards it is as before.

        Args:
            pipeline: The pipeline of the comparison.
            call: Keywords for its call.

        Returns:
            A function from shots and a scale to one picture per shot.

        Raises:
            NestedAdapterError: The contestant does not fit the pipeline, which is then unchanged.
        """


class Plain(Contestant):
    """The pipeline alone; the subject's word is just a word."""

    def __init__(self, name: str) -> None:
        super().__init__(name, (0.0,))

    @contextmanager
    def loaded(self, pipeline: Any, call: Mapping[str, Any]) -> Iterator[Generate]:
        """Set up nothing."""
        yield lambda shots, scale: run(pipeline, shots, call)


def run(pipeline: Any, shots: Sequence[Shot], call: Mapping[str, Any], **keywords: Any) -> list[Image.Image]:
    """Call the pipeline for shots, each with its own noise."""
    return pipeline(
        [shot.prompt for shot in shots], generator=[shot.generator() for shot in shots], **{**call, **keywords}
    ).images
