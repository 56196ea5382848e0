"""Files that cannot be read or understood are named: pipes, links, encodings, sizes and scores."""

import os
import shutil
from pathlib import Path

import pytest

import tiny_pipeline as tiny
from diffusers_nested import NestedAdapterError, PublishError
from hub.steps import WEIGHTS, to_hub
from published_files import ADAPTER, write


def pipe(name: str):
    def change(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return change


def link(name: str, target: str):
    def change(folder: Path) -> None:
        secret = folder.parent / "secret"
        shutil.copytree(folder, secret)
        (secret / "file").write_text("secret")
        tiny.photo().save(secret / "photo.png")
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        path.symlink_to(target)

    return change


def evaluated(value: str) -> str:
    return f'{{"results": {{"scale 1": {{"identity": {value}}}}}}}'


REGULAR = (*sorted(ADAPTER), "README.md", "LICENSE", "evaluation.json", "samples/a.png", "front.jpg")
DEEP = "[" * 100_000 + "]" * 100_000
NOT_READ = {
    **{f"a pipe in the place of {name}": (pipe(name), f"{name} is a named pipe") for name in REGULAR},
    **{
        f"a link in the place of {name}": (link(name, target), f"{name} is a link to .*{target.lstrip('./')}")
        for name, target in {
            "LICENSE": "../secret/file",
            "README.md": "../secret/file",
            "evaluation.json": "../secret/file",
            "front.jpg": "../secret/photo.png",
            "config.json": "../secret/config.json",
            WEIGHTS: f"../secret/{WEIGHTS}",
            "image_encoder": "../secret/image_encoder",
            "samples": "../secret",
        }.items()
    },
    "a link to nowhere": (link("LICENSE", "nothing"), "LICENSE is a broken link to nothing"),
    "a link to itself": (link("LICENSE", "LICENSE"), "LICENSE is a broken link to LICENSE"),
    "a card that is no UTF-8": (
        lambda folder: (folder / "README.md").write_bytes(b"# \xff"),
        r"README\.md is not UTF-8",
    ),
    "a card as PowerShell writes it": (
        lambda folder: (folder / "README.md").write_text("# Mine", encoding="utf-16"),
        r"README\.md is not UTF-8",
    ),
    "a base model that is a number": (write("README.md", "---\nbase_model: 5\n---\n"), "base_model must be"),
    "a file of no size": (lambda folder: os.truncate(folder / WEIGHTS, 0), WEIGHTS),
    "a large card": (
        lambda folder: os.truncate(write("README.md", "")(folder) or folder / "README.md", 2**40),
        "bytes",
    ),
    "a name that nobody can read": (lambda folder: (folder / "a\udcff.png").write_bytes(b""), "Rename"),
    "a name that moves the cursor": (lambda folder: tiny.photo().save(folder / "a\x1b[2J.png"), "Rename"),
    **{
        f"{name} nested too deeply": (write(name, DEEP), f"{name} is not JSON")
        for name in ("config.json", "evaluation.json", "image_encoder/config.json")
    },
    **{
        f"a score of {name}": (write("evaluation.json", evaluated(value)), r"evaluation\.json.*identity")
        for name, value in {
            "401 digits": f"[{10**400}, 0, 1]",
            "infinity": "[Infinity, 0, 1]",
            "1e400": "[1e400, 0, 1]",
            "true": "[true, 0, 1]",
            "a text": '["1", 0, 1]',
            "two numbers": "[0, 1]",
            "nothing": "null",
        }.items()
    },
    "a score of 5000 digits": (write("evaluation.json", evaluated(f"[{'9' * 5000}, 0, 1]")), r"evaluation\.json"),
    "a condition without name": (write("evaluation.json", '{"results": {" ": {"a": [0, 0, 0]}}}'), "names"),
    "half a character": (write("evaluation.json", '{"results": {"\\ud800": {"a": [0, 0, 0]}}}'), "names"),
    "identities that are no number": (
        write("evaluation.json", '{"identities": "many", "results": {"a": {"a": [0, 0, 0]}}}'),
        "identities",
    ),
    "prompts that are no list": (
        write("evaluation.json", '{"prompts": 5, "results": {"a": {"a": [0, 0, 0]}}}'),
        "prompts",
    ),
}


@pytest.mark.parametrize("name", NOT_READ)
def test_a_file_that_cannot_be_read_is_named(hub, folder, name):
    change, named = NOT_READ[name]
    change(folder)
    with pytest.raises(PublishError if WEIGHTS not in named else NestedAdapterError, match=named) as caught:
        to_hub(folder)
    assert not hub.requests
    assert len(str(caught.value)) < 1000 and str(caught.value).isprintable()


def test_links_within_the_folder_are_followed(hub, folder):
    for name in ("LICENSE.real", "tower/config.json"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("MIT")
    (folder / "LICENSE").symlink_to("LICENSE.real")
    (folder / "image_encoder").rename(folder / "clip")
    (folder / "image_encoder").symlink_to("clip")
    to_hub(folder)
    files = hub.repos["alice/nested"].files()
    assert files.keys() == ADAPTER | {"README.md", "LICENSE"} and files["LICENSE"] == b"MIT"
