"""The project's files: versions and links that hold wherever they are read."""

import importlib.util
import re
from pathlib import Path

import pytest
import yaml
from packaging.version import Version

import diffusers_nested
from diffusers_nested.evaluation.settings import tomllib

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
HOME = "https://example.org/somebody/diffusers-nested"
LINK = re.compile(r"!?\[[^\]]*\]\(([^)]*)\)")


@pytest.fixture(scope="module")
def hook():
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("home", ["", HOME])
def test_the_description_has_no_link_into_a_clone(hook, home):
    targets = LINK.findall(hook.describe(README, home, "1.2.3"))
    assert targets and all(target.startswith("https://") for target in targets)


def test_links_of_the_description_lead_to_files_of_the_version(hook):
    described = hook.describe(README, HOME, "1.2.3")
    assert f"]({HOME}/raw/v1.2.3/docs/images/demo.png)" in described
    local = [target for target in LINK.findall(README) if not target.startswith("https://")]
    assert len(local) > 10 and all((ROOT / target).exists() for target in local)
    for target in local:
        assert re.search(rf"{HOME}/(raw|blob)/v1\.2\.3/{re.escape(target)}\)", described)


def test_without_a_home_texts_stay_and_pictures_go(hook):
    described = hook.describe("![a picture](a.png) [More](docs/a.md), [paper](https://a.b), [down](#down)", "", "1")
    assert described == " More, [paper](https://a.b), [down](#down)"


def test_recipes_are_in_the_sdist_and_not_in_the_wheel():
    targets = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]["targets"]
    assert {"src", "tests", "recipes", "benchmarks"} <= set(targets["sdist"]["include"])
    assert targets["wheel"] == {"packages": ["src/diffusers_nested"]}
    users = [file for file in (ROOT / "src").rglob("*.py") if re.search(r"(from|import) recipes\b", file.read_text())]
    users += [page for page in (ROOT / "docs").rglob("*.md") if "from recipes" in page.read_text(encoding="utf-8")]
    assert not users


def test_the_version_is_the_same_everywhere():
    version = diffusers_nested.__version__
    assert f'\nversion = "{version}"\n' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    nodes = tomllib.loads((ROOT / "integrations/comfyui/pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert nodes["version"] == version and nodes["dependencies"] == [f"diffusers-nested>={version}"]
    assert (ROOT / "integrations/comfyui/requirements.txt").read_text(encoding="utf-8").split() == nodes["dependencies"]
    # cited is what was released last; between releases, the version is that of the next one, with .dev0
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    headings = [line for line in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").splitlines() if line[:4] == "## ["]
    released = f"## [{citation['version']}] - {citation['date-released']}"
    in_between = Version(version).is_devrelease
    assert headings[: 1 + in_between] == (["## [Unreleased]"] if in_between else []) + [released]
    assert Version(citation["version"]) < Version(version) if in_between else citation["version"] == version


@pytest.mark.parametrize("file", sorted((ROOT / ".github").rglob("*.yml")), ids=lambda file: file.name)
def test_github_reads_yaml(file):
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert isinstance(content, dict)
    commands = [step["run"] for job in content.get("jobs", {}).values() for step in job["steps"] if "run" in step]
    assert file.parent.name != "workflows" or any(command == ".ci/run" for command in commands)
