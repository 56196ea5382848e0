import json
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator, tracking
from accelerate.tracking import GeneralTracker
from diffusers import StableDiffusionXLPipeline
from PIL import Image

import tiny_pipeline as tiny
from diffusers_nested import NestedAdapter, NestedAdapterError, PromptTokenError, SubjectError
from diffusers_nested.data import Triplet, TripletFolder
from diffusers_nested.mechanisms import MECHANISMS
from diffusers_nested.training import read_log
from diffusers_nested.training.checkpoints import load_checkpoint
from diffusers_nested.training.learner import Learner
from diffusers_nested.training.loop import Run
from same_states import same, untimed

each_mechanism = pytest.mark.parametrize("mechanism", [n for n, one in MECHANISMS.items() if one.trained_as is None])


@pytest.mark.parametrize(
    "changes",
    [
        {"gradient_accumulation_steps": 2, "use_ema": True, "proportion_empty_prompts": 0.3},
        {"cache_features": False, "lr_scheduler": "constant", "snr_gamma": 5.0},
    ],
    ids=["cached", "read"],
)
def test_killed_and_resumed_is_uninterrupted(train, settings, monkeypatch, changes):
    whole, cut = settings("whole", **changes), settings("cut", resume_from_checkpoint="latest", **changes)
    expected = train(whole)
    step = Run._step

    def step_or_die(self: Run, number: int, samples) -> torch.Tensor:
        if number == 3:
            raise KeyboardInterrupt
        return step(self, number, samples)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Run, "_step", step_or_die)
        train(cut)
    assert [row["step"] for row in read_log(cut.folder / "log.jsonl")] == [3]  # one ahead of the checkpoint
    resumed = train(cut)
    assert same(resumed.state_dict(), expected.state_dict())
    logs = [untimed(config.folder / "log.jsonl") for config in (whole, cut)]
    assert logs[0] == logs[1]
    states = [load_checkpoint(config.folder / "checkpoint-4") for config in (whole, cut)]
    assert same(*states)


def test_base_is_left_as_it_was(train, settings, pipeline, image_encoder):
    models = (pipeline.unet, pipeline.vae, pipeline.text_encoder, pipeline.text_encoder_2, image_encoder.model)
    before = [{name: x.clone() for name, x in model.state_dict().items()} for model in models]
    processors = pipeline.unet.attn_processors
    train(settings(max_train_steps=2, gradient_checkpointing=True))
    assert all(same(model.state_dict(), old) for model, old in zip(models, before, strict=True))
    assert all(now is processors[path] for path, now in pipeline.unet.attn_processors.items())
    assert not pipeline.unet.is_gradient_checkpointing


@each_mechanism
def test_adapter_learns_and_is_saved(train, settings, triplets, mechanism):
    config = settings(
        max_train_steps=16, logging_steps=8, checkpointing_steps=100, lr_scheduler="constant", learning_rate=3e-2
    )
    adapter = train(config, triplets[:2], mechanism)
    first, last = read_log(str(config.folder / "log.jsonl"))
    assert last["loss_none"] == first["loss_none"]
    assert last["loss_none"] - last["loss_right"] == pytest.approx(last["gain_over_none"], rel=1e-3)
    assert last["gain_over_none"] > 0.005
    saved = NestedAdapter.from_pretrained(config.folder)
    assert same(saved.state_dict(), adapter.state_dict())
    assert json.loads((config.folder / "training_config.json").read_text())["learning_rate"] == 3e-2


def test_a_mechanism_that_cannot_be_trained_names_the_one_to_train(train, settings):
    config = settings()
    with pytest.raises(NestedAdapterError, match=r"'located' cannot be trained.*'decoupled'"):
        train(config, mechanism="located")
    assert not config.folder.exists()


def test_learning_rate_warms_up_and_falls(train, settings):
    config = settings(max_train_steps=4, logging_steps=1)
    train(config)
    rates = [row["lr"] for row in read_log(config.folder / "log.jsonl")]
    assert rates == pytest.approx([0, 1e-2, 0.75e-2, 0.25e-2])


def test_a_step_is_the_same_in_one_batch_and_in_several(train, settings):
    shared_out = {"max_train_steps": 3, "lr_warmup_steps": 0, "snr_gamma": 5.0, "proportion_empty_prompts": 0.3}
    whole = train(settings("whole", train_batch_size=4, **shared_out))
    parts = train(settings("parts", train_batch_size=2, gradient_accumulation_steps=2, **shared_out))
    torch.testing.assert_close(parts.state_dict(), whole.state_dict(), rtol=1e-3, atol=1e-4)


def test_average_is_published(train, settings):
    config = settings(max_train_steps=2, use_ema=True, ema_decay=0.5)
    published = train(config)
    state = load_checkpoint(config.folder / "checkpoint-2")["learner"]
    averaged = [parameter.detach() for _, parameter in sorted(published.named_parameters())]
    assert same(averaged, state["average"]["shadow_params"])
    assert not same(published.state_dict(), state["adapter"])
    kept = NestedAdapter.from_pretrained(config.folder / "checkpoint-2" / "adapter")
    assert same(kept.state_dict(), published.state_dict())


def test_checkpoint_does_not_depend_on_the_order_of_layers(train, settings):
    config = settings(max_train_steps=2, use_ema=True)
    published = train(config)
    other = NestedAdapter.from_pretrained(config.folder)
    assert [name for name, _ in other.named_parameters()] != [name for name, _ in published.named_parameters()]
    learner = Learner(other, config, Accelerator())
    learner.load_state_dict(load_checkpoint(config.folder / "checkpoint-2")["learner"])
    with learner.averaged() as adapter:
        assert same(adapter.state_dict(), published.state_dict())


def test_old_checkpoints_are_deleted(train, settings):
    config = settings(max_train_steps=3, checkpointing_steps=1, checkpoints_total_limit=2)
    train(config)
    assert sorted(path.name for path in config.folder.glob("checkpoint-*")) == ["checkpoint-2", "checkpoint-3"]


@each_mechanism
def test_mixed_precision(train, settings, pipeline, mechanism):
    config = settings(max_train_steps=2, mixed_precision="bf16", validation_steps=2)
    adapter = train(config, mechanism=mechanism)
    assert adapter.dtype == torch.float32
    assert "forward" not in vars(adapter)  # accelerate's wrapper is gone
    assert pipeline.unet.dtype == torch.bfloat16
    assert read_log(config.folder / "log.jsonl")[-1]["loss"] > 0


def test_validation_pictures(train, settings, pipeline, monkeypatch):
    set_timesteps = pipeline.scheduler.set_timesteps
    monkeypatch.setattr(pipeline.scheduler, "set_timesteps", lambda _, **more: set_timesteps(2, **more))
    config = settings(
        max_train_steps=1,
        lr_warmup_steps=0,
        validation_steps=1,
        validation_prompts=["a photo of a person"],
        use_ema=True,
    )
    train(config, validation_images=[tiny.photo(1)])
    with Image.open(config.folder / "validation" / "step-1.png") as sheet:
        assert sheet.size == (32, 16)
    assert type(pipeline) is StableDiffusionXLPipeline


def test_paired_loss_on_other_triplets(train, settings, triplets):
    none = []
    for name, held in (("own", None), ("held", triplets[3:])):
        config = settings(name, max_train_steps=1, lr_warmup_steps=0)
        train(config, triplets[:3], validation_dataset=held)
        none.append(read_log(config.folder / "log.jsonl")[0]["loss_none"])
    assert none[0] != none[1]


def test_folder_and_workers(train, settings, tmp_path: Path):
    rows = []
    for i in range(3):
        for part, seed in (("in", i), ("out", 100 + i)):
            tiny.photo(seed).save(tmp_path / f"{part}-{i}.png")
        rows.append({"input_file_name": f"in-{i}.png", "file_name": f"out-{i}.png", "text": "a person"})
    (tmp_path / "metadata.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    config = settings(max_train_steps=2, cache_features=False, dataloader_num_workers=1)
    assert isinstance(train(config, TripletFolder(tmp_path)), NestedAdapter)


@pytest.mark.parametrize(
    ("changes", "dataset", "message"),
    [
        ({}, [], "empty"),
        ({"resolution": 15}, None, "multiple of 2"),
        ({"validation_prompts": ["a person"]}, None, "validation_images"),
        ({}, [Triplet(tiny.photo(), "a photo of a pet", None)], "not in the prompt"),
        ({}, [Triplet(None, "a person", tiny.photo())], "Triplet 0 has no subject.*would teach the adapter nothing"),
        ({}, [Triplet(Path("nowhere.png"), "a person", tiny.photo())], "Triplet 0: cannot read nowhere.png"),
    ],
)
def test_what_does_not_fit_is_refused(train, settings, triplets, changes, dataset, message):
    config = settings(**changes)
    with pytest.raises(NestedAdapterError, match=message):
        train(config, triplets if dataset is None else dataset)
    assert not config.folder.exists()


def test_validation_prompt_needs_the_word(train, settings):
    with pytest.raises(PromptTokenError, match=r"Validation prompt 1, 'a pet': .*Mend it"):
        train(settings(validation_prompts=["a person", "a pet"]), validation_images=[tiny.photo()])


def test_validation_images_are_read_before_training(train, settings, tmp_path):
    config = settings(max_train_steps=1, lr_warmup_steps=0, validation_prompts=["a person"])
    (tmp_path / "text.png").write_text("hi")
    for file in ("nowhere.png", "text.png"):
        with pytest.raises(SubjectError, match=file):
            train(config, validation_images=[tiny.photo(), tmp_path / file])
        assert not config.folder.exists()


def test_loaded_pipeline_is_refused(train, settings, pipeline):
    pipeline.load_nested_adapter(tiny.adapter(pipeline.unet), image_encoder_folder=None)
    with pytest.raises(NestedAdapterError, match="unload_nested_adapter"):
        train(settings())


class Tracker(GeneralTracker):
    """What accelerate's own trackers do, in memory."""

    name, requires_logging_directory = "memory", False

    def __init__(self) -> None:
        super().__init__()
        self.settings: dict = {}
        self.rows: list = []
        self.is_finished = False

    @property
    def tracker(self) -> "Tracker":
        return self

    def store_init_configuration(self, values: dict) -> None:
        self.settings = values

    def log(self, values: dict, step: int | None = None, **_) -> None:
        self.rows.append({"step": step, **values})

    def finish(self) -> None:
        self.is_finished = True


def test_a_tracker_gets_the_rows_of_the_log(train, settings):
    config = settings(log_with=Tracker(), max_train_steps=3, logging_steps=1)
    train(config)
    assert config.log_with.rows == read_log(config.folder / "log.jsonl")
    assert config.log_with.settings["learning_rate"] == 1e-2 and config.log_with.is_finished
    resumed = settings(max_train_steps=3, resume_from_checkpoint="latest")  # with another tracker, or none
    train(resumed)


def test_tensorboard(train, settings):
    pytest.importorskip("tensorboard")
    config = settings(log_with="tensorboard", max_train_steps=1)
    train(config)
    assert list((config.folder / "trackers").rglob("events.*"))


@pytest.mark.parametrize(
    ("name", "message"), [("swanlab", "pip install swanlab"), ("paper", "tensorboard.*got 'paper'")]
)
def test_a_tracker_that_is_not_there(train, settings, monkeypatch, name, message):
    monkeypatch.setattr(tracking, "_available_trackers", [])
    with pytest.raises(NestedAdapterError, match=message):
        train(settings(log_with=name))
