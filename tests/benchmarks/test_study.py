"""The study's plan fits together: every comparison has its adapters, and its prompts are new to them."""

import sys
from pathlib import Path
from types import ModuleType

import pytest

from diffusers_nested.mechanisms import MECHANISMS
from diffusers_nested.miniature.prompts import PROMPTS, wanted
from diffusers_nested.miniature.triplets import PAPER_PLACES, PAPER_SHIRTS

STUDY = Path(__file__).parents[2] / "benchmarks" / "study"


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """benchmarks/study/conditions.py, which is in no package; its own mechanism is gone again afterwards."""
    monkeypatch.syspath_prepend(STUDY)
    monkeypatch.setitem(MECHANISMS, "gated", MECHANISMS["decoupled"])  # so that it is put back
    MECHANISMS.pop("gated")
    for name in ("conditions", "gated"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import conditions  # pyright: ignore[reportMissingImports]

    return conditions


def test_every_adapter_is_compared_and_every_comparison_has_its_adapters(plan):
    needed = {name for comparison in plan.COMPARISONS for name in comparison.adapters}
    assert needed == set(plan.ADAPTERS)
    assert len(plan.COMPARED) == 5
    settings = list(plan.ADAPTERS.values())
    assert len(set(settings)) == len(settings)


@pytest.mark.parametrize("mark", ["", "paper-"])
def test_rivals_have_three_seeds_in_both_protocols(plan, mark):
    for name in plan.COMPARED:
        seeds = [one for one in range(4) if f"{name}-{mark}{one}" in plan.ADAPTERS]
        assert seeds == ([0, 1, 2] if name in ("nested", "decoupled") else [0])
        assert all(plan.ADAPTERS[f"{name}-{mark}{seed}"].as_in_paper == bool(mark) for seed in seeds)


def test_what_the_paper_s_protocol_tests_in_was_never_seen(plan):
    for prompt in plan.UNSEEN:
        (named,) = wanted(prompt.format("person"), ["person"])
        assert named["place"] not in PAPER_PLACES and named["shirt"] not in PAPER_SHIRTS
    assert {"watercolor", "neon"} <= {wanted(one.format("person"), ["person"])[0]["style"] for one in plan.UNSEEN}
    prompts = {comparison.name: comparison.prompts for comparison in plan.COMPARISONS}
    assert prompts["mechanisms"] == prompts["length-mechanisms"] == PROMPTS
    assert prompts["paper"] == prompts["length-paper"] == plan.UNSEEN
