"""How captions become tokens, and which prompts the next base is to be tested in."""

import re

import numpy as np
import pytest
import torch

from diffusers_nested.miniature.language import describe, is_held_out, words_of
from diffusers_nested.miniature.language import vocabulary as v
from diffusers_nested.miniature.language.grammar import FORMS
from diffusers_nested.miniature.language.splits import pairs_of
from diffusers_nested.miniature.prompts import PAIR_PROMPTS, PROMPTS, wanted
from diffusers_nested.miniature.world import PLACES, random_scene, random_subjects
from recipes.miniature.bundled.tokenizer import words_in
from recipes.miniature.words.reading import sentences
from recipes.miniature.words.tokenizer import Encoder, build_tokenizer, training_captions


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


def pairs_in(prompt: str) -> list[str]:
    """Style and place with their form of sentence, and garments with verb and colour, found without the reader."""
    found = []
    for form in FORMS:
        for styles in (v.STYLES if "S" in form else v.MANNERS).values():
            for style in styles:
                for place in (place for places in v.PLACES.values() for place in places if place):
                    filled = {"S": style, "M": style, "P": place, "N": "(.+)"}
                    text = " ".join(filled.get(part, part) for part in form.split()).replace(" ,", ",")
                    if match := re.fullmatch(text.replace(" :", ":"), prompt):
                        found.append([f"{form} | {style}", f"{form} | {place}", *worn_in(match[1])])
    (pairs,) = found  # there is one way to read it
    return pairs


def worn_in(subjects: str) -> list[str]:
    verbs, garments, shades = (
        "|".join(sorted(names, key=len, reverse=True))
        for names in (v.WEARING, v.SHIRTS + v.HATS, [shade for row in v.COLOURS.values() for shade in row])
    )
    worn = re.findall(rf"(?:({verbs}) |and )an? ({shades}) ({garments})", subjects)
    assert len(worn) == len(re.findall(rf"\b(?:{garments})\b", subjects))
    return [pair for verb, shade, one in worn for pair in pairs_of([verb, one, shade][verb == "" :])]


@pytest.mark.parametrize("prompt", [*PROMPTS, *PAIR_PROMPTS])
def test_prompts_are_held_out_wordings(prompt):
    pairs = pairs_in(prompt)
    assert len(pairs) >= 4 and all(map(is_held_out, pairs)), [pair for pair in pairs if not is_held_out(pair)]
    assert prompt.format("pet").count("pet") == 1


def test_all_words_of_prompts_are_in_training_captions():
    words = words_in([*(prompt.format("person") for prompt in PROMPTS), *PAIR_PROMPTS])
    assert set(words) <= set(words_in(training_captions(4000)))


def test_prompts_name_what_can_be_measured():
    named = [wanted(prompt.format("person"), ["person"])[0] for prompt in PROMPTS]
    assert all({"style", "place", "shirt"} <= one.keys() for one in named)
    assert {one["place"] for one in named} == set(PLACES) - {"studio"}
    assert sum("expression" in one for one in named) == 2 and sum("hat" in one for one in named) == 1
    for prompt in PAIR_PROMPTS:
        order = sorted(("person", "pet"), key=words_of(prompt).index)
        assert any("shirt" in one for one in wanted(prompt, order))
