"""IP-Adapters of diffusers."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any

from PIL import Image

from ...errors import NestedAdapterError
from ..shots import Shot
from .base import Contestant, Generate, run
from .digest import digest_of

_KEPT = ("image_encoder", "feature_extractor")  # unload_ip_adapter drops these, even the user's


class IPAdapter(Contestant):
    """One IP-Adapter, which gets all photos of a subject.

    Args:
        name: In the results.
        scales: Strengths, for ``set_ip_adapter_scale``.
        adapter: What ``load_ip_adapter`` takes: a repository, a folder, or a state dict.
        **options: Further keywords of ``load_ip_adapter``, such as ``subfolder`` and ``weight_name``.
    """

    def __init__(self, name: str, scales: Sequence[float], adapter: Any, **options: Any) -> None:
        super().__init__(name, scales)
        self._adapter = adapter
        self._options = options

    def fingerprint(self) -> str:
        """Digest of the adapter's files, if it is in a folder."""
        return digest_of([self._adapter] if isinstance(self._adapter, str) else [])

    @contextmanager
    def loaded(self, pipeline: Any, call: Mapping[str, Any]) -> Iterator[Generate]:
        """Load the adapter, and unload it afterwards."""
        kept = {part: getattr(pipeline, part, None) for part in _KEPT}
        processors = dict(pipeline.unet.attn_processors)
        try:
            pipeline.load_ip_adapter(self._adapter, **self._options)
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise NestedAdapterError(f"The contestant {self.name!r} cannot be loaded: {error}") from error

        def generate(shots: Sequence[Shot], scale: float) -> list[Image.Image]:
            pipeline.set_ip_adapter_scale(scale)
            pictures = []
            # in diffusers, all prompts of a call share its images, so each subject needs a call of its own
            for reference, group in groupby(shots, key=lambda shot: shot.reference):
                pictures += run(pipeline, list(group), call, ip_adapter_image=[reference.photos()])
            return pictures

        try:
            yield generate
        finally:
            pipeline.unload_ip_adapter()
            pipeline.unet.set_attn_processor(processors)
            pipeline.register_modules(**{part: value for part, value in kept.items() if value is not None})
