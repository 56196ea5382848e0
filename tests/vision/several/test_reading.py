"""Adapters that read several vision towers: their tokens, their settings, and what a pipeline makes of them."""

import json

import pytest
import torch

import tiny_pipeline as tiny
import tiny_towers as towers
from diffusers_nested import NestedAdapter, NestedAdapterError, trace
from diffusers_nested.vision import ImageEncoder, load_vision_tower
from hub.steps import generate
from two_towers import CLIP, DINO, pair


def test_tokens_are_those_of_both_towers_in_one_sequence(saved_pair):
    encoders, adapter = pair(saved_pair), NestedAdapter.from_pretrained(saved_pair)
    photos = [tiny.photo(1), tiny.photo(2)]
    clip, dino = (part(photos) for part in encoders.parts)
    assert clip.shape == (2, 5, CLIP) and dino.shape == (2, 5, DINO)
    weights = {name.removeprefix("encoder.towers."): x for name, x in adapter.state_dict().items()}
    sequence = torch.cat(
        [
            x @ weights[f"linears.{i}.weight"].T + weights[f"linears.{i}.bias"] + weights["kinds"][i]
            for i, x in enumerate((clip, dino))
        ],
        dim=1,
    )
    qformer, queries = adapter.encoder.qformer, adapter.encoder.queries.expand(2, -1, -1)
    read = qformer(query_embeds=queries, encoder_hidden_states=sequence).last_hidden_state
    found = adapter.encode(encoders(photos))
    torch.testing.assert_close(found, adapter.encoder.to_tokens(read), rtol=1e-5, atol=1e-5)
    without_dino = torch.cat([encoders(photos)[:, :5], torch.zeros(2, 5, DINO)], dim=1)
    assert not torch.allclose(adapter.encode(without_dino), found, atol=1e-3)


def test_queries_are_followed_to_the_patches_of_both_towers(folder, pipeline):
    pipeline.load_nested_adapter(folder)
    photo = tiny.photo(1, 24)
    with trace(pipeline) as inside:
        pipeline("a photo of a person", nested_adapter_image=photo, num_inference_steps=1, height=16, width=16)
    found = inside.follow((8, 8))
    adapter, encoders = NestedAdapter.from_pretrained(folder), pair(folder)
    qformer = adapter.encoder.qformer
    qformer.set_attn_implementation("eager")
    sequence = adapter.encoder.towers(encoders([photo]))
    read = qformer(query_embeds=adapter.encoder.queries, encoder_hidden_states=sequence, output_attentions=True)
    expected = torch.stack([one.mean(1) for one in read.cross_attentions]).mean(0)[0]  # (N, 10)
    parts = found.photos[0].parts  # behind the class token of each tower, a grid of patches
    for (_, maps), own in zip(parts, (expected[:, 1:5], expected[:, 6:10]), strict=True):
        torch.testing.assert_close(maps, own.unflatten(1, (2, 2)), rtol=1e-4, atol=1e-6)
    places, (weights,) = found.places(), found.tokens
    corners = [places[: len(places) // 2, : places.shape[1] // 2], places[len(places) // 2 :, places.shape[1] // 2 :]]
    both = torch.einsum("n,nhw->hw", weights, parts[0][1] + parts[1][1])
    assert (corners[0].mean() > corners[1].mean()) == (both[0, 0] > both[1, 1])


def test_settings_are_written_only_if_they_matter(saved_pair, tmp_path):
    config = json.loads((saved_pair / "config.json").read_text())
    assert config["image_feature_dim"] == [CLIP, DINO] and config["image_feature_count"] == [5, 5]
    assert config["image_encoder_type"] == ["clip_vision_model", "dinov2_with_registers"]
    assert "image_features" not in config and config["image_encoder"] is None
    unet = tiny.components()["unet"]
    plain, listed = (
        tiny.adapter(unet, image_feature_dim=width, image_encoder=name)
        for width, name in ((12, "a/b"), ([12], ["a/b"]))
    )
    for name, one in {"plain": plain, "listed": listed}.items():
        one.save_pretrained(tmp_path / name)
    for file in ("config.json", "diffusion_pytorch_model.safetensors"):
        assert (tmp_path / "plain" / file).read_bytes() == (tmp_path / "listed" / file).read_bytes()
    assert not {"image_features", "image_feature_count", "image_encoder_type"} & set(plain.config)


def test_saved_and_loaded_it_makes_the_same_picture(folder, pipeline):
    plain = generate(pipeline, nested_adapter_image=None)
    made = NestedAdapter.from_pretrained(folder)
    pipeline.load_nested_adapter(made)
    picture = generate(pipeline)
    embeds = pipeline.encode_nested_adapter_image(tiny.photo(3))
    assert torch.equal(embeds, made.encode(pair(folder)([tiny.photo(3)])))
    pipeline.unload_nested_adapter()
    pipeline.load_nested_adapter(folder)
    assert (generate(pipeline) == picture).all() and not (picture == plain).all()
    first, second = pipeline.unet._nested_adapter_state.loaded["person"].encoder.parts
    assert (first.kind, second.kind) == ("clip_vision_model", "dinov2_with_registers")
    pipeline.unload_nested_adapter()
    pipeline.load_nested_adapter(folder, image_encoder_folder=None)
    assert (generate(pipeline, nested_adapter_image=None, nested_adapter_image_embeds=embeds) == picture).all()
    with pytest.raises(NestedAdapterError, match="without an image encoder"):
        generate(pipeline)


def test_photos_are_read_once_and_adapters_share_towers(folder, pipeline, monkeypatch):
    runs = []
    read = ImageEncoder.read
    monkeypatch.setattr(ImageEncoder, "read", lambda self, *rest: runs.append(self.kind) or read(self, *rest))
    pipeline.load_nested_adapter([folder, folder], adapter_name=["person", "again"])
    loaded = pipeline.unet._nested_adapter_state.loaded
    assert all(a is b for a, b in zip(loaded["person"].encoder.parts, loaded["again"].encoder.parts, strict=True))
    pipeline.unload_nested_adapter("again")
    first = generate(pipeline)
    assert runs == ["clip_vision_model", "dinov2_with_registers"]
    assert (generate(pipeline) == first).all() and len(runs) == 2  # kept from the last call
    with torch.no_grad():
        next(loaded["person"].encoder.parts[1].model.parameters()).mul_(-3)
    assert not (generate(pipeline) == first).all() and len(runs) == 4  # and read again if a tower has changed


def test_the_same_tower_twice_is_loaded_once(folder, pipeline):
    tower = str(folder / "image_encoder")
    encoders = load_vision_tower([tower, tower])
    chosen = ["last", "pooled"]
    settings = encoders.adapter_settings(chosen)
    assert settings["image_feature_dim"] == [CLIP, 10] and settings["image_feature_count"] == [5, 1]
    made = tiny.adapter(pipeline.unet, **{**settings, "image_encoder": [tower, tower]})
    pipeline.load_nested_adapter(made)
    (loaded,) = pipeline.unet._nested_adapter_state.loaded.values()
    assert loaded.encoder.parts[0] is loaded.encoder.parts[1]
    expected = made.encode(encoders([tiny.photo(3)], chosen))
    assert torch.equal(pipeline.encode_nested_adapter_image(tiny.photo(3)), expected)


def test_an_embedding_is_read_as_a_single_token(tmp_path, pipeline):
    """Of a recogniser, alone."""
    tower = towers.save(tmp_path, "vit", width=CLIP)
    encoder = load_vision_tower(str(tower))
    settings = encoder.adapter_settings("pooled")
    assert settings == {
        "image_feature_dim": CLIP,
        "image_features": "pooled",
        "image_encoder_type": "vit",
        "image_feature_count": 1,
    }
    made = tiny.adapter(pipeline.unet, **settings)
    made.save_pretrained(tmp_path)
    pipeline.load_nested_adapter(tmp_path)
    expected = made.encode(encoder([tiny.photo(3)], "pooled"))
    assert torch.equal(pipeline.encode_nested_adapter_image(tiny.photo(3)), expected)
    assert encoder([tiny.photo(3)], "pooled").shape == (1, 1, CLIP)


@pytest.mark.parametrize("settings", [{"subject_encoder": "resampler"}, {"subject_encoder": "image_projection"}])
def test_ip_adapters_encoders_read_one_tower(settings, pipeline):
    several = {"image_feature_dim": [12, 12], "image_feature_count": [5, 5]}
    for changes in (several, {"image_features": "pooled"}):
        with pytest.raises(NestedAdapterError, match=f"{settings['subject_encoder']}.* cannot read"):
            tiny.adapter(pipeline.unet, **settings, **changes)


def test_features_of_another_number_are_refused(saved_pair):
    adapter = NestedAdapter.from_pretrained(saved_pair)
    for shape in ((1, 9, DINO), (1, 10, CLIP), (10, DINO)):
        with pytest.raises(NestedAdapterError, match=r"expected \(batch, 10, 20\)"):
            adapter.encode(torch.zeros(shape))
