"""Rewords the library's errors, which speak of Python's keywords, for the inputs of the nodes."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from diffusers_nested import NestedAdapterError
from diffusers_nested.errors import Remedy

_P = ParamSpec("_P")
_T = TypeVar("_T")

_REMEDIES = {
    Remedy.NO_IMAGE_ENCODER: "",
    Remedy.SUBFOLDER: "Name a folder or repository with one at its top, or user/name/sub/folder.",
    Remedy.CONFIG: "Name a folder or repository with one at its top, or user/name/sub/folder.",
    Remedy.FROM_IP_ADAPTER: "ComfyUI has nodes of its own for IP-Adapters.",
    Remedy.WEIGHTS: "Only weights that were saved as safetensors are read.",
}
_PHRASES = {
    "Pass image_encoder_folder=None and give `nested_adapter_image_embeds`, or load it": "Load it",
    "image_encoder_folder": "image_encoder",
    "image_weights of nested_adapter_image": "weight of 'Blend Nested Adapter Photos'",
    "nested_adapter_image_embeds": "photos",
    "nested_adapter_image": "'Apply Nested Adapter'",
}


def in_words_of_nodes(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """The function, whose errors speak of the nodes' inputs."""

    @wraps(function)
    def reworded(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return function(*args, **kwargs)
        except NestedAdapterError as error:
            text = str(error)
            for remedy, words in _REMEDIES.items():
                text = text.replace(f" {remedy}", f" {words}".rstrip())
            for phrase, words in _PHRASES.items():
                text = text.replace(phrase, words)
            raise type(error)(text) from error

    return reworded
