"""How captions become tokens."""

import numpy as np
import pytest
import torch

from diffusers_nested.miniature.language import describe
from diffusers_nested.miniature.world import random_scene, random_subjects
from recipes.miniature.words.reading import sentences
from recipes.miniature.words.tokenizer import Encoder, build_tokenizer


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(build_tokenizer(sentences=2000))


def test_ids_word_by_word_are_those_of_the_sentence(encoder):
    rng = np.random.default_rng(7)
    for _ in range(60):
        caption = describe(random_scene(rng, random_subjects(rng)), rng)
        ids, at = encoder(caption)
        assert ids == encoder.tokenizer(caption.text, truncation=True).input_ids
        noun = caption.nouns[0].split()[-1]
        assert noun.endswith(encoder.tokenizer.convert_ids_to_tokens(ids)[at["noun 0"]].removesuffix("</w>"))


def test_unknown_words_become_known_pieces(encoder):
    tokenizer = encoder.tokenizer
    assert len(tokenizer("person").input_ids) == len(tokenizer("pet").input_ids) == 3
    pieces = tokenizer("labradoodle").input_ids[1:-1]
    assert 1 < len(pieces) < len("labradoodle") and tokenizer.unk_token_id not in pieces


def test_the_sentence_ends_with_its_first_end():
    ids = torch.tensor([[8, 1, 2, 9, 9, 9], [8, 9, 9, 9, 9, 9]])
    assert sentences(ids, 9).tolist() == [[0, 1, 1, 1, 0, 0], [0, 1, 0, 0, 0, 0]]
