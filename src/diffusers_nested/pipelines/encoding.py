"""One prompt at a time through the tokenizers: how they pad and cut is state, which threads that share them share."""

from collections.abc import Callable
from functools import wraps
from threading import RLock
from typing import Any

ENCODING = RLock()


def one_at_a_time(encode: Callable[..., Any]) -> Callable[..., Any]:
    """A pipeline's ``encode_prompt`` that waits for that of any other thread."""

    @wraps(encode)
    def encode_prompt(*args: Any, **kwargs: Any) -> Any:
        with ENCODING:
            return encode(*args, **kwargs)

    return encode_prompt
