"""What makes a run another one, and is refused: settings, models and data; and what does not."""

import json
import re
import shutil
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler

import tiny_pipeline as tiny
from diffusers_nested import NestedAdapterError
from diffusers_nested.data import Triplet, TripletFolder
from diffusers_nested.training import TrainingConfig
from diffusers_nested.training.config import MAY_CHANGE, NOT_OF_A_RUN
from diffusers_nested.training.fingerprint import settings_of
from diffusers_nested.training.resume import check_same_run
from same_states import contents

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
