"""Adapters that read several vision towers: made, trained, saved, loaded, published and inspected."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionXLPipeline

import tiny_pipeline as tiny
import tiny_towers as towers
from diffusers_nested import NestedAdapter, NestedAdapterError, trace
from diffusers_nested.cli import main
from diffusers_nested.cli.train import _check_features, _image_encoder
from diffusers_nested.data import Triplet
from diffusers_nested.training import TrainingConfig, train_adapter
from diffusers_nested.vision import ImageEncoder, ImageEncoders, load_vision_tower
from hub.steps import ALICE, check_untouched, generate, published

CLIP, DINO = 12, 20  # widths


def save_pair(folder: Path, first: str = "clip", second: str = "dinov2 with registers", **changes: Any) -> Path:
    towers.save(folder, first, 1, width=CLIP, seed=1)
    towers.save(folder, second, 2, width=DINO, seed=2, **changes)
    return folder


def pair(folder: Path) -> ImageEncoders:
    encoders = load_vision_tower([str(folder / "image_encoder"), str(folder / "image_encoder_2")])
    assert isinstance(encoders, ImageEncoders)
    return encoders


@pytest.fixture(scope="module")
def saved_pair(tmp_path_factory) -> Path:
    """An adapter of two towers, saved with them."""
    folder = save_pair(tmp_path_factory.mktemp("pair"))
    tiny.adapter(tiny.components()["unet"], **pair(folder).adapter_settings()).save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved_pair: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved_pair, tmp_path / "adapter"))


def change_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    config = {name: value for name, value in {**config, **changes}.items() if value != "leave out"}
    (folder / "config.json").write_text(json.dumps(config))


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


def swap(folder: Path) -> None:
    for name in ("image_encoder", "feature_extractor"):
        (folder / name).rename(folder / "aside")
        (folder / f"{name}_2").rename(folder / name)
        (folder / "aside").rename(folder / f"{name}_2")


def without_second(folder: Path) -> None:
    shutil.rmtree(folder / "image_encoder_2")


def narrower(folder: Path) -> None:
    towers.save(folder, "dinov2 with registers", 2, width=16)


def of_another_size(folder: Path) -> None:
    kind = towers.FAMILIES["dinov2"][2]
    kind(size={"shortest_edge": 24}, crop_size={"height": 24, "width": 24}).save_pretrained(
        folder / "feature_extractor_2"
    )


def without_registers(folder: Path) -> None:
    towers.save(folder, "dinov2", 2, width=DINO)


def without_a_count(folder: Path) -> None:
    change_config(folder, image_feature_count=[5, None])


def without_preprocessing(folder: Path) -> None:
    shutil.rmtree(folder / "feature_extractor_2")


def as_one(folder: Path) -> None:
    change_config(folder, image_feature_dim=CLIP, image_feature_count="leave out", image_encoder_type="leave out")


def without_counts(folder: Path) -> None:
    change_config(folder, image_feature_count="leave out")


def of_three(folder: Path) -> None:
    change_config(folder, image_encoder_type=["clip_vision_model", "dinov2", "vit"])


def of_no_kind(folder: Path) -> None:
    change_config(folder, image_encoder_type=["clip_vision_model", "resnet"])


WRONG = {
    swap: r"is a 'dinov2_with_registers', but the adapter reads a 'clip_vision_model'.*in the same order",
    without_second: r"without its image encoder 2.*contains image_encoder_2/",
    narrower: f"image_encoder_2 gives features of width 16, but the adapter reads {DINO}",
    of_another_size: r"image_encoder_2 gives 10 features .*, but the adapter reads 5: .*the same preprocessing",
    without_registers: "image_encoder_2 is a 'dinov2', but the adapter reads a 'dinov2_with_registers'",
    as_one: "do not match its config.json",
    without_a_count: r"image_feature_count is \[5, None\], expected a list of 2 numbers",
    without_preprocessing: r"There is no feature_extractor_2/ beside .*224 x 224|gives 785 features",
    without_counts: r"image_feature_count is None, expected a list of 2",
    of_three: "image_encoder_type has 3 values, but image_feature_dim has 2",
    of_no_kind: "image_encoder_type must be one of clip_vision_model, dinov2, .*got",
}


@pytest.mark.parametrize("change", WRONG, ids=lambda change: change.__name__)
def test_other_towers_are_refused_before_anything_changes(change, folder, pipeline):
    processors = dict(pipeline.unet.attn_processors)
    change(folder)
    with pytest.raises(NestedAdapterError, match=WRONG[change]):
        pipeline.load_nested_adapter(folder)
    check_untouched(pipeline, processors)


def test_a_folder_for_each_tower(folder, pipeline):
    (folder / "image_encoder").rename(folder / "mine")
    (folder / "image_encoder_2").rename(folder / "mine_2")
    with pytest.raises(NestedAdapterError, match=r"without an image encoder"):
        pipeline.load_nested_adapter(folder)
    for wrong in (["mine"], ["mine", None], []):
        with pytest.raises(
            NestedAdapterError, match=r"image_encoder_folder is \[.*but the adapter reads 2 vision towers"
        ):
            pipeline.load_nested_adapter(folder, image_encoder_folder=wrong)
    for given in ("mine", ["mine", "mine_2"]):
        pipeline.load_nested_adapter(folder, image_encoder_folder=given)
        names = pipeline.unet._nested_adapter_state.loaded["person"].encoder_names
        assert names == (str(folder / "mine"), str(folder / "mine_2"))
        pipeline.unload_nested_adapter()


def test_a_numbered_folder_has_the_preprocessing_of_its_number(folder, pipeline):
    pipeline.load_nested_adapter(folder)
    expected = generate(pipeline)
    pipeline.unload_nested_adapter()
    other = towers.FAMILIES["dinov2"][2](**towers.CROP, image_mean=[0.1] * 3)
    other.save_pretrained(folder / "feature_extractor_2")
    swap(folder)
    pipeline.load_nested_adapter(folder, image_encoder_folder=["image_encoder_2", "image_encoder"])
    first, second = pipeline.unet._nested_adapter_state.loaded["person"].encoder.parts
    assert list(second.processor.image_mean) == [0.1] * 3 and list(first.processor.image_mean) != [0.1] * 3
    assert not (generate(pipeline) == expected).all()


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


def run_of(pipeline: Any, encoder: Any, adapter: NestedAdapter, folder: Path, **changes: Any) -> NestedAdapter:
    triplets = [Triplet(tiny.photo(i), "a photo of a person", tiny.photo(9 + i)) for i in range(3)]
    settings = {"resolution": 16, "train_batch_size": 2, "max_train_steps": 2, "learning_rate": 1e-3}
    settings |= {"cache_features": True}
    config = TrainingConfig(folder, **{**settings, **changes})
    shown = [tiny.photo(1)] if config.validation_prompts else []
    return train_adapter(pipeline, encoder, adapter, triplets, config, shown)


@pytest.mark.parametrize("cached", [True, False])
def test_training_reaches_every_part(folder, pipeline, tmp_path, cached):
    adapter = NestedAdapter.from_pretrained(folder).train()
    before = {name: x.clone() for name, x in adapter.state_dict().items() if "towers" in name}
    changes = (
        {"cache_folder": tmp_path / "cache"}
        if cached
        else {"cache_features": False, "validation_prompts": ["a photo of a person"]}
    )
    for name in ("run", "other") if cached else ("run",):  # the second one reads the folder
        run_of(pipeline, pair(folder), adapter, tmp_path / name, **changes)
    assert len(before) == 5
    for name, x in before.items():
        assert not torch.equal(adapter.state_dict()[name], x), name
    assert json.loads((tmp_path / "run" / "config.json").read_text())["image_feature_dim"] == [CLIP, DINO]


def test_training_with_other_towers_is_refused_at_once(folder, pipeline, tmp_path):
    adapter = NestedAdapter.from_pretrained(folder)
    encoders = pair(folder)
    swapped = "image encoder 1 is a 'dinov2_with_registers', but the adapter reads a 'clip_vision_model'"
    few = "reads 2 vision towers, but the image encoder has 1"
    for wrong, named in ((ImageEncoders(encoders.parts[::-1]), swapped), (encoders.parts[0], few)):
        with pytest.raises(NestedAdapterError, match=named):
            run_of(pipeline, wrong, adapter, tmp_path / "run")
    single = tiny.adapter(pipeline.unet, image_feature_dim=DINO)
    with pytest.raises(NestedAdapterError, match=r"'dinov2_with_registers', but .*\*\*image_encoder.adapter_settings"):
        run_of(pipeline, encoders.parts[1], single, tmp_path / "run")
    with pytest.raises(NestedAdapterError, match="reads 1 vision tower, but the image encoder has 2"):
        run_of(pipeline, encoders, single, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_command_line(folder, tmp_path, capsys, monkeypatch):
    """Train with two towers, inspect what was made, and prepare it for the Hub."""
    monkeypatch.chdir(tmp_path)
    StableDiffusionXLPipeline(**tiny.components(), add_watermarker=False).save_pretrained("base")
    tiny.photo(1).save("1.png")
    row = {"input_file_name": "1.png", "file_name": "1.png", "text": "a photo of a person"}
    Path("metadata.jsonl").write_text(json.dumps(row))
    flags = ["--pretrained_model_name_or_path", "base", "--train_data_dir", ".", "--resolution", "16"]
    flags += ["--train_batch_size", "1", "--max_train_steps", "1", "--num_queries", "3"]
    both = [str(folder / "image_encoder"), str(folder / "image_encoder_2")]
    chosen = ["--image_encoder", *both, "--image_features", "last", "pooled"]
    assert main(["train", *flags, *chosen, "--output_dir", "run"]) == 0
    config = NestedAdapter.from_pretrained("run").config
    assert config["image_encoder"] == both and config["image_feature_dim"] == [CLIP, DINO]
    assert config["image_features"] == ["last", "pooled"] and config["image_feature_count"] == [5, 1]
    begun = NestedAdapter.from_unet(tiny.components()["unet"], start_from="run")
    encoder, named = _image_encoder(None, begun)  # those of the adapter to start from
    assert named == both and begun.config["image_features"] == ["last", "pooled"]
    assert [part.kind for part in encoder.parts] == ["clip_vision_model", "dinov2_with_registers"]
    with pytest.raises(NestedAdapterError, match="reads 2 vision towers, but the image encoder has 1"):
        _image_encoder(both[:1], begun)
    with pytest.raises(NestedAdapterError, match="--image_features is 'last', but run reads last pooled"):
        _check_features("last", begun, "run")
    capsys.readouterr()
    assert main(["inspect", "run"]) == 0
    out = capsys.readouterr().out
    assert f"image encoder   {both[0]}; clip_vision_model, last features of width {CLIP}\n" in out
    assert f"image encoder 2 {both[1]}; dinov2_with_registers, pooled features of width {DINO}\n" in out
    assert main(["inspect", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "image encoder 2 image_encoder_2/, its own; dinov2_with_registers, features of width 20\n" in out
    assert "image_encoder_2/model.safetensors" in out


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
