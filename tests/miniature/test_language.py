"""The miniature's language: what captions say, which wordings are kept apart, and how prompts are read."""

import zlib

import numpy as np
import pytest

from diffusers_nested import NestedAdapterError, miniature
from diffusers_nested.miniature.drawing import render, subject_masks
from diffusers_nested.miniature.language import describe, is_held_out, plain_caption, unknown_words
from diffusers_nested.miniature.language import vocabulary as v
from diffusers_nested.miniature.language.grammar import FORMS
from diffusers_nested.miniature.language.known import WORDS_FILE, log_unknown_words, words_of
from diffusers_nested.miniature.language.splits import on_side, pairs_of
from diffusers_nested.miniature.prompts import PROMPTS, wanted
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

SOMEONE = Person("tan", "blue", "short", "green", "none", "none")
SOME_PET = Pet("cat", "orange", "plain", "green")


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    rng = np.random.default_rng(0)
    return [random_scene(rng, random_subjects(rng)) for _ in range(150)]


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


@pytest.mark.parametrize(("held_out", "checksum"), [(False, 309861089), (True, 203413192)])
def test_captions_of_a_seed_stay_the_same(held_out, checksum):
    """Models were trained on them: whoever changes the language makes another one."""
    rng, found = np.random.default_rng(123 + held_out), 0
    for _ in range(1000):
        scene = random_scene(rng, random_subjects(rng))
        found = zlib.crc32(describe(scene, rng, held_out=held_out).text.encode() + b"\n", found)
    assert found == checksum


@pytest.mark.parametrize("held_out", [False, True])
def test_what_captions_name_is_read_from_them(held_out):
    rng = np.random.default_rng(9)
    for _ in range(1500):
        scene = random_scene(rng, random_subjects(rng))
        caption = describe(scene, rng, held_out=held_out)
        assert wanted(caption.text, caption.nouns) == list(caption.named), caption.text


@pytest.mark.parametrize(
    ("prompt", "order", "named"),
    [
        ("A person on a beach", ["person"], [{"place": "beach"}]),
        (
            "Portrait of a MAN, smiling, at home",
            ["man"],
            [{"style": "photo", "place": "room", "expression": "smiling"}],
        ),
        ("a man with a wizard's hat and a gray top", ["man"], [{"shirt": "grey"}]),
        ("a snow white cat", ["cat"], [{}]),
        (
            "a dog in a Jet Black top hat beside an unhappy old man, watercolour",
            ["dog", "old man"],
            [{"style": "watercolor", "hat": "black"}, {"style": "watercolor", "expression": "sad"}],
        ),
        (
            "a person with a bright smile and a person who frowns, photo in pencil",
            ["person", "person"],
            [{"style": "pencil", "expression": "smiling"}, {"style": "pencil", "expression": "sad"}],
        ),
    ],
)
def test_free_wordings_are_read(prompt, order, named):
    assert wanted(prompt, order) == named


def test_a_prompt_without_its_word_is_refused():
    with pytest.raises(NestedAdapterError, match="'king'"):
        wanted("a photo of a person", ["king"])


def test_prompts_of_evaluations_are_read_as_they_are_meant():
    named = [wanted(prompt.format("person"), ["person"]) for prompt in PROMPTS]
    assert named == [
        [{"style": "photo", "place": "beach", "shirt": "red"}],
        [{"style": "photo", "place": "snow", "shirt": "blue", "expression": "smiling"}],
        [{"style": "photo", "place": "forest", "shirt": "yellow", "expression": "sad"}],
        [{"style": "photo", "place": "desert", "shirt": "white", "hat": "green"}],
        [{"style": "watercolor", "place": "city", "shirt": "purple"}],
        [{"style": "neon", "place": "room", "shirt": "red"}],
    ]


def test_the_bundled_pipeline_knows_the_words_of_its_captions_and_no_others():
    rng = np.random.default_rng(2)
    texts = [describe(random_scene(rng, random_subjects(rng)), rng).text for _ in range(2000)]
    known = (miniature.path() / WORDS_FILE).read_text().split()
    assert {word for text in texts for word in words_of(text)} <= set(known)
    assert known == sorted(set(known)) and not {"sofa", "kimono"} & set(known)
    assert unknown_words("an Aquarelle of a red-haired person in a kimono") == ["kimono"]


def test_unknown_words_are_named_once_and_in_one_line(caplog):
    prompt = "Photo of the labradoodle's hats, red-haired people; a Sofa, a SOFA!"
    assert unknown_words(prompt) == ["labradoodle's", "hats", "people", "sofa"]
    log_unknown_words(["a photo of a king", "in the city"])
    assert not caplog.records
    log_unknown_words([prompt, "a sofa and a lamp"])
    (record,) = caplog.records
    assert record.levelname == "WARNING" and '"people", "sofa", "lamp"' in record.getMessage()


@pytest.mark.parametrize("subjects", [(SOMEONE,), (SOMEONE, SOME_PET)])
def test_masks_hold_what_changes_with_the_subject(subjects):
    scene = Scene(subjects, (Look("red"),) * len(subjects), "forest")
    masks = subject_masks(scene, np.random.default_rng(8))
    pixels = render(scene, np.random.default_rng(8))
    other = render(Scene(subjects, (Look("blue"),) * len(subjects), "forest"), np.random.default_rng(8))
    assert masks.shape == (len(subjects), 32, 32) and masks.sum(0).max() == 1
    assert masks.any(0)[(pixels != other).any(-1)].all()
    assert 0.15 < masks.any(0).mean() < 0.75
