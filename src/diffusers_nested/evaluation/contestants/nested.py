"""Adapters of this package, whatever their mechanism."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from ...adapter import NestedAdapter
from ...errors import NestedAdapterError
from ...pipelines.state import require_state
from ...subjects.resolve import resolve_subjects
from ..references import Reference
from ..shots import Shot
from .base import Contestant, Generate, run
from .digest import digest_of


class Nested(Contestant):
    """One adapter, or several that act together, each at its own word.

    Args:
        name: In the results.
        scales: Strengths, for ``set_nested_adapter_scale``.
        adapters: What ``load_nested_adapter`` takes.
        photos: How many of a subject's photos to use; all by default.
        words: Which of a subject's words get their photos; all by default. The others are just words.
        **options: Further keywords of ``load_nested_adapter``, such as ``subfolder`` and ``mechanism``.
    """

    def __init__(
        self,
        name: str,
        scales: Sequence[float],
        adapters: Sequence[str | Path | NestedAdapter],
        photos: int | None = None,
        words: Sequence[str] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(name, scales)
        self._adapters = list(adapters)
        self._photos = photos
        self._words = words
        self._options = options

    def check(self, references: Sequence[Reference]) -> None:
        """Check the words and the number of photos."""
        if (self._photos is not None and self._photos < 1) or (self._words is not None and not self._words):
            raise NestedAdapterError(
                f"contestants.{self.name} has photos {self._photos} and words {self._words}, expected at least one of "
                "each. Leave them out for all of them."
            )
        for reference in references:
            unknown = [word for word in self._words or () if word not in reference.words]
            if unknown:
                raise NestedAdapterError(
                    f"contestants.{self.name} has the word {unknown[0]!r}, but the subject {reference.name!r} has "
                    f"photos for {', '.join(reference.words)} only. Correct it, or leave `words` out for all of them."
                )

    def fingerprint(self) -> str:
        """Digest of the files of adapters in folders."""
        return digest_of(path for path in self._adapters if isinstance(path, str | Path))

    @contextmanager
    def loaded(self, pipeline: Any, call: Mapping[str, Any]) -> Iterator[Generate]:
        """Load the adapters, and unload them afterwards."""
        if pipeline.nested_adapters:
            raise NestedAdapterError(
                f"The pipeline has adapters loaded already: {', '.join(pipeline.nested_adapters)}. Call "
                "unload_nested_adapter() first."
            )
        try:
            pipeline.load_nested_adapter(self._adapters, **self._options)
        except (OSError, NestedAdapterError) as error:
            raise NestedAdapterError(f"The contestant {self.name!r} cannot be loaded: {error}") from error

        def generate(shots: Sequence[Shot], scale: float) -> list[Image.Image]:
            pipeline.set_nested_adapter_scale(scale)
            return run(pipeline, shots, call, nested_adapter_image=self._images(shots))

        try:
            yield generate
        finally:
            pipeline.unload_nested_adapter()

    def check_loaded(self, pipeline: Any, shots: Sequence[Shot]) -> None:
        """Check that every word has an adapter."""
        words = require_state(pipeline).subject_tokens
        for shot in {shot.reference.words: shot for shot in shots}.values():
            try:
                resolve_subjects(self._images([shot]), None, None, num_prompts=1, adapter_tokens=words)
            except NestedAdapterError as error:
                raise NestedAdapterError(
                    f"The contestant {self.name!r} cannot draw the subject {shot.reference.name!r}: {error}"
                ) from error

    def _images(self, shots: Sequence[Shot]) -> Any:
        """Word -> photos; a single dict if all shots show the same subject, which is then projected only once."""
        images = {
            one: {word: one.photos(word)[: self._photos] for word in self._words or one.words}
            for one in dict.fromkeys(shot.reference for shot in shots)
        }
        return next(iter(images.values())) if len(images) == 1 else [images[shot.reference] for shot in shots]
