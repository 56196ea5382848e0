"""An adapter in memory is pushed with its image encoder, its evaluation and sample pictures."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import tiny_pipeline as tiny
from diffusers_nested import NestedAdapter, PublishError
from diffusers_nested.vision import ImageEncoder, load_vision_tower
from hub.steps import ALICE, BASE, BOB, WEIGHTS, generate, to_hub
from published_files import ADAPTER, EVALUATION


class TestPushToHub:
    def encoder(self, folder: Path) -> ImageEncoder:
        return load_vision_tower(str(folder / "image_encoder"))

    def test_everything_goes_with_the_adapter(self, hub, folder, pipeline, cache, tmp_path):
        made = NestedAdapter.from_pretrained(folder)
        tiny.photo(2).save(tmp_path / "sample.png")
        address = made.push_to_hub(
            "alice/nested",
            token=ALICE,
            private=True,
            image_encoder=self.encoder(folder),
            evaluation=EVALUATION,
            sample_images=[tiny.photo(1), tmp_path / "sample.png"],
            base_model=BASE,
        )
        assert address.startswith(f"{hub.url}/alice/nested/commit/")
        repo = hub.repos["alice/nested"]
        assert repo.private and len(repo.messages) == 2
        assert repo.files().keys() == ADAPTER | {"README.md", "evaluation.json", "samples/01.png", "samples/02.png"}
        pipeline.load_nested_adapter(folder)
        expected = generate(pipeline)
        pipeline.unload_nested_adapter()
        pipeline.load_nested_adapter("alice/nested", token=ALICE, cache_dir=cache)
        assert np.array_equal(generate(pipeline), expected)

    def test_a_loaded_adapter_to_a_branch_as_variant(self, hub, folder, pipeline, cache):
        to_hub(folder)
        pipeline.load_nested_adapter(folder)
        made = pipeline.nested_adapters["person"]
        keywords = {"token": ALICE, "revision": "next", "variant": "fp16", "base_model": BASE}
        made.push_to_hub("alice/nested", image_encoder=folder / "image_encoder", **keywords)
        repo = hub.repos["alice/nested"]
        assert "diffusion_pytorch_model.fp16.safetensors" not in repo.files()
        of_next = repo.files("next").keys()
        assert "diffusion_pytorch_model.fp16.safetensors" in of_next and WEIGHTS not in of_next
        assert 'revision="next", variant="fp16"' in repo.files("next")["README.md"].decode()
        other = tiny.components()["unet"]
        pipeline.unload_nested_adapter()
        pipeline.unet = other
        pipeline.load_nested_adapter("alice/nested", revision="next", variant="fp16", cache_dir=cache)

    def test_pull_request(self, hub, folder):
        to_hub(folder)
        made = NestedAdapter.from_pretrained(folder)
        torch.nn.init.zeros_(made.encoder.queries)
        address = made.push_to_hub(
            "alice/nested", token=BOB, create_pr=True, image_encoder=self.encoder(folder), base_model=BASE
        )
        assert address == f"{hub.url}/alice/nested/discussions/1"
        repo = hub.repos["alice/nested"]
        assert len(repo.messages) == 3
        assert repo.files()[WEIGHTS] == (folder / WEIGHTS).read_bytes()
        assert repo.files("refs/pr/1")[WEIGHTS] != repo.files()[WEIGHTS]

    def test_pickles_are_refused(self, hub, folder):
        with pytest.raises(PublishError, match="safetensors"):
            NestedAdapter.from_pretrained(folder).push_to_hub("alice/nested", safe_serialization=False)
        assert not hub.requests


def test_sample_pictures_are_shown_as_they_are(hub, folder):
    picture = Image.fromarray(np.full((4, 4, 3), 7, np.uint8))
    NestedAdapter.from_pretrained(folder).push_to_hub(
        "alice/nested", token=ALICE, base_model=BASE, image_encoder=folder / "image_encoder", sample_images=[picture]
    )
    (folder / "got.png").write_bytes(hub.repos["alice/nested"].files()["samples/01.png"])
    assert np.array_equal(np.asarray(Image.open(folder / "got.png")), np.asarray(picture))


@pytest.mark.parametrize("image", ["nothing.png", "pipe", "folder", "text.png"])
def test_a_sample_image_that_is_none(hub, folder, tmp_path, image):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.png").write_text("text")
    with pytest.raises(PublishError, match=image):
        NestedAdapter.from_pretrained(folder).push_to_hub("alice/nested", sample_images=[tmp_path / image])
    assert not hub.requests


@pytest.mark.parametrize("extra", [{"prompts": [object()]}, {"more": float("nan")}, {1: object()}])
def test_an_evaluation_that_no_file_can_hold(hub, folder, extra):
    with pytest.raises(PublishError, match="evaluation"):
        NestedAdapter.from_pretrained(folder).push_to_hub("alice/nested", evaluation={**EVALUATION, **extra})
    assert not hub.requests


@pytest.mark.parametrize("variant", ["f/p", "", "fp16-1", 16])
def test_what_cannot_be_a_variant_is_refused(hub, folder, variant):
    with pytest.raises(PublishError, match=r"variant is .*'fp16'"):
        NestedAdapter.from_pretrained(folder).push_to_hub("alice/nested", token=ALICE, variant=variant)
    assert not hub.requests
