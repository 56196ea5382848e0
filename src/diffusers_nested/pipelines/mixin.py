"""The methods and call-time keywords that pipelines get."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from ..adapter import NestedAdapter
from ..injection import current_call
from ..injection.swap import swap_back, swap_in
from ..subjects.values import check_images
from .checked_storage import checked_storage
from .keywords import KEYWORDS, check_keywords, describe_subclass
from .loading import add_all, load_all
from .own_calls import call_handing_on, call_with_subjects, takes_keywords
from .prompt_words import ENCODING, named_arguments
from .state import CHANGING, require_state, state_of
from .watching import tell_encoded


class NestedAdapterMixin:
    """Nested adapters for a pipeline of diffusers (arXiv 2501.01407).

    ``import diffusers_nested`` gives these methods to every supported pipeline. Derive from the mixin if your
    own pipeline class does not derive from one of those, ``class MyPipeline(NestedAdapterMixin, ...)``, or to show the
    methods to a type checker, which does not see what an import adds to another library's classes.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Show the arguments of the pipeline's own call in the signature and docstring of the new class."""
        super().__init_subclass__(**kwargs)
        describe_subclass(cls, NestedAdapterMixin)

    def load_nested_adapter(
        self,
        pretrained: "str | Path | NestedAdapter | Sequence[str | Path | NestedAdapter]",
        subfolder: str | Sequence[str | None] | None = None,
        weight_name: str | Sequence[str | None] | None = None,
        image_encoder_folder: str | Sequence[str] | None = "image_encoder",
        *,
        adapter_name: str | Sequence[str] | None = None,
        subject_token: str | Sequence[str] | None = None,
        mechanism: str | None = None,
        variant: str | None = None,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | None = None,
        local_files_only: bool = False,
        force_download: bool = False,
        torch_dtype: torch.dtype | None = None,
    ) -> None:
        """Load one or several adapters, in addition to those already loaded.

        Args:
            pretrained: A repository id, a folder, a ``NestedAdapter``, or a list of these. With ``weight_name``, also
                an IP-Adapter: its base, plus and plus-face files are recognised by their content. A local file of an
                IP-Adapter can be given by its path, and several files of one place by a list of their names.
            subfolder: Folder of the adapter within the repository or folder; one for all, or one each. This and the
                next two can be passed by position, as in ``load_ip_adapter``.
            weight_name: Name of the weights file, if it is not diffusers' default; one for all, or one each.
            image_encoder_folder: Folder of the image encoder, beside the adapter's config.json or at the top; by
                default image_encoder/ if it is there, else the one that the config names. For an adapter that reads
                several vision towers, a list, or the name of the first: image_encoder_2/ is the second then, and so on.
                None loads none: subjects are then given as embeddings. For an IP-Adapter it is as in
                ``load_ip_adapter``: a name without a slash is a folder within ``subfolder``, one with a slash counts
                from the top.
            adapter_name: Name of the adapter, one per adapter for a list; by default its ``subject_token``.
            subject_token: The word that stands for its subjects by default, one per adapter for a list; by default the
                one in its config, "person" for an IP-Adapter.
            mechanism: How its subjects enter a layer, in place of the config's mechanism, if it reads the same
                projections. For an IP-Adapter, ``"located"`` (the default) acts at the word, ``"decoupled"`` is
                IP-Adapter itself, and ``"nested"`` uses its keys and values as nested ones.
            variant: Such as ``"fp16"``.
            revision: Branch, tag or commit of the repository.
            token: Access token of the Hub.
            cache_dir: Folder of downloads.
            local_files_only: Download nothing.
            force_download: Download again.
            torch_dtype: Type of the adapter's weights; by default the UNet's.

        Raises:
            AdapterLoadError: Not an adapter, incomplete, or made for another UNet.
            NestedAdapterError: The name is taken, or the pipeline is not supported.
        """
        hub = dict(revision=revision, token=token, cache_dir=cache_dir)
        hub.update(local_files_only=local_files_only, force_download=force_download)
        loaded = load_all(
            self,
            pretrained,
            names=adapter_name,
            subfolders=subfolder,
            weight_names=weight_name,
            subject_tokens=subject_token,
            mechanism=mechanism,
            variant=variant,
            image_encoder_folder=image_encoder_folder,
            torch_dtype=torch_dtype,
            hub=hub,
        )
        add_all(self, loaded)
        swap_in(self, NestedAdapterMixin)

    def unload_nested_adapter(self, adapter_name: str | Sequence[str] | None = None) -> None:
        """Unload one adapter, several, or all. After the last one, the pipeline is as it was before the first.

        Raises:
            NestedAdapterError: No adapter of this name is loaded, or a running call uses it.
        """
        with CHANGING:
            state = require_state(self)
            names = list(state.loaded) if adapter_name is None else state.named(_as_list(adapter_name))
            state.check_idle(names)
            for name in names:
                state.remove(name)
            if not state.loaded:
                state.drop()
                swap_back(self)

    def set_nested_adapter_scale(self, scale: float | Mapping[str, Any]) -> None:
        """Set how strongly subjects act.

        Args:
            scale: One of:

                - a number of at least 0: 0 is off (bitwise the plain pipeline), 1 is the paper's layer. From 0 to 1
                  the word's own value and the subject's are blended (our extension). Above 1 it is the paper's λ,
                  which gives the word more attention (section 5.1, with values from 1 to 4). The mechanisms
                  "decoupled" and "located" use it as IP-Adapter's scale, and "simple" as the weight of the subject's
                  tokens relative to the prompt's;
                - a dict by block as in ``set_ip_adapter_scale``, ``{"down": {"block_2": [0.0, 1.0]}, "up": 1.5}``;
                  blocks that it does not name are off;
                - a dict adapter name -> one of these.

        Raises:
            ScaleError: Not a finite number of at least 0, or an unknown adapter or block. No scale is changed then.
        """
        require_state(self).set_scale(scale)

    def set_nested_adapter_storage(
        self, device: str | torch.device | None = None, dtype: torch.dtype | None = None
    ) -> None:
        """Set where and how the subjects' keys and values wait for the layers that read them, from the next call on.

        Args:
            device: ``"cpu"`` keeps them there, and each layer fetches its own when it runs; None keeps them on the
                UNet's device.
            dtype: ``torch.int8`` or ``torch.float8_e4m3fn`` keeps them in 8 bits, with one factor per token and head;
                None keeps them in the UNet's type.

        Raises:
            NestedAdapterError: No adapter is loaded, there is no such device, or the type is another one.
        """
        require_state(self).set_storage(checked_storage(device, dtype))

    def set_nested_adapter_cache(self, size: int) -> None:
        """Set how many subjects of earlier calls are kept, by default 2, and forget those that are.

        A subject that is kept costs nothing in the next call: neither its photos are encoded nor its tokens projected.
        It needs as much memory as in a call, in the place that ``set_nested_adapter_storage`` sets.

        Args:
            size: The number of subjects; 0 keeps none.

        Raises:
            NestedAdapterError: No adapter is loaded, or the size is not a whole number of at least 0.
        """
        require_state(self).cache.resize(size)

    @property
    def nested_adapters(self) -> Mapping[str, NestedAdapter]:
        """The loaded adapters by name, read-only."""
        state = state_of(self)
        loaded = {} if state is None else state.loaded
        return MappingProxyType({name: one.adapter for name, one in loaded.items()})

    def encode_nested_adapter_image(self, image: Any, adapter_name: str | None = None) -> Tensor:
        """Encode one or several images of a subject, for ``nested_adapter_image_embeds``.

        Args:
            image: An image, or a list of images.
            adapter_name: The adapter that encodes them; may be left out if only one is loaded.

        Returns:
            Subject tokens, (images, tokens, token_dim).

        Raises:
            NestedAdapterError: The adapter is not loaded, or several are and none is named.
            SubjectError: The image cannot be used, or the adapter has no image encoder.
        """
        state = require_state(self)
        loaded = state.require(adapter_name)
        images = check_images(image, "encode_nested_adapter_image")
        with state.injector.gate.lock:  # a call may be moving the same adapter
            return loaded.encode(self, images)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The pipeline's own call, plus the nested keywords; see ``KEYWORDS``."""
        check_keywords(self, kwargs)
        plain = super().__call__  # pyright: ignore[reportAttributeAccessIssue]
        has_subjects = any([kwargs.get(name) is not None for name in KEYWORDS])
        if has_subjects and takes_keywords(type(self), NestedAdapterMixin):
            return call_handing_on(self, plain, args, kwargs)
        nested = {name: kwargs.pop(name, None) for name in KEYWORDS}
        return call_with_subjects(self, nested, plain, args, kwargs)

    def encode_prompt(self, *args: Any, **kwargs: Any) -> Any:
        """The pipeline's own method; a call with subjects records its result, to recognise the prompts' rows."""
        encode = super().encode_prompt  # pyright: ignore[reportAttributeAccessIssue]
        call = current_call()
        if call is None:
            encoded = encode(*args, **kwargs)
            tell_encoded(self, named_arguments(encode, args, kwargs), encoded)
            return encoded
        # words are looked up first: a saved tokenizer records its last use, which must be the pipeline's own
        with ENCODING:
            arguments = named_arguments(encode, args, kwargs)
            placed = call.place(self, arguments)
            encoded = encode(*args, **kwargs)
        call.record(placed, encoded[0], encoded[1])
        tell_encoded(self, arguments, encoded)
        return encoded

    def progress_bar(self, iterable: Any = None, total: int | None = None) -> Any:
        """The pipeline's own method; a call with subjects learns here that a loop begins."""
        call = current_call()
        if call is not None and call.pipeline is self:
            call.begin_loop(total)
        return super().progress_bar(iterable, total)  # pyright: ignore[reportAttributeAccessIssue]


def _as_list(value: Any) -> list[Any]:
    return [value] if isinstance(value, str) or not isinstance(value, Collection) else list(value)
