"""A byte-pair encoding learnt from the grammar's text: usual words are one token, rare and unknown ones are pieces."""

import json
import re
import string
from collections.abc import Sequence

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from diffusers_nested.miniature.language import Caption, describe
from diffusers_nested.miniature.world import random_scene, random_subjects

from ..bundled.tokenizer import END, START

SENTENCES, VOCABULARY, LENGTH = 20_000, 520, 77


def training_captions(count: int = SENTENCES) -> list[str]:
    """Captions of random scenes, in wordings that training uses."""
    rng = np.random.default_rng(6)
    return [describe(random_scene(rng, random_subjects(rng)), rng).text for _ in range(count)]


def build_tokenizer(sentences: int = SENTENCES, size: int = VOCABULARY) -> CLIPTokenizer:
    """Learn ``size`` tokens from training captions; letters stay available, so that any English word encodes."""
    texts = training_captions(sentences)
    letters = string.ascii_lowercase + string.digits + ".,!?'-():"
    model = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    model.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(
        vocab_size=size, min_frequency=1, end_of_word_suffix="</w>", initial_alphabet=list(letters)
    )
    every_letter = [" ".join([*letters, *(letter + "a" for letter in letters)])]  # also without the end-of-word mark
    model.train_from_iterator([*(_split(text) for text in texts), *every_letter], trainer)
    merges = [tuple(merge) for merge in json.loads(model.to_str())["model"]["merges"]]
    # The trainer numbers letters that end a word in another order in every process; weights need them to stay.
    tokens = [
        *sorted(letters),
        *(letter + "</w>" for letter in sorted(letters)),
        *(a + b for a, b in merges),
        START,
        END,
    ]
    vocab = {token: number for number, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=LENGTH)


def _split(text: str) -> str:
    """Words and punctuation apart, as CLIP splits them."""
    return " ".join(re.findall(r"[a-z]+|\d|[^\sa-z\d]+", text))


class Encoder:
    """Token ids of captions, with the positions of what their words belong to; much faster word by word."""

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        self.tokenizer = tokenizer
        self.start, self.end = int(tokenizer.bos_token_id), int(tokenizer.eos_token_id)  # padding is the end again
        self._ids: dict[str, list[int]] = {}

    def __call__(self, caption: Caption) -> tuple[list[int], dict[str, int]]:
        """Ids without padding, and the last position of "noun 0", "noun 1" and "place" where there are."""
        ids: list[int] = [self.start]
        places: dict[str, int] = {}
        for word, tag in caption.words:
            ids += self._of(word)
            if tag:
                places[tag] = len(ids) - 1
        ids = [*ids[: LENGTH - 1], self.end]
        return ids, {tag: place for tag, place in places.items() if place < LENGTH - 1}

    def padded(self, captions: Sequence[Caption]) -> tuple[list[list[int]], list[dict[str, int]]]:
        """Ids of several captions padded to 77, and their positions."""
        both = [self(caption) for caption in captions]
        return [ids + [self.end] * (LENGTH - len(ids)) for ids, _ in both], [at for _, at in both]

    def attributes(self, captions: Sequence[Caption]) -> list[list[bool]]:
        """Which of the 77 tokens belong to attributes before a noun."""
        rows = []
        for caption in captions:
            flags = [False]
            for word, tag in caption.words:
                flags += [tag == "attribute"] * len(self._of(word))
            rows.append([*(flags + [False] * LENGTH)[: LENGTH - 1], False])
        return rows

    def _of(self, word: str) -> list[int]:
        if word not in self._ids:
            self._ids[word] = self.tokenizer(word).input_ids[1:-1]
        return self._ids[word]
