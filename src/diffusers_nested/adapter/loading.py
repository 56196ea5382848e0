"""Loads an adapter from its own files, or from those of an IP-Adapter; checks come before any weight is read."""

import inspect
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from diffusers import ConfigMixin, ModelMixin
from torch import nn

from ..errors import AdapterLoadError, NestedAdapterError
from ..files import CONFIG_NAME, shown
from ..files.damage import damaged_downloads
from ..files.headers import read_header
from ..files.source import Source
from ..files.weights import check_dtype, load_weights
from ..mechanisms import get_mechanism
from .checks import DEFAULT_ALPHA, check_config_fits
from .files import find_adapter_weights, find_ip_adapter, read_config
from .ip_adapter import IMPORTED_MECHANISM, NO_IP_ADAPTER, read_ip_config, stored_names

if TYPE_CHECKING:
    from typing_extensions import Self


class LoadableModel(ModelMixin, ConfigMixin):
    """A model that is loaded from an adapter's own files, or from those of an IP-Adapter.

    Attributes:
        origin: Where the adapter was loaded from, and where its image encoder is; None if it was created in this
            process.
    """

    origin: Source | None = None

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
    ) -> "Self":
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
    ) -> "Self":
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
    def from_ip_adapter(
        cls,
        pretrained_model_name_or_path: str | PathLike,
        *,
        weight_name: str,
        subfolder: str | None = None,
        unet: nn.Module | None = None,
        torch_dtype: torch.dtype | None = None,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | PathLike | None = None,
        local_files_only: bool = False,
        force_download: bool = False,
        **config: Any,
    ) -> "Self":
        """Create an adapter from the weights of an IP-Adapter (arXiv 2308.06721).

        Args:
            pretrained_model_name_or_path: A folder, or a repository on the Hub.
            weight_name: Name of the safetensors file of a base, plus or plus-face IP-Adapter.
            subfolder: Folder within it.
            unet: A UNet that it must fit; by default the base model is recognised by the weights' shapes.
            torch_dtype: Type of the weights; float32 by default.
            revision: Branch, tag or commit of the repository.
            token: Access token for the Hub.
            cache_dir: Folder for downloads.
            local_files_only: Download nothing.
            force_download: Download files even if they are cached.
            **config: Settings of the class that the weights leave open: ``subject_token``; ``mechanism``, by default
                ``"located"``, or ``"decoupled"`` for IP-Adapter itself; ``alpha`` for a mechanism with a norm; and
                ``image_encoder``.

        Raises:
            AdapterLoadError: The file is no such IP-Adapter, is damaged, or is made for another base model.
        """
        source = Source(
            str(pretrained_model_name_or_path), subfolder, revision, token, cache_dir, local_files_only, force_download
        )
        found = find_ip_adapter(source, weight_name, None)
        if found is None:
            raise AdapterLoadError(
                f"{source.location}: {shown(weight_name)} is not the file of an IP-Adapter. Load an adapter of "
                "diffusers-nested with from_pretrained."
            )
        return cls.from_ip_file(*found, torch_dtype=torch_dtype, unet=unet, **config)

    @classmethod
    def from_any_source(
        cls,
        source: Source,
        mechanism: str | None,
        *,
        weight_name: str | None,
        variant: str | None,
        torch_dtype: torch.dtype | None,
        unet: nn.Module,
    ) -> "Self":
        """Load an adapter, or an IP-Adapter to act by ``mechanism``; see ``from_source`` and ``from_ip_adapter``."""
        found = find_ip_adapter(source, weight_name, variant)
        if found is None:
            return cls.from_source(source, weight_name=weight_name, variant=variant, torch_dtype=torch_dtype, unet=unet)
        config = {} if mechanism is None else {"mechanism": mechanism}
        return cls.from_ip_file(*found, torch_dtype=torch_dtype, unet=unet, **config)

    @classmethod
    def from_ip_file(
        cls,
        source: Source,
        path: Path,
        *,
        torch_dtype: torch.dtype | None = None,
        unet: nn.Module | None = None,
        **config: Any,
    ) -> "Self":
        """Like ``from_ip_adapter``, from a file that ``find_ip_adapter`` has found."""
        check_dtype(torch_dtype)
        name = f"{source.location}: {path.name}"
        mechanism = get_mechanism(config.setdefault("mechanism", IMPORTED_MECHANISM))
        config.setdefault("alpha", DEFAULT_ALPHA if mechanism.has_norm else None)
        with damaged_downloads(path.parent):
            implied = read_ip_config(read_header(path), name, unet)
            with torch.device("meta"):
                adapter = cls(**{**implied, **config})
            if unet is not None:
                adapter.check_fits(unet)
            stored = stored_names(list(adapter.state_dict()), implied["layers"])
            load_weights(adapter, {path: None}, name, torch_dtype or torch.float32, stored=stored, fault=NO_IP_ADAPTER)
        adapter.origin = source.anonymous()
        return adapter.eval()

    @classmethod
    def from_config_file(cls, path: Path, source: str) -> "Self":
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
