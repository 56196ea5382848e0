"""NestedAdapter, the model that is trained and published for one domain (arXiv 2501.01407, section 3.3)."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from ..backbones import BASE_FAMILY, backbone_of, cross_attention_layers, layer_widths
from ..compat import has_child
from ..errors import NestedAdapterError
from ..mechanisms import get_mechanism, lower_rank
from ..publishing import Publishable
from ..vision.registry import DEFAULT_KIND
from .cast_once import cast_once
from .checks import (
    DEFAULT_ALPHA,
    DEFAULT_WORD,
    FORMAT_VERSION,
    check_config,
    check_subject_encoder,
    encoder_of,
    features_of,
)
from .locate import named_source
from .low_rank import LowRankModel, copy_own_weights, take_over
from .start import settings_from
from .subject_encoders import DEFAULT_ENCODER, SUBJECT_ENCODERS
from .towers import OPTIONAL, expected_shape, tower_settings

# The tower of IP-Adapter's "plus" checkpoints, which most users of diffusers already have.
DEFAULT_IMAGE_ENCODER = "h94/IP-Adapter/models/image_encoder"

_IF_GIVEN = ("projection_rank", "image_preparation")
_OF_ENCODERS = [*OPTIONAL, *(name for kind in SUBJECT_ENCODERS.values() for name in kind.settings)]


class NestedAdapter(Publishable, LowRankModel):
    """An encoder from image features to subject tokens, with a projection of the tokens for each layer.

    Create one with ``from_unet`` or load one with ``from_pretrained``. The layers' weights are keyed by the layer's
    path in the UNet (``projections.down_blocks.1.….attn2.key.weight``), never by position.

    Args:
        layers: Path of every cross-attention layer -> its inner width (heads · d).
        token_dim: Width of a subject token; the width of the UNet's prompt embeddings.
        image_feature_dim: Width of the vision tower's features; a list for an adapter that reads several towers. Such
            settings are then lists with a value for each tower. ``load_vision_tower(...).adapter_settings()`` has them.
        num_queries: N, the number of subject tokens per image (paper: 1024 for faces, 256 for pets).
        subject_token: The word in the prompt that stands for the subject by default.
        alpha: Norm of a subject's value relative to the word's own value (paper: 2). None leaves the norm as it is,
            and is required for mechanisms that replace no value.
        mechanism: How subjects enter a layer: ``"nested"``, or one of the mechanisms that it is compared with.
        qformer_hidden_size: Width of the Q-Former.
        qformer_num_layers: Number of blocks in the Q-Former; each attends to the image.
        qformer_num_heads: Number of attention heads in the Q-Former.
        qformer_intermediate_size: Width of the Q-Former's feed-forward layers.
        image_encoder: The vision tower on the Hub, ``user/repo`` or ``user/repo/sub/folder``, for adapters that come
            without one. An adapter that stays on this machine may give the absolute path of a folder.
        image_encoder_type: Family of the vision tower, by the ``model_type`` of its configuration.
        image_features: Which features of the tower are read: ``"last"``, ``"penultimate"`` or ``"pooled"``, see
            ``ImageEncoder``; None for those that the subject encoder is made for.
        image_feature_count: How many features of an image the tower gives; None leaves it open for a single tower.
        base_family: Family of UNets that the adapter is made for.
        format_version: Version of the configuration's format.
        subject_encoder: Kind of encoder from image features to subject tokens: ``"qformer"``, or one of IP-Adapter's,
            ``"image_projection"`` or ``"resampler"``.
        resampler_hidden_size: Width of the resampler.
        resampler_num_layers: Number of blocks in the resampler.
        resampler_num_heads: Number of attention heads in the resampler, each of width 64.
        projection_rank: Rank of what the projections add to the UNet's own keys and values, which is all that is
            trained and saved of them. None for projections of their own.
        image_preparation: What was done with the photos that it is trained on: ``"aligned_face"`` for the crops of
            ``prepare_face``. A call then warns of a photo without a face, if the extra ``faces`` is installed.

    Raises:
        NestedAdapterError: A value is out of range, or the mechanism is unknown.
    """

    # Written only if they matter, so that the files of dense adapters with a Q-Former stay as they were.
    ignore_for_config = ["subject_encoder", *_IF_GIVEN, *_OF_ENCODERS]  # noqa: RUF012 (as diffusers has it)

    @register_to_config
    def __init__(
        self,
        layers: dict[str, int],
        token_dim: int,
        image_feature_dim: int | list[int],
        num_queries: int = 256,
        subject_token: str = DEFAULT_WORD,
        alpha: float | None = DEFAULT_ALPHA,
        mechanism: str = "nested",
        qformer_hidden_size: int = 768,
        qformer_num_layers: int = 6,
        qformer_num_heads: int = 12,
        qformer_intermediate_size: int = 3072,
        image_encoder: str | list[str | None] | None = DEFAULT_IMAGE_ENCODER,
        base_family: str = BASE_FAMILY,
        format_version: int = FORMAT_VERSION,
        subject_encoder: str = DEFAULT_ENCODER,
        image_encoder_type: str | list[str] = DEFAULT_KIND,
        image_features: str | list[str] | None = None,
        image_feature_count: int | list[int] | None = None,
        resampler_hidden_size: int = 1280,
        resampler_num_layers: int = 4,
        resampler_num_heads: int = 20,
        projection_rank: int | None = None,
        image_preparation: str | None = None,
    ) -> None:
        super().__init__()
        given = locals()
        self.register_to_config(**tower_settings(given))
        check_subject_encoder(subject_encoder)
        if subject_encoder != DEFAULT_ENCODER:
            self.register_to_config(subject_encoder=subject_encoder)
        self.register_to_config(**{name: given[name] for name in SUBJECT_ENCODERS[subject_encoder].settings})
        self.register_to_config(**{name: given[name] for name in _IF_GIVEN if given[name] is not None})
        check_config(self.config)
        self.encoder = SUBJECT_ENCODERS[subject_encoder].from_config(self.config)
        self.projections = nn.Module()
        projection = get_mechanism(mechanism).projection
        if projection is not None:
            modules: dict[str, nn.Module] = {path: projection(token_dim, width) for path, width in layers.items()}
            if projection_rank is not None:
                modules = {path: lower_rank(module, projection_rank) for path, module in modules.items()}
            _add_modules(self.projections, modules)

    @classmethod
    def extract_init_dict(
        cls, config_dict: Mapping[str, Any], **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """As of all models of diffusers; settings that are only written if they matter are read, too."""
        # diffusers takes what was given by its position for a default, and would leave it out
        config_dict = {name: value for name, value in config_dict.items() if name != "_use_default_values"}
        given = {**config_dict, **kwargs}
        own = {name: given[name] for name in cls.ignore_for_config if name in given}
        rest, others = ({name: one[name] for name in one if name not in own} for one in (config_dict, kwargs))
        settings, unused, hidden = super().extract_init_dict(rest, **others)
        return {**settings, **own}, unused, hidden

    @classmethod
    def from_unet(
        cls,
        unet: nn.Module,
        *,
        image_feature_dim: int | list[int] | None = None,
        start_from: "NestedAdapter | str | Path | None" = None,
        **config: Any,
    ) -> "NestedAdapter":
        """Create an adapter for a UNet; each layer starts from the UNet's own key and value weights.

        Args:
            unet: The UNet that the adapter is for; it is not changed.
            image_feature_dim: Width of the vision tower's features, or a list of those of several towers; may be left
                out with ``start_from``.
            start_from: Begin with a copy of another adapter's encoder and projections, for example an IP-Adapter's: a
                ``NestedAdapter``, a folder, a repository, or an IP-Adapter's file by its path or as
                ``user/repo/sub/folder/file.safetensors``. Other settings are then its own by default, apart from the
                ``mechanism``, which is "nested".
            **config: Other settings of the class, such as ``num_queries`` and ``subject_token``. ``alpha`` defaults
                to None for a ``mechanism`` that replaces no value. ``projection_rank`` makes small adapters. With
                ``start_from`` it approximates what the other one's keys and values add to the UNet's own, or with None
                makes them dense again.

        Raises:
            NestedAdapterError: The UNet is of an unknown family or of another one than ``base_family``, a setting is
                out of range, or the adapter to start from has another value of it.
            AdapterLoadError: The adapter to start from cannot be loaded, or does not fit the UNet.
        """
        family = backbone_of(unet).name
        if config.setdefault("base_family", family) != family:
            raise NestedAdapterError(
                f"base_family is {config['base_family']!r}, but the UNet is of the {family!r} family, so the adapter "
                "could not be loaded on it. Leave out base_family."
            )
        if image_feature_dim is not None:
            config["image_feature_dim"] = image_feature_dim
        if start_from is not None:
            return cls._begun(cls._loaded(start_from, unet), config, unet)
        if image_feature_dim is None:
            raise NestedAdapterError(
                "image_feature_dim is missing. Give the width of the vision tower's features, or an adapter as "
                "start_from, whose width it then is."
            )
        mechanism = get_mechanism(config.get("mechanism", "nested"))
        if not mechanism.has_norm:
            config.setdefault("alpha", None)
        layers = cross_attention_layers(unet)
        token_dim = next(iter(layers.values())).cross_attention_dim
        adapter = cls(layer_widths(unet), token_dim=token_dim, **config)
        if config.get("projection_rank") is not None:
            adapter.read_base(unet)
            return adapter
        for path, projection in adapter._projections.items():
            to_k, to_v = cast(nn.Linear, layers[path].to_k), cast(nn.Linear, layers[path].to_v)
            projection.copy_from(to_k.weight, to_v.weight)
        return adapter

    @classmethod
    def _loaded(cls, start: Any, unet: nn.Module) -> "NestedAdapter":
        """The adapter to start from, which fits the UNet."""
        if isinstance(start, NestedAdapter):
            start.check_fits(unet)
            return start
        if not isinstance(start, str | Path):
            raise NestedAdapterError(
                f"Cannot start from a {type(start).__name__}. Give a NestedAdapter, a folder, a repository, or an "
                "IP-Adapter's file as start_from."
            )
        return cls.from_any_source(*named_source(start), unet=unet)

    @classmethod
    def _begun(cls, start: "NestedAdapter", config: Mapping[str, Any], unet: nn.Module) -> "NestedAdapter":
        """A new adapter with copies of another one's weights, in float32."""
        settings = settings_from(start.config, config)
        same = settings.get("projection_rank") == start.config.get("projection_rank")
        with torch.device("meta" if same else "cpu"):
            adapter = cls(**settings)
        copied = start if same else start.encoder
        weights = {name: tensor.detach().to(torch.float32, copy=True) for name, tensor in copied.state_dict().items()}
        (adapter if same else adapter.encoder).load_state_dict(weights, assign=True)
        if same:
            adapter.read_base(unet)
        else:
            copy_own_weights(adapter._projections, unet)
            take_over(adapter._projections, start._projections)
        if "image_encoder" not in config:  # it reads the other one's
            adapter.origin, adapter.is_ip_adapter = start.origin, start.is_ip_adapter
        return adapter

    def encode(self, image_features: Tensor) -> Tensor:
        """Encode image features into subject tokens (section 3.3).

        Args:
            image_features: Features of the vision tower before pooling, (batch, L, image_feature_dim); of several
                towers, as ``load_vision_tower([...])`` gives them: one after another, narrow ones padded with zeros.

        Returns:
            (batch, num_queries, token_dim).
        """
        count, width = expected_shape(self.config)
        is_right = image_features.ndim == 3 and image_features.shape[-1] == width
        if not is_right or image_features.shape[1] != (count or image_features.shape[1]):
            raise NestedAdapterError(
                f"Image features have shape {tuple(image_features.shape)}; expected (batch, {count or 'tokens'}, "
                f"{width}), the features of the vision tower that the adapter was trained with."
            )
        return self.encoder(image_features)

    def project(self, tokens: Tensor) -> dict[str, tuple[Tensor, ...]]:
        """Project subject tokens to what each layer reads, such as K̆ and V̆ (section 3.2).

        Args:
            tokens: Subject tokens (batch, N, token_dim); those of several images of a subject are concatenated.

        Returns:
            Layer path -> (K̆, V̆), each (batch, N, inner width of the layer); (V̆,) or (tokens,) for mechanisms that
            read only those.
        """
        return dict(self.project_by_layer(tokens))

    def project_by_layer(self, tokens: Tensor) -> Iterator[tuple[str, tuple[Tensor, ...]]]:
        """As ``project``, one layer after another, so that each can be moved or converted before the next."""
        width = self.config["token_dim"]
        if tokens.ndim != 3 or tokens.shape[-1] != width:
            raise NestedAdapterError(
                f"Subject tokens have shape {tuple(tokens.shape)}; expected (batch, tokens, {width}), as "
                "`encode` returns them."
            )
        own = get_mechanism(self.config["mechanism"]).projection is None
        read = cast_once(tokens)
        for path in self.config["layers"]:
            yield path, (tokens,) if own else self._projection(path)(read())

    def forward(self, image_features: Tensor) -> dict[str, tuple[Tensor, ...]]:
        """``project(encode(image_features))``, as used in training: one subject per row."""
        return self.project(self.encode(image_features))

    @property
    def image_features(self) -> str | tuple[str, ...]:
        """Which features of the vision tower the adapter reads, or of each of several; see ``ImageEncoder``."""
        return features_of(self.config)

    @property
    def reads_empty_image(self) -> bool:
        """Whether its encoder was trained with an empty image for rows without a prompt, as IP-Adapter's are."""
        return encoder_of(self.config).reads_empty_image


def _add_modules(root: nn.Module, modules: Mapping[str, nn.Module]) -> None:
    """Add modules below another, each at its path, creating those in between."""
    for path, module in modules.items():
        inner, (*parents, name) = root, path.split(".")
        for parent in parents:
            if not has_child(inner, parent):
                inner.add_module(parent, nn.Module())
            inner = inner.get_submodule(parent)
        inner.add_module(name, module)
