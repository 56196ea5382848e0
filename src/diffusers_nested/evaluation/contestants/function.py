"""Any other method, as a function of the user."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from PIL import Image

from ..shots import Shot
from .base import Contestant, Generate

Method = Callable[[Any, Sequence[Shot], float, Mapping[str, Any]], list[Image.Image]]


class Function(Contestant):
    """A function that makes the pictures.

    Args:
        name: In the results.
        scales: Strengths, passed to the function.
        function: ``function(pipeline, shots, scale, call)`` returns one picture per shot. It gets prompts, noise and
            photos from ``shot.prompt``, ``shot.generator()`` and ``shot.reference.photos()``; ``call`` are keywords of
            the pipeline's call. It must leave the pipeline as it was.
    """

    def __init__(self, name: str, scales: Sequence[float], function: Method) -> None:
        super().__init__(name, scales)
        self._function = function

    @contextmanager
    def loaded(self, pipeline: Any, call: Mapping[str, Any]) -> Iterator[Generate]:
        """Set up nothing; the function gets the pipeline."""
        yield lambda shots, scale: self._function(pipeline, shots, scale, call)
