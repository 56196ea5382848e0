"""Positions of the subject's word in captions, checked before training starts."""

from collections.abc import Iterable, Sequence

from transformers import CLIPTokenizer

from ..errors import PromptTokenError
from ..prompts import Convert, word_positions


def caption_positions(
    captions: Iterable[str],
    word: str,
    tokenizers: Sequence[CLIPTokenizer | None],
    convert: Convert | None = None,
) -> dict[str, tuple[int, ...]]:
    """Find the positions of the word in every caption; each distinct caption is read once.

    Args:
        captions: Captions of a training set, or prompts.
        word: The adapter's ``subject_token``.
        tokenizers: The pipeline's.
        convert: The pipeline's ``maybe_convert_prompt``.

    Raises:
        PromptTokenError: A caption does not contain the word, or only after what the text encoder reads; the message
            quotes the caption.
    """
    found: dict[str, tuple[int, ...]] = {}
    for number, caption in enumerate(captions):
        if caption in found:
            continue
        try:
            found[caption] = word_positions(caption, None, word, tokenizers, convert)
        except PromptTokenError as error:
            raise PromptTokenError(f"Caption {number} of the training set, {caption!r}: {error}") from error
    return found
