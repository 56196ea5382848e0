"""Training on targets of several forms."""

import pytest
import torch

import tiny_pipeline as tiny
from diffusers_nested import NestedAdapterError
from diffusers_nested.data import Triplet
from diffusers_nested.training import read_log
from diffusers_nested.training.loop import Run
from same_states import same

FORMS = [(32, 32), (60, 20), (20, 70), (32, 30), (64, 17), (40, 40)]  # widths and heights; one picture is tall
BUCKETS = {"resolution": 32, "aspect_ratio_buckets": True, "lr_scheduler": "constant", "max_train_steps": 4}


@pytest.fixture
def forms() -> list[Triplet]:
    return [Triplet(tiny.photo(i), "a person", tiny.photo(100 + i, 64).resize(form)) for i, form in enumerate(FORMS)]


@pytest.fixture
def seen(monkeypatch) -> list:
    """What the steps are given: shape of the latents, and what SDXL is told."""
    found, backward = [], Run._backward

    def see(self: Run, samples, part: int) -> torch.Tensor:
        found.append((tuple(samples.latents.shape), samples.frames.tolist()))
        return backward(self, samples, part)

    monkeypatch.setattr(Run, "_backward", see)
    return found


@pytest.mark.slow
def test_batches_are_of_one_form_and_a_killed_run_goes_on(train, settings, forms, seen):
    config = {**BUCKETS, "cache_features": False, "gradient_accumulation_steps": 2}
    whole = train(settings("whole", **config), forms)
    wanted = list(seen)
    assert {shape[2:] for shape, _ in wanted} == {(16, 16), (8, 32), (32, 8)}
    for shape, frames in wanted:
        assert {tuple(2 * side for side in shape[2:])} == {tuple(frame[4:]) for frame in frames}
        assert {(int(frame[1]), int(frame[0])) for frame in frames} <= set(FORMS)
    seen.clear()
    train(settings("cut", **{**config, "max_train_steps": 2}), forms)
    resumed = settings("cut", **config, resume_from_checkpoint="latest")
    assert same(train(resumed, forms).state_dict(), whole.state_dict())
    assert seen == wanted


@pytest.mark.slow
def test_cached_examples_are_those_that_are_read(train, settings, forms, tmp_path):
    logs = []
    for name, cache in (("kept", True), ("again", True), ("read", False)):
        folder = tmp_path / "features" if cache else None
        some = {**BUCKETS, "max_train_steps": 3}  # batches of two buckets
        config = settings(name, **some, logging_steps=1, cache_features=cache, cache_folder=folder)
        train(config, forms)
        logs.append([row["loss"] for row in read_log(config.folder / "log.jsonl")])
    assert logs[0] == logs[1] == pytest.approx(logs[2], rel=1e-2)


def test_a_resolution_without_buckets(train, settings, forms):
    with pytest.raises(NestedAdapterError, match="resolution 24 must be a multiple of 16 with aspect_ratio_buckets"):
        train(settings(resolution=24, aspect_ratio_buckets=True), forms)
