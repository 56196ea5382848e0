"""The nested keywords of a call: what ``help()`` says about them, and the errors for mistyped ones."""

import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import fields
from difflib import get_close_matches
from functools import wraps
from typing import Any

from diffusers import DiffusionPipeline

from ..compat import uncompiled
from ..errors import NestedAdapterError, ScaleError, SubjectError
from ..subjects import Subject
from .state import loaded_on

KEYWORDS = ("nested_adapter_image", "nested_adapter_token", "nested_adapter_image_embeds")
DESCRIPTIONS = {
    "nested_adapter_image": "Image(s) of the subjects, in any form that a pipeline's call accepts.",
    "nested_adapter_token": "The word that stands for a single subject. Defaults to the adapter's `subject_token`.",
    "nested_adapter_image_embeds": (
        "The same forms, with tensors from `encode_nested_adapter_image` in place of images."
    ),
}
_SECTION = f"""
Nested adapters:
    nested_adapter_image (*optional*):
        Who is in the picture. One of:
        - an image, or its path or address;
        - a list of images of the same subject;
        - a dict word -> image(s), for several subjects;
        - a `Subject` or a list of them, to set a scale, a mask, weights or steps;
        - with a list of prompts, a list of dicts or of lists of `Subject`, one per prompt, and None for a prompt
          without subjects.
    nested_adapter_token (`str`, *optional*):
        {DESCRIPTIONS["nested_adapter_token"]}
    nested_adapter_image_embeds (*optional*):
        {DESCRIPTIONS["nested_adapter_image_embeds"]}

    Load an adapter with `load_nested_adapter` first. Set how strongly subjects act with `set_nested_adapter_scale`,
    or with `Subject(scale=...)` for one call. A call without these keywords gives the plain pipeline's result.
"""
_NEAR = 0.9  # of difflib's measure, from 0 to 1: a letter or two may be wrong
_IP_ADAPTER = {"ip_adapter_image": "nested_adapter_image", "ip_adapter_image_embeds": "nested_adapter_image_embeds"}
_MASKS = "ip_adapter_masks"


def check_keywords(pipeline: Any, given: Mapping[str, Any], known: Collection[str] = ()) -> None:
    """Refuse keywords that the pipeline would ignore silently, or that would fail far from their cause.

    Args:
        pipeline: The pipeline that is called.
        given: The keywords of the call.
        known: Keywords that it takes in addition to those of its ``__call__``.

    Raises:
        SubjectError: A mistyped nested keyword, or an image or masks for an IP-Adapter that is not loaded.
    """
    for name in given:
        if _looks_nested(name) and name not in known and name not in _own_keywords(type(pipeline)):
            raise SubjectError(f"{type(pipeline).__name__} has no keyword {name!r}. Did you mean {_nearest(name)}?")
    for theirs, ours in _IP_ADAPTER.items():
        if given.get(theirs) is not None:
            _check_ip_adapter(pipeline, theirs, f"Pass {ours}=...", SubjectError)
    options = given.get("cross_attention_kwargs")
    if isinstance(options, Mapping) and options.get(_MASKS) is not None:
        _check_ip_adapter(
            pipeline, f"{_MASKS} in cross_attention_kwargs", "Pass Subject(photo, mask=...)", SubjectError
        )


def checks_ip_adapter(set_scale: Callable[..., None]) -> Callable[..., None]:
    """Wrap ``set_ip_adapter_scale``, which does nothing without an IP-Adapter: it raises if we alone are loaded."""

    @wraps(set_scale)
    def set_ip_adapter_scale(self: Any, *args: Any, **kwargs: Any) -> None:
        _check_ip_adapter(self, "set_ip_adapter_scale", "Call set_nested_adapter_scale(...)", ScaleError)
        set_scale(self, *args, **kwargs)

    return set_ip_adapter_scale


def describe(call: Callable[..., Any], own: Callable[..., Any]) -> None:
    """Give a call the signature and docstring of the pipeline's own call, plus the nested keywords."""
    signature = inspect.signature(own)
    new = [name for name in KEYWORDS if name not in signature.parameters]
    parameters = list(signature.parameters.values())
    ends_open = bool(parameters) and parameters[-1].kind is inspect.Parameter.VAR_KEYWORD
    end = len(parameters) - ends_open
    parameters[end:end] = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None) for name in new]
    call.__signature__ = signature.replace(parameters=parameters)  # pyright: ignore[reportFunctionMemberAccess]
    if new:
        call.__doc__ = f"{inspect.cleandoc(own.__doc__ or '').strip()}\n{_SECTION}"


def describe_subclass(cls: type, mixin: type) -> None:
    """Give a class that inherits its call from the mixin one that shows the pipeline's own arguments.

    Raises:
        NestedAdapterError: The mixin comes after the pipeline, whose call would bypass it.
    """
    order = cls.__mro__
    before, after = order[: order.index(mixin)], order[order.index(mixin) + 1 :]
    for other in before:
        if issubclass(other, DiffusionPipeline) and not issubclass(other, mixin):
            raise NestedAdapterError(
                f"{cls.__name__} has {mixin.__name__} after {other.__name__}, expected before it: "
                f"class {cls.__name__}({mixin.__name__}, {other.__name__})."
            )
    own = next((vars(one)["__call__"] for one in after if "__call__" in vars(one)), None)
    if own is None or any("__call__" in vars(one) for one in before):
        return
    call: Any = mixin.__call__

    @wraps(own)
    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:
        return call(self, *args, **kwargs)

    describe(__call__, own)
    cls.__call__ = __call__  # pyright: ignore[reportAttributeAccessIssue]


def _looks_nested(name: str) -> bool:
    if name in KEYWORDS:
        return False
    return "nested" in name.lower() or bool(get_close_matches(name.lower(), KEYWORDS, 1, _NEAR))


def _own_keywords(cls: type) -> set[str]:
    calls = [vars(one)["__call__"] for one in cls.__mro__ if "__call__" in vars(one)]
    return {name for call in calls for name in inspect.signature(call).parameters}


def _nearest(name: str) -> str:
    """What a mistyped keyword probably means: a keyword, or a field of ``Subject``."""
    remedies = {f"nested_adapter_{field.name}": f"Subject({field.name}=...)" for field in fields(Subject)}
    remedies["nested_adapter_name"] = remedies["nested_adapter_adapter_name"]
    remedies["nested_adapter_scale"] += ", or pipe.set_nested_adapter_scale(...)"
    remedies.update({keyword: f"{keyword}=..." for keyword in KEYWORDS})
    return remedies[(*get_close_matches(name.lower(), remedies, 1), *KEYWORDS)[0]]


def _check_ip_adapter(pipeline: Any, theirs: str, remedy: str, error: type[NestedAdapterError]) -> None:
    unet: Any = getattr(pipeline, "unet", None)
    state = loaded_on(uncompiled(unet))  # it may be no module at all, as with compiled engines
    if state is None or getattr(unet.config, "encoder_hid_dim_type", None) == "ip_image_proj":
        return
    raise error(
        f"{theirs} is for an IP-Adapter, but this pipeline has nested adapters only: "
        f"{', '.join(state.loaded)}. {remedy}, or call load_ip_adapter(...) first."
    )
