"""One pipeline for all comparisons, settings of a small one, and results: of plain colours, and of a whole one."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from comparisons import TOML
from diffusers_nested.evaluation import EvaluationSettings, evaluate, read_settings, register_world
from diffusers_nested.evaluation.rows import RowWriter, gather_rows, key_of
from diffusers_nested.evaluation.worlds import WORLDS
from diffusers_nested.miniature import evaluation
from study_pictures import COLOURS, SIDES


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


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """The folder of a comparison; the colour of a picture says who made it."""
    folder, rows = tmp_path / "results", []
    for number in range(3):
        photo = folder / "photos" / f"ada-{number}" / "word-1-photo-1.png"
        photo.parent.mkdir(parents=True)
        Image.new("RGB", (32, 32), (number, 9, 9)).save(photo)
        for contestant, scale in SIDES:
            for prompt in ("a person <b>&", "a person </script>"):
                name = f"pictures/{contestant}-{scale}-{number}-{len(prompt)}.png"
                (folder / name).parent.mkdir(exist_ok=True)
                Image.new("RGB", (32, 32), COLOURS[contestant]).save(folder / name)
                row = {"contestant": contestant, "scale": scale, "subject": f"ada-{number}", "prompt": prompt}
                rows.append({**row, "seed": 0, "picture": name, "scores": {}})
    RowWriter(folder, 0).append(rows)
    gather_rows(folder, [key_of(row) for row in rows])
    return folder


@pytest.fixture(scope="session")
def whole(tmp_path_factory) -> Path:
    """The folder of a comparison that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "settings.toml").write_text(TOML.format(output=folder / "out"))
    return evaluate(read_settings(folder / "settings.toml"))
