"""The numbers on the miniature's page are those of the committed results."""

import json
from pathlib import Path

import pytest

from diffusers_nested import miniature
from diffusers_nested.evaluation import read_settings
from diffusers_nested.evaluation.contestants.digest import digest_of
from recipes.miniature.bundled.tables import collect, fill

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs" / "results"


@pytest.mark.parametrize(("name", "tables"), [("docs/miniature.md", 5), ("README.md", 1)])
def test_a_page_holds_the_committed_results(name, tables):
    page = (ROOT / name).read_text()
    assert page.count("<!-- numbers: ") == tables
    assert fill(page, RESULTS) == page


@pytest.mark.parametrize("name", miniature.ADAPTERS)
def test_results_are_of_the_committed_settings_and_the_bundled_adapter(name):
    settings = read_settings(ROOT / "recipes" / "miniature" / "bundled" / f"{name}.toml")
    values = json.loads((RESULTS / f"{name}.json").read_text())
    measured = values["settings"]
    assert measured["subjects"] == settings.subjects["count"]
    assert (measured["metrics"], measured["batch_size"]) == (settings.metrics, settings.batch_size)
    assert [one["scale"] for one in values["conditions"]] == [0.0, *settings.scales]
    assert measured["contestants"][name]["files"] == digest_of([miniature.path(name)])


def test_a_cell_is_its_mean_and_interval(tmp_path):
    scores = {
        "identity": {"mean": 0.1234, "low": -0.1, "high": 0.2},
        "traits hair": {"mean": 0.5, "low": 0.25, "high": 0.755},
    }
    zero = {"mean": 0.0, "low": 0.0, "high": 0.0}
    scores |= dict.fromkeys(("another", "traits glasses", "text place", "text shirt", "text expression"), zero)
    condition = {"contestant": "people", "scale": 1.5, "pictures": 2, "scores": scores}
    run = tmp_path / "people"
    run.mkdir()
    (run / "settings.json").write_text(json.dumps({"subjects": {"a": {}, "b": {}}, "prompts": ["a"]}))
    (run / "summary.json").write_text(json.dumps({"conditions": [condition]}))
    collect(run, tmp_path)
    filled = fill("<!-- numbers: people -->\nold\n<!-- /numbers -->", tmp_path)
    assert "old" not in filled and "2 identities, 1 prompts, 2 pictures" in filled
    assert "| | λ = 1.5 |" in filled
    assert "| identity | 0.123 [-0.100, 0.200] |" in filled
    assert "| … hair | 50.0 % [25.0, 75.5] |" in filled
    short = fill("<!-- numbers: people in short -->\n<!-- /numbers -->", tmp_path)
    assert "| hair as in the photo | 50.0 % |" in short
