"""The pages and the README: what they show runs, imports and parses.

A fenced block of `python` or `sh` right below a line `<!-- test -->` is executed, and one of `toml` is written to the
file that its first line names. The blocks of a page share one namespace and one empty folder, and take 3 denoising
steps whatever they say. Their Hub is empty, on this machine, and the account "user" is logged in.
"""

import ast
import importlib
import re
import shlex
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest
from huggingface_hub import constants

from diffusers_nested import cli
from hub.server import HubServer

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^(?P<mark><!-- test -->\n)?^```(?P<language>\w+)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
OURS = "diffusers_nested"
COLUMN = 88  # characters; docs/stylesheets/extra.css makes them fit


class Block(NamedTuple):
    page: Path
    line: int
    language: str
    code: str
    runs: bool

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            page,
            text.count("\n", 0, match.start("code")) + 1,
            match["language"],
            match["code"],
            match["mark"] is not None,
        )
        for match in FENCE.finditer(text)
    ]


BLOCKS = [block for page in PAGES for block in blocks_of(page)]
PYTHON = [block for block in BLOCKS if block.language == "python"]
# (block, command line): lines that end in a backslash are joined
COMMANDS = [
    pytest.param(line, id=f"{block}: {line[:60]}")
    for block in BLOCKS
    if block.language == "sh"
    for line in block.code.replace("\\\n", " ").splitlines()
    if line.strip()
]


def our_arguments(line: str) -> list[str] | None:
    """The arguments of `diffusers-nested …` or `… -m diffusers_nested.cli …`; None for other commands."""
    words = shlex.split(line, comments=True)
    if words[0] == "diffusers-nested":
        return words[1:]
    return words[words.index(f"{OURS}.cli") + 1 :] if f"{OURS}.cli" in words else None


def run(block: Block, namespace: dict) -> None:
    code = re.sub(r"(num_inference_steps\W+)\d+", r"\g<1>3", block.code)
    if block.language == "python":
        # blank lines above, so that a traceback names the line of the page
        exec(compile("\n" * (block.line - 1) + code, str(block.page), "exec"), namespace)
        return
    if block.language == "toml":
        Path(code.split()[1]).write_text(f"call = {{ num_inference_steps = 2 }}\n{code}")
        return
    for line in code.replace("\\\n", " ").splitlines():
        arguments = our_arguments(line)
        assert arguments is not None, f"{line!r} is no command of ours"
        few = ["--num-inference-steps", "2"] if arguments[0] in ("generate", "trace") else []
        assert cli.main([*arguments, *few]) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(block.runs for block in blocks_of(page))], ids=lambda page: page.name
)
def test_examples_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hub: HubServer):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_TOKEN", "token-user")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    namespace = {"__name__": "__main__"}
    for block in blocks_of(page):
        if block.runs:
            run(block, namespace)


def test_marks_are_above_blocks_that_can_run():
    marks = sum(page.read_text(encoding="utf-8").splitlines().count("<!-- test -->") for page in PAGES)
    runnable = [block for block in BLOCKS if block.runs and block.language in ("python", "sh", "toml")]
    assert marks == len(runnable)
    assert {"evaluation.md", "publish.md", "quickstart.md", "training.md"} <= {block.page.name for block in runnable}


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_python_imports_what_exists(block: Block):
    for node in ast.walk(ast.parse(block.code)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                importlib.import_module(alias.name)
        elif isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module or "")
            names = [alias.name for alias in node.names]  # of modules, too, which nobody may have imported yet
            missing = [n for n in names if not hasattr(module, n) and not find_spec(f"{node.module}.{n}")]
            assert not missing, f"{node.module} has no {', '.join(missing)}"


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_exist(line: str, monkeypatch: pytest.MonkeyPatch):
    for command in cli._COMMANDS.values():
        monkeypatch.setattr(command, "run", lambda arguments: None)
    arguments, words = our_arguments(line), shlex.split(line, comments=True)
    if arguments is not None:
        assert cli.main(arguments) == 0
    elif words[:2] == ["python", "-m"]:
        assert find_spec(words[2]) is not None
    elif words[0] == "python":
        assert (ROOT / words[1]).is_file()
    elif words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    elif words[0] == "jupytext":
        assert (ROOT / words[-1]).is_file()
    else:
        assert words[:2] == ["pip", "install"], f"what is {line!r}?"


def test_code_fits_the_column_of_text():
    code = [block for block in BLOCKS if block.language in ("diff", "python", "sh", "toml")]
    lines = [(str(block), line) for block in code for line in block.code.splitlines()]
    assert not [f"{where}: {line}" for where, line in lines if len(line) > COLUMN]


@pytest.mark.parametrize("page", ["architecture.md", "images/photo-way.svg"])
def test_rooms_of_the_architecture_exist(page: str):
    package = ROOT / "src" / "diffusers_nested"
    parts = {path.name.removesuffix(".py") for path in package.iterdir()}
    named = set(re.findall(r"\b([a-z]+)/([a-z_]+\b(?!-))?", (ROOT / "docs" / page).read_text(encoding="utf-8")))
    rooms = {(part, module) for part, module in named if part in parts}
    assert len(rooms) > 8
    for part, module in rooms:
        assert (package / part / f"{module or '__init__'}.py").is_file(), f"{part}/{module}"
