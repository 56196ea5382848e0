"""The renderer, the captions and the split of identities."""

import numpy as np
import pytest

from diffusers_nested.miniature.drawing import render
from diffusers_nested.miniature.world import (
    CLOTH,
    HAIR,
    Look,
    Person,
    Scene,
    is_held_out,
    portrait,
    random_person,
    random_pet,
    random_scene,
)
from recipes.miniature.bundled.captions import describe, plain_caption
from recipes.miniature.bundled.data import draw_scenes
from recipes.miniature.bundled.tokenizer import build_tokenizer

SOMEONE = Person("tan", "blue", "short", "green", "none", "none")


def test_same_seed_same_world():
    first, second = (draw_scenes(20, seed=3) for _ in range(2))
    assert first[1] == second[1]
    assert np.array_equal(first[2], second[2])


@pytest.mark.parametrize("draw", [random_person, random_pet])
@pytest.mark.parametrize("held_out", [True, False])
def test_identities_are_drawn_from_their_side_of_the_split(draw, held_out):
    rng = np.random.default_rng(0)
    assert all(is_held_out(draw(rng, held_out)) == held_out for _ in range(50))


def test_about_one_identity_in_ten_is_held_out():
    rng = np.random.default_rng(0)
    people = [
        Person(*(str(rng.choice(list(options))) for options in (["tan", "pale", "dark"], HAIR, "ab", "cd", "ef", "gh")))
        for _ in range(2000)
    ]
    assert 0.03 < np.mean([is_held_out(person) for person in set(people)]) < 0.2


def test_shade_does_not_move_an_identity_over_the_split():
    shaded = Person("tan", "blue", "short", "green", "none", "none", shade=(9, 9, 9, 9, 9, 9))
    assert is_held_out(shaded) == is_held_out(SOMEONE)


def test_what_a_scene_says_is_drawn():
    rng = np.random.default_rng(0)
    red, blue = (
        render(Scene((SOMEONE,), (Look(shirt=shirt),), "snow"), np.random.default_rng(1)) for shirt in ("red", "blue")
    )
    assert tuple(red[30, 16]) == CLOTH["red"] and tuple(blue[30, 16]) == CLOTH["blue"]
    assert np.array_equal(red[:15], blue[:15])
    studio = render(portrait(SOMEONE), rng)
    assert studio.shape == (32, 32, 3) and studio.dtype == np.uint8
    assert (studio.reshape(-1, 3) == HAIR["blue"]).all(axis=1).sum() > 30


@pytest.mark.parametrize("style", ["watercolor", "pencil", "neon"])
def test_styles_change_every_place(style):
    photo, other = (
        render(Scene((SOMEONE,), (Look(),), "beach", each), np.random.default_rng(1)) for each in ("photo", style)
    )
    assert (photo != other).any(axis=-1).mean() > 0.9
    if style == "pencil":
        assert np.ptp(other.astype(int), axis=-1).max() == 0


def test_plain_captions_say_nothing_of_the_identity():
    rng = np.random.default_rng(0)
    for _ in range(50):
        scene = random_scene(rng, (random_person(rng),))
        other = Scene((random_person(rng),), scene.looks, scene.place, scene.style)
        assert plain_caption(scene) == plain_caption(other)
        assert describe(scene, rng, traits=1.0).startswith("a ")


def test_every_caption_word_is_one_token_and_letters_still_encode():
    captions = draw_scenes(300, seed=5)[1]
    tokenizer = build_tokenizer(captions)
    for caption in captions:
        assert len(tokenizer(caption).input_ids) == len(caption.split()) + 2
    ids = tokenizer("xylophone, 7!").input_ids[1:-1]
    assert tokenizer.unk_token_id not in ids
