"""Loads an adapter from its own files, or from those of an IP-Adapter; checks come before any weight is read."""

import inspect
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from diffusers import ConfigMixin, ModelMixin
from torch import nn

from ..errors import AdapterLoadError, NestedAdapterError, Remedy
from ..files import CONFIG_NAME, shown
from ..files.damage import damaged_downloads
from ..files.headers import read_header
from ..files.source import Source
from ..files.weights import check_dtype, load_weights
from .checks import acting_mechanism, check_config_fits, check_subject_token
from .files import read_config
from .ip_adapter import IMPORTED_MECHANISM, NO_IP_ADAPTER, OWN_MECHANISM, Header, read_ip_config, stored_names
from .locate import find_adapter_weights, find_ip_adapter, source_of

if TYPE_CHECKING:
    from typing_extensions import Self

_LEFT_OPEN = ("subject_token", "mechanism", "alpha", "image_encoder")  # by the weights of an IP-Adapter


class LoadableModel(ModelMixin, ConfigMixin):
    """A model that is loaded from an adapter's own files, or from those of an IP-Adapter.

    Attributes:
        origin: Where the adapter, or the one that it starts from, was loaded from, and where its image encoder is; None
            if it was created in this process.
        is_ip_adapter: Whether it was read from an IP-Adapter's file, with an image encoder where diffusers expects it.
    """

    origin: Source | None = None
    is_ip_adapter: bool = False

    def check_fits(self, unet: nn.Module) -> None:
        """Raise unless the adapter fits a UNet; nothing is changed.

        Raises:
            AdapterLoadError: The family, the layers or their widths differ.
        """
        check_config_fits(self.config, unet)

    def read_base(self, unet: nn.Module) -> None:
        """Take what the adapter needs of the UNet's own weights: nothing, unless a class says otherwise."""

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
            unet: A UNet that the adapter must fit. One with a ``projection_rank`` adds to its weights, and without
                them can be inspected and saved, but not project.
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
        hub = dict(revision=revision, token=token, cache_dir=cache_dir)
        hub.update(local_files_only=local_files_only, force_download=force_download)
        source, weight_name = source_of(pretrained_model_name_or_path, subfolder, weight_name, **hub)
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
        remedy = Remedy.CONFIG if weight_name is None else Remedy.FROM_IP_ADAPTER
        source, config_file = source.pinned(source.within(CONFIG_NAME), remedy)
        with damaged_downloads(config_file.parent):
            adapter = cls.from_config_file(config_file, source.location)
            if unet is not None:
                adapter.check_fits(unet)
            files = find_adapter_weights(source, weight_name, variant)
            load_weights(adapter, files, source.location, torch_dtype or torch.float32)
        if unet is not None:
            adapter.read_base(unet)
        adapter.register_to_config(_name_or_path=source.location)
        adapter.origin = source.anonymous()
        return adapter.eval()

    @classmethod
    def from_ip_adapter(
        cls,
        pretrained_model_name_or_path: str | PathLike,
        *,
        weight_name: str | None = None,
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
            pretrained_model_name_or_path: A folder, a repository on the Hub, or the safetensors file itself.
            weight_name: Name of the safetensors file of a base, plus or plus-face IP-Adapter; left out if the first
                argument is the file.
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
            NestedAdapterError: A setting is none of these or out of range, or the mechanism reads other projections
                than keys and values.
        """
        check_dtype(torch_dtype)
        config = _settings_of_import(config)
        hub = dict(revision=revision, token=token, cache_dir=cache_dir)
        hub.update(local_files_only=local_files_only, force_download=force_download)
        source, weight_name = source_of(pretrained_model_name_or_path, subfolder, weight_name, **hub)
        found = find_ip_adapter(source, weight_name)
        if found is None:
            what = "has no weight_name" if weight_name is None else f"{shown(weight_name)} is not an IP-Adapter's file"
            raise AdapterLoadError(
                f"{source.location}: {what}. Give the name of an IP-Adapter's file as weight_name=..., or load an "
                "adapter of diffusers-nested with from_pretrained."
            )
        return cls.from_ip_file(*found, torch_dtype=torch_dtype or torch.float32, unet=unet, **config)

    @classmethod
    def from_any_source(
        cls,
        source: Source,
        weight_name: str | None = None,
        *,
        variant: str | None = None,
        torch_dtype: torch.dtype | None = None,
        unet: nn.Module | None = None,
        mechanism: str | None = None,
        subject_token: str | None = None,
    ) -> "Self":
        """Load an adapter of ours or an IP-Adapter, to act by ``mechanism`` for ``subject_token``, if they are given.

        See ``from_source`` and ``from_ip_adapter``.
        """
        check_dtype(torch_dtype)
        found = find_ip_adapter(source, weight_name, variant)
        both = {"mechanism": mechanism, "subject_token": subject_token}
        given: dict[str, Any] = {name: value for name, value in both.items() if value is not None}
        if found is not None:
            settings = _settings_of_import(given)
            return cls.from_ip_file(*found, torch_dtype=torch_dtype or torch.float32, unet=unet, **settings)
        adapter = cls.from_source(source, weight_name=weight_name, variant=variant, torch_dtype=torch_dtype, unet=unet)
        if mechanism is not None:
            given["alpha"] = acting_mechanism(adapter.config, mechanism)[1]
        adapter.register_to_config(**given)
        return adapter

    @classmethod
    def from_ip_file(
        cls,
        source: Source,
        path: Path,
        *,
        torch_dtype: torch.dtype | None,
        unet: nn.Module | None = None,
        **config: Any,
    ) -> "Self":
        """Like ``from_ip_adapter``, from a file that ``find_ip_adapter`` has found; weights may keep their type."""
        name = f"{source.location}: {path.name}"
        with damaged_downloads(path.parent):
            adapter = cls.from_ip_header(read_header(path), name, unet, **config)
            stored = stored_names(list(adapter.state_dict()), adapter.config["layers"])
            load_weights(adapter, {path: None}, name, torch_dtype, stored=stored, fault=NO_IP_ADAPTER)
        adapter.origin = source.anonymous()
        return adapter.eval()

    @classmethod
    def from_ip_header(cls, header: Header, source: str, unet: nn.Module | None = None, **config: Any) -> "Self":
        """Build an adapter on the meta device from what the header of an IP-Adapter's file says.

        Args:
            header: The tensors of the file.
            source: Where it comes from, for messages.
            unet: A UNet that it must fit.
            **config: As in ``from_ip_adapter``.

        Raises:
            AdapterLoadError: It is no IP-Adapter that is supported, is incomplete, or is made for another base model.
        """
        implied = read_ip_config(header, source, unet)
        try:
            with torch.device("meta"):
                adapter = cls(**{**implied, **_settings_of_import(config)})
        except NestedAdapterError as error:
            raise AdapterLoadError(f"{source} cannot be loaded: {error}") from error
        adapter.is_ip_adapter = True
        if unet is not None:
            adapter.check_fits(unet)
        return adapter

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


def _settings_of_import(given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that the weights of an IP-Adapter leave open, checked and with their defaults."""
    config = {name: value for name, value in given.items() if value is not None or name in ("alpha", "image_encoder")}
    fixed = sorted(config.keys() - set(_LEFT_OPEN))
    if fixed:
        raise NestedAdapterError(
            f"{fixed[0]} is {shown(config[fixed[0]])}, but the weights of an IP-Adapter determine it. Leave it out; "
            f"open are {', '.join(_LEFT_OPEN)}."
        )
    if "subject_token" in config:
        check_subject_token(config["subject_token"])
    own = {"mechanism": OWN_MECHANISM, "alpha": None}
    mechanism, alpha = acting_mechanism(own, config.get("mechanism", IMPORTED_MECHANISM))
    return {"alpha": alpha, **config, "mechanism": mechanism.name}
