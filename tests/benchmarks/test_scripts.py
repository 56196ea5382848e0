"""The scripts of benchmarks/, which are run by hand and rarely: all can be imported, and what they define is right."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from diffusers_nested.attention import SubjectValues
from diffusers_nested.evaluation.metrics import METRICS
from diffusers_nested.evaluation.shots import Shot
from diffusers_nested.evaluation.worlds import WORLDS
from diffusers_nested.mechanisms import MECHANISMS

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def gated(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS / "study")
    name = importlib.import_module("gated").NAME
    yield MECHANISMS[name]
    del MECHANISMS[name], sys.modules["gated"]


@pytest.fixture
def cut_heads(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS / "study")
    yield importlib.import_module("cut_heads")
    del WORLDS["heads"], METRICS["whole-identity"], sys.modules["cut_heads"]


@pytest.fixture
def covered(cut_heads, monkeypatch):
    yield importlib.import_module("covered")
    del WORLDS["covered"], sys.modules["covered"]


@pytest.mark.slow
def test_every_script_finds_what_it_imports():
    names = [path.stem for folder in (BENCHMARKS, BENCHMARKS / "study") for path in sorted(folder.glob("*.py"))]
    assert {"speed", "run", "unseen", "gated"} <= set(names)
    # `table` is a name in both folders, and the study's comes first there, as it does for its own scripts
    paths = [str(BENCHMARKS / "study"), str(BENCHMARKS), str(BENCHMARKS.parent), *filter(None, sys.path)]
    done = subprocess.run(
        [sys.executable, "-c", f"for name in {names!r}: __import__(name)"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_an_adapter_sees_a_head_whose_owner_is_recognised_in_the_whole_portrait(cut_heads):
    references = cut_heads.references("people", 2, 1)
    heads = [one.photos()[0] for one in references]
    portraits = [cut_heads.portrait_and_head(number)[0] for number in range(2)]
    metric = cut_heads.WholeIdentity("identity")
    metric.check(references)
    shots = [Shot(one, "a person", 0, 0) for one in references]
    own, swapped, seen = (
        [scores["identity"] for scores in metric.score(pictures, shots, None)]
        for pictures in (portraits, portraits[::-1], heads)
    )
    assert own == pytest.approx([1, 1], abs=1e-5) and max(swapped) < 0.5 and max(seen) < 0.9
    with pytest.raises(ValueError, match="2 of 'people'"):
        cut_heads.references("people", 1, 2)


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_gated_attention_is_its_formula(gated, scale):
    """Out + scale · Σ_s* A[q, s*] · softmax(QK'ᵀ/√d) V', head by head and query by query."""
    generator = torch.Generator().manual_seed(0)

    def random(length: int) -> Tensor:
        return torch.randn(2, 2, length, 4, generator=generator, dtype=torch.float64)

    query, key, value, image_key, image_value = random(3), random(5), random(5), random(6), random(6)
    positions = torch.tensor([[0.0, 1, 1, 0, 0], [0, 0, 0, 0, 0]])  # the second row lacks the word
    subject = SubjectValues(image_key, image_value, positions, alpha=None, scale=scale)
    out = gated.attend(query, key, value, [subject], None)
    for b in range(2):
        for h in range(2):
            for q in range(3):
                weights = torch.softmax(key[b, h] @ query[b, h, q] / 2, 0)
                image = torch.softmax(image_key[b, h] @ query[b, h, q] / 2, 0) @ image_value[b, h]
                expected = weights @ value[b, h] + (0 if b else scale * (weights[1] + weights[2]) * image)
                torch.testing.assert_close(out[b, h, q], expected)


def test_every_photo_has_another_half_of_the_head_covered(covered):
    (four,), (two,) = (covered.references("people", 1, count) for count in (4, 2))
    assert [one.tobytes() for one in two.photos()] == [one.tobytes() for one in four.photos()[:2]]
    assert sorted(map(_covered_half, four.photos())) == ["bottom", "left", "right", "top"]
    with pytest.raises(ValueError, match="0 of 'people'"):
        covered.references("people", 1, 0)


def _covered_half(photo):
    grey = np.all(np.asarray(photo) == 128, axis=2)
    rows, columns = (np.flatnonzero(grey.sum(axis) >= 4) for axis in (1, 0))
    assert 4 <= len(rows) <= 24 and grey[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
    sides = {"left": columns[-1] < 31, "right": columns[0] > 0, "top": rows[0] == 0}
    return next((side for side, is_covered in sides.items() if is_covered), "bottom")
