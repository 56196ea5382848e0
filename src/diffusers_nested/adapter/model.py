"""NestedAdapter, the model that is trained and published for one domain (arXiv 2501.01407, section 3.3)."""

import inspect
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any, cast

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from ..backbones import BASE_FAMILY, backbone_of, cross_attention_layers, layer_widths
from ..compat import has_child
from ..errors import AdapterLoadError, NestedAdapterError
from ..files import CONFIG_NAME
from ..files.damage import damaged_downloads
from ..files.source import Source
from ..files.weights import check_dtype, load_weights
from ..mechanisms import get_mechanism
from ..publishing import Publishable
from .checks import DEFAULT_ALPHA, FORMAT_VERSION, check_config, check_config_fits
from .files import find_adapter_weights, read_config
from .subject_encoders import DEFAULT_ENCODER, SUBJECT_ENCODERS

# The tower of IP-Adapter's "plus" checkpoints, which most users of diffusers already have.
DEFAULT_IMAGE_ENCODER = "h94/IP-Adapter/models/image_encoder"


class NestedAdapter(Publishable, ModelMixin, ConfigMixin):
    """An encoder from image features to subject tokens, with a projection of the tokens for each layer.

    Create one with ``from_unet`` or load one with ``from_pretrained``. The layers' weights are keyed by the layer's
    path in the UNet (``projections.down_blocks.1.….attn2.key.weight``), never by position.

    Args:
        layers: Path of every cross-attention layer -> its inner width (heads · d).
        token_dim: Width of a subject token; the width of the UNet's prompt embeddings.
        image_feature_dim: Width of the vision tower's features.
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
        base_family: Family of UNets that the adapter is made for.
        format_version: Version of the configuration's format.
        subject_encoder: Kind of encoder from image features to subject tokens; currently only ``"qformer"``.

    Raises:
        NestedAdapterError: A value is out of range, or the mechanism is unknown.
    """

    # The default is not written, so that the files of such adapters stay as they were.
    ignore_for_config = ["subject_encoder"]  # noqa: RUF012 (as diffusers has it)
    # Where the adapter was loaded from, and where its image encoder is; None if it was created in this process.
    origin: Source | None = None

    @register_to_config
    def __init__(
        self,
        layers: dict[str, int],
        token_dim: int,
        image_feature_dim: int,
        num_queries: int = 256,
        subject_token: str = "person",
        alpha: float | None = DEFAULT_ALPHA,
        mechanism: str = "nested",
        qformer_hidden_size: int = 768,
        qformer_num_layers: int = 6,
        qformer_num_heads: int = 12,
        qformer_intermediate_size: int = 3072,
        image_encoder: str | None = DEFAULT_IMAGE_ENCODER,
        base_family: str = BASE_FAMILY,
        format_version: int = FORMAT_VERSION,
        subject_encoder: str = DEFAULT_ENCODER,
    ) -> None:
        super().__init__()
        if subject_encoder != DEFAULT_ENCODER:
            self.register_to_config(subject_encoder=subject_encoder)
        check_config(self.config)
        self.encoder = SUBJECT_ENCODERS[subject_encoder].from_config(self.config)
        self.projections = nn.Module()
        projection = get_mechanism(mechanism).projection
        if projection is not None:
            _add_modules(self.projections, {path: projection(token_dim, width) for path, width in layers.items()})

    @classmethod
    def from_unet(cls, unet: nn.Module, *, image_feature_dim: int, **config: Any) -> "NestedAdapter":
        """Create an adapter for a UNet; each layer starts from the UNet's own key and value weights.

        Args:
            unet: The UNet that the adapter is for; it is not changed.
            image_feature_dim: Width of the vision tower's features.
            **config: Other settings of the class, such as ``num_queries`` and ``subject_token``. ``alpha`` defaults
                to None for a ``mechanism`` that replaces no value.

        Raises:
            NestedAdapterError: The UNet is of an unknown family or of another one than ``base_family``, or a setting is
                out of range.
        """
        family = backbone_of(unet).name
        if config.setdefault("base_family", family) != family:
            raise NestedAdapterError(
                f"base_family is {config['base_family']!r}, but the UNet is of the {family!r} family, so the adapter "
                "could not be loaded on it. Leave out base_family."
            )
        mechanism = get_mechanism(config.get("mechanism", "nested"))
        if not mechanism.has_norm:
            config.setdefault("alpha", None)
        layers = cross_attention_layers(unet)
        token_dim = next(iter(layers.values())).cross_attention_dim
        adapter = cls(layer_widths(unet), token_dim=token_dim, image_feature_dim=image_feature_dim, **config)
        for path, layer in layers.items() if mechanism.projection is not None else ():
            to_k, to_v = cast(nn.Linear, layer.to_k), cast(nn.Linear, layer.to_v)
            adapter._projection(path).copy_from(to_k.weight, to_v.weight)
        return adapter

    def encode(self, image_features: Tensor) -> Tensor:
        """Encode image features into subject tokens (section 3.3).

        Args:
            image_features: Features of the vision tower before pooling, (batch, L, image_feature_dim).

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

    def project(self, tokens: Tensor) -> dict[str, tuple[Tensor, ...]]:
        """Project subject tokens to what each layer reads, such as K̆ and V̆ (section 3.2).

        Args:
            tokens: Subject tokens (batch, N, token_dim); those of several images of a subject are concatenated.

        Returns:
            Layer path -> (K̆, V̆), each (batch, N, inner width of the layer); (V̆,) or (tokens,) for mechanisms that
            read only those.
        """
        width = self.config["token_dim"]
        if tokens.ndim != 3 or tokens.shape[-1] != width:
            raise NestedAdapterError(
                f"Subject tokens have shape {tuple(tokens.shape)}; expected (batch, tokens, {width}), as "
                "`encode` returns them."
            )
        if get_mechanism(self.config["mechanism"]).projection is None:
            return dict.fromkeys(self.config["layers"], (tokens,))
        return {path: self._projection(path)(tokens) for path in self.config["layers"]}

    def forward(self, image_features: Tensor) -> dict[str, tuple[Tensor, ...]]:
        """``project(encode(image_features))``, as used in training: one subject per row."""
        return self.project(self.encode(image_features))

    def check_fits(self, unet: nn.Module) -> None:
        """Raise unless the adapter fits a UNet; nothing is changed.

        Raises:
            AdapterLoadError: The family, the layers or their widths differ.
        """
        check_config_fits(self.config, unet)

    @classmethod
    def from_pretrained(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls,
        pretrained_model_name_or_path: str | PathLike,
        *,
        subfolder: str | None = None,
        weight_name: str | None = None,
        variant: str | None = None,
        torch_dtype: torch.dtype | None = None,
        unet: nn.Module | None = None,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | PathLike | None = None,
        local_files_only: bool = False,
        force_download: bool = False,
        proxies: dict[str, str] | None = None,
    ) -> "NestedAdapter":
        """Load an adapter. Its files are checked before any weight is read.

        Only safetensors are read, and weights are downloaded only once the configuration is known to be valid and to
        fit the ``unet``.

        Args:
            pretrained_model_name_or_path: A folder, or a repository on the Hub.
            subfolder: Folder within it.
            weight_name: Name of the weight file, if it differs from the one that ``save_pretrained`` writes.
            variant: Such as ``"fp16"``, for ``diffusion_pytorch_model.fp16.safetensors``.
            torch_dtype: Type of the weights; float32 by default.
            unet: A UNet that the adapter must fit.
            revision: Branch, tag or commit of the repository.
            token: Access token for the Hub.
            cache_dir: Folder for downloads.
            local_files_only: Download nothing.
            force_download: Download files even if they are cached.
            proxies: Must be None: huggingface_hub reads proxies from the environment.

        Raises:
            AdapterLoadError: It is not an adapter, has a newer format or is made for another UNet, or tensors are
                missing, unexpected, of other shapes or not finite. Failed downloads are an ``OSError`` too.
        """
        if proxies is not None:
            raise AdapterLoadError(
                "proxies must be None: huggingface_hub reads proxies from the environment. Set HTTPS_PROXY instead."
            )
        source = Source(
            str(pretrained_model_name_or_path), subfolder, revision, token, cache_dir, local_files_only, force_download
        )
        return cls.from_source(source, weight_name=weight_name, variant=variant, torch_dtype=torch_dtype, unet=unet)

    @classmethod
    def from_source(
        cls,
        source: Source,
        *,
        weight_name: str | None = None,
        variant: str | None = None,
        torch_dtype: torch.dtype | None = None,
        unet: nn.Module | None = None,
    ) -> "NestedAdapter":
        """Like ``from_pretrained``, from a ``Source``; all loading goes through here."""
        check_dtype(torch_dtype)
        source, config_file = source.pinned(source.within(CONFIG_NAME))
        with damaged_downloads(config_file.parent):
            adapter = cls.from_config_file(config_file, source.location)
            if unet is not None:
                adapter.check_fits(unet)
            files = find_adapter_weights(source, weight_name, variant)
            load_weights(adapter, files, source.location, torch_dtype or torch.float32)
        adapter.register_to_config(_name_or_path=source.location)
        adapter.origin = source.anonymous()
        return adapter.eval()

    @classmethod
    def from_config_file(cls, path: Path, source: str) -> "NestedAdapter":
        """Build an adapter from a config.json on the meta device: its tensors have shapes but take no memory.

        Args:
            path: The config.json.
            source: Where it comes from, for messages.

        Raises:
            AdapterLoadError: It is not the configuration of an adapter that this version can read.
        """
        config = read_config(path, cls.__name__, source, list(inspect.signature(cls).parameters))
        try:
            with torch.device("meta"):
                return cls(**config)
        except NestedAdapterError as error:
            raise AdapterLoadError(f"The config.json of {source} cannot be used: {error}") from error

    def _projection(self, path: str) -> Any:
        return self.projections.get_submodule(path)


def _add_modules(root: nn.Module, modules: Mapping[str, nn.Module]) -> None:
    """Add modules below another, each at its path, creating those in between."""
    for path, module in modules.items():
        inner, (*parents, name) = root, path.split(".")
        for parent in parents:
            if not has_child(inner, parent):
                inner.add_module(parent, nn.Module())
            inner = inner.get_submodule(parent)
        inner.add_module(name, module)
