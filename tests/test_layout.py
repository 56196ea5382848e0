"""The layout of the package: imports go one way, without circles, and no module grows too long."""

import ast
from collections.abc import Iterable, Iterator, Mapping
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
    "tracing",
    "data",
    "preparing",
    "training",
    "evaluation",
    "miniature",
    "app",
    "cli",
]
SEES_ALL = {"__init__", "__main__", "api", "cli"}
DOWNLOADS = {"files", "publishing"}
KNOWS_OTHERS = {"compat.py"}  # the private names of other libraries
PUBLIC = {"_asdict"}  # of named tuples, which keep it out of the way of their fields
MAX_LINES = 300

FILES = sorted((SRC / PACKAGE).rglob("*.py"))
MODULES = {str(file.relative_to(SRC / PACKAGE)): file.read_text(encoding="utf-8") for file in FILES}

RIGHT = {
    "attention/norms.py": ["import torch", "from ..errors import NestedAdapterError", "from .. import errors"],
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


FOREIGN = """
from diffusers.utils import _get_model_file
from torch._dynamo import config
import torch._dynamo
pipe._execution_device
pipe._num_timesteps = 3
getattr(unet, "_orig_mod", unet)
NAME = "_orig_mod"; hasattr(unet, NAME)
vars(unet)["_compiled_call_impl"]
vars(unet).get("_compiled_call_impl")
unet.__dict__["_compiled_call_impl"]
"""
OWN = """
class A:
    def __init__(self):
        self._mine = 1
        self._mine.count
def _function(): ...
module._function()
from .steps import _anything
_, x = pair._asdict(), obj.__dict__["name"]
getattr(unet, "_nested_state")
name.startswith("_")
"""


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


def foreign(path: str, source: str, own: set[str]) -> list[str]:
    """Private names of other libraries; ours stand in ``own``, or in strings that begin with ``_nested``."""
    if path in KNOWS_OTHERS:
        return []
    found = [(line, name) for line, name in private_names(source) if name not in own | PUBLIC]
    return [
        f"{path}:{line}: {name} is another library's; use it in compat" for line, name in found if name[:7] != "_nested"
    ]


def test_imports_go_one_way():
    assert MODULES
    assert not [one for path, source in MODULES.items() for one in violations(path, source)]


def test_no_modules_import_each_other():
    assert not circle(MODULES)


def test_private_names_of_other_libraries_stand_in_compat():
    own = own_names(source for path, source in MODULES.items() if path not in KNOWS_OTHERS)
    assert not [one for path, source in MODULES.items() for one in foreign(path, source, own)]


def test_private_names_are_found():
    found = foreign("pipelines/state.py", FOREIGN, own_names([FOREIGN]))
    assert [one.split(":")[1] for one in found] == [str(line) for line in range(2, 12)]
    assert not foreign("pipelines/state.py", OWN, own_names([OWN]))


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
