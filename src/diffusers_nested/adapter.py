"""NestedAdapter: what is trained and published for one domain (arXiv 2501.01407, section 3.3)."""

import math
from os import PathLike
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from .encoder import SubjectEncoder
from .errors import AdapterLoadError, NestedAdapterError
from .layers import cross_attention_layers, layer_widths
from .mechanisms import get_mechanism

FORMAT_VERSION = 1
BASE_FAMILY = "sdxl"
# The tower of IP-Adapter's "plus" checkpoints, which users of diffusers mostly have already.
DEFAULT_IMAGE_ENCODER = "h94/IP-Adapter/models/image_encoder"


class NestedAdapter(ModelMixin, ConfigMixin):
    """An encoder from image features to subject tokens, and what each layer reads of them.

    Build one with ``from_unet``, load one with ``from_pretrained``. The weights of the layers are keyed by
    the layer's path in the UNet (``projections.down_blocks.1.….attn2.key.weight``), never by position.

    Args:
        layers: Path of every cross-attention layer -> its inner width (heads · d).
        token_dim: Width of a subject token; the width of the UNet's prompt embeddings.
        image_feature_dim: Width of the vision tower's features.
        num_queries: N, the number of subject tokens per image (paper: 1024 for faces, 256 for pets).
        subject_token: The word of the prompt that a subject takes by default.
        alpha: Norm of a nested value in units of the word's own (paper: 2); None sets no norm.
        mechanism: How subjects enter a layer.
        qformer_hidden_size: Width of the Q-Former.
        qformer_num_layers: Blocks of the Q-Former; each attends to the image.
        qformer_num_heads: Heads of the Q-Former.
        qformer_intermediate_size: Width of the Q-Former's feed-forward layers.
        image_encoder: Where the vision tower is on the Hub, ``user/repo`` or ``user/repo/sub/folder``; used when
            the adapter brings none of its own.
        base_family: Family of UNets that the adapter is made for.
        format_version: Version of this configuration's format.

    Raises:
        NestedAdapterError: A value is out of its range, or the mechanism is unknown.
    """

    @register_to_config
    def __init__(
        self,
        layers: dict[str, int],
        token_dim: int,
        image_feature_dim: int,
        num_queries: int = 256,
        subject_token: str = "person",
        alpha: float | None = 2.0,
        mechanism: str = "nested",
        qformer_hidden_size: int = 768,
        qformer_num_layers: int = 6,
        qformer_num_heads: int = 12,
        qformer_intermediate_size: int = 3072,
        image_encoder: str | None = DEFAULT_IMAGE_ENCODER,
        base_family: str = BASE_FAMILY,
        format_version: int = FORMAT_VERSION,
    ) -> None:
        super().__init__()
        _check_config(self.config)
        self.encoder = SubjectEncoder(
            image_feature_dim,
            num_queries,
            token_dim,
            qformer_hidden_size,
            qformer_num_layers,
            qformer_num_heads,
            qformer_intermediate_size,
        )
        self.projections = nn.Module()
        for path, width in layers.items():
            _add_module(self.projections, path, get_mechanism(mechanism).projection(token_dim, width))

    @classmethod
    def from_unet(cls, unet: nn.Module, *, image_feature_dim: int, **config: Any) -> "NestedAdapter":
        """A new adapter for a UNet, every layer starting from the UNet's own key and value weights.

        Args:
            unet: The UNet that the adapter is for; it is read, not changed.
            image_feature_dim: Width of the vision tower's features.
            **config: The other settings of the class, such as ``num_queries`` and ``subject_token``.

        Raises:
            NestedAdapterError: The UNet is not of the SDXL family, or a setting is out of its range.
        """
        family = family_of(unet)
        if family != BASE_FAMILY:
            raise NestedAdapterError(
                f"Adapters are for UNets of the {BASE_FAMILY!r} family, got one of the {family!r} family. "
                "Pass the `unet` of an SDXL pipeline."
            )
        layers = cross_attention_layers(unet)
        token_dim = next(iter(layers.values())).cross_attention_dim
        widths = {path: layer.inner_dim for path, layer in layers.items()}
        adapter = cls(widths, token_dim=token_dim, image_feature_dim=image_feature_dim, **config)
        for path, layer in layers.items():
            adapter._projection(path).copy_from(layer.to_k.weight, layer.to_v.weight)
        return adapter

    def encode(self, image_features: Tensor) -> Tensor:
        """Subject tokens of images (section 3.3).

        Args:
            image_features: Tokens of the vision tower before pooling, (batch, L, image_feature_dim).

        Returns:
            (batch, num_queries, token_dim).
        """
        width = self.config["image_feature_dim"]
        if image_features.ndim != 3 or image_features.shape[-1] != width:
            raise NestedAdapterError(
                f"Image features have shape {tuple(image_features.shape)}; expected (batch, tokens, {width}), the "
                "features of the vision tower that the adapter was trained with."
            )
        return self.encoder(image_features)

    def project(self, tokens: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """K̆ and V̆ of every layer (section 3.2).

        Args:
            tokens: Subject tokens (batch, N, token_dim); of several images of one subject, one after another.

        Returns:
            Layer path -> (K̆, V̆), each (batch, N, inner width of the layer).
        """
        width = self.config["token_dim"]
        if tokens.ndim != 3 or tokens.shape[-1] != width:
            raise NestedAdapterError(
                f"Subject tokens have shape {tuple(tokens.shape)}; expected (batch, tokens, {width}), as "
                "`encode` returns them."
            )
        return {path: self._projection(path)(tokens) for path in self.config["layers"]}

    def forward(self, image_features: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """``project(encode(image_features))``: what training runs, one subject per row."""
        return self.project(self.encode(image_features))

    def check_fits(self, unet: nn.Module) -> None:
        """Raise unless the adapter is made for a UNet like this one; nothing is changed.

        Raises:
            AdapterLoadError: Another family, other layers, or other widths.
        """
        family, ours, theirs = family_of(unet), self.config["layers"], layer_widths(unet)
        if self.config["base_family"] != family:
            raise AdapterLoadError(
                f"The adapter is made for the {self.config['base_family']!r} family, the UNet is of the {family!r} "
                "family. Load it into a pipeline of its own family."
            )
        if ours != theirs:
            raise AdapterLoadError(
                f"The adapter is made for another UNet: it has {len(ours)} layers, the UNet {len(theirs)}. "
                f"{_first_difference(ours, theirs)} Load the adapter that was trained for this base model."
            )

    @classmethod
    def from_pretrained(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls, pretrained_model_name_or_path: str | PathLike, **kwargs: Any
    ) -> "NestedAdapter":
        """Load an adapter as diffusers loads a model, and refuse one that is not whole.

        Raises:
            AdapterLoadError: Not an adapter, of a newer format, with tensors missing, left over or not finite.
        """
        kwargs["output_loading_info"] = True
        kwargs["use_safetensors"] = True
        config = cls.load_config(
            pretrained_model_name_or_path, **{k: v for k, v in kwargs.items() if k in _HUB_KEYWORDS}
        )
        if not isinstance(config, dict) or config.get("_class_name") != cls.__name__:
            kind = config.get("_class_name") if isinstance(config, dict) else None
            raise AdapterLoadError(
                f"{pretrained_model_name_or_path} holds a {kind or 'configuration of no class'}, not a "
                f"{cls.__name__}. Name a folder or repository whose config.json says {cls.__name__}."
            )
        if config.get("format_version", 0) > FORMAT_VERSION:
            raise AdapterLoadError(
                f"{pretrained_model_name_or_path} has format version {config['format_version']}; this version of "
                f"diffusers-nested reads up to {FORMAT_VERSION}. Upgrade diffusers-nested."
            )
        adapter, report = super().from_pretrained(pretrained_model_name_or_path, **kwargs)
        check_weights(adapter, report, str(pretrained_model_name_or_path))
        return adapter

    def _projection(self, path: str) -> Any:
        return self.projections.get_submodule(path)


_HUB_KEYWORDS = ("subfolder", "revision", "token", "cache_dir", "local_files_only", "force_download")


def family_of(unet: nn.Module) -> str:
    """``"sdxl"`` for UNets with SDXL's text and size embedding, else the class's name."""
    config = getattr(unet, "config", {})
    is_sdxl = config.get("addition_embed_type") == "text_time" and config.get("encoder_hid_dim_type") != "text_proj"
    return BASE_FAMILY if is_sdxl and cross_attention_layers(unet) else type(unet).__name__


def _check_config(config: Any) -> None:
    sizes = (
        "token_dim",
        "image_feature_dim",
        "num_queries",
        "qformer_hidden_size",
        "qformer_num_layers",
        "qformer_num_heads",
        "qformer_intermediate_size",
    )
    for name in sizes:
        value = config[name]
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise NestedAdapterError(f"{name} must be a whole number of at least 1, got {value!r}.")
    if config["qformer_hidden_size"] % config["qformer_num_heads"]:
        raise NestedAdapterError(
            f"qformer_hidden_size {config['qformer_hidden_size']} must be a multiple of qformer_num_heads "
            f"{config['qformer_num_heads']}."
        )
    alpha = config["alpha"]
    if alpha is not None and not (isinstance(alpha, int | float) and math.isfinite(alpha) and alpha > 0):
        raise NestedAdapterError(f"alpha must be a positive number or None, got {alpha!r}.")
    if not isinstance(config["subject_token"], str) or not config["subject_token"].strip():
        raise NestedAdapterError(f"subject_token must be a word, got {config['subject_token']!r}.")
    if not isinstance(config["layers"], dict) or not config["layers"]:
        raise NestedAdapterError(f"layers must map layer paths to widths, got {config['layers']!r}.")
    get_mechanism(config["mechanism"])


def check_weights(adapter: NestedAdapter, report: dict[str, Any], source: str) -> None:
    missing, unknown = sorted(report["missing_keys"]), sorted(report["unexpected_keys"])
    mismatched = sorted(str(entry) for entry in report.get("mismatched_keys", ()))
    for what, names in (("misses", missing), ("has unknown", unknown), ("has wrongly shaped", mismatched)):
        if names:
            shown = ", ".join(names[:3]) + (" …" if len(names) > 3 else "")
            raise AdapterLoadError(
                f"The weights of {source} do not match its config.json: the file {what} {len(names)} tensors "
                f"({shown}). The files are damaged or of two different adapters; download them again."
            )
    for name, parameter in adapter.named_parameters():
        if not torch.isfinite(parameter).all():
            raise AdapterLoadError(f"{source}: the tensor {name} holds NaN or infinite values. Download it again.")


def _first_difference(ours: dict[str, int], theirs: dict[str, int]) -> str:
    for path in sorted(ours.keys() | theirs.keys()):
        if ours.get(path) != theirs.get(path):
            return f"First difference: {path} has width {ours.get(path)} in the adapter, {theirs.get(path)} in the UNet."
    return ""


def _add_module(root: nn.Module, path: str, module: nn.Module) -> None:
    *parents, name = path.split(".")
    for parent in parents:
        if parent not in dict(root.named_children()):
            root.add_module(parent, nn.Module())
        root = root.get_submodule(parent)
    root.add_module(name, module)
