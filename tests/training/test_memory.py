"""Memory of a training step, counted without any, beside the same step on real tensors."""

from dataclasses import replace

import pytest
import torch

import tiny_pipeline as tiny
from diffusers_nested.backbones import backbone_of
from diffusers_nested.injection import NestedInjector
from diffusers_nested.training import estimate_memory, memory
from diffusers_nested.training.counted import CountedMemory
from diffusers_nested.training.frozen import FrozenModels
from diffusers_nested.training.noise import Places
from diffusers_nested.training.objective import Objective
from diffusers_nested.training.samples import RawExamples, SampleEncoder, collate


def real_step(pipeline, image_encoder, adapter, triplets, batch: int) -> int:
    """The most bytes alive in forward and backward pass, of real tensors."""
    frozen = FrozenModels(pipeline, image_encoder, tiny.FEATURES, torch.device("cpu"), torch.float32)
    raw = RawExamples(triplets, [(16, 16)] * len(triplets))
    positions = {(triplet.text, None): (5,) for triplet in triplets}
    samples = SampleEncoder(frozen, positions, 16).encode(*collate([raw[i] for i in range(batch)]))
    injector = NestedInjector(pipeline.unet)
    injector.inject()
    objective = Objective(frozen, injector, adapter)
    drawn = objective.draw(samples, Places("memory", 0, batch))
    adapter.zero_grad(set_to_none=True)
    try:
        with CountedMemory() as counted:
            projected = adapter(objective.features(samples, drawn))
            with objective.acting(projected, objective.positions(samples, drawn)):
                del projected
                objective.weigh(objective.losses(samples, drawn), drawn, None).backward()
    finally:
        injector.eject()
    return counted.bytes


@pytest.mark.slow
@pytest.mark.parametrize("mechanism", ["nested", "simple"])
def test_a_step_is_counted_as_it_is(pipeline, image_encoder, triplets, settings, mechanism):
    adapter = tiny.adapter(pipeline.unet, mechanism=mechanism).train()
    counted = estimate_memory(pipeline, image_encoder, adapter, settings(train_batch_size=3)).step
    assert counted == pytest.approx(real_step(pipeline, image_encoder, adapter, triplets, 3), rel=0.01)


@pytest.fixture
def weights_alone(monkeypatch):
    """Counts no step, which takes a second."""
    monkeypatch.setattr(memory, "count_step", lambda *_: 0)


@pytest.mark.usefixtures("weights_alone")
def test_weights_by_their_numbers(pipeline, image_encoder, settings, monkeypatch):
    adapter = tiny.adapter(pipeline.unet)
    config = settings(mixed_precision="bf16", use_ema=True)
    found = estimate_memory(pipeline, image_encoder, adapter, config)
    encoders = backbone_of(pipeline.unet).text_encoders_of(pipeline).values()
    models = [pipeline.unet, pipeline.vae, image_encoder.model, *encoders]
    assert found.frozen == 2 * sum(x.numel() for model in models for x in (*model.parameters(), *model.buffers()))
    trained = 4 * sum(x.numel() for x in adapter.parameters())
    assert (found.adapter, found.optimizer, found.average, found.buckets) == (trained, 2 * trained, trained, 0)
    assert found.total == found.frozen + 4 * trained
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert estimate_memory(pipeline, image_encoder, adapter, replace(config, use_ema=False)).buckets == trained
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_VERSION", "2")
    found = estimate_memory(pipeline, image_encoder, adapter, config)
    assert (found.adapter, found.optimizer, found.average, found.buckets) == (1.5 * trained, trained, trained / 2, 0)


@pytest.mark.usefixtures("weights_alone")
def test_projections_of_low_rank_train_less(pipeline, image_encoder, settings):
    dense, small = (tiny.adapter(pipeline.unet, projection_rank=rank) for rank in (None, 2))
    found = [estimate_memory(pipeline, image_encoder, one, settings()) for one in (dense, small)]
    trained = [sum(x.numel() for x in one.parameters()) for one in (dense, small)]
    assert trained[1] < trained[0]
    assert [one.optimizer for one in found] == [8 * count for count in trained]


@pytest.mark.slow
def test_what_saves_memory_does(pipeline, image_encoder, settings):
    adapter = tiny.adapter(pipeline.unet, projection_rank=2)
    saving = {"gradient_checkpointing": True, "mixed_precision": "bf16"}
    steps = [estimate_memory(pipeline, image_encoder, adapter, settings(**more)).step for more in ({}, saving)]
    assert steps[1] < 0.4 * steps[0]
    assert pipeline.unet.dtype == torch.float32 and not pipeline.unet.is_gradient_checkpointing
