"""The numbers on the pages about speed and about the study are those of the committed results."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs" / "results"


def script(name: str) -> ModuleType:
    """A file of benchmarks/, which is no package."""
    path = ROOT / "benchmarks" / name
    spec = importlib.util.spec_from_file_location(path.parent.name + "_" + path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("page", "writer", "results", "mark"),
    [
        ("speed.md", "table.py", RESULTS, "<!-- /table -->"),
        ("training.md", "table.py", RESULTS, "<!-- /table -->"),
        ("study.md", "study/table.py", RESULTS / "study", "<!-- /study -->"),
        ("training.md", "study/table.py", RESULTS / "adapters", "<!-- /study -->"),
        ("ip-adapter.md", "study/table.py", RESULTS / "ip-adapter", "<!-- /study -->"),
    ],
)
def test_a_page_holds_the_committed_results(page, writer, results, mark):
    text = (ROOT / "docs" / page).read_text()
    assert mark in text
    assert script(writer).fill(text, results) == text


def test_the_worst_moment_of_each_way_to_use_a_card():
    weights = {"unet": 50, "text_encoders": 16, "vae": 4, "tower": 12}
    row = {"tokens": 16, "kept": 3, "adapter": 8, "step": 2}
    peaks = script("table.py").peaks
    assert peaks({"weights": weights, "decoding": 30}, row) == [90 + 3 + 30, 88 + 3 + 15, 50 + 3 + 2]
    assert peaks({"weights": weights, "decoding": 60}, row)[2] == 4 + 3 + 60
    without = {"tokens": 0, "kept": 0, "adapter": 0, "step": 2}
    assert peaks({"weights": weights, "decoding": 1}, without) == [70 + 2, 68 + 2, 52]


def test_ratios_are_to_the_plain_unet_of_the_same_size():
    rows = [
        {"size": size, "contestant": name, "tokens": 0, "tflop": tflop}
        for size, name, tflop in (
            (512, "plain", 2.0),
            (512, "nested", 3.0),
            (1024, "plain", 8.0),
            (1024, "nested", 9.0),
        )
    ]
    lines = script("table.py").flops_table(rows)
    assert [line.split(" | ")[-1] for line in lines[2:]] == ["1.000 |", "1.500 |", "1.000 |", "1.125 |"]
