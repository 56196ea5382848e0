"""Training on Stable Diffusion 1.5 and 2.1, whose UNets read no pooled prompt and no sizes."""

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline

import tiny_pipeline as tiny
from diffusers_nested.injection import NestedInjector
from diffusers_nested.training import read_log
from diffusers_nested.training.frozen import FrozenModels
from diffusers_nested.training.noise import Dropout, Places
from diffusers_nested.training.objective import Objective
from diffusers_nested.training.samples import RawExamples, SampleEncoder, collate


@pytest.fixture(params=["epsilon", "v_prediction"])
def pipeline(request) -> StableDiffusionPipeline:
    made = StableDiffusionPipeline(**tiny.sd15_components(), requires_safety_checker=False)
    made.scheduler = DDIMScheduler.from_config(made.scheduler.config, prediction_type=request.param)
    made.set_progress_bar_config(disable=True)
    return made


@pytest.mark.slow
def test_an_adapter_learns(train, settings, triplets):
    common = {"max_train_steps": 40, "logging_steps": 20, "checkpointing_steps": 100, "lr_scheduler": "constant"}
    config = settings(**common, learning_rate=3e-2)
    adapter = train(config, triplets[:2])
    assert adapter.config["base_family"] == "sd15"
    assert read_log(config.folder / "log.jsonl")[-1]["gain_over_none"] > 0.003


def test_features_on_the_disk_are_read_again(train, settings, triplets, tmp_path):
    kept = {"max_train_steps": 2, "cache_folder": tmp_path / "features"}
    first, second = (train(settings(name, **kept), triplets).state_dict() for name in ("first", "second"))
    assert (tmp_path / "features" / "examples-00000.pt").is_file()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_validation_pictures(train, settings):
    config = settings(max_train_steps=2, validation_steps=2, validation_prompts=["a photo of a person"])
    train(config, validation_images=[tiny.photo(9)])
    assert list(config.folder.rglob("*.png"))


def test_the_loss_is_the_error_of_the_prediction(pipeline, image_encoder, triplets):
    frozen = FrozenModels(pipeline, image_encoder, tiny.FEATURES, torch.device("cpu"), torch.float32)
    captions = {(triplet.text, None): (5,) for triplet in triplets}
    raw = RawExamples(triplets, [(16, 16)] * len(triplets))
    samples = SampleEncoder(frozen, captions, 16).encode(*collate([raw[i] for i in range(2)]))
    objective = Objective(frozen, NestedInjector(frozen.unet), tiny.adapter(pipeline.unet), dropout=Dropout(0.5))
    drawn = objective.draw(samples, Places(0, 0, len(samples.latents)))
    drawn.dropped.copy_(torch.tensor([True, False]))
    with torch.no_grad():
        found = objective.losses(samples, drawn)
        ids = pipeline.tokenizer(
            ["", triplets[1].text], padding="max_length", max_length=pipeline.tokenizer.model_max_length
        )
        words = pipeline.text_encoder(torch.tensor(ids["input_ids"])).last_hidden_state
        signal = pipeline.scheduler.alphas_cumprod[drawn.timesteps].view(-1, 1, 1, 1)
        noisy = signal.sqrt() * samples.latents + (1 - signal).sqrt() * drawn.noise
        velocity = signal.sqrt() * drawn.noise - (1 - signal).sqrt() * samples.latents
        target = drawn.noise if pipeline.scheduler.config.prediction_type == "epsilon" else velocity
        error = pipeline.unet(noisy, drawn.timesteps, words).sample - target
    assert torch.allclose(found, error.square().mean((1, 2, 3)), rtol=1e-4)
