"""What a base family is: all in which its pipelines and UNets differ from those of another."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class BaseModel:
    """A published model of a family, known by the size of the adapters that fit it.

    Attributes:
        title: Its name.
        repository: Its place on the Hub; None if its authors have it there no longer.
        num_layers: How many cross-attention layers its UNet has.
        token_dim: Width of its prompt embeddings.
    """

    title: str
    repository: str | None
    num_layers: int
    token_dim: int


@dataclass(frozen=True)
class Backbone:
    """A family of base models.

    Attributes:
        name: In an adapter's config.json, such as ``"sdxl"``.
        title: In messages and on cards, such as ``"SDXL"``.
        is_config_of: Whether a UNet's configuration is one of this family.
        pipelines: Names of the classes of diffusers that adapters can act in; the first makes pictures from text.
        tokenizers: A pipeline's attributes that hold its tokenizers, one for each of ``prompts``.
        prompts: The arguments of a pipeline's call that the tokenizers read.
        text_encoders: A pipeline's attributes that hold its text encoders.
        base_models: Those that a card knows.
        conditions: Pooled prompts (B, P) and the side of the pictures in pixels -> ``added_cond_kwargs`` of the UNet.
        pooled_at: Where in the result of ``encode_prompt`` the pooled prompt stands, followed by that of the negative
            prompt; None if there is none.
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
    conditions: Callable[[Tensor, int], dict[str, Tensor] | None]
    pooled_at: int | None = None
    modular_pipeline: str | None = None

    @property
    def text_to_image(self) -> str:
        """The name of the pipeline that makes pictures from text."""
        return self.pipelines[0]

    def tokenizers_of(self, pipeline: Any) -> tuple[Any, ...]:
        """A pipeline's tokenizers; None in the place of one that it lacks."""
        return tuple(getattr(pipeline, name, None) for name in self.tokenizers)

    def text_encoders_of(self, pipeline: Any) -> dict[str, Any]:
        """A pipeline's text encoders by name, without those that it lacks."""
        found = {name: getattr(pipeline, name, None) for name in self.text_encoders}
        return {name: model for name, model in found.items() if model is not None}

    def text(self, encoded: Sequence[Tensor], negative: bool = False) -> tuple[Tensor, Tensor]:
        """A prompt's part of what ``encode_prompt`` returned.

        Args:
            encoded: The result.
            negative: Take the negative prompt.

        Returns:
            Embeddings (B, T, D), and pooled embeddings (B, P); P is 0 in families without them.
        """
        words = encoded[negative]
        pooled = words.new_zeros(len(words), 0) if self.pooled_at is None else encoded[self.pooled_at + negative]
        return words, pooled

    def base_model(self, config: Mapping[str, Any]) -> BaseModel:
        """The model that an adapter of this configuration fits; one without a repository if it is not known."""
        size = (len(config["layers"]), config["token_dim"])
        known = (one for one in self.base_models if (one.num_layers, one.token_dim) == size)
        return next(known, BaseModel(self.title, None, *size))
