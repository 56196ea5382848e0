"""The layout of the package: imports go one way, and no module grows too long."""

import ast
from collections.abc import Iterable, Iterator
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
    "adapter",
    "prompts",
    "subjects",
    "injection",
    "pipelines",
    "data",
    "training",
    "evaluation",
    "publishing",
    "miniature",
    "cli",
]
SEES_ALL = {"__init__", "__main__", "api", "cli"}
DOWNLOADS = {"adapter", "files", "publishing"}
# Where the private names of other libraries may be used; heads reads diffusers' Attention from the inside.
KNOWS_OTHERS = {"compat.py", "injection/heads.py"}
PUBLIC = {"_asdict"}  # of named tuples, which keep it out of the way of their fields
MAX_LINES = 300

FILES = sorted((SRC / PACKAGE).rglob("*.py"))


def part_of(path: Path) -> str:
    """`publishing/card.py` → `hub`, `errors.py` → `errors`; `path` is relative to the package."""
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


def own_names(sources: Iterable[str]) -> set[str]:
    """Everything that the sources define or assign, as a name or as an attribute."""
    nodes = [node for source in sources for node in ast.walk(ast.parse(source))]
    defined = {one.name for one in nodes if isinstance(one, ast.FunctionDef | ast.ClassDef)}
    assigned = {one.id for one in nodes if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)}
    # but not what is written into somebody else's object
    of_self = (one for one in nodes if isinstance(one, ast.Attribute) and isinstance(one.ctx, ast.Store))
    return defined | assigned | {one.attr for one in of_self if ast.unparse(one.value) in ("self", "cls")}


def private_names(source: str) -> Iterator[tuple[int, str]]:
    """(line, name) of what is imported, read from an object, or looked up by a string, and begins with one _."""
    tree = ast.parse(source)
    constants = {
        target.id: node.value.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        found: list[object] = []
        if isinstance(node, ast.Attribute):
            found = [node.attr]
        elif isinstance(node, ast.Import | ast.ImportFrom):
            modules = [node.module] if isinstance(node, ast.ImportFrom) else []
            absolute = not (isinstance(node, ast.ImportFrom) and node.level)
            names = [*modules, *(alias.name for alias in node.names)] if absolute else []
            found = [part for name in names if name for part in name.split(".")]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "hasattr", "setattr", "delattr"):
            found = [_text(node.args[1], constants)]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
            found = [_text(node.args[0], constants)] if _is_vars(node.func.value) else []
        elif isinstance(node, ast.Subscript) and _is_vars(node.value):
            found = [_text(node.slice, constants)]
        for name in found:
            if isinstance(name, str) and name.startswith("_") and not name.startswith("__") and len(name) > 1:
                yield node.lineno, name


def _text(node: ast.expr, constants: dict[str, object]) -> object:
    """What a string or the name of one stands for."""
    return constants.get(node.id) if isinstance(node, ast.Name) else getattr(node, "value", None)


def _is_vars(node: ast.expr) -> bool:
    """Whether an expression is ``vars(…)`` or ``….__dict__``."""
    return ast.unparse(node).startswith("vars(") or ast.unparse(node).endswith(".__dict__")


def foreign(path: Path, source: str, own: set[str]) -> list[str]:
    """Private names of other libraries; ours stand in ``own``, or in strings that begin with ``_nested``."""
    if path.as_posix() in KNOWS_OTHERS:
        return []
    found = [(line, name) for line, name in private_names(source) if name not in own | PUBLIC]
    return [
        f"{path}:{line}: {name} is another library's; use it in compat" for line, name in found if name[:7] != "_nested"
    ]


def test_the_package_is_there():
    assert FILES


def test_imports_go_one_way():
    found = [violations(file.relative_to(SRC / PACKAGE), file.read_text(encoding="utf-8")) for file in FILES]
    assert not [one for each in found for one in each]


def test_private_names_of_other_libraries_are_used_in_one_place():
    sources = {file.relative_to(SRC / PACKAGE): file.read_text(encoding="utf-8") for file in FILES}
    elsewhere = {path: source for path, source in sources.items() if path.as_posix() not in KNOWS_OTHERS}
    own = own_names(elsewhere.values())
    assert not [one for path, source in sources.items() for one in foreign(path, source, own)]


@pytest.mark.parametrize(
    "source",
    [
        "from diffusers.utils import _get_model_file",
        "from torch._dynamo import config",
        "import torch._dynamo",
        "pipe._execution_device",
        "pipe._num_timesteps = 3",
        "getattr(unet, '_orig_mod', unet)",
        "NAME = '_orig_mod'\nhasattr(unet, NAME)",
        "vars(unet)['_compiled_call_impl']",
        "vars(unet).get('_compiled_call_impl')",
        "unet.__dict__['_compiled_call_impl']",
    ],
)
def test_private_name_of_another_library(source: str):
    assert len(foreign(Path("pipelines/call.py"), source, own_names([source]))) == 1
    assert not foreign(Path("compat.py"), source, set())


@pytest.mark.parametrize(
    "source",
    [
        "class A:\n    def __init__(self):\n        self._mine = 1\n        self._mine.count",
        "def _mine(): ...\nmodule._mine()",
        "from .steps import _mine",
        "_, x = pair._asdict(), obj.__dict__['name']",
        "getattr(unet, '_nested_state')",
        "name.startswith('_')",
    ],
)
def test_private_name_of_our_own(source: str):
    assert not foreign(Path("pipelines/call.py"), source, own_names([source]))


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
        ("publishing/card.py", "from ..adapter import NestedAdapter"),
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
        ("training/loop/step.py", "from ... import evaluation"),
        ("vision/towers.py", "from huggingface_hub import hf_hub_download"),
        ("cli/publish.py", "import huggingface_hub"),
        ("utils.py", ""),
    ],
)
def test_import_that_goes_the_wrong_way(path: str, source: str):
    assert len(violations(Path(path), source)) == 1
