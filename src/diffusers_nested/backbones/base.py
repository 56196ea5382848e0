"""What a base family is: everything in which its pipelines and UNets differ from those of other families."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Transformers:
    """The transformers in one block of a UNet, each with one cross-attention layer per depth.

    Attributes:
        block: Path of the block, such as ``"down_blocks.1"``.
        count: How many there are.
        depth: Layers of each.
        width: Inner width of the layers (heads · d).
    """

    block: str
    count: int
    depth: int
    width: int


@dataclass(frozen=True)
class BaseModel:
    """A published model of a family, identified by the size of the adapters that fit it.

    Attributes:
        title: Its name.
        repository: Its repository on the Hub; None if its authors have removed it.
        token_dim: Width of its prompt embeddings.
        transformers: Those of its UNet, in the order of the UNet's modules.
    """

    title: str
    repository: str | None
    token_dim: int
    transformers: tuple[Transformers, ...] = ()

    @property
    def layers(self) -> dict[str, int]:
        """Path of every cross-attention layer -> its inner width, in the order of the UNet's modules."""
        return {
            f"{one.block}.attentions.{i}.transformer_blocks.{j}.attn2": one.width
            for one in self.transformers
            for i in range(one.count)
            for j in range(one.depth)
        }


@dataclass(frozen=True)
class Backbone:
    """A family of base models.

    Attributes:
        name: In an adapter's config.json, such as ``"sdxl"``.
        title: In messages and on cards, such as ``"SDXL"``.
        is_config_of: Whether a UNet's configuration is one of this family.
        pipelines: Names of the supported classes of diffusers; the first is the text-to-image pipeline.
        tokenizers: Names of a pipeline's tokenizers, one for each of ``prompts``.
        prompts: Names of the prompts in a pipeline's call.
        text_encoders: Names of a pipeline's text encoders.
        base_models: The base models that a model card can name.
        conditions: Computes the UNet's ``added_cond_kwargs`` from pooled prompts (B, P) and what is known of the
            pictures, (B, 6): original height and width, top and left of the crop, height and width, in pixels.
        pooled_at: Index of the pooled prompt in the result of ``encode_prompt``; the pooled negative prompt follows.
            None if there are none.
        modular_pipeline: Name of the class of Modular Diffusers; None if there is none.
    """

    name: str
    title: str
    is_config_of: Callable[[Mapping[str, Any]], bool]
    pipelines: tuple[str, ...]
    tokenizers: tuple[str, ...]
    prompts: tuple[str, ...]
    text_encoders: tuple[str, ...]
    base_models: tuple[BaseModel, ...]
    conditions: Callable[[Tensor, Tensor], dict[str, Tensor] | None]
    pooled_at: int | None = None
    modular_pipeline: str | None = None

    @property
    def text_to_image(self) -> str:
        """The name of the text-to-image pipeline."""
        return self.pipelines[0]

    def tokenizers_of(self, pipeline: Any) -> tuple[Any, ...]:
        """A pipeline's tokenizers; None for one that it lacks."""
        return tuple(getattr(pipeline, name, None) for name in self.tokenizers)

    def text_encoders_of(self, pipeline: Any) -> dict[str, Any]:
        """The text encoders that a pipeline has, by name."""
        found = {name: getattr(pipeline, name, None) for name in self.text_encoders}
        return {name: model for name, model in found.items() if model is not None}

    def text(self, encoded: Sequence[Tensor], negative: bool = False) -> tuple[Tensor, Tensor]:
        """The part of ``encode_prompt``'s result that belongs to one prompt.

        Args:
            encoded: The result.
            negative: Whether to take the negative prompt.

        Returns:
            Embeddings (B, T, D), and pooled embeddings (B, P); P is 0 in families without pooling.
        """
        words = encoded[negative]
        pooled = words.new_zeros(len(words), 0) if self.pooled_at is None else encoded[self.pooled_at + negative]
        return words, pooled

    def base_model(self, config: Mapping[str, Any]) -> BaseModel:
        """The base model that an adapter with this configuration fits; without a repository if it is unknown."""
        size = (len(config["layers"]), config["token_dim"])
        known = (one for one in self.base_models if (len(one.layers), one.token_dim) == size)
        return next(known, BaseModel(self.title, None, config["token_dim"]))
