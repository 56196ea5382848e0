"""The miniature's language: what captions say, which wordings are kept apart, and how they become tokens."""

import numpy as np
import pytest
import torch

from diffusers_nested.miniature.drawing import render, subject_masks
from diffusers_nested.miniature.world import (
    CLOTH,
    PLACES,
    STYLES,
    Look,
    Person,
    Pet,
    Scene,
    random_scene,
    random_subjects,
)
from recipes.miniature.words import vocabulary as v
from recipes.miniature.words.grammar import FORMS, describe, plain_caption
from recipes.miniature.words.reading import sentences
from recipes.miniature.words.splits import is_held_out, on_side, pairs_of
from recipes.miniature.words.tokenizer import Encoder, build_tokenizer

SOMEONE = Person("tan", "blue", "short", "green", "none", "none")
SOME_PET = Pet("cat", "orange", "plain", "green")


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    rng = np.random.default_rng(0)
    return [random_scene(rng, random_subjects(rng)) for _ in range(150)]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(build_tokenizer(sentences=2000))


@pytest.mark.parametrize("held_out", [False, True])
def test_a_caption_uses_words_of_its_side_only(scenes, held_out):
    rng = np.random.default_rng(1)
    captions = [describe(scene, rng, held_out=held_out) for scene in scenes]
    sides = [[is_held_out(pair) for pair in caption.pairs] for caption in captions]
    if not held_out:
        assert not any(any(side) for side in sides)
    else:  # style and place always; clothes wherever their colour has such words at all
        assert all(all(side[:2]) for side in sides)
        assert np.mean([hit for side in sides for hit in side]) > 0.95


def test_wordings_come_from_the_seed_and_vary(scenes):
    texts = [[describe(scene, np.random.default_rng(3)).text for scene in scenes] for _ in range(2)]
    assert texts[0] == texts[1]
    rng = np.random.default_rng(4)
    assert len({describe(scenes[0], rng).text for _ in range(50)}) > 30


def test_every_style_and_place_has_words_in_every_form_for_training():
    for form in FORMS:
        for names in [*(v.STYLES if "S" in form else v.MANNERS).values(), *v.PLACES.values()]:
            assert any(not is_held_out(f"{form} | {name}") for name in names)


@pytest.mark.parametrize(("part", "garments"), [("shirt", v.SHIRTS), ("hat", v.HATS)])
def test_every_colour_of_clothes_has_words_for_training(part, garments):
    for colour in CLOTH:
        ways = [(verb, g, shade) for verb in v.WEARING for g in garments for shade in v.COLOURS[colour]]
        allowed = on_side(ways, held_out=False)
        assert allowed and not any(is_held_out(pair) for way in allowed for pair in pairs_of(way)), part


def test_all_that_is_named_is_true_and_in_the_text():
    scene = Scene((SOMEONE, SOME_PET), (Look("red", "green", "sad"), Look("blue")), "beach", "neon")
    rng = np.random.default_rng(5)
    for _ in range(50):
        caption = describe(scene, rng, held_out=True)
        assert caption.named[0]["shirt"] == "red" and caption.named[1]["shirt"] == "blue"
        assert any(f" {shade} " in f" {caption.text} " for shade in v.COLOURS["red"])
        assert all(named["place"] == "beach" and named["style"] == "neon" for named in caption.named)
        assert any(place in caption.text for place in v.PLACES["beach"])


def test_plain_captions_keep_the_word_and_say_nothing_of_the_identity(scenes):
    other = Person("dark", "red", "long", "brown", "black", "beard")
    for place, style in zip(PLACES, STYLES * 2, strict=False):
        drawn = (Look("red", "none", "smiling"),)
        texts = {
            plain_caption(Scene((who,), drawn, place, style), np.random.default_rng(6)).text for who in (SOMEONE, other)
        }
        assert len(texts) == 1 and "person" in texts.pop().replace(",", "").split()


def test_a_noun_of_appearance_fits():
    assert v.APPEARANCE["pirate"](Person("tan", "black", "short", "blue", "none", "beard"))
    assert not v.APPEARANCE["woman"](Person("tan", "black", "long", "blue", "none", "beard"))


def test_ids_word_by_word_are_those_of_the_sentence(scenes, encoder):
    rng = np.random.default_rng(7)
    for scene in scenes[:60]:
        caption = describe(scene, rng)
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


@pytest.mark.parametrize("subjects", [(SOMEONE,), (SOMEONE, SOME_PET)])
def test_masks_hold_what_changes_with_the_subject(subjects):
    scene = Scene(subjects, (Look("red"),) * len(subjects), "forest")
    masks = subject_masks(scene, np.random.default_rng(8))
    pixels = render(scene, np.random.default_rng(8))
    other = render(Scene(subjects, (Look("blue"),) * len(subjects), "forest"), np.random.default_rng(8))
    assert masks.shape == (len(subjects), 32, 32) and masks.sum(0).max() == 1
    assert masks.any(0)[(pixels != other).any(-1)].all()
    assert 0.15 < masks.any(0).mean() < 0.75
