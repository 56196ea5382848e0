"""The numbers on the miniature's page are those of the committed results."""

import json
from pathlib import Path

import pytest

from recipes.miniature.making.tables import fill

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("name", "tables"), [("docs/miniature.md", 3), ("README.md", 1)])
def test_a_page_holds_the_committed_results(name, tables):
    page = (ROOT / name).read_text()
    assert page.count("<!-- numbers: ") == tables
    assert fill(page, ROOT / "docs" / "results") == page


def test_a_cell_is_its_mean_and_interval(tmp_path):
    results = {"plain": {"identity": [0.1234, -0.1, 0.2], "hair": [0.5, 0.25, 0.755]}}
    results["plain"] |= {key: [0.0, 0.0, 0.0] for key in ("identity of another", "glasses", "place", "shirt")}
    (tmp_path / "people.json").write_text(json.dumps({"identities": 2, "prompts": ["a"], "results": results}))
    filled = fill("<!-- numbers: people -->\nold\n<!-- /numbers -->", tmp_path)
    assert "old" not in filled
    assert "| identity | 0.123 [-0.100, 0.200] |" in filled
    assert "| hair | 50.0 % [25.0, 75.5] |" in filled
    short = fill("<!-- numbers: people in short -->\n<!-- /numbers -->", tmp_path)
    assert "| hair colour | 50.0 % |" in short
