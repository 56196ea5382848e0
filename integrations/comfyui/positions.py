"""The positions of a word in a conditioning, from the token ids of ComfyUI's own tokenizers.

ComfyUI reads "(person:1.2)" as a weight, cuts long prompts into chunks of 77 tokens, each with a start and an end, and
joins the embeddings of the chunks: token i of chunk c stands at position 77 c + i.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

from diffusers_nested import PromptTokenError

TAG = "nested_adapter_prompt"  # what a conditioning calls the prompt that it was made of


class MissingWordError(PromptTokenError):
    """A word is not in a prompt."""


class Token(NamedTuple):
    """A token of a prompt, apart from starts, ends and padding."""

    position: int
    id: Hashable  # a whole number, or the content of a vector of textual inversion
    piece: str
    ends_word: bool


@dataclass(frozen=True, eq=False)
class Prompt:
    """A prompt as ComfyUI's tokenizers read it.

    Attributes:
        tokenizer: The ``tokenizer`` of a CLIP.
        readings: Name of each tokenizer -> its tokens.
        length: How many positions the embeddings have.
    """

    tokenizer: Any
    readings: dict[str, tuple[Token, ...]]
    length: int

    @classmethod
    def read(cls, tokenizer: Any, text: str) -> "Prompt":
        """Tokenise a text as ComfyUI does to encode it."""
        read = tokenizer.tokenize_with_weights(text, return_word_ids=True)
        readings = {name: tuple(_tokens(chunks, tokenizer)) for name, chunks in read.items()}
        # SDXL cuts the longer one off, if its texts differ
        return cls(tokenizer, readings, min(sum(map(len, chunks)) for chunks in read.values()))

    def positions(self, word: str) -> tuple[int, ...]:
        """The positions of all pieces of all occurrences of a whole word or phrase, in ascending order.

        Raises:
            PromptTokenError: The word is empty, is not in the prompt (a ``MissingWordError``), or stands at different
                positions for different tokenizers. The message shows the tokenised prompt.
        """
        if not isinstance(word, str) or not word.strip():
            raise PromptTokenError(f"The word of a subject is {word!r}. Name a word of the prompt.")
        # brackets in a word are brackets, not weights
        wanted = Prompt.read(self.tokenizer, word.replace("(", r"\(").replace(")", r"\)"))
        found = {name: _find(wanted.readings[name], tokens) for name, tokens in self.readings.items()}
        first, *others = found.values()
        if any(other != first for other in others):
            shown = " and ".join(f"{list(where)} for {name!r}" for name, where in found.items())
            raise PromptTokenError(
                f"The word {word!r} stands at positions {shown}, but their embeddings share one sequence. {self} Use "
                "as many pieces before the word in all texts."
            )
        if not first:
            raise MissingWordError(
                f"The word {word!r} is not in the prompt. {self} Write it there as a whole word, or name a word that "
                "is there."
            )
        return first

    def __str__(self) -> str:
        shown = {name: " ".join(f"{one.position}:{one.piece}" for one in tokens) for name, tokens in self._distinct()}
        return " ".join(f"The prompt is read by {name!r} as: {text or 'nothing'}." for name, text in shown.items())

    def _distinct(self) -> list[tuple[str, tuple[Token, ...]]]:
        return list({tokens: (name, tokens) for name, tokens in reversed(self.readings.items())}.values())


def find_word(word: str, conditioning: Sequence[Any]) -> tuple[tuple[Tensor, tuple[int, ...]], ...]:
    """The embeddings (1, T, D) of a conditioning's entries that have the word, each with its positions.

    The other entries are areas without the subject; one must have it.

    Raises:
        PromptTokenError: No entry says which prompt it was made of, or none has the word; or see ``Prompt.positions``.
    """
    placed, missing = [], None
    for states, prompt in _tagged(conditioning):
        try:
            placed.append((states, prompt.positions(word)))
        except MissingWordError as error:
            missing = missing or error
    if missing is not None and not placed:
        raise missing
    return tuple(placed)


def _tagged(conditioning: Sequence[Any]) -> list[tuple[Tensor, Prompt]]:
    tagged = [(states, options[TAG]) for states, options in conditioning if TAG in options]
    if not tagged:
        raise PromptTokenError(
            "The conditioning of 'Apply Nested Adapter' does not say which prompt it was made of, so no word can be "
            "found in it. Make it with the node 'Nested Adapter Prompt' in place of 'CLIP Text Encode', or pass it "
            "through that node with its text."
        )
    for states, prompt in tagged:
        if len(states) != 1 or states.shape[1] < prompt.length:
            raise PromptTokenError(
                f"The conditioning of 'Apply Nested Adapter' has embeddings of shape {tuple(states.shape)} for a "
                f"prompt of {prompt.length} positions, expected one row with all of them. Connect the conditioning of "
                "the node 'Nested Adapter Prompt'."
            )
    return tagged


def _tokens(chunks: Sequence[Sequence[tuple[Any, float, int]]], tokenizer: Any) -> list[Token]:
    """The tokens of one tokenizer's chunks; number 0 marks starts, ends and padding."""
    position, tokens = 0, []
    for chunk in chunks:
        for token, _, number in chunk:
            if number:
                tokens.append(_token(position, token, tokenizer))
            position += 1
    return tokens


def _token(position: int, token: Any, tokenizer: Any) -> Token:
    if not isinstance(token, int):  # a vector of textual inversion
        return Token(position, tuple(token.flatten().tolist()), "<embedding>", True)
    piece = tokenizer.untokenize([(token, 1.0)])[0][1]
    return Token(position, token, piece, piece.endswith("</w>"))


def _find(wanted: Sequence[Token], tokens: Sequence[Token]) -> tuple[int, ...]:
    """Positions of every occurrence that begins where a word begins; the last piece of a word says that it ends."""
    ids = [token.id for token in wanted]
    found: set[int] = set()
    for first in range(len(tokens) - len(ids) + 1):
        span = tokens[first : first + len(ids)]
        begins = first == 0 or tokens[first - 1].ends_word
        if ids and begins and [token.id for token in span] == ids:
            found.update(token.position for token in span)
    return tuple(sorted(found))
