"""What all commands share: help without weight, exit statuses, messages in the words of the command line."""

import argparse
import logging
import os
import subprocess
import sys

import pytest

from diffusers_nested import NestedAdapterError, __version__, cli
from diffusers_nested.adapter.model import DEFAULT_IMAGE_ENCODER
from diffusers_nested.cli import main, train
from diffusers_nested.cli.wording import REMEDIES, in_words
from diffusers_nested.errors import AdapterLoadError, Remedy
from diffusers_nested.mechanisms import MECHANISMS

HELP = """
import runpy, sys
for arguments in ([], *([name] for name in {commands})):
    sys.argv = ["diffusers-nested", *arguments, "--help"]
    try:
        runpy.run_module("diffusers_nested", run_name="__main__")
    except SystemExit as end:
        assert end.code == 0
heavy = {{"torch", "diffusers", "transformers", "huggingface_hub", "numpy", "PIL"}} & set(sys.modules)
assert not heavy, heavy
"""


@pytest.fixture(params=list(cli._COMMANDS))
def command(request: pytest.FixtureRequest) -> str:
    return request.param


def run_with(error: BaseException, command: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """The command's exit status when its work ends with this error."""

    def run(arguments: argparse.Namespace) -> None:
        raise error

    monkeypatch.setattr(cli._COMMANDS[command], "run", run)
    words = {
        "generate": ["a prompt"],
        "trace": ["a prompt"],
        "train": ["--pretrained_model_name_or_path", "a", "--train_data_dir", "b", "--output_dir", "c"],
        "prepare": ["faces", "photos", "folder"],
        "inspect": ["folder"],
        "convert": ["file", "folder"],
        "publish": ["folder", "user/name"],
        "evaluate": ["settings.toml"],
    }
    return main([command, *words.get(command, [])])


def test_help_imports_nothing_heavy():
    script = HELP.format(commands=list(cli._COMMANDS))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    for name, module in cli._COMMANDS.items():
        assert f"usage: diffusers-nested {name} " in done.stdout
        assert " ".join(module.HELP.split()) in " ".join(done.stdout.split())


def test_version(capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"diffusers-nested {__version__}\n"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (KeyboardInterrupt(), 130),
        (NestedAdapterError("It does not fit."), 2),
        (OSError("The disk is full."), 1),
        (MemoryError("The GPU is full."), 1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_status_and_one_line(command: str, error: BaseException, status: int, monkeypatch, capsys):
    assert run_with(error, command, monkeypatch) == status
    shown = capsys.readouterr()
    assert shown.err == f"diffusers-nested {command}: {str(error) or 'interrupted'}\n"
    assert not shown.out


def test_errors_of_our_own_keep_their_traceback(monkeypatch):
    with pytest.raises(ZeroDivisionError):
        run_with(ZeroDivisionError(), "demo", monkeypatch)


@pytest.mark.parametrize(
    "arguments", [[], ["paint"], ["demo", "--seed"], ["demo", "--sead", "1"], ["demo", "--see", "1"], ["inspect"]]
)
def test_usage(arguments: list[str], capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    message, hint = capsys.readouterr().err.splitlines()
    known = arguments[:1] if arguments[:1] != ["paint"] else []
    assert message.startswith(" ".join(["diffusers-nested", *known]) + ": ")
    assert hint == " ".join(["See diffusers-nested", *known, "--help."])


def test_a_reader_that_has_seen_enough(monkeypatch, capsys):
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as output:
        monkeypatch.setattr(sys, "stdout", output)
        monkeypatch.setattr(cli._COMMANDS["demo"], "run", lambda arguments: sys.stdout.write("a result"))
        assert main(["demo"]) == 1
    assert not capsys.readouterr().err


def test_keywords_become_the_flags_of_the_command():
    parser = argparse.ArgumentParser()
    parser.add_argument("--create-pr")
    error = AdapterLoadError("Pass token=..., create_pr=True or base_model=..., or log in.")
    assert in_words(error, parser) == ("Pass HF_TOKEN in the environment, --create-pr or base_model=..., or log in.")
    parser.add_argument("--token")
    assert "--token, --create-pr" in in_words(error, parser)


@pytest.mark.parametrize("remedy", Remedy)
def test_remedies_are_said_in_words_of_the_command_line(remedy: Remedy):
    inner = AdapterLoadError(f"x does not fit. {remedy}")
    outer = AdapterLoadError(f"y cannot be loaded. {inner} Or leave it.")
    said = in_words(outer, argparse.ArgumentParser())
    assert said == " ".join(f"y cannot be loaded. x does not fit. {REMEDIES[remedy]} Or leave it.".split())
    assert str(remedy) not in said


def test_help_of_train_agrees_with_what_it_does_not_import():
    parser = argparse.ArgumentParser()
    train.add_arguments(parser)
    assert train.IMAGE_ENCODER == DEFAULT_IMAGE_ENCODER
    (mechanism,) = [action for action in parser._actions if action.dest == "mechanism"]
    assert all(name in (mechanism.help or "") for name, one in MECHANISMS.items() if one.trained_as is None)


def test_one_message_of_another_library_is_left_out(monkeypatch):
    run_with(KeyboardInterrupt(), "demo", monkeypatch)
    logger = logging.getLogger("transformers.utils.import_utils")
    shown = [
        logger.filter(logging.makeLogRecord({"msg": said}))
        for said in ("`A` requires torchvision (not installed); falling back to `APil`", "Something else.")
    ]
    assert list(map(bool, shown)) == [False, True]
