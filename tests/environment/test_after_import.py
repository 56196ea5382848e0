"""Importing the package is light, and gives diffusers' pipelines their methods whichever is imported first."""

import importlib
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path

import pytest

import diffusers_nested
from diffusers_nested import api

WATCHER = """
from importlib import import_module
from diffusers_nested.environment.after_import import after_import
done = []
after_import("watched", __name__, lambda: done.append(import_module("own.base").Base))
"""


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`own`, which waits for `watched` and needs its module `base` then, which imports `watched` itself."""
    for package in ("own", "watched"):
        (tmp_path / package).mkdir()
    (tmp_path / "own" / "__init__.py").write_text(WATCHER)
    (tmp_path / "own" / "base.py").write_text("import watched\nfrom . import light\nclass Base: pass\n")
    (tmp_path / "own" / "light.py").write_text("")
    (tmp_path / "watched" / "__init__.py").write_text("")
    (tmp_path / "watched" / "part.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    yield
    for name in [name for name in sys.modules if name.split(".")[0] in ("own", "watched")]:
        del sys.modules[name]


@pytest.mark.parametrize(
    "names",
    [["own", "watched"], ["watched", "own"], ["own.base"], ["own.light", "watched.part"], ["own.light", "own.base"]],
    ids=" ".join,
)
def test_is_done_once_when_both_are_whole(packages, names: list[str]):
    for name in names[:-1]:
        importlib.import_module(name)
    if "own" in sys.modules and "watched" not in sys.modules:
        assert sys.modules["own"].done == []
    importlib.import_module(names[-1])
    for name in ("own.base", "watched.part"):  # later imports are nobody's concern
        importlib.import_module(name)
    assert sys.modules["own"].done == [sys.modules["own.base"].Base]
    assert not any(type(finder).__module__ == "diffusers_nested.environment.after_import" for finder in sys.meta_path)


def test_looking_for_the_package_is_not_importing_it(packages):
    own = importlib.import_module("own")
    assert importlib.util.find_spec("watched").origin.endswith("__init__.py")
    assert own.done == []
    importlib.import_module("watched")
    assert len(own.done) == 1


def test_a_failed_import_is_no_import(packages, tmp_path: Path):
    own = importlib.import_module("own")
    (tmp_path / "watched" / "__init__.py").write_text("raise ImportError('too old')")
    with pytest.raises(ImportError, match="too old"):
        importlib.import_module("own.base")
    assert own.done == []
    (tmp_path / "watched" / "__init__.py").write_text("# whole again")
    importlib.invalidate_caches()
    importlib.import_module("own.base")
    assert len(own.done) == 1


def test_modules_keep_their_loaders(packages):
    for name in ("own", "own.base", "watched"):
        module = importlib.import_module(name)
        assert type(module.__loader__) is type(module.__spec__.loader) is SourceFileLoader


@pytest.mark.slow
def test_pipelines_have_their_methods_at_once():
    script = (
        "from diffusers_nested.adapter import NestedAdapter\n"
        "from diffusers import StableDiffusionXLPipeline as Pipeline\n"
        "import diffusers_nested\n"
        "assert Pipeline.load_nested_adapter is diffusers_nested.NestedAdapterMixin.load_nested_adapter\n"
        "assert diffusers_nested.NestedAdapter.push_to_hub is diffusers_nested.publishing.Publishable.push_to_hub\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_public_names():
    assert diffusers_nested.__all__ == api.__all__
    assert set(api.__all__) <= set(dir(diffusers_nested))
    for name in api.__all__:
        assert getattr(diffusers_nested, name) is getattr(api, name)
    with pytest.raises(AttributeError, match="no_such_name"):
        diffusers_nested.no_such_name  # noqa: B018
