"""`diffusers-nested trace`, as a user calls it."""

import json
import logging
from pathlib import Path

import pytest
from PIL import Image

from diffusers_nested.cli import main

PROMPT = "a photo of a person with a pet on the beach"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> int:
    try:
        return main(["trace", PROMPT, "--num-inference-steps", "1", *arguments])
    except SystemExit as end:  # of argparse
        assert isinstance(end.code, int)
        return end.code


def test_pictures_and_numbers_of_two_subjects(folder: Path, capsys: pytest.CaptureFixture):
    assert run("--image", "person=mira", "--image", "pet=miso", "--at", "16,20") == 0
    of_subjects = [f"{name}-{word}" for word in ("person", "pet") for name in ("values", "follow", "queries")]
    files = [folder / "trace" / f"{name}.png" for name in ("picture", "words", *of_subjects)]
    written = [*files, folder / "trace" / "numbers.json"]
    assert capsys.readouterr().out == "".join(f"{file}\n" for file in written)
    for file in files:
        with Image.open(file) as picture:
            assert picture.width > 200
    numbers = json.loads(written[-1].read_text(encoding="utf-8"))
    assert [one["word"] for one in numbers["subjects"]] == ["person", "pet"]


def test_without_a_subject_there_are_words(folder: Path):
    assert run("--output", "out", "--show", "beach", "--layers", "mid_block") == 0
    assert sorted(file.name for file in (folder / "out").iterdir()) == ["numbers.json", "picture.png", "words.png"]


def test_what_a_mechanism_does_not_have_is_said(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO):
        assert run("--image", "person=mira", "--scale", "0") == 0
    said = [one.getMessage() for one in caplog.records if one.name.endswith("cli.trace")]
    assert [one.partition(":")[0] for one in said] == ["no values.png", "no follow.png"]
    assert Path("trace", "queries.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--show", "shirt"), "--show 'shirt' is not in the prompt"),
        (("--at", "middle"), "expected X,Y in pixels, such as 16,10, got 'middle'"),
        (("--image", "person=mira", "--at", "99,3"), "The point (99.0, 3.0) is not in the picture"),
        (("--output", "no/folder"), "does not exist or is not writable"),
        (("--output", "mine"), "mine has files of another trace"),
    ],
)
def test_bad_input_writes_nothing(arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture):
    Path("mine").mkdir()
    Path("mine/numbers.json").write_text("{}")
    assert run(*arguments) == 2
    assert message in capsys.readouterr().err
    assert not Path("trace").exists() and len(list(Path("mine").iterdir())) == 1
