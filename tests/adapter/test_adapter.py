"""NestedAdapter: created from a UNet, saved, loaded, and refused if anything is wrong."""

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from diffusers_nested.adapter import NestedAdapter, checks
from diffusers_nested.adapter.subject_encoders import SUBJECT_ENCODERS
from diffusers_nested.backbones import layer_widths
from diffusers_nested.errors import AdapterLoadError, NestedAdapterError
from diffusers_nested.files.rules import one_of
from diffusers_nested.mechanisms import MECHANISMS
from tiny import FEATURES, TOKEN_DIM, tiny_adapter, tiny_unet

WEIGHTS = "diffusion_pytorch_model.safetensors"
LAYER = "mid_block.attentions.0.transformer_blocks.1.attn2"


@pytest.fixture(scope="module")
def unet() -> UNet2DConditionModel:
    return tiny_unet()


@pytest.fixture(scope="module")
def adapter(unet: UNet2DConditionModel) -> NestedAdapter:
    return tiny_adapter(unet)


@pytest.fixture
def folder(adapter: NestedAdapter, tmp_path: Path) -> Path:
    """A saved adapter, to be damaged."""
    adapter.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


@pytest.fixture
def diffusers_log() -> Iterator[list[str]]:
    """Warnings and errors that diffusers logs."""
    messages: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    handler = Keep(logging.WARNING)
    logging.getLogger("diffusers").addHandler(handler)
    yield messages
    logging.getLogger("diffusers").removeHandler(handler)


def same_bits(left: Tensor, right: Tensor) -> bool:
    return left.dtype == right.dtype and left.shape == right.shape and bool((left == right).all())


def snapshot(unet: UNet2DConditionModel) -> dict[str, Any]:
    """Everything in a UNet that an adapter could change."""
    return {
        "weights": {name: (id(p), p._version, p.requires_grad) for name, p in unet.state_dict(keep_vars=True).items()},
        "processors": {name: id(processor) for name, processor in unet.attn_processors.items()},
        "modules": [(name, id(module), module.training) for name, module in unet.named_modules()],
        "hooks": [len(module._forward_pre_hooks) + len(module._forward_hooks) for module in unet.modules()],
        "config": dict(unet.config),
    }


def test_starts_from_the_layers_own_keys_and_values(unet: UNet2DConditionModel, adapter: NestedAdapter):
    tokens = torch.randn(2, 3, TOKEN_DIM)
    projected = adapter.project(tokens)
    assert set(projected) == set(layer_widths(unet))
    for path, (key, value) in projected.items():
        layer = unet.get_submodule(path)
        torch.testing.assert_close(key, layer.to_k(tokens), rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(value, layer.to_v(tokens), rtol=1e-6, atol=1e-6)


def test_is_a_copy_and_not_the_layers_own_weights():
    unet = tiny_unet()
    before = snapshot(unet)
    adapter = tiny_adapter(unet)
    assert snapshot(unet) == before
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.fill_(7)
    assert snapshot(unet) == before
    assert all(parameter.requires_grad for parameter in adapter.parameters())


def test_of_a_half_precision_unet_is_in_full_precision():
    unet = tiny_unet().half()
    adapter = tiny_adapter(unet)
    assert {parameter.dtype for parameter in adapter.parameters()} == {torch.float32}
    expected = unet.get_submodule(LAYER).to_k.weight.float()
    assert same_bits(adapter.state_dict()[f"projections.{LAYER}.key.weight"], expected)


def test_config_says_what_it_is_for(unet: UNet2DConditionModel):
    config = tiny_adapter(unet, subject_token="pet", alpha=None).config
    assert config["layers"] == layer_widths(unet)
    assert (config["token_dim"], config["image_feature_dim"], config["num_queries"]) == (
        TOKEN_DIM,
        FEATURES,
        4,
    )
    assert (config["subject_token"], config["alpha"], config["mechanism"]) == ("pet", None, "nested")
    assert (config["base_family"], config["format_version"]) == ("sdxl", 1)


def test_encode_and_project(adapter: NestedAdapter):
    features = torch.randn(3, 7, FEATURES)
    tokens = adapter.encode(features)
    assert tokens.shape == (3, 4, TOKEN_DIM)
    for path, (key, value) in adapter.project(tokens).items():
        assert key.shape == value.shape == (3, 4, adapter.config["layers"][path])
        weights = adapter.state_dict()
        expected = torch.einsum("bnd,wd->bnw", tokens, weights[f"projections.{path}.key.weight"])
        torch.testing.assert_close(key, expected, rtol=1e-5, atol=1e-6)
        expected = torch.einsum("bnd,wd->bnw", tokens, weights[f"projections.{path}.value.weight"])
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)


def test_call_encodes_and_projects(adapter: NestedAdapter):
    features = torch.randn(2, 7, FEATURES)
    projected = adapter(features)
    for path, pair in adapter.project(adapter.encode(features)).items():
        assert all(same_bits(left, right) for left, right in zip(projected[path], pair, strict=True))


def test_tokens_of_several_images_are_projected_as_if_alone(adapter: NestedAdapter):
    first, second = torch.randn(2, 1, 4, TOKEN_DIM)
    together = adapter.project(torch.cat([first, second], dim=1))
    for path, (key, _) in together.items():
        torch.testing.assert_close(key[:, :4], adapter.project(first)[path][0], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(key[:, 4:], adapter.project(second)[path][0], rtol=1e-5, atol=1e-6)


def test_gradient_reaches_every_projection_and_the_queries():
    adapter = tiny_adapter()
    total = sum(
        (k * torch.randn_like(k)).sum() + (v * torch.randn_like(v)).sum()
        for k, v in adapter(torch.randn(2, 7, FEATURES)).values()
    )
    total.backward()
    trained = [p for name, p in adapter.named_parameters() if name.startswith("projections.")]
    assert len(trained) == 2 * len(adapter.config["layers"])
    assert all(parameter.grad.any() for parameter in [*trained, adapter.encoder.queries])


@pytest.mark.parametrize("shape", [(7, FEATURES), (1, 7, FEATURES + 1), (1, 1, 7, FEATURES)])
def test_features_of_a_wrong_shape(adapter: NestedAdapter, shape: tuple[int, ...]):
    with pytest.raises(NestedAdapterError, match=str(FEATURES)):
        adapter.encode(torch.zeros(shape))


@pytest.mark.parametrize("shape", [(4, TOKEN_DIM), (1, 4, TOKEN_DIM - 1), (1, 1, 4, TOKEN_DIM)])
def test_tokens_of_a_wrong_shape(adapter: NestedAdapter, shape: tuple[int, ...]):
    with pytest.raises(NestedAdapterError, match=str(TOKEN_DIM)):
        adapter.project(torch.zeros(shape))


def test_file_names_tensors_by_the_layers_path(folder: Path, unet: UNet2DConditionModel):
    with safe_open(folder / WEIGHTS, "pt") as file:
        names = set(file.keys())
    of_layers = {f"projections.{path}.{part}.weight" for path in layer_widths(unet) for part in ("key", "value")}
    assert {name for name in names if not name.startswith("encoder.")} == of_layers


def shards_of(folder: Path) -> list[Path]:
    return sorted(folder.glob("*-of-*.safetensors"))


SAVED = {
    "plain": ({}, {}),
    "variant": ({"variant": "fp16"}, {"variant": "fp16"}),
    "shards": ({"max_shard_size": "4KB"}, {}),
    "shards of a variant": ({"max_shard_size": "4KB", "variant": "fp16"}, {"variant": "fp16"}),
}


@pytest.mark.parametrize(("saving", "loading"), SAVED.values(), ids=SAVED)
def test_round_trip(tmp_path: Path, saving: dict, loading: dict, diffusers_log: list[str]):
    original = tiny_adapter(subject_token="pet", alpha=None, num_queries=3)
    original.save_pretrained(tmp_path, **saving)
    assert bool(shards_of(tmp_path)) == ("max_shard_size" in saving)
    loaded = NestedAdapter.from_pretrained(tmp_path, **loading)
    assert loaded.state_dict().keys() == original.state_dict().keys()
    assert all(same_bits(loaded.state_dict()[name], tensor) for name, tensor in original.state_dict().items())
    public = {name: value for name, value in original.config.items() if not name.startswith("_")}
    assert {name: loaded.config[name] for name in public} == public
    features = torch.randn(2, 5, FEATURES)
    assert same_bits(loaded.encode(features), original.encode(features))
    assert not loaded.training
    assert diffusers_log == []


def test_round_trip_in_half_precision(tmp_path: Path, diffusers_log: list[str]):
    original = tiny_adapter().half()
    original.save_pretrained(tmp_path, variant="fp16")
    options = {"variant": "fp16"}
    loaded = NestedAdapter.from_pretrained(tmp_path, torch_dtype=torch.float16, **options)
    assert all(same_bits(loaded.state_dict()[name], tensor) for name, tensor in original.state_dict().items())
    assert loaded.dtype == torch.float16
    wide = NestedAdapter.from_pretrained(tmp_path, **options)  # float32, as diffusers loads its models
    assert all(same_bits(wide.state_dict()[name], x.float()) for name, x in original.state_dict().items())
    assert diffusers_log == []


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_type_of_the_weights(
    folder: Path,
    adapter: NestedAdapter,
    dtype: torch.dtype,
    diffusers_log: list[str],
):
    loaded = NestedAdapter.from_pretrained(folder, torch_dtype=dtype)
    assert all(same_bits(loaded.state_dict()[name], x.to(dtype)) for name, x in adapter.state_dict().items())
    assert torch.get_default_dtype() == torch.float32
    assert diffusers_log == []


def test_loads_from_a_subfolder_and_from_a_string(folder: Path, adapter: NestedAdapter):
    loaded = NestedAdapter.from_pretrained(str(folder.parent), subfolder="adapter")
    assert all(same_bits(loaded.state_dict()[name], tensor) for name, tensor in adapter.state_dict().items())


def test_saves_what_was_loaded(folder: Path, tmp_path: Path):
    NestedAdapter.from_pretrained(folder).save_pretrained(tmp_path / "again")
    assert (tmp_path / "again" / WEIGHTS).read_bytes() == (folder / WEIGHTS).read_bytes()
    NestedAdapter.from_pretrained(tmp_path / "again")


def test_what_was_loaded_does_not_depend_on_the_file(folder: Path, adapter: NestedAdapter):
    loaded = NestedAdapter.from_pretrained(folder)
    assert not any(tensor.is_meta for tensor in [*loaded.parameters(), *loaded.buffers()])
    with (folder / WEIGHTS).open("r+b") as file:
        file.write(bytes((folder / WEIGHTS).stat().st_size))
    assert all(same_bits(loaded.state_dict()[name], tensor) for name, tensor in adapter.state_dict().items())


def edit_config(folder: Path, edit: Callable[[dict], Any]) -> None:
    config = json.loads((folder / "config.json").read_text())
    edit(config)
    (folder / "config.json").write_text(json.dumps(config))


def edit_weights(folder: Path, edit: Callable[[dict[str, Tensor]], Any]) -> None:
    weights = load_file(folder / WEIGHTS)
    edit(weights)
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})


KEY = f"projections.{LAYER}.key.weight"
ONE_NAN = torch.zeros(16, TOKEN_DIM)
ONE_NAN[3, 5] = float("nan")
ONE_INF = torch.zeros(16, TOKEN_DIM)
ONE_INF[15, 0] = float("-inf")
# What is done to the tensors of the file, and what the message must name.
DAMAGED = {
    "missing tensor": (lambda w: w.pop(KEY), KEY),
    "whole numbers": (lambda w: w.update({KEY: torch.zeros(16, TOKEN_DIM, dtype=torch.int32)}), "I32"),
    "fp8": (lambda w: w.update({KEY: torch.zeros(16, TOKEN_DIM).to(torch.float8_e4m3fn)}), "F8_E4M3"),
    "complex": (lambda w: w.update({KEY: torch.zeros(16, TOKEN_DIM, dtype=torch.complex64)}), "C64"),
    "missing query": (lambda w: w.pop("encoder.queries"), "encoder.queries"),
    "extra tensor": (lambda w: w.update({"projections.extra": torch.zeros(2)}), "projections.extra"),
    "wrong shape": (lambda w: w.update({KEY: torch.zeros(8, TOKEN_DIM)}), r"\(8, 12\).*\(16, 12\)"),
    "transposed": (lambda w: w.update({KEY: torch.zeros(TOKEN_DIM, 16)}), r"\(12, 16\).*\(16, 12\)"),
    "other rank": (lambda w: w.update({KEY: torch.zeros(16 * TOKEN_DIM)}), r"\(192,\).*\(16, 12\)"),
    "NaN": (lambda w: w.update({KEY: ONE_NAN}), KEY),
    "infinite": (lambda w: w.update({KEY: ONE_INF}), KEY),
    "nothing": (lambda w: w.clear(), "81"),
    "another model": (lambda w: (w.clear(), w.update({"weight": torch.zeros(2)})), "81"),
}


@pytest.mark.parametrize(("edit", "named"), DAMAGED.values(), ids=DAMAGED)
def test_damaged_weights_are_refused(folder: Path, edit: Any, named: str):
    edit_weights(folder, edit)
    with pytest.raises(AdapterLoadError, match=named) as caught:
        NestedAdapter.from_pretrained(folder)
    assert str(folder) in str(caught.value)


def test_weights_of_another_adapter_are_refused(folder: Path):
    tiny_adapter(num_queries=6).save_pretrained(folder.parent / "other")
    (folder.parent / "other" / WEIGHTS).replace(folder / WEIGHTS)
    with pytest.raises(AdapterLoadError, match=r"encoder\.queries.*\(1, 6, 8\).*\(1, 4, 8\)"):
        NestedAdapter.from_pretrained(folder)


def test_weights_beyond_the_range_of_the_type_are_refused(folder: Path):
    edit_weights(folder, lambda w: w.update({KEY: torch.full((16, TOKEN_DIM), 1e5)}))
    NestedAdapter.from_pretrained(folder)
    with pytest.raises(AdapterLoadError, match="float16"):
        NestedAdapter.from_pretrained(folder, torch_dtype=torch.float16)


def test_shard_that_lacks_a_tensor_of_the_index_is_refused(tmp_path: Path, adapter: NestedAdapter):
    adapter.save_pretrained(tmp_path, max_shard_size="4KB")
    shard = shards_of(tmp_path)[-1]
    weights = load_file(shard)
    lost, _ = weights.popitem()
    save_file(weights, shard, metadata={"format": "pt"})
    with pytest.raises(AdapterLoadError, match=lost):
        NestedAdapter.from_pretrained(tmp_path)


def cut_short(folder: Path) -> None:
    whole = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(whole[:-50])


# What is done to the folder, and what the message must name.
BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no config": (lambda folder: (folder / "config.json").unlink(), "config.json"),
    "no weights": (lambda folder: (folder / WEIGHTS).unlink(), WEIGHTS),
    "weights cut short": (cut_short, WEIGHTS),
    "weights that are something else": (lambda folder: (folder / WEIGHTS).write_bytes(b"hello"), WEIGHTS),
    "only pickled weights": (
        lambda folder: (folder / WEIGHTS).rename(folder / "diffusion_pytorch_model.bin"),
        WEIGHTS,
    ),
    "config that is no JSON": (lambda folder: (folder / "config.json").write_text("{"), "config.json"),
    "config that is a list": (lambda folder: (folder / "config.json").write_text("[]"), "NestedAdapter"),
    "config of no class": (
        lambda folder: edit_config(folder, lambda config: config.pop("_class_name")),
        "NestedAdapter",
    ),
    "config of another class": (
        lambda folder: edit_config(folder, lambda config: config.update(_class_name="UNet2DConditionModel")),
        "UNet2DConditionModel",
    ),
    "newer format": (
        lambda folder: edit_config(folder, lambda config: config.update(format_version=2, layers="elsewhere")),
        r"version 2\b.*up to 1",
    ),
}


@pytest.mark.parametrize(("damage", "named"), BROKEN.values(), ids=BROKEN)
def test_folder_that_holds_no_whole_adapter_is_refused(folder: Path, damage: Any, named: str):
    damage(folder)
    with pytest.raises(AdapterLoadError, match=named) as caught:
        NestedAdapter.from_pretrained(folder)
    assert str(folder) in str(caught.value)


def test_missing_shard_is_refused(tmp_path: Path, adapter: NestedAdapter):
    adapter.save_pretrained(tmp_path, max_shard_size="4KB")
    shards_of(tmp_path)[0].unlink()
    with pytest.raises(AdapterLoadError, match=r"00001-of-0000\d"):
        NestedAdapter.from_pretrained(tmp_path)


def test_missing_variant_is_refused(folder: Path):
    with pytest.raises(AdapterLoadError, match="fp16"):
        NestedAdapter.from_pretrained(folder, variant="fp16")


def test_name_that_is_nowhere(tmp_path: Path):
    """A failed download is an OSError, as it is for diffusers' models, and one of our errors."""
    for kind in (OSError, AdapterLoadError):
        with pytest.raises(kind, match=r"nobody/nothing.*local_files_only"):
            NestedAdapter.from_pretrained("nobody/nothing", cache_dir=tmp_path, local_files_only=True)


NOT_A_SIZE = [0, -1, 2.0, "4", None, True, 16_385, 10**4000]
TAKEN = {"mid_block.training.attn2": 8}  # every module has an attribute "training", so no submodule can have this name
NESTED = {"mid_block.attn2": 8, "mid_block.attn2.attn2": 8}
MANY = {f"blocks.{i}.attn2": 1 for i in range(1025)}
LONG = {"a" * 257: 8}
BAD_SETTINGS: dict[str, list[Any]] = {
    "layers": [
        {},
        None,
        [8],
        {LAYER: 0},
        {LAYER: 8.0},
        {LAYER: "8"},
        {LAYER: True},
        {"": 8},
        {"a..b": 8},
        TAKEN,
        NESTED,
        MANY,
        LONG,
    ],
    "token_dim": NOT_A_SIZE,
    "image_feature_dim": NOT_A_SIZE,
    "num_queries": NOT_A_SIZE,
    "qformer_hidden_size": NOT_A_SIZE,
    "qformer_num_layers": NOT_A_SIZE,
    "qformer_num_heads": [*NOT_A_SIZE, 3],
    "qformer_intermediate_size": NOT_A_SIZE,
    "subject_token": ["", "  ", None, 3, ["person"], "a" * 257, "per\x1b[2Json", "\ud800"],
    "alpha": [0, -1.0, float("nan"), float("inf"), "2", True, [2.0], 1001, 10**4000],
    "mechanism": ["", "nestled", None, ["nested"]],
    "image_encoder": ["", 3, ["a/b", "a/c"], "a" * 257],
    "base_family": ["", None, 1],
    "format_version": [*NOT_A_SIZE, 2],
}


def test_every_setting_is_checked(adapter: NestedAdapter):
    assert set(BAD_SETTINGS) == {name for name in adapter.config if not name.startswith("_")}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param(name, value, id=f"{name}-{i}")
        for name, values in BAD_SETTINGS.items()
        for i, value in enumerate(values)
    ],
)
def test_setting_out_of_range_is_refused(adapter: NestedAdapter, folder: Path, name: str, value: Any):
    config = {key: setting for key, setting in adapter.config.items() if not key.startswith("_")}
    with pytest.raises(NestedAdapterError, match=name):
        NestedAdapter(**{**config, name: value})
    edit_config(folder, lambda config: config.update({name: value}))
    with pytest.raises(AdapterLoadError, match=f"{name}|not valid JSON"):  # JSON has no NaN
        NestedAdapter.from_pretrained(folder, torch_dtype=torch.float16)
    assert torch.get_default_dtype() == torch.float32  # which diffusers changes while it builds a model


@pytest.mark.parametrize("name", ["layers", "token_dim", "image_feature_dim"])
def test_missing_setting_is_refused(folder: Path, name: str):
    edit_config(folder, lambda config: config.pop(name))
    with pytest.raises(AdapterLoadError, match=name):
        NestedAdapter.from_pretrained(folder)


def test_setting_that_was_left_at_its_default_may_be_missing(folder: Path, adapter: NestedAdapter):
    edit_config(folder, lambda config: [config.pop(name) for name in ("alpha", "subject_token", "mechanism")])
    assert NestedAdapter.from_pretrained(folder).config["alpha"] == 2.0


def test_unknown_mechanism_names_the_known_ones():
    with pytest.raises(NestedAdapterError, match=r"'nestled'.*\bnested\b"):
        tiny_adapter(mechanism="nestled")


def tensors_by_mechanism() -> list[tuple[str, set[str]]]:
    pair = {f"projections.{LAYER}.key.weight", f"projections.{LAYER}.value.weight"}
    value = {f"projections.{LAYER}.value.weight"}
    by_name = {"nested": pair, "decoupled": pair, "located": pair, "simple": set(), "global_value": value}
    by_name["multiple_tokens"] = value
    return [(name, by_name[name]) for name in MECHANISMS]


@pytest.mark.parametrize(("mechanism", "tensors"), tensors_by_mechanism())
def test_weights_of_every_mechanism(tmp_path: Path, unet: UNet2DConditionModel, mechanism: str, tensors: set[str]):
    adapter = tiny_adapter(unet, mechanism=mechanism)
    assert {name for name in adapter.state_dict() if name.startswith(f"projections.{LAYER}.")} == tensors
    for name in tensors:
        own = "to_k" if ".key." in name else "to_v"
        assert same_bits(adapter.state_dict()[name], unet.get_submodule(LAYER).get_submodule(own).weight)
    adapter.save_pretrained(tmp_path)
    loaded = NestedAdapter.from_pretrained(tmp_path)
    loaded.check_fits(unet)
    assert loaded.config["mechanism"] == mechanism
    before, after = adapter.state_dict(), loaded.state_dict()
    assert before.keys() == after.keys()
    assert all(same_bits(before[name], after[name]) for name in before)
    tokens = torch.randn(2, 3, TOKEN_DIM)
    read = loaded.project(tokens)
    assert set(read) == set(layer_widths(unet))
    assert all(
        torch.equal(x, y) for path in read for x, y in zip(read[path], adapter.project(tokens)[path], strict=True)
    )
    assert len(read[LAYER]) == max(1, len(tensors))


def test_layers_that_have_no_weights_are_still_compared(tmp_path: Path):
    tiny_adapter(mechanism="simple").save_pretrained(tmp_path)
    adapter = NestedAdapter.from_pretrained(tmp_path)
    with pytest.raises(AdapterLoadError, match="another UNet"):
        adapter.check_fits(tiny_unet(transformer_layers_per_block=(1, 1)))


def test_weights_of_another_mechanism_are_refused(tmp_path: Path):
    tiny_adapter(mechanism="decoupled").save_pretrained(tmp_path)
    edit_config(tmp_path, lambda config: config.update(mechanism="simple"))
    with pytest.raises(AdapterLoadError, match="unknown"):
        NestedAdapter.from_pretrained(tmp_path)
    tiny_adapter(mechanism="simple").save_pretrained(tmp_path)
    edit_config(tmp_path, lambda config: config.update(mechanism="decoupled"))
    with pytest.raises(AdapterLoadError, match="misses"):
        NestedAdapter.from_pretrained(tmp_path)


@pytest.mark.parametrize("mechanism", ["decoupled", "simple"])
def test_a_norm_that_would_not_be_set_is_refused(tmp_path: Path, mechanism: str):
    assert tiny_adapter(mechanism=mechanism).config["alpha"] is None
    with pytest.raises(NestedAdapterError, match=f"alpha.*{mechanism}"):
        tiny_adapter(mechanism=mechanism, alpha=2.0)
    tiny_adapter(mechanism=mechanism).save_pretrained(tmp_path)
    edit_config(tmp_path, lambda config: config.pop("alpha"))
    with pytest.raises(AdapterLoadError, match="alpha"):
        NestedAdapter.from_pretrained(tmp_path)


@pytest.mark.parametrize("mechanism", ["nested", "global_value", "multiple_tokens"])
def test_the_norm_of_what_replaces_a_value(mechanism: str):
    assert tiny_adapter(mechanism=mechanism).config["alpha"] == 2.0
    assert tiny_adapter(mechanism=mechanism, alpha=None).config["alpha"] is None


OTHER_FAMILIES = {
    "Kolors": lambda: tiny_unet(encoder_hid_dim=6, encoder_hid_dim_type="text_proj"),
    "no UNet": lambda: torch.nn.Linear(2, 2),
    "SDXL without cross-attention": lambda: tiny_unet(
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        mid_block_type=None,
    ),
}


@pytest.mark.parametrize("make", OTHER_FAMILIES.values(), ids=OTHER_FAMILIES)
def test_unet_of_another_family_is_refused(adapter: NestedAdapter, make: Callable[[], Any]):
    other = make()
    with pytest.raises(AdapterLoadError, match="family"):
        adapter.check_fits(other)
    with pytest.raises(NestedAdapterError, match="family"):
        NestedAdapter.from_unet(other, image_feature_dim=FEATURES)


def test_adapter_of_another_family_is_refused(unet: UNet2DConditionModel):
    with pytest.raises(AdapterLoadError, match=r"'sd3'.*'sdxl'"):
        NestedAdapter(**{**tiny_adapter(unet).config, "base_family": "sd3"}).check_fits(unet)
    with pytest.raises(NestedAdapterError, match=r"base_family is 'sd3'.*'sdxl'"):
        tiny_adapter(unet, base_family="sd3")


# UNets of the same family that the adapter does not fit, and what the message must say.
OTHER_UNETS = {
    "other widths": (
        lambda: tiny_unet(block_out_channels=(8, 32)),
        r"down_blocks\.1\.\S+ has width 16 in the adapter, 32 in the UNet",
    ),
    "more layers": (
        lambda: tiny_unet(layers_per_block=2),
        r"11 layers, the UNet 17.*down_blocks\.0\.attentions\.1\.\S+ has width None in the adapter, 8",
    ),
    "fewer layers": (
        lambda: tiny_unet(transformer_layers_per_block=1),
        r"11 layers, the UNet 7.*transformer_blocks\.1\.attn2 has width 16 in the adapter, None",
    ),
    "as many layers elsewhere": (
        lambda: tiny_unet(mid_block_type=None, layers_per_block=1, transformer_layers_per_block=(1, 2)),
        r"mid_block\S+ has width 16 in the adapter, None in the UNet",
    ),
    "other prompt embeddings": (lambda: tiny_unet(cross_attention_dim=TOKEN_DIM + 2), "12.*14"),
}


@pytest.mark.parametrize(("make", "named"), OTHER_UNETS.values(), ids=OTHER_UNETS)
def test_unet_of_other_layers_is_refused(adapter: NestedAdapter, make: Callable[[], Any], named: str):
    other = make()
    before = snapshot(other)
    with pytest.raises(AdapterLoadError, match=named):
        adapter.check_fits(other)
    assert snapshot(other) == before


def test_fits_the_unet_it_is_made_for_and_others_like_it(adapter: NestedAdapter, folder: Path):
    for unet in (tiny_unet(), tiny_unet(seed=9), tiny_unet(in_channels=9), tiny_unet().half()):
        before = snapshot(unet)
        adapter.check_fits(unet)
        NestedAdapter.from_pretrained(folder).check_fits(unet)
        assert snapshot(unet) == before
    adapter.check_fits(torch.compile(tiny_unet(), backend="eager"))


def test_of_a_compiled_unet_is_that_of_the_unet(unet: UNet2DConditionModel, adapter: NestedAdapter):
    compiled = tiny_adapter(torch.compile(tiny_unet(), backend="eager"))
    assert compiled.config["layers"] == adapter.config["layers"]
    assert all(same_bits(compiled.state_dict()[name], x) for name, x in adapter.state_dict().items())


class Linear(torch.nn.Module):
    """A subject encoder other than the Q-Former: a linear layer on the mean of the features."""

    settings: ClassVar[dict[str, Any]] = {}
    features: ClassVar[str] = "last"
    reads_empty_image: ClassVar[bool] = False

    def __init__(self, features: int, tokens: int, width: int) -> None:
        super().__init__()
        self.to_tokens = torch.nn.Linear(features, tokens * width)
        self.width = width

    @classmethod
    def from_config(cls, config: Any) -> "Linear":
        return cls(config["image_feature_dim"], config["num_queries"], config["token_dim"])

    @staticmethod
    def check_config(config: Any) -> None:
        pass

    @staticmethod
    def estimated_parameters(config: Any) -> int:
        return (config["image_feature_dim"] + 1) * config["num_queries"] * config["token_dim"]

    def forward(self, features: Tensor) -> Tensor:
        return self.to_tokens(features.mean(1)).unflatten(-1, (-1, self.width))


def test_another_subject_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(SUBJECT_ENCODERS, "linear", Linear)
    monkeypatch.setitem(checks._SETTINGS, "subject_encoder", one_of("qformer", "linear"))
    made = tiny_adapter(subject_encoder="linear")
    made.save_pretrained(tmp_path)
    loaded = NestedAdapter.from_pretrained(tmp_path)
    assert type(loaded.encoder) is Linear and loaded.config["subject_encoder"] == "linear"
    features = torch.randn(2, 5, FEATURES)
    assert same_bits(loaded.encode(features), made.encode(features))


def test_the_default_subject_encoder_needs_no_entry(folder: Path):
    assert "subject_encoder" not in json.loads((folder / "config.json").read_text())
    edit_config(folder, lambda config: config.update(subject_encoder="qformer"))
    NestedAdapter.from_pretrained(folder)


@pytest.mark.parametrize("name", ["", "perceiver", None, 3, ["qformer"]])
def test_unknown_subject_encoder_names_the_known_ones(folder: Path, name: Any):
    with pytest.raises(NestedAdapterError, match="subject_encoder must be one of qformer"):
        tiny_adapter(subject_encoder=name)
    edit_config(folder, lambda config: config.update(subject_encoder=name))
    with pytest.raises(AdapterLoadError, match="subject_encoder must be one of qformer"):
        NestedAdapter.from_pretrained(folder)


def test_proxies_are_not_ignored(folder: Path):
    with pytest.raises(AdapterLoadError, match="HTTPS_PROXY"):
        NestedAdapter.from_pretrained(folder, proxies={"https": "http://127.0.0.1:1"})


@pytest.mark.parametrize("dtype", ["auto", "float16", "cpu", torch.int8, torch.float8_e4m3fn, 3], ids=str)
def test_what_is_no_type_of_weights_is_refused(folder: Path, dtype: Any):
    with pytest.raises(AdapterLoadError, match=r"torch_dtype.*torch\.float32"):
        NestedAdapter.from_pretrained(folder, torch_dtype=dtype)


def test_a_file_by_its_name_and_by_its_variant(folder: Path):
    with pytest.raises(AdapterLoadError, match=r"weight_name.*'fp16'.*leave out variant"):
        NestedAdapter.from_pretrained(folder, weight_name=WEIGHTS, variant="fp16")


def test_its_configuration_makes_another_one():
    """Also where arguments were given by their position, as from_unet gives the layers."""
    adapter = NestedAdapter({"mid_block.attn2": 8}, 40, 8, num_queries=2)
    again = NestedAdapter.from_config(adapter.config)
    names = ("layers", "token_dim", "image_feature_dim", "num_queries", "qformer_hidden_size")
    assert all(again.config[name] == adapter.config[name] for name in names)
