"""What a run may go on with, and what not."""

import json
import logging
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from diffusers import DDIMScheduler

import tiny_pipeline as tiny
from diffusers_nested import NestedAdapter, NestedAdapterError
from diffusers_nested.data import Triplet, TripletFolder
from diffusers_nested.training import TrainingConfig, read_log
from diffusers_nested.training.checkpoints import find_checkpoints, load_checkpoint
from diffusers_nested.training.config import MAY_CHANGE, NOT_OF_A_RUN
from diffusers_nested.training.fingerprint import settings_of
from diffusers_nested.training.loop import Run
from diffusers_nested.training.resume import check_same_run
from same_states import same, untimed

OTHER = {  # field of TrainingConfig -> another value than that of the runs here
    "resolution": 32,
    "aspect_ratio_buckets": True,
    "train_batch_size": 3,
    "max_train_steps": 6,
    "gradient_accumulation_steps": 2,
    "learning_rate": 2e-3,
    "lr_scheduler": "constant",
    "lr_warmup_steps": 0,
    "adam_beta1": 0.8,
    "adam_beta2": 0.99,
    "adam_weight_decay": 0.1,
    "adam_epsilon": 1e-6,
    "use_8bit_adam": True,
    "max_grad_norm": 2.0,
    "mixed_precision": "bf16",
    "gradient_checkpointing": True,
    "snr_gamma": 5.0,
    "proportion_empty_prompts": 0.5,
    "proportion_empty_captions": 0.5,
    "proportion_empty_images": 0.5,
    "use_ema": True,
    "ema_decay": 0.9,
    "seed": 1,
    "checkpointing_steps": 1,
    "checkpoints_total_limit": 1,
    "validation_steps": 3,
    "validation_prompts": ["a photo of a person"],
    "logging_steps": 1,
    "dataloader_num_workers": 1,
    "cache_features": False,
    "cache_folder": "cache",
}
NOT_FOR_THIS_ADAPTER = "proportion_empty_images"  # which is refused at any time
REFUSED = [name for name in OTHER if name not in (*MAY_CHANGE, NOT_FOR_THIS_ADAPTER)]


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Where the run of this module is kept, once a test has made it."""
    return {"folder": tmp_path_factory.mktemp("ended") / "run"}


@pytest.fixture
def run(ended, train, settings) -> Callable[..., TrainingConfig]:
    """Settings that resume the run of this module; as it stands, or a copy of it."""
    folder = ended["folder"]
    if not folder.exists():
        made = settings(max_train_steps=4, checkpointing_steps=2)
        train(made)
        new_process()  # whichever test is the first
        shutil.copytree(made.folder, folder)

    def make(copy: bool = False, **changes: Any) -> TrainingConfig:
        config = settings("copy", **{"max_train_steps": 4, "resume_from_checkpoint": "latest", **changes})
        if copy:
            shutil.copytree(folder, config.folder)
            return config
        return TrainingConfig(**{**vars(config), "output_dir": folder})

    return make


def contents(folder: Path) -> dict[str, Any]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def new_process() -> None:
    AcceleratorState._reset_state(reset_partial_state=True)


def test_every_setting_has_its_place():
    names = {field.name for field in fields(TrainingConfig)}
    assert set(OTHER) == names - set(NOT_OF_A_RUN)
    assert {name for name in MAY_CHANGE if name not in names} == {
        "cache_file",
        "validation_dataset",
        "adapter.image_encoder",
    }


@pytest.mark.parametrize("name", REFUSED)
def test_another_setting_is_refused(run, train, monkeypatch, name: str):
    monkeypatch.setattr("diffusers_nested.training.train.check_optimizer", lambda _: None)  # wants CUDA
    config = run(**{name: OTHER[name]})
    before = contents(config.folder)
    with pytest.raises(NestedAdapterError, match=f"{name} was .*, now {re.escape(repr(OTHER[name]))}"):
        train(config)
    assert contents(config.folder) == before


def another_unet(world):
    with torch.no_grad():
        next(iter(world.pipeline.unet.parameters())).mul_(1.01)


def another_text_encoder(world):
    world.pipeline.text_encoder_2.text_projection.weight.data += 0.01


def another_vae(world):
    world.pipeline.vae.register_to_config(scaling_factor=0.5)


def another_tower(world):
    world.image_encoder.model = tiny.image_encoder(seed=3)


def another_processor(world):
    world.image_encoder.processor.image_mean = [0.1, 0.2, 0.3]


def another_schedule(world):
    world.pipeline.scheduler = DDIMScheduler(beta_schedule="linear", clip_sample=False)


def another_prediction(world):
    kept = {"beta_schedule": "scaled_linear", "clip_sample": False}
    world.pipeline.scheduler = DDIMScheduler(prediction_type="v_prediction", **kept)


def another_tokenizer(world):
    world.pipeline.tokenizer_2 = world.pipeline.tokenizer_2.__class__.from_pretrained(world.saved_tokenizer)
    world.pipeline.tokenizer_2.add_tokens("xyzzy")


def another_empty_prompt(world):
    world.pipeline.register_to_config(force_zeros_for_empty_prompt=False)


def another_caption(world):
    world.triplets[1] = Triplet(world.triplets[1].input_image, "a person", world.triplets[1].target_image)


def another_picture(world):
    world.triplets[4] = Triplet(world.triplets[4].input_image, world.triplets[4].text, tiny.photo(7))


def another_order(world):
    world.triplets[:2] = reversed(world.triplets[:2])


def fewer_triplets(world):
    del world.triplets[-1]


def another_alpha(world):
    world.adapter["alpha"] = 3.0


def other_heads(world):
    world.adapter["qformer_num_heads"] = 4


def another_mechanism(world):
    world.more["mechanism"] = "decoupled"


MODELS_AND_DATA = {
    another_unet: "unet",
    another_text_encoder: "text_encoder_2",
    another_vae: "vae",
    another_tower: "image_encoder",
    another_processor: "image_processor",
    another_schedule: "noise_schedule",
    another_prediction: "noise_schedule",
    another_tokenizer: "tokenizer_2",
    another_empty_prompt: "force_zeros_for_empty_prompt",
    another_caption: "dataset",
    another_picture: "dataset",
    another_order: "dataset",
    fewer_triplets: "dataset",
    another_alpha: "adapter.alpha",
    other_heads: "adapter.qformer_num_heads",
    another_mechanism: "adapter.mechanism",
}


@pytest.mark.parametrize(("change", "name"), MODELS_AND_DATA.items(), ids=lambda x: getattr(x, "__name__", ""))
def test_other_models_and_data_are_refused(run, train, pipeline, image_encoder, triplets, tmp_path, change, name):
    pipeline.tokenizer_2.save_pretrained(tmp_path / "tokenizer")
    world = SimpleNamespace(
        pipeline=pipeline,
        image_encoder=image_encoder,
        triplets=triplets,
        adapter={},
        more={},
        saved_tokenizer=tmp_path / "tokenizer",
    )
    config = run()
    before = contents(config.folder)
    change(world)
    with pytest.raises(NestedAdapterError, match=f"{name} was .*, now "):
        train(config, adapter=world.adapter, **world.more)
    assert contents(config.folder) == before


def test_all_that_differs_is_named_with_both_values():
    saved = {"mixed_precision": "no", "seed": 0, "max_grad_norm": 1.0, "unet": {"no": "U 1", "bf16": "U 2"}}
    given = {"mixed_precision": "bf16", "seed": 1, "max_grad_norm": 2.0, "unet": {"no": "U 3", "bf16": "U 2"}}
    with pytest.raises(NestedAdapterError, match=r"seed was 0, now 1; max_grad_norm was 1.0, now 2.0\. Use the same"):
        check_same_run(Path("c"), saved, given)
    cast = {**saved, "unet": {"no": "U 9", "bf16": "U 8"}}
    with pytest.raises(NestedAdapterError, match=r"unet was 'U 1', now 'U 9'.* must be loaded again"):
        check_same_run(Path("c"), saved, cast)
    with pytest.raises(NestedAdapterError, match="newer was 'not there', now 3"):
        check_same_run(Path("c"), saved, {**saved, "newer": 3})
    assert check_same_run(Path("c"), {**saved, "cache_file": None}, saved) == {"cache_file": (None, "not there")}


def test_what_may_change_is_told():
    saved = {"mixed_precision": "no", **dict.fromkeys(MAY_CHANGE, 1)}
    for name in MAY_CHANGE:
        new = {**saved, name: "no" if name == "mixed_precision" else 2}
        assert list(check_same_run(Path("c"), saved, new)) == [name]


def test_moved_and_untouched_is_the_same_run(pipeline, image_encoder, tmp_path, settings):
    """Neither the place nor the dates of files matter, nor what changes nothing."""
    (tmp_path / "data").mkdir()
    for name in ("in.png", "out.png"):
        tiny.photo(len(name)).save(tmp_path / "data" / name)
    row = {"input_file_name": "in.png", "file_name": "out.png", "text": "a person"}
    (tmp_path / "data" / "metadata.jsonl").write_text(json.dumps(row))
    shutil.copytree(tmp_path / "data", tmp_path / "moved", copy_function=shutil.copyfile)
    adapter = tiny.adapter(pipeline.unet)

    def made(folder: str) -> dict:
        data = TripletFolder(tmp_path / folder)
        return settings_of(pipeline, image_encoder, adapter, data, None, settings(), 1)

    first = made("data")
    pipeline.unet.to(torch.bfloat16)  # the weights as they are in bf16 are those that they were in bf16
    second = made("moved")
    assert second["unet"].pop("bf16") == first["unet"].pop("bf16") and second.pop("unet") != first.pop("unet")
    assert first == second == json.loads(json.dumps(first))
    tiny.photo(99).save(tmp_path / "moved" / "in.png")
    assert made("moved")["dataset"] != first["dataset"]


@pytest.mark.parametrize("image", [np.zeros((16, 16, 3), np.uint8), torch.zeros(3, 16, 16)], ids=["array", "tensor"])
def test_pictures_of_any_form_are_told_apart(pipeline, image_encoder, settings, image):
    other = image.copy() if isinstance(image, np.ndarray) else image.clone()
    other[0, 0, 0] = 1
    adapter = tiny.adapter(pipeline.unet)

    def digest(one) -> str:
        return settings_of(pipeline, image_encoder, adapter, [Triplet(one, "a", one)], None, settings(), 1)["dataset"]

    assert digest(image) == digest(image) != digest(other)


def test_more_steps_and_a_lower_rate_take_effect(run, train, caplog):
    caplog.set_level(logging.INFO, "diffusers_nested")
    config = run(copy=True, max_train_steps=8, learning_rate=2e-3, logging_steps=1, checkpointing_steps=4)
    train(config)
    assert "max_train_steps 4 -> 8; learning_rate 0.01 -> 0.002; checkpointing_steps 2 -> 4" in caplog.text
    rows = read_log(config.folder / "log.jsonl")
    assert [row["step"] for row in rows] == [3, 4, 5, 6, 7, 8]
    progress = (np.arange(4, 8) - 1) / 7  # of a cosine over 8 steps, one of which warms up
    assert [row["lr"] for row in rows[2:]] == pytest.approx(list(1e-3 * (1 + np.cos(np.pi * progress))))
    saved = load_checkpoint(config.folder / "checkpoint-8")
    assert saved["learner"]["optimizer"]["param_groups"][0]["initial_lr"] == 2e-3
    assert json.loads((config.folder / "training_config.json").read_text())["learning_rate"] == 2e-3


def test_fewer_steps_than_were_taken(run, train):
    with pytest.raises(NestedAdapterError, match=r"max_train_steps is 3, but .*checkpoint-4 has taken 4 steps"):
        train(run(max_train_steps=3))


def test_ended_run_changes_nothing(run, train):
    config = run(copy=True)
    before = load_checkpoint(config.folder / "checkpoint-4")["learner"]["adapter"]
    assert same(dict(train(config).state_dict()), before)
    assert [path.name for path in find_checkpoints(config.folder)] == ["checkpoint-2", "checkpoint-4"]


def test_from_an_earlier_checkpoint(run, train, caplog):
    config = run(copy=True, resume_from_checkpoint="checkpoint-2")
    expected = load_checkpoint(config.folder / "checkpoint-4")
    train(config)
    assert "checkpoint-4.set-aside" in caplog.text
    assert same(load_checkpoint(config.folder / "checkpoint-4"), expected)
    shutil.rmtree(config.folder / "checkpoint-4")  # only one that is aside is left of it
    train(TrainingConfig(**{**vars(config), "resume_from_checkpoint": "latest"}))
    assert same(load_checkpoint(config.folder / "checkpoint-4"), expected)


def test_damaged_checkpoint_is_made_again(run, train, caplog):
    config = run(copy=True)
    file = config.folder / "checkpoint-4" / "state.pt"
    expected = load_checkpoint(file.parent)
    file.write_bytes(file.read_bytes()[:-100])
    train(config)
    assert f"{file} is cut off" in caplog.text
    assert same(load_checkpoint(file.parent), expected)


def test_damaged_log_is_named_before_anything_is_changed(run, train):
    config = run(copy=True, resume_from_checkpoint="checkpoint-2")
    log = config.folder / "log.jsonl"
    log.write_text("torn\n" + log.read_text())
    before = contents(config.folder)
    with pytest.raises(NestedAdapterError, match=r"log\.jsonl, line 1"):
        train(config)
    assert contents(config.folder) == before


def test_model_that_was_cast_must_be_loaded_again(run, train):
    config = run(copy=True, mixed_precision="bf16", max_train_steps=6)
    train(config)
    new_process()
    back = run(max_train_steps=6)
    with pytest.raises(NestedAdapterError, match=r"unet was .*must be loaded again"):
        train(back)


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


def test_two_runs_in_one_folder(train, settings, triplets):
    config = settings()
    errors = []

    class Second(list):
        """A training set whose first picture starts a second run."""

        def __getitem__(self, index):
            if not errors and (config.folder / ".lock").exists():
                errors.append(None)
                with pytest.raises(NestedAdapterError, match="Another run works in") as error:
                    train(settings())
                errors.append(error.value)
            return super().__getitem__(index)

    train(config, Second(triplets))
    assert len(errors) == 2 and len(read_log(config.folder / "log.jsonl")) == 2


class Killed(BaseException):
    """As if the process were gone: nothing clears up after it."""


def test_cut_off_between_any_two_changes_on_the_disk(train, settings, monkeypatch):
    more = {"max_train_steps": 3, "checkpointing_steps": 1, "checkpoints_total_limit": 1, "logging_steps": 1}
    whole, cut = settings("whole", **more), settings("cut", resume_from_checkpoint="latest", **more)
    expected = train(whole)

    def killed(after: int) -> bool:
        left = iter(range(after))

        def or_die(do):
            def act(*args, **options):
                if next(left, None) is None:
                    raise Killed
                return do(*args, **options)

            return act

        with monkeypatch.context() as patch:
            for name in ("fsync", "rename", "replace", "rmdir"):
                patch.setattr(os, name, or_die(getattr(os, name)))
            try:
                train(cut)
            except Killed:
                return True
        return False

    kills = next(count for count in range(1, 100) if not killed(2 * count))
    assert kills > 5
    assert same(NestedAdapter.from_pretrained(cut.folder).state_dict(), expected.state_dict())
    assert same(*(load_checkpoint(config.folder / "checkpoint-3") for config in (whole, cut)))
    assert untimed(whole.folder / "log.jsonl") == untimed(cut.folder / "log.jsonl")
    assert {path.name for path in cut.folder.iterdir()} == {path.name for path in whole.folder.iterdir()}
