"""The miniature's tokenizer: a byte-pair encoding in which every word of its captions is one token."""

import json
import string
from collections.abc import Iterable, Sequence
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from diffusers_nested.miniature.language.known import WORDS_FILE, words_of

START, END = "<|startoftext|>", "<|endoftext|>"


def build_tokenizer(captions: Sequence[str]) -> CLIPTokenizer:
    """Learn merges from the captions' words; letters stay available, so that any English word encodes."""
    words = words_in(captions)
    letters = string.ascii_lowercase + string.digits + ".,!?'-()"
    suffixed = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    suffixed.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(
        vocab_size=20_000, min_frequency=1, end_of_word_suffix="</w>", initial_alphabet=list(letters)
    )
    inside = [letter + "a" for letter in letters]  # every letter also without the end-of-word mark
    suffixed.train_from_iterator([" ".join([*words, *letters, *inside])] * 3, trainer)
    model = json.loads(suffixed.to_str())["model"]
    vocab = {**model["vocab"]}
    for special in (START, END):
        vocab[special] = len(vocab)
    merges = [tuple(merge) for merge in model["merges"]]
    tokenizer = CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=77)
    split = [word for word in words if len(tokenizer(word).input_ids) != 3]
    if split:
        raise RuntimeError(f"These caption words are not single tokens: {split}")
    return tokenizer


def save_tokenizers(tokenizer: CLIPTokenizer, folder: Path) -> None:
    """Save the same tokenizer for both text encoders."""
    for name in ("tokenizer", "tokenizer_2"):
        tokenizer.save_pretrained(folder / name)


def words_in(captions: Iterable[str]) -> list[str]:
    """Their words, each once."""
    return sorted({word for caption in captions for word in words_of(caption)})


def save_words(captions: Iterable[str], folder: Path) -> None:
    """Write beside a pipeline's parts which words it has learnt."""
    (folder / WORDS_FILE).write_text("\n".join(words_in(captions)) + "\n", encoding="utf-8")
