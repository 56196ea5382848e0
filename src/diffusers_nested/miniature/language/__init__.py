"""The language of the miniature world: captions from a grammar, and the words that it knows."""

from .grammar import Caption, describe, plain_caption
from .known import log_unknown_words, unknown_words, words_of
from .splits import is_held_out

__all__ = ["Caption", "describe", "is_held_out", "log_unknown_words", "plain_caption", "unknown_words", "words_of"]
