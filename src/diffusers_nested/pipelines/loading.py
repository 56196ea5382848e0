"""Loads adapters for a pipeline: everything is read and checked before anything is changed."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..adapter import NestedAdapter
from ..adapter.checks import acting_mechanism, check_subject_token
from ..adapter.locate import source_of
from ..backbones import layer_heads
from ..errors import AdapterLoadError, NestedAdapterError, Remedy
from ..files import is_folder
from ..files.source import Source
from ..mechanisms import get_mechanism
from ..vision import (
    ImageEncoder,
    ImageEncoders,
    check_count,
    each_tower,
    find_image_encoders,
    load_image_encoder,
    together,
)
from ..vision.several import each_of
from .loaded import LoadedAdapter
from .refused import check_pipeline
from .state import BLOCKS, CHANGING, NestedState, create_state, inner_unet, state_of


def load_all(
    pipeline: Any,
    pretrained: Any,
    *,
    names: Any,
    subfolders: Any,
    weight_names: Any,
    variant: str | None,
    image_encoder_folder: str | Sequence[str] | None,
    torch_dtype: torch.dtype | None,
    hub: Mapping[str, Any],
    subject_tokens: Any = None,
    mechanism: str | None = None,
) -> list[LoadedAdapter]:
    """Load and check every adapter without changing the pipeline.

    Raises:
        NestedAdapterError: Any of them cannot be added.
    """
    check_pipeline(pipeline)
    unet: Any = inner_unet(pipeline)  # a diffusers model, which has a dtype
    state = state_of(pipeline)
    sources = list(pretrained) if isinstance(pretrained, list | tuple) else [pretrained]
    if len(sources) == 1 and isinstance(weight_names, list | tuple) and weight_names:
        sources *= len(weight_names)  # several files of one repository, as in load_ip_adapter
    if not sources:
        raise AdapterLoadError("The list of adapters is empty. Name at least one repository or folder.")
    columns = [_spread(column, len(sources)) for column in (names, subfolders, weight_names, subject_tokens)]
    _check_acting(mechanism, columns[-1])
    for i, name in enumerate(columns[0]):
        if name is not None:
            _check_name(name, state, columns[0][:i])
    loaded: list[LoadedAdapter] = []
    heads = layer_heads(unet)
    for item, name, subfolder, weight_name, word in zip(sources, *columns, strict=True):
        if isinstance(item, NestedAdapter):
            alone = all(isinstance(one, NestedAdapter) for one in sources)  # otherwise it holds for the others
            _check_in_memory(item, weight_name, *((variant, torch_dtype) if alone else (None, None)))
            item.check_fits(unet)
            adapter, source = item, _origin_of(item, subfolder, hub)  # left as it is: it may be in training
            if item.needs_base:
                item.read_base(unet)
            else:
                item.check_base(unet)
        else:
            keywords = {"weight_name": weight_name, "variant": variant, "dtype": torch_dtype or unet.dtype}
            adapter, source = _load(item, subfolder, hub, unet, mechanism=mechanism, subject_token=word, **keywords)
        word = adapter.config["subject_token"] if word is None else word
        name = word if name is None else name
        _check_name(name, state, [one.name for one in loaded])
        encoder, encoder_names = None, ()
        if image_encoder_folder is not None:
            encoder, encoder_names = load_encoder(
                adapter, source, image_encoder_folder, unet.dtype, _in_memory(state, loaded)
            )
        acting = acting_mechanism(adapter.config, mechanism)
        loaded.append(LoadedAdapter(name, adapter, encoder, encoder_names, word, *acting, heads))
    return loaded


def add_all(pipeline: Any, loaded: Sequence[LoadedAdapter]) -> None:
    """Add what ``load_all`` gave, all of it or nothing.

    Raises:
        NestedAdapterError: Another thread has added an adapter of the same name in the meantime.
    """
    with CHANGING:
        state = state_of(pipeline)
        for one in loaded:
            _check_name(one.name, state, ())
        state = create_state(pipeline)
        for one in loaded:
            state.add(one)


def _check_in_memory(
    adapter: NestedAdapter, weight_name: Any, variant: str | None, torch_dtype: torch.dtype | None
) -> None:
    """Raise if something is asked for that only holds for adapters that are read from files."""
    given = {"weight_name": weight_name, "variant": variant}
    given |= {"torch_dtype": torch_dtype} if torch_dtype != adapter.dtype else {}
    wrong = [f"{name}={value!r}" for name, value in given.items() if value is not None]
    if wrong:
        raise AdapterLoadError(
            f"{', '.join(wrong)} cannot hold for an adapter in memory, which stays as it is (its type is "
            f"{adapter.dtype}). Leave it out, or load the adapter from its folder."
        )


def _check_acting(mechanism: Any, words: Sequence[Any]) -> None:
    """Raise if there is no such mechanism, or a word cannot be one; before anything is read."""
    if mechanism is not None:
        get_mechanism(mechanism)
    for word in words:
        if word is not None:
            check_subject_token(word)


def _load(
    item: Any,
    subfolder: str | None,
    hub: Mapping[str, Any],
    unet: Any,
    weight_name: str | None,
    dtype: torch.dtype,
    **keywords: Any,
) -> tuple[NestedAdapter, Source]:
    """An adapter, and its source at the commit it was loaded from."""
    if not isinstance(item, str | Path):
        raise AdapterLoadError(
            f"Cannot load an adapter from a {type(item).__name__}. Expected a repository id, a folder, an IP-Adapter's "
            "file, a NestedAdapter, or a list of these."
        )
    source, weight_name = source_of(item, subfolder, weight_name, **hub)
    adapter = NestedAdapter.from_any_source(source, weight_name, torch_dtype=dtype, unet=unet, **keywords)
    assert adapter.origin is not None  # it has just been loaded
    adapter.fuse()
    return adapter.requires_grad_(False), replace(source, revision=adapter.origin.revision)


def _origin_of(adapter: NestedAdapter, subfolder: str | None, hub: Mapping[str, Any]) -> Source | None:
    """Where an adapter in memory, and so its image encoder, came from; None if it was created here."""
    origin = adapter.origin
    if origin is None or (origin.is_folder and not is_folder(origin.location)):
        return None
    hub = {**hub, "revision": hub["revision"] or origin.revision}
    folder = origin.subfolder if subfolder is None else subfolder
    return Source(origin.location, folder, on_hub=origin.on_hub, **hub)


def _spread(value: Any, count: int) -> list[Any]:
    """One value per adapter, from one for all or one for each."""
    values = list(value) if isinstance(value, list | tuple) else [value] * count
    if len(values) != count:
        raise NestedAdapterError(
            f"{count} adapter{'s' * (count > 1)}, but {len(values)} values in {values!r}: pass one for each."
        )
    return values


def _check_name(name: Any, state: NestedState | None, before: Sequence[str | None]) -> None:
    """Raise unless an adapter can have this name, beside those that are loaded and those ``before`` it in one call."""
    if not isinstance(name, str) or not name or name in BLOCKS:
        raise NestedAdapterError(f"{name!r} cannot be an adapter's name. Use a word other than {', '.join(BLOCKS)}.")
    if state is not None and name in state.loaded:
        raise NestedAdapterError(
            f"An adapter named {name!r} is loaded already; loaded are {', '.join(state.loaded)}. {Remedy.ADAPTER_NAME}"
        )
    if name in before:
        raise NestedAdapterError(
            f"Two of the adapters would have the name {name!r}. Give each a name of its own: adapter_name=[..., ...]."
        )


def load_encoder(
    adapter: NestedAdapter,
    source: Source | None,
    folder: str | Sequence[str],
    dtype: torch.dtype,
    known: dict[str, ImageEncoder],
) -> tuple[ImageEncoder | ImageEncoders, tuple[str, ...]]:
    """What the adapter reads photos with, of towers that are in memory or loaded now, and the names of its towers."""
    towers = find_image_encoders(adapter.config, source, folder, adapter.image_features, adapter.is_ip_adapter)
    # towers whose photos are prepared differently are not shared
    names = tuple(f"{tower.name}{', as in IP-Adapter' * tower.is_of_ip_adapter}" for tower in towers)
    for name, tower in zip(names, towers, strict=True):
        known[name] = known.get(name) or load_image_encoder(tower, dtype)
    parts = [known[name] for name in names]
    reads = each_of(adapter.image_features, len(parts))
    for config, part, features, tower in zip(each_tower(adapter.config), parts, reads, towers, strict=True):
        check_count(config, part, features, f"The image encoder {tower.name}")
    return together(parts), names


def _in_memory(state: NestedState | None, loaded: Sequence[LoadedAdapter]) -> dict[str, ImageEncoder]:
    """The vision towers that are already in memory, to be shared by adapters that use the same ones."""
    having = [*loaded, *(state.loaded.values() if state else ())]
    named = [(one.encoder_names, one.encoder.parts) for one in having if one.encoder is not None]
    return {name: part for names, parts in named for name, part in zip(names, parts, strict=False)}
