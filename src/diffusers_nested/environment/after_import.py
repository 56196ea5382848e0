"""Run something once another package has been imported, without importing it."""

import sys
import threading
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


def after_import(package: str, own: str, do: Callable[[], object]) -> None:
    """Call ``do`` once ``package`` is imported, or right away if it already is.

    If a module of ``own`` imports ``package``, that module is only half loaded and ``do`` may need it. So ``do`` runs
    when the outermost import, of ``package`` or of a module of ``own``, has finished.

    Args:
        package: The package to wait for, such as ``"diffusers"``.
        own: The package whose modules must be fully loaded.
        do: What to run, once.
    """
    if package in sys.modules:
        do()
    else:
        sys.meta_path.insert(0, _Watch(package, own, do))


class _Watch(MetaPathFinder):
    """Finds modules with the other finders, and notices when the relevant ones have been executed."""

    def __init__(self, package: str, own: str, do: Callable[[], object]) -> None:
        self._package, self._own, self._do = package, own, do
        self._here = threading.local()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self._package and not fullname.startswith(f"{self._own}."):
            return None
        spec = _find(fullname, path, target, besides=self)
        if spec is not None and spec.loader is not None and hasattr(spec.loader, "exec_module"):
            spec.loader = _WatchedLoader(spec.loader, self)
        return spec

    def execute(self, loader: Loader, module: ModuleType) -> None:
        """Execute a module; after the outermost one, check whether it imported the package."""
        depth = getattr(self._here, "depth", 0)
        self._here.depth = depth + 1
        try:
            loader.exec_module(module)
        finally:
            self._here.depth = depth
        if depth == 0 and self._package in sys.modules and self in sys.meta_path:
            sys.meta_path.remove(self)
            self._do()


class _WatchedLoader(Loader):
    """Wraps a loader, and behaves like it in everything except execution."""

    def __init__(self, loader: Loader, watch: _Watch) -> None:
        self._loader, self._watch = loader, watch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        # from now on, sources and resources of the module are found without us
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._watch.execute(self._loader, module)


def _find(
    name: str, path: Sequence[str] | None, target: ModuleType | None, besides: MetaPathFinder
) -> ModuleSpec | None:
    others = [finder for finder in sys.meta_path if finder is not besides and hasattr(finder, "find_spec")]
    found = (finder.find_spec(name, path, target) for finder in others)
    return next((spec for spec in found if spec is not None), None)
