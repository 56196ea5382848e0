"""The layout of the package: imports go one way, without circles, and no module grows too long."""

import ast
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

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
MODULES = {str(file.relative_to(SRC / PACKAGE)): file.read_text(encoding="utf-8") for file in FILES}

RIGHT = {
    "attention.py": ["import torch", "from .errors import NestedAdapterError", "from . import errors"],
    "adapter/model.py": [
        "import diffusers_nested.vision.encoder",
        "from diffusers_nested import attention, mechanisms",
        "from ..publishing import Publishable",
    ],
    "publishing/card.py": [
        "from .resolve import find",
        "from . import resolve",
        "from huggingface_hub import ModelCard",
    ],
    "training/loop/step.py": ["from ...data import cache", "from .. import schedule"],
    "cli/demo.py": ["from .. import __version__, miniature", "from ..miniature import path"],
    "cli.py": ["import diffusers_nested"],
    "__init__.py": ["from .pipelines import register", "from . import cli"],
}
WRONG = {
    "errors.py": [
        "from .attention import nested_attention",
        "from . import attention",
        "from . import __version__",
        "import diffusers_nested",
        "import diffusers_nested.attention as attention",
        "from diffusers_nested import NestedAdapter",
        "from diffusers_nested.adapter import NestedAdapter",
        "from .unheard_of import thing",
        "def late():\n    from .subjects import Subject",
        "if TYPE_CHECKING:\n    from .subjects import Subject",
    ],
    "files/source.py": ["from ..pipelines.mixin import NestedAdapterMixin"],
    "publishing/__init__.py": ["from ..cli import main"],
    "training/loop/step.py": ["from ... import evaluation"],
    "vision/towers.py": ["from huggingface_hub import hf_hub_download"],
    "cli/publish.py": ["import huggingface_hub"],
    "utils.py": [""],
}


def part_of(path: str) -> str:
    """`publishing/card.py` → `publishing`, `errors.py` → `errors`; `path` is relative to the package."""
    return path.split("/")[0].removesuffix(".py")


def name_of(path: str) -> str:
    """`files/lock.py` → `diffusers_nested.files.lock`, `files/__init__.py` → `diffusers_nested.files`."""
    parts = [PACKAGE, *path.removesuffix(".py").split("/")]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: str, source: str) -> Iterator[tuple[int, str]]:
    """(line, absolute dotted name) of every import, wherever it stands in the file."""
    package = [PACKAGE, *path.split("/")[:-1]]  # what a single leading dot means here
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            base += node.module.split(".") if node.module else []
            yield from ((node.lineno, ".".join([*base, alias.name])) for alias in node.names)


def violations(path: str, source: str) -> list[str]:
    """What the file, at `path` relative to the package, imports against the rules."""
    own = part_of(path)
    if own not in ORDER and own not in SEES_ALL:
        return [f"{path}: `{own}` has no place in the order; give it one in ORDER"]
    allowed = set(ORDER) if own in SEES_ALL else set(ORDER[: ORDER.index(own) + 1])
    found = []
    for line, name in imports_of(path, source):
        top, part = [*name.split("."), ""][:2]
        if top == "huggingface_hub" and own not in DOWNLOADS:
            found.append(f"{path}:{line}: only {' and '.join(sorted(DOWNLOADS))} may import huggingface_hub")
        if top == PACKAGE and own not in SEES_ALL and part not in allowed:
            reason = f"`{part}` comes after `{own}`" if part in ORDER else "the top package sees everything"
            found.append(f"{path}:{line}: may not import {name}: {reason}")
    return found


def circle(modules: Mapping[str, str]) -> list[str]:
    """Modules that import each other in a circle, in functions and for type checkers included; none if empty."""
    known = {name_of(path) for path in modules}

    def targets(path: str, source: str) -> set[str]:
        named = {name for _, name in imports_of(path, source)}
        return {one if one in known else one.rpartition(".")[0] for one in named} & known - {name_of(path)}

    try:
        TopologicalSorter({name_of(path): targets(path, source) for path, source in modules.items()}).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def test_imports_go_one_way():
    assert MODULES
    assert not [one for path, source in MODULES.items() for one in violations(path, source)]


def test_no_modules_import_each_other():
    assert not circle(MODULES)


def test_modules_are_short():
    lines = {path: len(source.splitlines()) for path, source in MODULES.items()}
    assert not {path: count for path, count in lines.items() if count > MAX_LINES}


def test_imports_against_the_rules_are_found():
    right = [(path, source) for path, sources in RIGHT.items() for source in sources]
    wrong = [(path, source) for path, sources in WRONG.items() for source in sources]
    assert [one for one in right if violations(*one)] == []
    assert [one for one in wrong if len(violations(*one)) != 1] == []


def test_circles_are_found():
    lines = {"a/__init__.py": "from .b import x", "a/b.py": "from ..c import y", "c.py": "import torch"}
    assert not circle(lines)
    for back in ("from .a import x", "from . import a", "def f():\n    import diffusers_nested.a.b"):
        assert {f"{PACKAGE}.a.b", f"{PACKAGE}.c"} <= set(circle({**lines, "c.py": back}))
