"""What is measured of the base and its adapters, and what a base starts from."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from diffusers_nested import miniature
from diffusers_nested.miniature.world import ROLES, Person
from recipes.miniature.bundled.tables import gates_table
from recipes.miniature.bundled.word_tables import others_table, words_table
from recipes.miniature.words import base, encoders
from recipes.miniature.words.gates import COLOURED, named_in, named_scenes
from recipes.miniature.words.others import caption_with, measure
from recipes.miniature.words.tokenizer import build_tokenizer

SOMEONE = Person("tan", "blue", "short", "green", "none", "none")


def test_gates_ask_for_what_captions_name():
    asked = [(scene, caption, named_in(scene, caption)) for scene, caption in named_scenes(120, seed=5)]
    assert {name for *_, named in asked for name in named} > {*COLOURED, "scene.style", "scene.place"}
    for scene, caption, named in asked:
        who, look = scene.subjects[0], scene.looks[0]
        assert isinstance(who, Person)
        if "eye" in caption.text and scene.style != "pencil":
            assert named["person.eyes"] == who.eyes
        assert named.get("scene.hat", look.hat) == look.hat and (
            "no glasses" not in caption.text or who.glasses == "none"
        )
        assert not (scene.style == "pencil" and set(named) & set(COLOURED))


def test_a_role_is_told_by_its_word_alone():
    rng = np.random.default_rng(0)
    for role in ROLES[1:]:
        text = caption_with(role, SOMEONE, role, rng)
        assert len(re.findall(rf"\b{role}\b", text)) == 1
        assert not re.search("crown|nose|'s hat|cooking|pointed|hair|glasses", text)


@pytest.mark.slow
def test_roles_and_two_people_make_a_table():
    pipeline = miniature.load_pipeline()
    pipeline.load_nested_adapter(miniature.path("people"), adapter_name="person")
    found = measure(pipeline, miniature.load_recogniser(), people=2, steps=3)
    scales = {"another word": ["scale 0.3", "scale 0.4", "scale 0.5"], "two people": []}
    windows = {"another word": ["λ = 1 until 0.45 of the steps"], "two people": []}
    assert [row["case"] for row in found["rows"]] == [
        f"{case}, {scale}"
        for case, below in scales.items()
        for scale in ("no photo", *below, "λ = 1", "λ = 2", *windows[case])
    ]
    lines = others_table(found)
    assert lines[0] == "| | role as named | identity | another's |"
    assert lines[-1].startswith("| two people, λ = 2 |  | ") and len(lines) == 12


def test_words_of_bases_stand_side_by_side():
    first = json.loads((Path(base.__file__).parent / "results" / "first.json").read_text())
    lines = words_table([first, first])
    assert lines[0] == "| | Stable Diffusion | goal | first base | first base |"
    assert (
        lines[2] == "| attention to the start token and padding | 0.9 to 0.99 in most heads | ≥ 0.6 | 0.234 | 0.234 |"
    )


def test_gates_make_a_table():
    names = ["person.skin", "person.hair", "person.hair_style", "person.hair_style (bare heads)", "person.glasses"]
    followed = ["style", "place", "shirt", "hat", "expression"], ["hair", "glasses", "eyes"]
    found = {f"reads {name}": 0.9 for name in names} | {f"cosine {which} identity": 0.5 for which in ("same", "other")}
    found |= {
        f"follows {kind}.{one}": 0.75 for kind, part in zip(("scene", "person"), followed, strict=True) for one in part
    }
    lines = gates_table(found)
    assert "| Samples follow the style named | ≥ 90 % | 75.0 % |" in lines and len(lines) == 16


def test_letters_have_the_same_numbers_in_every_process():
    """The trainer numbers those that end a word in the order of a hash."""
    vocab = build_tokenizer(sentences=500).get_vocab()
    for mark in ("", "</w>"):
        letters = sorted(token for token in vocab if re.fullmatch(f".{mark}", token))
        first = vocab[letters[0]]
        assert len(letters) > 40 and [vocab[token] for token in letters] == list(range(first, first + len(letters)))


def test_a_base_needs_what_it_starts_from_only_at_its_beginning(tmp_path, monkeypatch):
    def beginning(first: Path, unet: nn.Module) -> None:
        raise FileNotFoundError(first)

    tokenizer = build_tokenizer(sentences=500)
    monkeypatch.setattr(encoders, "train", lambda folder, name: nn.Identity())
    monkeypatch.setattr(base, "start_from", beginning)
    with pytest.raises(FileNotFoundError):
        base.build(tmp_path, "alone", tokenizer)
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone" / base.CHECKPOINT).touch()
    assert base.build(tmp_path, "alone", tokenizer).unet is not None
