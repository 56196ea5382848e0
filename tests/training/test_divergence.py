"""Runs that diverge, and examples that are not finite."""

import logging

import pytest
import torch

from accelerate_state import new_process
from diffusers_nested import NestedAdapterError
from diffusers_nested.training import read_log
from diffusers_nested.training.checkpoints import find_checkpoints
from diffusers_nested.training.loop import Run


def test_divergence_keeps_the_last_sound_checkpoint(train, settings, pipeline, caplog):
    caplog.set_level(logging.INFO, "diffusers_nested")
    common = {"checkpointing_steps": 1, "checkpoints_total_limit": 1, "logging_steps": 1, "max_train_steps": 6}
    common |= {"use_ema": True, "ema_decay": 0.5, "lr_scheduler": "constant"}
    config = settings(learning_rate=1e30, **common)
    with pytest.raises(NestedAdapterError, match=r"diverged: .* after step 2\. .*checkpoint-1.*lower learning_rate"):
        train(config)
    assert [path.name for path in find_checkpoints(config.folder)] == ["checkpoint-1"]
    assert not (config.folder / "config.json").exists()
    new_process()
    sound = settings(learning_rate=1e-3, mixed_precision="bf16", resume_from_checkpoint="latest", **common)
    adapter = train(sound)
    assert "learning_rate 1e+30 -> 0.001; mixed_precision 'no' -> 'bf16'" in caplog.text
    assert all(tensor.isfinite().all() for tensor in adapter.state_dict().values())
    rows = read_log(config.folder / "log.jsonl")
    assert [(row["step"], row["lr"]) for row in rows] == [(1, 0.0), *((step, 1e-3) for step in range(2, 7))]
    assert pipeline.unet.dtype == torch.bfloat16
    assert [path.name for path in find_checkpoints(config.folder)] == ["checkpoint-6"]


def test_diverged_adapter_is_not_published(train, settings, monkeypatch):
    config = settings(learning_rate=1e30, max_train_steps=2, checkpointing_steps=9, logging_steps=9)
    monkeypatch.setattr(Run, "_between", lambda *_: None)
    with pytest.raises(NestedAdapterError, match=r"diverged: .* after step 2\. Start again with a lower"):
        train(config)
    assert not (config.folder / "config.json").exists()


@pytest.mark.parametrize("cache", [True, False], ids=["cached", "read"])
@pytest.mark.parametrize("part", ["vae", "tower", "text"])
def test_examples_that_are_not_finite_are_named(train, settings, pipeline, image_encoder, part, cache):
    models = {"vae": pipeline.vae, "tower": image_encoder.model, "text": pipeline.text_encoder}
    next(models[part].parameters()).data.fill_(torch.nan)
    config = settings(cache_features=cache)
    with pytest.raises(NestedAdapterError, match=r"(latents|features|prompt_embeds) .* NaN"):
        train(config)
    assert not config.folder.exists()
