"""IP-Adapters of the miniature: their files, and what is measured of them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diffusers_nested import NestedAdapter, miniature
from diffusers_nested.evaluation import Reference, Shot, read_settings
from diffusers_nested.evaluation.contestants import make_contestant
from diffusers_nested.miniature.prompts import PROMPTS
from recipes.miniature.bundled.adapters import ALPHA
from recipes.miniature.ip_adapter.export import WEIGHT_NAME, as_nested, export, save_with_tower
from recipes.miniature.ip_adapter.leak import Leak
from recipes.miniature.ip_adapter.page import RESULTS_FOLDER
from recipes.miniature.ip_adapter.train import RESAMPLER

SETTINGS = Path(__file__).parents[2] / "recipes" / "miniature" / "ip_adapter"
PAIR = Reference("both", {"person": [miniature.example("mira")], "pet": [miniature.example("miso")]})
SHOTS = [Shot(PAIR, f"a photo of a {one} and a {other}", 0, 0) for one, other in (("person", "pet"), ("pet", "person"))]


@pytest.fixture(scope="module")
def pipeline():
    return miniature.load_pipeline()


@pytest.fixture(scope="module")
def adapter(pipeline):
    torch.manual_seed(0)
    return NestedAdapter.from_unet(pipeline.unet, image_feature_dim=128, mechanism="decoupled", **RESAMPLER)


@pytest.fixture(scope="module")
def folder(adapter, pipeline, tmp_path_factory):
    return export(adapter, pipeline.unet, tmp_path_factory.mktemp("ip") / "people", "people")


def test_a_file_is_read_as_it_was_written(adapter, folder, pipeline):
    read = NestedAdapter.from_ip_adapter(folder, weight_name=WEIGHT_NAME, unet=pipeline.unet)
    assert read.config["num_queries"] == RESAMPLER["num_queries"]
    for name, weight in adapter.state_dict().items():
        assert torch.equal(read.state_dict()[name], weight.half().float()), name


def test_its_weights_make_a_nested_adapter(adapter, folder, pipeline, tmp_path):
    saved = save_with_tower(as_nested(folder, pipeline.unet, "people"), tmp_path, "people")
    read = NestedAdapter.from_pretrained(saved, unet=pipeline.unet)
    assert (read.config["mechanism"], read.config["alpha"]) == ("nested", ALPHA)
    assert read.state_dict().keys() == adapter.state_dict().keys()


@torch.no_grad()
def test_a_contestant_gives_photos_to_some_words_only(folder, pipeline):
    """Settings of an IP-Adapter, with a subject of two words, against a call of the pipeline."""
    table = {"kind": "nested", "adapter": str(folder), "weight_name": WEIGHT_NAME}
    table |= {"subject_token": "person", "mechanism": "decoupled", "words": ["person"]}
    call = {"num_inference_steps": 2, "output_type": "pil"}
    with make_contestant("it", table, [1.0]).loaded(pipeline, call) as generate:
        (picture,) = generate(SHOTS[:1], 1.0)
    pipeline.load_nested_adapter(folder, weight_name=WEIGHT_NAME, subject_token="person", mechanism="decoupled")
    photos = {"person": PAIR.photos("person")}
    (expected,) = pipeline(SHOTS[0].prompt, generator=SHOTS[0].generator(), nested_adapter_image=photos, **call).images
    pipeline.unload_nested_adapter()
    assert np.array_equal(picture, expected)


def test_leaking_is_a_change_of_the_other_half():
    white, half_black = Image.new("RGB", (32, 32), "white"), Image.new("RGB", (32, 32), "white")
    half_black.paste("black", (16, 0, 32, 32))
    scores = Leak("leak", "pet").score([half_black, half_black], SHOTS, [white, white])
    assert [one["leak"] for one in scores] == [1.0, 0.0]  # the pet is on the right, then on the left
    assert scores[1]["leak traits"] == 0


@pytest.mark.parametrize("name", ["people", "pets", "pairs", "leak", "start"])
def test_results_are_of_the_committed_settings(name):
    settings = read_settings(SETTINGS / f"{name}.toml")
    conditions = json.loads((RESULTS_FOLDER / f"{name}.json").read_text())
    wanted = {(one, scale) for one in settings.contestants if one != "plain" for scale in settings.scales_of(one)}
    assert {(one["contestant"], one["scale"]) for one in conditions if one["contestant"] != "plain"} == wanted
    prompts = PROMPTS if settings.prompts == "miniature" else settings.prompts
    pictures = settings.subjects["count"] * len(settings.seeds) * len(prompts)
    assert {one["pictures"] for one in conditions} == {pictures}
