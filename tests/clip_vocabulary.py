"""The two tokenizers of SDXL with CLIP's real vocabulary, built offline from `tests/data`."""

import functools
import gzip
from pathlib import Path
from typing import Any

from transformers import CLIPTokenizer

MERGES = Path(__file__).parent / "data" / "clip_vocabulary" / "merges.txt.gz"


def byte_symbols() -> list[str]:
    """The 256 one-character symbols in vocabulary order: printable bytes first, the others moved past 255."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), 0xAD), *range(ord("®"), ord("ÿ") + 1)]
    return [chr(byte) for byte in printable] + [chr(256 + i) for i in range(256 - len(printable))]


@functools.cache
def vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Token ids and merges."""
    lines = gzip.decompress(MERGES.read_bytes()).decode("utf-8").splitlines()
    merges = [(left, right) for left, right in (line.split(" ") for line in lines)]
    symbols = byte_symbols()
    tokens = [*symbols, *(symbol + "</w>" for symbol in symbols), *(left + right for left, right in merges)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    return {token: i for i, token in enumerate(tokens)}, merges


def clip_tokenizer(pad_token: str = "<|endoftext|>") -> CLIPTokenizer:
    """A new tokenizer, so that a test may add tokens to it."""
    vocab, merges = vocabulary()
    pairs: Any = merges  # pairs are what the class reads, though its annotation says strings
    return CLIPTokenizer(vocab=dict(vocab), merges=pairs, pad_token=pad_token, model_max_length=77)


def sdxl_tokenizers() -> tuple[CLIPTokenizer, CLIPTokenizer]:
    """`tokenizer` and `tokenizer_2`, which differ in what they pad with."""
    return clip_tokenizer(), clip_tokenizer(pad_token="!")
