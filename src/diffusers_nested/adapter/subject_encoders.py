"""The available encoders from image features to subject tokens, by the config's ``subject_encoder``."""

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

from torch import Tensor

from ..files.rules import Rule
from .ip_encoders import LinearProjection, Resampler
from .qformer import QFormer


class SubjectEncoder(Protocol):
    """Maps image features (B, L, image_feature_dim) to subject tokens (B, num_queries, token_dim).

    Attributes:
        settings: Rules of its own settings in an adapter's configuration, which begin with its name.
        features: Which features of the vision tower it reads; see ``ImageEncoder``.
        reads_empty_image: Whether it was trained with an empty image for the rows without a prompt, as in IP-Adapter.
    """

    settings: ClassVar[Mapping[str, Rule]]
    features: ClassVar[str]
    reads_empty_image: ClassVar[bool]

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Any:
        """Build the encoder for an adapter's configuration."""
        ...

    @staticmethod
    def check_config(config: Mapping[str, Any]) -> None:
        """Raise unless the settings, each of them in range, fit together.

        Raises:
            NestedAdapterError: Names the settings.
        """
        ...

    @staticmethod
    def estimated_parameters(config: Mapping[str, Any]) -> int:
        """Estimate the parameters without building the encoder: an upper bound that is close for large ones."""
        ...

    def __call__(self, image_features: Tensor) -> Tensor:
        """Image features (B, L, image_feature_dim) -> subject tokens (B, num_queries, token_dim)."""
        ...


DEFAULT_ENCODER = "qformer"
SUBJECT_ENCODERS: Mapping[str, type[SubjectEncoder]] = {
    DEFAULT_ENCODER: QFormer,
    "image_projection": LinearProjection,
    "resampler": Resampler,
}
