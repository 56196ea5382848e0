"""Adapters of several vision towers are published, and loaded from the Hub."""

import shutil

import pytest

import tiny_towers as towers
from diffusers_nested import NestedAdapter, NestedAdapterError
from hub.steps import ALICE, generate, published
from two_towers import CLIP, DINO, change_config, pair


def test_published_with_its_towers(hub, folder, pipeline, cache):
    pipeline.load_nested_adapter(folder)
    expected = generate(pipeline)
    pipeline.unload_nested_adapter()
    made = NestedAdapter.from_pretrained(folder)
    made.push_to_hub("alice/pair", image_encoder=pair(folder), token=ALICE, base_model="user/base")
    files = hub.repos["alice/pair"].files()
    for end in ("", "_2"):
        assert {f"image_encoder{end}/config.json", f"feature_extractor{end}/preprocessor_config.json"} <= files.keys()
    card = files["README.md"].decode()
    assert f"| Image encoder | in `image_encoder/` (clip\\_vision\\_model), features of width {CLIP} |" in card
    assert f"| Image encoder 2 | in `image_encoder_2/` (dinov2\\_with\\_registers), features of width {DINO} |" in card
    pipeline.load_nested_adapter("alice/pair", cache_dir=cache)
    assert (generate(pipeline) == expected).all()


def test_what_is_missing_is_not_published(hub, folder):
    keywords = {"token": ALICE, "base_model": "user/base"}
    shutil.rmtree(folder / "image_encoder_2")
    with pytest.raises(NestedAdapterError, match=r"no image_encoder_2/.*feature_extractor_2/ beside"):
        NestedAdapter.publish(folder, "alice/pair", **keywords)
    change_config(folder, image_encoder=[None, str(folder)])
    with pytest.raises(NestedAdapterError, match=r"no image_encoder_2/, and .*a folder on this machine"):
        NestedAdapter.publish(folder, "alice/pair", **keywords)
    towers.save(folder, "dinov2 with registers", 2, width=DINO)
    towers.save(folder, "vit", 3)
    with pytest.raises(NestedAdapterError, match=r"image_encoder_3/, but its adapter reads 2 vision towers.*Remove"):
        NestedAdapter.publish(folder, "alice/pair", **keywords)


def test_one_tower_of_the_hub_and_one_of_its_own(hub, folder, pipeline, cache, tmp_path):
    pipeline.load_nested_adapter(folder)
    expected = generate(pipeline)
    pipeline.unload_nested_adapter()
    other = tmp_path / "other"
    for name in ("image_encoder", "feature_extractor"):
        shutil.move(folder / f"{name}_2", other / name)
    published(hub, other, "alice/towers")
    change_config(folder, image_encoder=[None, "alice/towers/image_encoder"])
    published(hub, folder, "alice/mixed")
    pipeline.load_nested_adapter("alice/mixed", cache_dir=cache)
    assert (generate(pipeline) == expected).all()
