"""Where the subjects' words act in a picture."""

from collections.abc import Callable, Sequence
from typing import Any

from PIL import Image

from ..errors import NestedAdapterError
from ..tracing import trace

Captioned = tuple[Image.Image, str]


def with_maps(
    pipeline: Any, draw: Callable[[], Image.Image], words: Sequence[str]
) -> tuple[Image.Image, list[Captioned]]:
    """Draw a picture, and show where it looks for words.

    Args:
        pipeline: The pipeline that draws.
        draw: Calls it.
        words: Words of the prompt.

    Returns:
        The picture; and for each word its map as a heat on the picture, with the word as its caption. There are none
        of a pipeline that cannot be traced.
    """
    try:
        tracing = trace(pipeline)
    except NestedAdapterError:
        return draw(), []
    with tracing as inside:
        picture = draw()
    return picture, [(inside.word_map(word).overlay(picture), word) for word in words]
