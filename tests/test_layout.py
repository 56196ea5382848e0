"""The layout of the package: imports go one way, and no module grows too long."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = "diffusers_nested"
SRC = Path(__file__).parents[1] / "src"
# A part is a module or a folder directly under the package; it may import from those before it.
ORDER = [
    "errors",
    "compat",
    "environment",
    "files",
    "images",
    "attention",
    "mechanisms",
    "backbones",
    "vision",
    "publishing",
    "adapter",
    "prompts",
    "subjects",
    "injection",
    "pipelines",
    "data",
    "training",
    "evaluation",
    "miniature",
    "cli",
]
SEES_ALL = {"__init__", "__main__", "api", "cli"}
DOWNLOADS = {"files", "publishing"}
MAX_LINES = 300

FILES = sorted((SRC / PACKAGE).rglob("*.py"))


def part_of(path: Path) -> str:
    """`publishing/card.py` → `publishing`, `errors.py` → `errors`; `path` is relative to the package."""
    return path.parts[0].removesuffix(".py")


def imported_names(path: Path, source: str) -> Iterator[tuple[int, str]]:
    """(line, absolute dotted name) of every import, wherever it stands in the file."""
    package = (PACKAGE, *path.parent.parts)  # what a single leading dot means here
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) + 1 - node.level]) if node.level else []
            base += node.module.split(".") if node.module else []
            yield from ((node.lineno, ".".join([*base, alias.name])) for alias in node.names)


def violations(path: Path, source: str) -> list[str]:
    """What the file, at `path` relative to the package, imports against the rules."""
    own = part_of(path)
    if own not in ORDER and own not in SEES_ALL:
        return [f"{path}: `{own}` has no place in the order; give it one in ORDER"]
    allowed = set(ORDER) if own in SEES_ALL else set(ORDER[: ORDER.index(own) + 1])
    found = []
    for line, name in imported_names(path, source):
        top, part = [*name.split("."), ""][:2]
        if top == "huggingface_hub" and own not in DOWNLOADS:
            found.append(f"{path}:{line}: only {' and '.join(sorted(DOWNLOADS))} may import huggingface_hub")
        if top == PACKAGE and own not in SEES_ALL and part not in allowed:
            reason = f"`{part}` comes after `{own}`" if part in ORDER else "the top package sees everything"
            found.append(f"{path}:{line}: may not import {name}: {reason}")
    return found


def test_the_package_is_there():
    assert FILES


def test_imports_go_one_way():
    found = [violations(file.relative_to(SRC / PACKAGE), file.read_text(encoding="utf-8")) for file in FILES]
    assert not [one for each in found for one in each]


def test_modules_are_short():
    lines = {str(file.relative_to(SRC)): len(file.read_text(encoding="utf-8").splitlines()) for file in FILES}
    assert not {name: count for name, count in lines.items() if count > MAX_LINES}


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("attention.py", "import torch"),
        ("attention.py", "from .errors import NestedAdapterError"),
        ("attention.py", "from . import errors"),
        ("adapter/model.py", "import diffusers_nested.vision.encoder"),
        ("adapter/model.py", "from diffusers_nested import attention, mechanisms"),
        ("publishing/card.py", "from .resolve import find"),
        ("publishing/card.py", "from . import resolve"),
        ("adapter/model.py", "from ..publishing import Publishable"),
        ("publishing/card.py", "from huggingface_hub import ModelCard"),
        ("training/loop/step.py", "from ...data import cache\nfrom .. import schedule"),
        ("cli/demo.py", "from .. import __version__, miniature\nfrom ..miniature import path"),
        ("cli.py", "import diffusers_nested"),
        ("__init__.py", "from .pipelines import register\nfrom . import cli"),
    ],
)
def test_import_that_goes_the_right_way(path: str, source: str):
    assert not violations(Path(path), source)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("errors.py", "from .attention import nested_attention"),
        ("errors.py", "from . import attention"),
        ("errors.py", "from . import __version__"),
        ("errors.py", "import diffusers_nested"),
        ("errors.py", "import diffusers_nested.attention as attention"),
        ("errors.py", "from diffusers_nested import NestedAdapter"),
        ("errors.py", "from diffusers_nested.adapter import NestedAdapter"),
        ("errors.py", "from .unheard_of import thing"),
        ("errors.py", "def late():\n    from .subjects import Subject"),
        ("errors.py", "if TYPE_CHECKING:\n    from .subjects import Subject"),
        ("files/source.py", "from ..pipelines.mixin import NestedAdapterMixin"),
        ("publishing/__init__.py", "from ..cli import main"),
        ("publishing/card.py", "from ..adapter import NestedAdapter"),
        ("adapter/inspection.py", "from huggingface_hub import HfApi"),
        ("training/loop/step.py", "from ... import evaluation"),
        ("vision/towers.py", "from huggingface_hub import hf_hub_download"),
        ("cli/publish.py", "import huggingface_hub"),
        ("utils.py", ""),
    ],
)
def test_import_that_goes_the_wrong_way(path: str, source: str):
    assert len(violations(Path(path), source)) == 1
