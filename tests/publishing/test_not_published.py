"""Folders that are no whole adapter and names that cannot be are refused before anything is written."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from huggingface_hub.errors import HfHubHTTPError
from safetensors.torch import load_file, save_file

from diffusers_nested import NestedAdapter, NestedAdapterError, PublishError
from hub.steps import BOB, WEIGHTS, to_hub
from published_files import write


def nan_weights(folder: Path) -> None:
    state = load_file(folder / WEIGHTS)
    state["encoder.queries"][0, 0, 0] = torch.nan
    save_file(state, folder / WEIGHTS)


def other_encoder(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    NestedAdapter.from_config({**config, "image_feature_dim": 10}).save_pretrained(folder)


def without_encoder(image_encoder: str | None):
    def change(folder: Path) -> None:
        shutil.rmtree(folder / "image_encoder")
        made = NestedAdapter.from_pretrained(folder)
        made.register_to_config(image_encoder=image_encoder)
        made.save_pretrained(folder)

    return change


def second_variant(folder: Path) -> None:
    (folder / "diffusion_pytorch_model.fp16.safetensors").write_bytes(b"half")


NOT_PUBLISHED = {
    "no folder": (shutil.rmtree, {}, "not a folder"),
    "no config": (lambda folder: (folder / "config.json").unlink(), {}, r"config\.json"),
    "no weights": (lambda folder: (folder / WEIGHTS).unlink(), {}, WEIGHTS),
    "not an adapter": (
        lambda folder: UNet2DConditionModel(
            block_out_channels=(8,), norm_num_groups=4, down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",)
        ).save_pretrained(folder),
        {},
        "UNet2DConditionModel",
    ),
    "NaN": (nan_weights, {}, "NaN"),
    "a damaged variant": (second_variant, {}, "adapter"),
    "an image encoder of another width": (other_encoder, {}, "24"),
    "an image encoder without weights": (
        lambda folder: (folder / "image_encoder" / "model.safetensors").unlink(),
        {},
        r"image_encoder/model\.safetensors",
    ),
    "no image encoder": (without_encoder(None), {}, "image_encoder/"),
    "an image encoder on this machine": (without_encoder("/data/towers/clip"), {}, "/data/towers/clip"),
    "a picture that is none": (write("samples/a.png", "text"), {}, r"a\.png"),
    "an evaluation that is no JSON": (write("evaluation.json", "{"), {}, r"evaluation\.json"),
    "an evaluation of another form": (write("evaluation.json", '{"identity": 0.7}'), {}, "results"),
    "an evaluation with NaN": (
        write("evaluation.json", '{"results": {"scale 1": {"identity": [NaN, 0, 1]}}}'),
        {},
        "identity",
    ),
    "metadata that cannot be read": (write("README.md", "---\ntags: [a\n---\n# Mine"), {}, r"README\.md"),
    "an unknown base model": (lambda folder: None, {"base_model": None}, "base_model"),
    "a base model on this machine": (lambda folder: None, {"base_model": "./sdxl"}, "base_model"),
    "a name without user": (lambda folder: None, {"repo_id": "nested"}, "user/name"),
    "a name that cannot be": (lambda folder: None, {"repo_id": "a/b/c"}, "user/name"),
}


@pytest.mark.parametrize("name", NOT_PUBLISHED)
def test_not_published(hub, folder, name):
    change, keywords, named = NOT_PUBLISHED[name]
    change(folder)
    with pytest.raises(NestedAdapterError, match=named):
        to_hub(folder, **keywords)
    assert not hub.repos
    assert not [request for request in hub.requests if request.method != "GET"]


@pytest.mark.parametrize("token", [False, "hf_wrong", BOB])
def test_without_the_right_to_write_nothing_changes(hub, folder, token):
    to_hub(folder)
    with pytest.raises(PublishError, match="hf auth login") as caught:
        to_hub(folder, token=token)
    assert isinstance(caught.value.__cause__, HfHubHTTPError)
    with pytest.raises(PublishError):
        to_hub(folder, "alice/new", token=token)
    assert list(hub.repos) == ["alice/nested"] and len(hub.repos["alice/nested"].messages) == 2


@pytest.mark.parametrize(
    ("arguments", "named"),
    [((3, "alice/nested"), "3 is not a folder"), ((None, None), "repo_id None"), ((".", 3), "3")],
)
def test_values_of_other_types_are_refused(hub, arguments, named):
    with pytest.raises(PublishError, match=named):
        to_hub(*arguments)
    assert not hub.requests
