import numpy as np
import pytest

from diffusers_nested import NestedAdapterError
from diffusers_nested.training import TrainingConfig


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("resolution", 0),
        ("train_batch_size", 2.0),
        ("train_batch_size", True),
        ("max_train_steps", -1),
        ("gradient_accumulation_steps", 0),
        ("learning_rate", 0),
        ("learning_rate", float("nan")),
        ("learning_rate", "1e-4"),
        ("lr_scheduler", "linear"),
        ("lr_warmup_steps", 10_000),
        ("adam_beta1", 1.0),
        ("adam_weight_decay", -0.1),
        ("max_grad_norm", float("inf")),
        ("mixed_precision", "fp8"),
        ("mixed_precision", None),
        ("snr_gamma", 0.0),
        ("proportion_empty_prompts", 1.0),
        ("proportion_empty_captions", -0.1),
        ("proportion_empty_images", 1.0),
        ("ema_decay", 1.0),
        ("seed", -1),
        ("seed", 2**32),
        ("checkpoints_total_limit", 0),
        ("validation_prompts", "a person"),
        ("log_with", 3),
        ("cache_folder", ""),
        ("cache_folder", 3),
    ],
)
def test_bad_value_is_named(name: str, value: object):
    with pytest.raises(NestedAdapterError, match=name):
        TrainingConfig("run", **{name: value})


@pytest.mark.parametrize("value", ["", None, 3])
def test_a_run_needs_a_folder(value: object):
    with pytest.raises(NestedAdapterError, match="output_dir must be the path of a folder, got "):
        TrainingConfig(value)


def test_a_cache_folder_needs_a_cache():
    with pytest.raises(NestedAdapterError, match="cache_features"):
        TrainingConfig("run", cache_folder="features")


def test_some_examples_stay_whole():
    with pytest.raises(NestedAdapterError, match=r"proportion_empty_captions 0.5, .*together they must be below 1"):
        TrainingConfig("run", proportion_empty_prompts=0.5, proportion_empty_captions=0.5)


def test_defaults_are_valid():
    assert TrainingConfig("run").folder.name == "run"


def test_numbers_and_strings_of_numpy_become_pythons_own():
    """Those of numpy could be written into a checkpoint and not be read."""
    config = TrainingConfig(
        "run", learning_rate=np.float64(1e-4), snr_gamma=np.float64(5), validation_prompts=[np.str_("a person")]
    )
    assert (config.learning_rate, config.snr_gamma, config.validation_prompts) == (1e-4, 5.0, ["a person"])
    assert {type(config.learning_rate), type(config.snr_gamma), type(config.validation_prompts[0])} == {float, str}
