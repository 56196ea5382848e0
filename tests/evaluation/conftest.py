from pathlib import Path
from typing import Any

import pytest

from diffusers_nested.evaluation import EvaluationSettings, register_world
from diffusers_nested.evaluation.worlds import WORLDS
from diffusers_nested.miniature import evaluation


@pytest.fixture(scope="session", autouse=True)
def loaded_once():
    """Comparisons in the miniature share one pipeline."""
    world = WORLDS["miniature"]
    pipeline = world.pipeline()
    register_world(type(world)(**{**vars(world), "pipeline": lambda: pipeline}))
    yield pipeline
    register_world(world)
    assert evaluation.adapter("people").is_dir()


@pytest.fixture
def settings(tmp_path: Path):
    """Settings of a small comparison that makes pictures without a model, unless told otherwise."""

    def make(name: str = "out", **changes: Any) -> EvaluationSettings:
        values: dict[str, Any] = {
            "output": tmp_path / name,
            "subjects": {"source": "miniature:people", "count": 3},
            "prompts": ["a photo of a {} on the beach", "a watercolor of a {} wearing a red shirt"],
            "contestants": {
                "plain": {"kind": "plain"},
                "painted": {"kind": "function", "function": "contestants:painted", "scales": [0.5, 2.0]},
            },
            "metrics": {
                "text": "miniature-text",
                "identity": "miniature-identity",
                "outside": {"kind": "outside", "box": [0.1, 0, 0.9, 1]},
            },
            "call": {"num_inference_steps": 2},
            "batch_size": 4,
        }
        return EvaluationSettings(**{**values, **changes})

    return make
