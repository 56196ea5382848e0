from pathlib import Path

import pytest

from clip_vocabulary import sdxl_tokenizers
from diffusers_nested import NestedAdapterError
from diffusers_nested.data import caption_positions
from diffusers_nested.preparing.reject import Reason, Reject
from diffusers_nested.preparing.words import SubjectWord, read_nouns


def put(caption: str, word: str = "person", kind: str = "faces") -> str:
    return SubjectWord(word, read_nouns(None, kind)).put_into(caption)


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("a photo of a girl on the beach", "a photo of a person on the beach"),
        ("An actress, laughing", "A person, laughing"),
        ("GIRL in red", "Person in red"),
        ("the old man's hat", "the old person's hat"),
        ("a person", "a person"),
        ("manly, with a woman-like statue, by an astronaut", "manly, with a woman-like statue, by a person"),
    ],
)
def test_the_noun_becomes_the_word(caption: str, expected: str):
    assert put(caption) == expected


@pytest.mark.parametrize(
    "caption", ["the old man's hat", "GIRL in red", "“girl”, smiling", "a café girl…", "a man/friend"]
)
def test_training_finds_the_word_once(caption: str):
    text = put(caption)
    (positions,) = caption_positions([text], "person", sdxl_tokenizers()).values()
    assert len(positions) == 1


def test_the_article_suits_the_word():
    assert SubjectWord("animal", ["dog"]).put_into("A dog and its bone") == "An animal and its bone"
    assert put("a guinea  pig", "pet", "pets") == "a pet"


@pytest.mark.parametrize(
    ("caption", "reason"),
    [
        ("a beach at sunset", Reason.NO_NOUN),
        ("eine Frau am Strand", Reason.NO_NOUN),
        ("une femme à la plage", Reason.NO_NOUN),
        ("two women", Reason.NO_NOUN),
        ("a man and a woman", Reason.SEVERAL_NOUNS),
        ("a girl with another girl", Reason.SEVERAL_NOUNS),
        ("a man with a person-like robot", Reason.SEVERAL_NOUNS),
        ("a street, a car, a tree, " * 7 + "and a man", Reason.LATE_NOUN),
    ],
)
def test_captions_without_one_subject_are_rejected(caption: str, reason: Reason):
    with pytest.raises(Reject) as caught:
        put(caption)
    assert caught.value.reason is reason
    assert caught.value.detail


def test_nouns_of_ones_own(tmp_path: Path):
    file = tmp_path / "nouns.txt"
    file.write_text("mug\ncoffee cup\n\n", encoding="utf-8")
    word = SubjectWord("object", read_nouns(file, "objects"))
    assert word.put_into("A coffee cup on a desk") == "An object on a desk"
    assert read_nouns(None, "objects") == []
    for bad, named in ((tmp_path / "none.txt", "does not exist"), (tmp_path / "empty.txt", "is empty")):
        (tmp_path / "empty.txt").touch()
        with pytest.raises(NestedAdapterError, match=named):
            read_nouns(bad, "objects")


def test_labels_of_models():
    word = SubjectWord("pet", read_nouns(None, "pets"))
    assert [label for label in ("dog", "Egyptian cat", "guinea_pig", "catfish", "hotdog") if word.means(label)] == [
        "dog",
        "Egyptian cat",
        "guinea_pig",
    ]
