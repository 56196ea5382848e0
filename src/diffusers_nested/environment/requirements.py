"""The versions that the package requires, from its metadata: only pyproject.toml lists them."""

from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement
from packaging.version import Version

from ..errors import DependencyError

PACKAGE = "diffusers-nested"


def check_requirements(requirements: Iterable[str] | None = None) -> None:
    """Raise if an installed package is too old. Missing packages are left to the import that needs them.

    Pre-release builds (``2.6.0a0+nv25.1``) count as the release.

    Args:
        requirements: As in a package's metadata; defaults to the metadata of this package. Extras are ignored.

    Raises:
        DependencyError: Lists every package that is too old, its version, and the required one.
    """
    stated = [Requirement(line) for line in (_stated() if requirements is None else requirements)]
    needed = [one for one in stated if one.marker is None or one.marker.evaluate({"extra": ""})]
    installed = {one.name: _installed(one.name) for one in needed}
    wrong = [one for one in needed if (found := installed[one.name]) and not one.specifier.contains(_release(found))]
    if wrong:
        said = "; ".join(f"{one.name} {installed[one.name]} is installed, {one.specifier} is needed" for one in wrong)
        remedy = " ".join(f"'{one.name}{one.specifier}'" for one in wrong)
        raise DependencyError(f"{PACKAGE} cannot work with the packages here: {said}. Run: pip install {remedy}")


def missing_extra(what: str, extra: str) -> DependencyError:
    """The error for a missing extra, with a command that installs its packages.

    Args:
        what: Subject and verb of the message, such as ``"Plots need"``.
        extra: The name of the extra, such as ``"plots"``.
    """
    stated = [(one, one.marker) for one in map(Requirement, _stated()) if one.marker]
    brought = [
        one for one, marker in stated if marker.evaluate({"extra": extra}) and not marker.evaluate({"extra": ""})
    ]
    packages = " ".join(f"'{one.name}{one.specifier}'" for one in brought)
    remedy = packages or f"'.[{extra}]' in a clone of the project"
    return DependencyError(f"{what} the extra {extra!r}, which is not installed. Run: pip install {remedy}")


def versions(*names: str) -> str:
    """Installed and required versions, for messages: ``transformers 5.5.4 (needed: >=5.6)``."""
    needed = {one.name: one.specifier for one in map(Requirement, _stated())}
    return ", ".join(f"{name} {_installed(name)} (needed: {needed.get(name, 'any')})" for name in names)


def _stated() -> list[str]:
    try:
        return requires(PACKAGE) or []
    except PackageNotFoundError:  # the sources are used without an installation
        return []


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _release(found: str) -> str:
    return Version(found).base_version
