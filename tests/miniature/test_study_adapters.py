"""Adapters of a study: trained on the same examples, resumed, and told apart."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from accelerate_state import own_accelerator
from diffusers_nested import NestedAdapter, NestedAdapterError, miniature
from diffusers_nested.training.loop import Run
from recipes.miniature.bundled import adapters
from recipes.miniature.bundled.study_adapters import StudyAdapter, train_study_adapter

__all__ = ["own_accelerator"]
SMALL = {"num_queries": 4, "steps": 2, "triplets": 16}
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.mark.slow
def test_they_learn_from_one_cache_and_are_ready_to_load(tmp_path: Path):
    cache = tmp_path / "people"
    for mechanism, alpha in (("nested", 3.0), ("simple", None)):
        wanted = StudyAdapter(mechanism=mechanism, alpha=3.0, **SMALL)
        folder = train_study_adapter(tmp_path / mechanism, wanted, cache)
        config = NestedAdapter.from_pretrained(folder).config
        assert (config["mechanism"], config["num_queries"], config["alpha"]) == (mechanism, 4, alpha)
        assert not list(folder.glob("checkpoint-*"))
        saved = (folder / WEIGHTS).stat().st_mtime_ns
        assert train_study_adapter(folder, wanted, cache) == folder
        assert (folder / WEIGHTS).stat().st_mtime_ns == saved
    assert (cache / "examples-00000.pt").is_file()
    pipeline = miniature.load_pipeline()
    pipeline.load_nested_adapter(folder)
    image = {"nested_adapter_image": miniature.example("mira")}
    assert len(pipeline("a photo of a person", num_inference_steps=1, **image).images) == 1


@pytest.mark.slow
def test_one_that_was_cut_off_goes_on(tmp_path: Path, monkeypatch, caplog):
    """That its steps are those of an undisturbed run is what the tests of training say."""
    caplog.set_level("INFO")
    monkeypatch.setattr(adapters, "CHECKPOINTING_STEPS", 1)
    wanted = StudyAdapter(mechanism="decoupled", **{**SMALL, "steps": 2})
    step = Run._step

    def step_or_die(self: Run, number: int, samples) -> torch.Tensor:
        if number == 1:
            raise KeyboardInterrupt
        return step(self, number, samples)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Run, "_step", step_or_die)
        train_study_adapter(tmp_path / "cut", wanted)
    assert not (tmp_path / "cut" / WEIGHTS).exists()
    train_study_adapter(tmp_path / "cut", wanted)
    assert "Resumed from" in caplog.text and "checkpoint-1" in caplog.text
    assert (tmp_path / "cut" / WEIGHTS).is_file()


@pytest.mark.slow
def test_a_curve_keeps_earlier_adapters(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(adapters, "CHECKPOINTING_STEPS", 1)
    folder = train_study_adapter(tmp_path / "curve", StudyAdapter(**{**SMALL, "steps": 3}, is_curve=True))
    assert sorted(path.name for path in folder.glob("after-*")) == ["after-1", "after-2"]
    assert not list(folder.glob("checkpoint-*"))
    weights = [load_file(one / WEIGHTS) for one in (folder / "after-1", folder / "after-2", folder)]
    assert len({float(sum(x.abs().sum() for x in one.values())) for one in weights}) == 3
    pipeline = miniature.load_pipeline()
    pipeline.load_nested_adapter(
        [folder / "after-1", folder], adapter_name=["young", "old"], subject_token=["pet", "person"]
    )


def test_a_folder_of_another_one_is_refused(tmp_path: Path):
    (tmp_path / "study.json").write_text(json.dumps({"mechanism": "nested", "seed": 1}))
    with pytest.raises(NestedAdapterError, match=r"seed=1.*seed=2"):
        train_study_adapter(tmp_path, StudyAdapter(seed=2))
