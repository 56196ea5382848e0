"""The positions of a word in a prompt's embeddings, found by token ids and not by splitting text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from transformers import CLIPTokenizer

from .errors import PromptTokenError, Remedy

Convert = Callable[[str, CLIPTokenizer], str]


def pair_prompts(prompt: str | Sequence[str], prompt_2: str | Sequence[str] | None = None) -> list[tuple[str, str]]:
    """Pair the prompts of one call: (text for the first tokenizer, text for the second), one pair per prompt.

    As in SDXL's `encode_prompt`, `prompt` replaces an empty or missing `prompt_2`.

    Raises:
        PromptTokenError: A prompt is not a string, or the numbers of prompts differ.
    """
    firsts = [prompt] if isinstance(prompt, str) else list(prompt)
    seconds = [prompt_2] if isinstance(prompt_2, str) else list(prompt_2 or ())
    seconds = seconds if prompt_2 else firsts
    for text in (*firsts, *seconds):
        if not isinstance(text, str):
            raise PromptTokenError(f"A prompt must be a string, got {text!r} ({type(text).__name__}).")
    if len(firsts) != len(seconds):
        raise PromptTokenError(
            f"prompt has {len(firsts)} prompts and prompt_2 has {len(seconds)}: pass as many of both, or omit prompt_2."
        )
    return list(zip(firsts, seconds, strict=True))


def word_positions(
    prompt: str,
    prompt_2: str | None,
    word: str,
    tokenizers: Sequence[CLIPTokenizer | None],
    convert: Convert | None = None,
) -> tuple[int, ...]:
    """Find a word or phrase in one prompt: the positions of all pieces of all its occurrences.

    Only whole words match, in upper or lower case, with or without punctuation around them: "person" matches
    "(Person)," and "person's" but not "personal". A textual-inversion token stands for all its vectors.

    Args:
        prompt: The text for the first tokenizer.
        prompt_2: The text for the second; `None` for the same text.
        word: The word or phrase; it may be or contain a textual-inversion token.
        tokenizers: The pipeline's, one or two. `None` is skipped, and a single tokenizer reads `prompt`, as in
            `encode_prompt`.
        convert: `pipe.maybe_convert_prompt`, which expands multi-vector textual-inversion tokens.

    Returns:
        The positions in ascending order, all below `tokenizer.model_max_length` and outside the padding.

    Raises:
        PromptTokenError: The word is empty, missing or truncated, or the two tokenizers place it differently. The
            message shows the tokenised prompt.
    """
    if not isinstance(word, str) or not word.strip():
        raise PromptTokenError(f"The word of a subject must be a non-empty string, got {word!r}.")
    prompts = _read_prompts(prompt, prompt_2, tokenizers, convert)
    found = [_positions(word, each) for each in prompts]
    if any(positions != found[0] for positions in found):
        raise PromptTokenError(
            f"The word {word!r} stands at positions {found[0]} for the first tokenizer and {found[1]} for "
            f"the second, but their embeddings share one sequence. {prompts[0]} {prompts[1]} Use as many "
            "pieces before the word in prompt as in prompt_2. (A tokenizer that pads with '!' reads each "
            "'!' as a piece of its own: avoid '!!' before the word.)"
        )
    return found[0]


def pieces_of(prompt: str, tokenizer: CLIPTokenizer, convert: Convert | None = None) -> list[str]:
    """The pieces that the text encoder gets of a prompt, one for each of its positions, padding included."""
    kept = _read("prompt", prompt, tokenizer, convert).kept
    return [str(piece) for piece in tokenizer.convert_ids_to_tokens(kept)]


def unread(prompt: str, tokenizer: CLIPTokenizer, convert: Convert | None = None) -> str:
    """The end of a prompt that the text encoder does not get, as it is too long; "" if it gets all."""
    read = _read("prompt", prompt, tokenizer, convert)
    return str(tokenizer.decode(read.ids[len(read.kept) - 1 : -1])).strip() if len(read.ids) > len(read.kept) else ""


_SHOWN_BEYOND = 16  # pieces that are cut off


class _Prompt(NamedTuple):
    """One prompt, tokenised by one tokenizer."""

    name: str
    tokenizer: CLIPTokenizer
    ids: list[int]  # the whole text, special tokens included
    kept: list[int]  # what the text encoder gets: cut and padded to model_max_length

    def __str__(self) -> str:
        pieces, most = self.tokenizer.convert_ids_to_tokens(self.ids), len(self.kept) + _SHOWN_BEYOND
        shown = " ".join(f"{i}:{piece}" for i, piece in enumerate(pieces[:most]))
        return f"{self.name} is read as: {shown}{' …' if len(pieces) > most else '.'}"


class _Token(NamedTuple):
    """One token, or all vectors of one textual-inversion token."""

    id: int
    positions: range


def _read_prompts(
    prompt: str, prompt_2: str | None, tokenizers: Sequence[CLIPTokenizer | None], convert: Convert | None
) -> list[_Prompt]:
    present = [tokenizer for tokenizer in tokenizers if tokenizer is not None]
    if not present:
        raise PromptTokenError(
            f"The pipeline has no tokenizer to find words in {prompt!r}: pass Subject(token_indices=...)."
        )
    second = ("prompt", prompt) if prompt_2 is None else ("prompt_2", prompt_2)
    texts = zip((("prompt", prompt), second), present, strict=False)
    return [_read(name, text, tokenizer, convert) for (name, text), tokenizer in texts]


def _read(name: str, text: str, tokenizer: CLIPTokenizer, convert: Convert | None) -> _Prompt:
    text = text if convert is None else convert(text, tokenizer)
    length = tokenizer.model_max_length
    ids = tokenizer(text, verbose=False)["input_ids"]
    kept = tokenizer(text, padding="max_length", max_length=length, truncation=True)["input_ids"]
    return _Prompt(name, tokenizer, ids, kept)


def _positions(word: str, prompt: _Prompt) -> tuple[int, ...]:
    spans = _occurrences(_word_ids(word, prompt), prompt)
    if not spans:
        raise PromptTokenError(f"The word {word!r} is not in the prompt. {prompt} {Remedy.ANOTHER_WORD}")
    fitting = [span for span in spans if _is_kept(span, prompt)]
    if not fitting:
        raise PromptTokenError(
            f"The word {word!r} is cut off: it ends at position {spans[0].stop - 1}, but "
            f"the text encoder reads only up to {len(prompt.kept) - 2}. {prompt} Shorten the prompt, or "
            "move the word towards its beginning."
        )
    return tuple(sorted({position for span in fitting for position in span}))


def _is_kept(span: range, prompt: _Prompt) -> bool:
    # A prompt is cut at its end, so kept ids stand at the same positions as in the whole prompt.
    return prompt.kept[span.start : span.stop] == prompt.ids[span.start : span.stop]


def _word_ids(word: str, prompt: _Prompt) -> list[int]:
    tokenizer = prompt.tokenizer
    ids = tokenizer(word, add_special_tokens=False, verbose=False)["input_ids"]
    # These ids are no words: they would match padding or any unknown word.
    special = ("unk_token_id", "bos_token_id", "eos_token_id", "pad_token_id")
    reserved = [getattr(tokenizer, name) for name in special]
    if not ids or any(token_id in reserved for token_id in ids):
        raise PromptTokenError(
            f"The word {word!r} cannot be placed: some of its pieces {tokenizer.convert_ids_to_tokens(ids)} "
            f"stand for padding, unknown characters or the ends of a prompt. {prompt} Use another word."
        )
    return ids


def _occurrences(word_ids: list[int], prompt: _Prompt) -> list[range]:
    wanted = [token.id for token in _merge_vectors(word_ids, prompt.tokenizer)]
    tokens = _merge_vectors(prompt.ids, prompt.tokenizer)
    ids = [token.id for token in tokens]
    spans = []
    for first in range(len(tokens) - len(wanted) + 1):
        last = first + len(wanted) - 1
        # The last piece carries the end-of-word mark; the piece before the word shows where the word begins.
        # Without this check, "cat" would match any word that ends in the pieces of "cat".
        if ids[first : last + 1] == wanted and (first == 0 or _ends_word(ids[first - 1], prompt.tokenizer)):
            spans.append(range(tokens[first].positions.start, tokens[last].positions.stop))
    return spans


def _ends_word(token_id: int, tokenizer: CLIPTokenizer) -> bool:
    piece = tokenizer.convert_ids_to_tokens([token_id])[0]
    return piece.endswith("</w>") or token_id in tokenizer.added_tokens_decoder  # special tokens included


def _merge_vectors(ids: list[int], tokenizer: CLIPTokenizer) -> list[_Token]:
    """Joins each run `<cat> <cat>_1 <cat>_2`, as diffusers names the vectors of `<cat>`, into one token."""
    id_of = tokenizer.added_tokens_encoder
    name_of = {token_id: name for name, token_id in id_of.items()}
    tokens: list[_Token] = []
    start = 0
    while start < len(ids):
        name, stop = name_of.get(ids[start]), start + 1
        while name is not None and stop < len(ids) and ids[stop] == id_of.get(f"{name}_{stop - start}"):
            stop += 1
        tokens.append(_Token(ids[start], range(start, stop)))
        start = stop
    return tokens
