"""What cannot be loaded by name, what the message names, and that a failed load leaves nothing behind."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from diffusers import UNet2DConditionModel
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

import tiny_pipeline as tiny
from diffusers_nested import AdapterLoadError, NestedAdapter
from hub.steps import WEIGHTS, check_untouched, generate, published


def no_adapter(folder: Path) -> None:
    shutil.rmtree(folder)
    UNet2DConditionModel(
        block_out_channels=(8,), norm_num_groups=4, down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",)
    ).save_pretrained(folder)


def change_config(**changes):
    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **changes}))

    return change


def for_sd15(folder: Path) -> None:
    """The layers and widths of Stable Diffusion 1.5: 16 layers, prompt embeddings of 768."""
    blocks = {f"down_blocks.{i}": (320, 640, 1280)[i] for i in range(3)} | {
        f"up_blocks.{i}": (1280, 640, 320)[i - 1] for i in range(1, 4)
    }
    layers = {
        f"{block}.attentions.{j}.transformer_blocks.0.attn2": width
        for block, width in blocks.items()
        for j in range(2 if block.startswith("down") else 3)
    }
    layers["mid_block.attentions.0.transformer_blocks.0.attn2"] = 1280
    assert len(layers) == 16
    small = {"qformer_hidden_size": 8, "qformer_num_heads": 2, "qformer_num_layers": 1, "qformer_intermediate_size": 8}
    NestedAdapter(layers, 768, tiny.FEATURES, num_queries=2, **small).half().save_pretrained(folder)


def nothing(folder: Path) -> None:
    pass


# What cannot be loaded: the change to the repository, keywords, what the message names, and the cause.
REFUSED = {
    "no such repository": (nothing, {"pretrained": "alice/nobody"}, "alice/nobody", RepositoryNotFoundError),
    "no such revision": (nothing, {"revision": "v9"}, "v9", RevisionNotFoundError),
    "no such subfolder": (nothing, {"subfolder": "pets"}, r"pets/config\.json", None),
    "a bad token": (nothing, {"token": "hf_wrong"}, "401", HfHubHTTPError),
    "neither folder nor name": (nothing, {"pretrained": "/no/such/folder"}, "/no/such/folder", None),
    "an empty repository": (shutil.rmtree, {}, r"config\.json", None),
    "not an adapter": (no_adapter, {}, "UNet2DConditionModel", None),
    "no weights": (lambda folder: (folder / WEIGHTS).unlink(), {}, WEIGHTS, None),
    "pickled weights only": (lambda folder: (folder / WEIGHTS).rename(folder / "weights.bin"), {}, "safetensors", None),
    "a future format": (change_config(format_version=99), {}, "99.*Upgrade", None),
    "another family": (change_config(base_family="sd1.5"), {}, r"sd1\.5", None),
    "Stable Diffusion 1.5": (for_sd15, {}, "16 layers", None),
    "half a file of weights": (
        lambda folder: (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:5000]),
        {},
        "alice--nested|alice/nested",
        None,
    ),
    "both offline and again": (
        nothing,
        {"local_files_only": True, "force_download": True},
        "force_download",
        ValueError,
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(hub, folder, pipeline, cache, name):
    change, keywords, named, cause = REFUSED[name]
    change(folder)
    folder.mkdir(exist_ok=True)
    published(hub, folder)
    processors, before = pipeline.unet.attn_processors, generate(pipeline, nested_adapter_image=None)
    with pytest.raises(AdapterLoadError, match=named) as caught:
        pipeline.load_nested_adapter(**{"pretrained": "alice/nested", "cache_dir": cache, **keywords})
    assert cause is None or isinstance(caught.value.__cause__, cause)
    check_untouched(pipeline, processors)
    assert np.array_equal(generate(pipeline, nested_adapter_image=None), before)


@pytest.mark.parametrize("name", ["not an adapter", "a future format"])
def test_weights_that_cannot_be_used_are_not_downloaded(hub, folder, pipeline, cache, name):
    REFUSED[name][0](folder)
    published(hub, folder)
    with pytest.raises(AdapterLoadError):
        pipeline.load_nested_adapter("alice/nested", cache_dir=cache)
    assert [Path(path).name for path in hub.downloads()] == ["config.json"]


def test_one_bad_adapter_of_a_list_keeps_the_good_ones_out(hub, folder, pipeline, cache):
    published(hub, folder)
    processors = pipeline.unet.attn_processors
    with pytest.raises(AdapterLoadError, match="nobody"):
        pipeline.load_nested_adapter(["alice/nested", "alice/nobody"], cache_dir=cache)
    check_untouched(pipeline, processors)
