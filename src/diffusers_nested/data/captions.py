"""Positions of the subject's word in captions, checked before training starts."""

from collections.abc import Iterable, Sequence

from transformers import CLIPTokenizer

from ..errors import NestedAdapterError, PromptTokenError, Remedy
from ..prompts import Convert, word_positions
from .rows import NO_SUBJECT
from .triplets import Triplet, Triplets, Words, each

_CAPTION = "Caption {} of the training set"

# Caption and word -> positions of the word; the word None stands for the adapter's.
Positions = dict[tuple[str, str | None], tuple[int, ...]]


def caption_positions(
    captions: Iterable[str],
    word: str,
    tokenizers: Sequence[CLIPTokenizer | None],
    convert: Convert | None = None,
    named: str = _CAPTION,
) -> dict[str, tuple[int, ...]]:
    """Find the positions of the word in every caption; each distinct caption is read once.

    Args:
        captions: Captions of a training set, or prompts.
        word: The adapter's ``subject_token``.
        tokenizers: The pipeline's.
        convert: The pipeline's ``maybe_convert_prompt``.
        named: What messages call a caption, with ``{}`` for its number.

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
            raise _told(f"{named.format(number)}, {caption!r}", error) from error
    return found


def _told(named: str, error: PromptTokenError) -> PromptTokenError:
    """The error with the caption, and with a remedy for training."""
    reason = str(error).replace(str(Remedy.ANOTHER_WORD), "Mend it, or give the word that it has.")
    return PromptTokenError(f"{named}: {reason}")


def subject_positions(
    triplets: Triplets,
    word: str,
    tokenizers: Sequence[CLIPTokenizer | None],
    convert: Convert | None = None,
) -> Positions:
    """Find the positions of all subjects' words in their captions; each distinct pair is read once.

    Args:
        triplets: A training set.
        word: The adapter's ``subject_token``, for subjects without a word of their own.
        tokenizers: The pipeline's.
        convert: The pipeline's ``maybe_convert_prompt``.

    Raises:
        PromptTokenError: A caption lacks the word of a subject, or two subjects share a word.
        NestedAdapterError: A triplet has no subject.
    """
    found: Positions = {}
    known: set[tuple[str, Words]] = set()
    for number, triplet in enumerate(each(triplets)):
        words = tuple(triplet.photos)
        if not words:
            raise NestedAdapterError(f"Triplet {number} {NO_SUBJECT}")
        if (triplet.text, words) in known:
            continue
        for one in words:
            named = word if one is None else one
            try:
                found[triplet.text, one] = word_positions(triplet.text, None, named, tokenizers, convert)
            except PromptTokenError as error:
                raise _told(f"{_CAPTION.format(number)}, {triplet.text!r}", error) from error
        _check_apart(number, triplet, found)
        known.add((triplet.text, words))
    return found


def _check_apart(number: int, triplet: Triplet, found: Positions) -> None:
    """Raise if two subjects of a triplet would stand at the same place."""
    taken: dict[int, str | None] = {}
    for word in triplet.photos:
        for position in found[triplet.text, word]:
            if position in taken:
                raise PromptTokenError(
                    f"{_CAPTION.format(number)}, {triplet.text!r}: the words {taken[position]!r} and "
                    f"{word!r} of two subjects overlap. Give each a word of its own."
                )
            taken[position] = word


def bare_captions(triplets: Triplets, word: str) -> dict[Words, str]:
    """What is left of captions without all that is not a subject: the words of the subjects, by these words.

    Args:
        triplets: A training set.
        word: The adapter's ``subject_token``.
    """
    distinct = dict.fromkeys(tuple(triplet.photos) for triplet in each(triplets))
    return {words: ", ".join(one or word for one in words) for words in distinct}
