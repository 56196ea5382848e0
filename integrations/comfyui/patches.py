"""The patches of a model's attention, by which subjects act in ComfyUI; see its ``ModelPatcher``.

Once a layer, the patch ``attn2_patch`` sees the prompt's embeddings and finds the rows of subjects; then a replacement
of the layer's attention gets queries, keys and values, (B, S, H · d) and (B, T, H · d), and both share the layer's
``extra_options``. The model's subjects are among its ``transformer_options``, which belong to a clone of the model.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from diffusers_nested import ProcessorReplacedError
from diffusers_nested.injection import at_rows, attend

from .layers import Layer
from .runtime import compute_dtype
from .subjects import KEY, ActingSubjects

_NOW = "nested_adapter_now"  # what acts in the call of the UNet
_WRAPPER = "outer_sample"

Attention = Callable[..., Tensor]
Key = tuple[str, int] | tuple[str, int, int]


class FindRows:
    """Finds the rows in which subjects act; the ``attn2_patch``.

    Args:
        keys: Of the layers in which they act.
    """

    def __init__(self, keys: Sequence[Key]) -> None:
        self.keys = tuple(keys)

    def __call__(self, queries: Tensor, context: Tensor, value: Tensor, options: dict[str, Any]) -> tuple[Tensor, ...]:
        """Note them for the layer, and change nothing."""
        subjects: ActingSubjects | None = options.get(KEY)
        if subjects is not None:
            options[_NOW] = subjects.groups(context, queries.dtype, options)
        return queries, context, value


class ActInLayer:
    """Attention of a layer in which subjects act.

    Args:
        layer: The layer.
        stock: ComfyUI's attention.
        before: What replaced it before, such as an IP-Adapter; the difference that subjects make is added to its
            output. None for nothing.
    """

    def __init__(self, layer: Layer, stock: Attention, before: Attention | None = None) -> None:
        self.layer, self._stock, self._before = layer, stock, before
        self._added: list[tuple[Attention, dict[str, Any]]] = []

    def add(self, callback: Attention, **settings: Any) -> None:
        """Let another one add to the output, as nodes for IP-Adapters ask of the replacement that they find."""
        self._added.append((callback, settings))

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, options: dict[str, Any]) -> Tensor:
        """Attention of queries (B, S, H · d) over the prompt (B, T, H · d); returns (B, S, H · d)."""
        if self._before is None:
            out = self._plain(query, key, value, options)
        else:
            out = self._before(query, key, value, options)
        acting = [group.at_layer(self.layer.path, self.layer.level, now) for group, now in options.get(_NOW) or ()]
        present = [group for group in acting if group is not None]
        if present:
            out = self._with_subjects(present, out, query, key, value)
        for callback, settings in self._added:
            if _is_within(options.get("sigmas"), settings):
                out = out + callback(out, query, key, value, options, **settings)
        return out

    def _plain(self, query: Tensor, key: Tensor, value: Tensor, options: dict[str, Any]) -> Tensor:
        """What ComfyUI computes without us, to the bit."""
        settings: dict[str, Any] = {"attn_precision": options.get("attn_precision")}
        if "optimized_attention_override" in options:
            settings["transformer_options"] = options
        return self._stock(query, key, value, options["n_heads"], **settings)

    def _with_subjects(self, groups: Sequence[Any], out: Tensor, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """The output with what the rows of subjects read in it."""
        # (B, L, H · d) -> (B, H, L, d)
        q, k, v = (x.unflatten(-1, (self.layer.heads, -1)).transpose(1, 2) for x in (query, key, value))
        change = attend(None, groups, q, k, v, None)
        if self._before is not None:
            change = change - F.scaled_dot_product_attention(q, k, v)
        change = change.transpose(1, 2).flatten(2).to(out.dtype)  # (B, H, S, d) -> (B, S, H · d)
        out = out.clone()
        for group in groups:
            (rows,) = at_rows(group.rows, change)
            where = slice(None) if group.rows is None else group.rows
            where = slice(*where) if isinstance(where, tuple) else where
            out[where] = rows if self._before is None else out[where] + rows
        return out


def apply_subjects(model: Any, subjects: ActingSubjects, layers: Sequence[Layer], stock: Attention) -> None:
    """Let subjects act in a clone of a model, in place of those that it has.

    Args:
        model: The clone, a ``ModelPatcher``.
        subjects: All that are to act.
        layers: Its cross-attention layers.
        stock: ComfyUI's attention.
    """
    options = model.model_options["transformer_options"]
    is_new = KEY not in options
    options[KEY] = subjects
    if not is_new:
        return
    model.set_model_attn2_patch(FindRows([layer.key for layer in layers]))
    patches = model.model_options["transformer_options"]["patches"]["attn2_patch"]
    patches.insert(0, patches.pop())  # first: others may change the embeddings, by which rows are found
    for layer in layers:
        before = _replacement(model.model_options, layer.key) or _replacement(model.model_options, layer.block)
        model.set_model_attn2_replace(ActInLayer(layer, stock, before), *layer.key)
    model.add_wrapper_with_key(_WRAPPER, KEY, around_sampling)


def around_sampling(executor: Any, *args: Any, **kwargs: Any) -> Any:
    """Prepare a model's subjects before it is loaded to sample, and free what they take afterwards.

    Raises:
        ProcessorReplacedError: Something has replaced a layer's attention after the subjects were applied.
        RowsNotFoundError: The sampler was given no prompt with a subject.
    """
    guider = executor.class_obj
    subjects: ActingSubjects | None = guider.model_options["transformer_options"].get(KEY)
    if subjects is None:
        return executor(*args, **kwargs)
    _check_in_place(guider.model_options)
    subjects.check_given(guider.conds)
    model = guider.model_patcher
    try:
        subjects.prepare(model.load_device, compute_dtype(model))
        return executor(*args, **kwargs)
    finally:
        subjects.release()


def _check_in_place(model_options: Mapping[str, Any]) -> None:
    found = model_options["transformer_options"].get("patches", {}).get("attn2_patch", [])
    keys = [key for patch in found if isinstance(patch, FindRows) for key in patch.keys]
    others = {key: _replacement(model_options, key) for key in keys}
    lost = {key: patch for key, patch in others.items() if not isinstance(patch, ActInLayer)}
    if lost or not keys:
        name = type(next(iter(lost.values()))).__name__ if lost else "nothing"
        raise ProcessorReplacedError(
            f"{len(lost) or 'All'} of the model's layers no longer have the nested adapter's attention, but {name}: "
            "another node replaced it. Put 'Apply Nested Adapter' after that node."
        )


def _replacement(model_options: Mapping[str, Any], key: Key) -> Any:
    """What replaces the attention of a layer, or of a block; None for nothing."""
    return model_options["transformer_options"].get("patches_replace", {}).get("attn2", {}).get(key)


def _is_within(sigmas: Tensor | None, settings: Mapping[str, Any]) -> bool:
    """Whether what another one adds acts at this noise level, by the limits among its settings."""
    if sigmas is None or "sigma_start" not in settings:
        return True
    return settings["sigma_end"] <= float(sigmas.max()) <= settings["sigma_start"]
