"""IP-Adapter's encoders from image features to tokens (arXiv 2308.06721), modules of diffusers."""

from collections.abc import Mapping
from typing import Any, ClassVar

from diffusers.models.embeddings import ImageProjection, IPAdapterPlusImageProjection
from torch import Tensor

from ..errors import NestedAdapterError
from ..files.limits import MAX_ATTENTION, MAX_BLOCKS, MAX_HEADS, MAX_WIDTH
from ..files.rules import Rule, whole
from ..vision.kinds import PENULTIMATE, POOLED

HEAD_WIDTH = 64  # of the resampler, in all files


class LinearProjection(ImageProjection):
    """The encoder of a base IP-Adapter: a linear layer from the pooled feature to N tokens, then a norm."""

    settings: ClassVar[Mapping[str, Rule]] = {}
    features: ClassVar[str] = POOLED
    reads_empty_image: ClassVar[bool] = True

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "LinearProjection":
        """Build the encoder for an adapter's configuration."""
        return cls(config["image_feature_dim"], config["token_dim"], config["num_queries"])

    @staticmethod
    def check_config(config: Mapping[str, Any]) -> None:
        """All values within their ranges fit together."""

    @staticmethod
    def estimated_parameters(config: Mapping[str, Any]) -> int:
        """The parameters."""
        return (config["image_feature_dim"] + 1) * config["num_queries"] * config["token_dim"] + 2 * config["token_dim"]

    def forward(self, image_embeds: Tensor) -> Tensor:
        """The pooled feature (B, 1, image_feature_dim) -> subject tokens (B, N, token_dim)."""
        if image_embeds.shape[1] != 1:
            raise NestedAdapterError(
                f"Image features have shape {tuple(image_embeds.shape)}; expected one pooled feature per image, "
                f"(batch, 1, {image_embeds.shape[-1]}), as the vision tower's `image_embeds`."
            )
        return super().forward(image_embeds[:, 0])


class Resampler(IPAdapterPlusImageProjection):
    """The encoder of IP-Adapter Plus: N learned queries attend to the tower's penultimate states and to each other."""

    settings: ClassVar[Mapping[str, Rule]] = {
        "resampler_hidden_size": whole(1, MAX_WIDTH),
        "resampler_num_layers": whole(1, MAX_BLOCKS),
        "resampler_num_heads": whole(1, MAX_HEADS),
    }
    features: ClassVar[str] = PENULTIMATE
    reads_empty_image: ClassVar[bool] = True

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Resampler":
        """Build the encoder for an adapter's configuration."""
        return cls(
            embed_dims=config["image_feature_dim"],
            output_dims=config["token_dim"],
            hidden_dims=config["resampler_hidden_size"],
            depth=config["resampler_num_layers"],
            dim_head=HEAD_WIDTH,
            heads=config["resampler_num_heads"],
            num_queries=config["num_queries"],
        )

    @staticmethod
    def check_config(config: Mapping[str, Any]) -> None:
        """Raise unless the settings, each of them in range, fit together.

        Raises:
            NestedAdapterError: Names the settings.
        """
        heads, queries = config["resampler_num_heads"], config["num_queries"]
        if heads * queries**2 > MAX_ATTENTION:
            raise NestedAdapterError(
                f"num_queries {queries} with resampler_num_heads {heads} needs {heads * queries**2:.1e} attention "
                f"weights in each block (heads · num_queries²), more than {MAX_ATTENTION:.1e}. Reduce one of them."
            )

    @staticmethod
    def estimated_parameters(config: Mapping[str, Any]) -> int:
        """Estimate the parameters without building the encoder: an upper bound that is close for large ones."""
        hidden, inner = config["resampler_hidden_size"], HEAD_WIDTH * config["resampler_num_heads"]
        # in each block: queries, keys, values and output 4 h i, two linear layers 2 h 4h, three norms
        block = 4 * hidden * inner + 8 * hidden**2 + 6 * hidden
        ends = (hidden + 2) * (config["image_feature_dim"] + config["token_dim"]) + hidden * (config["num_queries"] + 1)
        return config["resampler_num_layers"] * block + ends + config["token_dim"]
