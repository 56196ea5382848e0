"""Give the pipelines of diffusers the mixin's methods."""

from collections.abc import Callable
from functools import partial, wraps
from typing import Any

from ..backbones import BACKBONES
from ..compat import diffusers_classes
from ..injection.swap import swap_in
from .keywords import KEYWORDS, check_keywords, checks_ip_adapter, describe
from .mixin import NestedAdapterMixin
from .modular_methods import register_modular
from .own_calls import call_from_within, call_with_subjects, is_of_diffusers
from .prompt_words import one_at_a_time
from .refused import REFUSED, refuse
from .state import around_processors, require_state
from .unets import register_unets
from .watching import telling

SUPPORTED = tuple(name for backbone in BACKBONES.values() for name in backbone.pipelines)
_METHODS = (
    "load_nested_adapter",
    "unload_nested_adapter",
    "set_nested_adapter_scale",
    "set_nested_adapter_storage",
    "set_nested_adapter_cache",
    "nested_adapters",
    "encode_nested_adapter_image",
)


def register() -> None:
    """Add the methods to every supported pipeline class, and the refusal to the others; runs once, at import."""
    supported = diffusers_classes(*SUPPORTED)
    modular = diffusers_classes(*(one.modular_pipeline for one in BACKBONES.values() if one.modular_pipeline))
    for cls in (*supported, *modular):
        for method in _METHODS:
            setattr(cls, method, NestedAdapterMixin.__dict__[method])
        if hasattr(cls, "set_ip_adapter_scale"):
            cls.set_ip_adapter_scale = checks_ip_adapter(cls.set_ip_adapter_scale)
        for method in ("load_ip_adapter", "unload_ip_adapter"):
            if hasattr(cls, method):
                setattr(cls, method, around_processors(getattr(cls, method)))
    for cls in supported:
        cls.__call__ = _with_keywords(cls.__call__)
        cls.encode_prompt = telling(one_at_a_time(cls.encode_prompt))
    for cls in modular:
        register_modular(cls)
    register_unets()
    for cls in diffusers_classes(*REFUSED):
        # this works for diffusers' placeholders of classes with missing dependencies, too
        cls.load_nested_adapter = refuse


def _with_keywords(call: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap the class's call, so that nested keywords act in it, or an error says what is missing."""

    @is_of_diffusers
    @wraps(call)
    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(self, NestedAdapterMixin):
            check_keywords(self, kwargs)
            if all(kwargs.get(name) is None for name in KEYWORDS):
                own = {name: value for name, value in kwargs.items() if name not in KEYWORDS}
                return call_with_subjects(self, {}, partial(call, self), args, own)
            # Another pipeline that shares the UNet may have loaded the adapters.
            require_state(self)
            swap_in(self, NestedAdapterMixin)
        return call_from_within(self, call, args, kwargs)

    describe(__call__, call)
    return __call__
