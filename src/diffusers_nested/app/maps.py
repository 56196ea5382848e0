"""Where words of the prompt act in a picture."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from ..errors import NestedAdapterError, PromptTokenError
from ..tracing import Trace, trace
from ..tracing.pictures import enlarged, spread_over

_SHORTEST = 4  # letters of the words that have a map, beside those of subjects
_MOST = 12  # words


@dataclass(frozen=True, eq=False)
class Maps:
    """Maps of words on a picture.

    Attributes:
        picture: The picture, enlarged if it is small.
        of_words: Words, and for each a map (H, W) of the picture's size: 0 where it acts least, 1 where most.
    """

    picture: Image.Image
    of_words: dict[str, np.ndarray]


def with_maps(
    pipeline: Any, draw: Callable[[], Image.Image], prompt: str, subjects: Sequence[str]
) -> tuple[Image.Image, Maps | None]:
    """Draw a picture, and see where it looks for words.

    Args:
        pipeline: The pipeline that draws.
        draw: Calls it.
        prompt: The prompt of the call.
        subjects: The subjects' words, which come first.

    Returns:
        The picture and its maps; None of a pipeline that cannot be traced.
    """
    try:
        tracing = trace(pipeline)
    except NestedAdapterError:
        return draw(), None
    with tracing as inside:
        picture = draw()
    large = enlarged(picture)
    return picture, Maps(large, _maps(inside, large, words_with_maps(prompt, subjects)))


def words_with_maps(prompt: str, subjects: Sequence[str]) -> list[str]:
    """The subjects' words, and then the longer ones of the prompt, each once."""
    longer = [word for word in re.findall(r"[^\W\d_]+", prompt.lower()) if len(word) >= _SHORTEST]
    spoken = {one for subject in subjects for one in subject.lower().split()}
    return list(dict.fromkeys([*subjects, *(word for word in longer if word not in spoken)]))[:_MOST]


def _maps(inside: Trace, large: Image.Image, words: Sequence[str]) -> dict[str, np.ndarray]:
    found = {}
    for word in words:
        try:
            found[word] = spread_over(large, inside.word_map(word).map).numpy()
        except PromptTokenError:  # behind the last token that is read, or part of a larger expression
            continue
    return found
