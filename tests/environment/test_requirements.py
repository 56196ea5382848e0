"""The versions that the package needs: stated once, each tried, and looked at when the package is imported."""

import re
import sys
from importlib.metadata import requires, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from diffusers_nested import DependencyError, NestedAdapterError
from diffusers_nested.environment.requirements import check_requirements, missing_extra, versions

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pyright: ignore[reportMissingImports]

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
STATED = [
    Requirement(line) for line in [*PROJECT["dependencies"], *(line for lines in EXTRAS.values() for line in lines)]
]


def pins(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def floor(requirement: Requirement) -> str:
    (specifier,) = requirement.specifier  # no upper bounds
    assert specifier.operator == ">="
    return specifier.version


def test_the_floors_are_stated_and_are_the_versions_that_are_tried():
    tools = {*EXTRAS["docs"], *EXTRAS["dev"]}  # nobody imports these: the newest
    floors = {one.name: floor(one) for one in STATED if one.specifier or str(one) not in tools}
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    assert f"FLOORS_TORCH=torch=={floors.pop('torch')}" in workflow
    assert f'python-version: "{PROJECT["requires-python"].removeprefix(">=")}"' in workflow
    assert pins("constraints-floors.txt") == floors


def test_the_packages_here_are_new_enough():
    check_requirements()
    check_requirements(map(str, STATED))


@pytest.mark.parametrize("name", ["diffusers", "transformers", "torch"])
def test_an_old_package_is_named_with_what_is_needed(name):
    with pytest.raises(DependencyError, match=rf"{name} {re.escape(version(name))} .*>=99.*pip install '{name}>=99'"):
        check_requirements(["numpy", f"{name}>=99"])
    assert issubclass(DependencyError, ImportError) and issubclass(DependencyError, NestedAdapterError)


def test_all_old_packages_are_named_at_once():
    with pytest.raises(DependencyError, match=r"'diffusers>=98' 'torch>=99'"):
        check_requirements(["diffusers>=98", "numpy>=1", "torch>=99"])


@pytest.mark.parametrize(
    "line",
    [
        "diffusers>=99; extra == 'train'",
        "diffusers>=99; python_version < '3'",
        "no-such-package>=1",  # its import says so
        f"torch>={version('torch').split('+')[0]}",
    ],
)
def test_what_is_not_needed_here_is_not_asked_for(line):
    check_requirements([line])


def test_a_build_before_a_release_counts_as_that_release(monkeypatch):
    monkeypatch.setattr("diffusers_nested.environment.requirements.version", lambda name: "2.6.0a0+nv25.1")
    check_requirements(["torch>=2.6"])
    with pytest.raises(DependencyError, match=r"2\.6\.0a0\+nv25\.1"):
        check_requirements(["torch>=2.7"])


@pytest.mark.parametrize("extra", ["train", "plots", "faces"])
def test_a_missing_extra_names_a_command_that_works_wherever_the_package_is_from(extra):
    message = str(missing_extra("This needs", extra))
    assert "diffusers-nested[" not in message  # the package is in no registry
    stated = [Requirement(line) for line in requires("diffusers-nested") or [] if re.search(f"extra == .{extra}", line)]
    assert stated and all(f"'{one.name}{one.specifier}'" in message for one in stated)


def test_versions_are_said_with_what_is_needed():
    assert f"transformers {version('transformers')} (needed: >=" in versions("diffusers", "transformers")
    assert versions("pytest").startswith(f"pytest {version('pytest')} ")


def test_nobody_is_sent_to_a_registry():
    """The package is in none: another's of the same name would be installed, or nothing."""
    files = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "src").rglob("*.py")]
    files += (ROOT / "hub_configs").rglob("*.md")
    said = re.compile(r"pip install [^`\n]*diffusers-nested(?!\.)")
    assert not [file.name for file in files if said.search(file.read_text(encoding="utf-8"))]
