"""The vision tower of an IP-Adapter: where it lies, of which family it is, and how it prepares photos."""

import shutil

import pytest
import torch
from transformers import CLIPImageProcessorPil

import tiny_pipeline as tiny
import tiny_towers as towers
from diffusers_nested import AdapterLoadError
from diffusers_nested.files.source import Source
from diffusers_nested.vision import find_image_encoder, load_image_encoder, locate_image_encoder
from ip_adapter_files import FROM_TOP, PLUS, SMALL


@pytest.mark.parametrize(
    ("given", "expected"),
    [("image_encoder", "sub/image_encoder"), ("tower", "sub/tower"), ("a/tower", "a/tower"), ("top", None)],
)
def test_where_the_folder_of_a_tower_is(tmp_path, given, expected):
    for name in ("sub/image_encoder", "image_encoder", "sub/tower", "tower", "sub/a/tower", "a/tower", "top"):
        tiny.image_encoder().save_pretrained(tmp_path / name)
    config, source = {"image_encoder": None, "image_feature_dim": SMALL[0]}, Source(str(tmp_path), "sub")
    if expected is None:
        with pytest.raises(AdapterLoadError, match=r"no sub/top/config\.json, so image_encoder_folder cannot be 'top'"):
            locate_image_encoder(config, source, given, is_ip_adapter=True)
    else:
        tower = find_image_encoder(config, source, given, is_ip_adapter=True)
        assert tower.folder == expected


def test_a_tower_of_another_family_is_refused(folder, pipeline, tmp_path):
    """Even if its features are as wide."""
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "models" / "image_encoder")
    towers.model("siglip", width=SMALL[0]).save_pretrained(tmp_path / "models" / "image_encoder")
    with pytest.raises(
        AdapterLoadError, match=r"is a 'siglip_vision_model', but the adapter reads a 'clip_vision_model'"
    ):
        pipeline.load_nested_adapter(tmp_path, **PLUS, **FROM_TOP)
    assert not pipeline.nested_adapters


def test_photos_are_prepared_as_diffusers_does(folder, pipeline, tmp_path):
    """Unless there is preprocessing beside the tower."""
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    other = CLIPImageProcessorPil(
        size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}, image_mean=[0.9] * 3
    )
    other.save_pretrained(tmp_path / "models" / "feature_extractor")
    pipeline.load_ip_adapter(str(folder), **PLUS, **FROM_TOP)
    theirs = pipeline.feature_extractor
    pipeline.unload_ip_adapter()
    config, where = {"image_encoder": None, "image_feature_dim": SMALL[0]}, "models/image_encoder"
    for location, processor in ((folder, theirs), (tmp_path, other)):
        tower = find_image_encoder(config, Source(str(location)), where, is_ip_adapter=True)
        ours, expected = (
            one(images=[tiny.photo(3, 21)], return_tensors="pt").pixel_values
            for one in (load_image_encoder(tower).processor, processor)
        )
        assert torch.equal(ours, expected)
