"""Projections of low rank: (W + s·B·A) · tokens, with W from the UNet and only A and B in the file."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import cpu_offload
from diffusers import StableDiffusionXLPipeline
from peft import LoraConfig
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

import tiny_pipeline as tiny
from diffusers_nested import AdapterLoadError, NestedAdapter, NestedAdapterError
from diffusers_nested.adapter import inspect_adapter
from diffusers_nested.adapter.locate import source_of
from diffusers_nested.backbones import cross_attention_layers, layer_widths
from diffusers_nested.cli.inspect import describe

WEIGHTS = "diffusion_pytorch_model.safetensors"
RANK, SCALE = 3, 16 / 3
MECHANISMS = {
    "nested": ("key", "value"),
    "decoupled": ("key", "value"),
    "located": ("key", "value"),
    "global_value": ("value",),
    "multiple_tokens": ("value",),
}


@pytest.fixture(scope="module")
def unet():
    return tiny.components()["unet"]


def small(unet: nn.Module, **settings: Any) -> NestedAdapter:
    """An adapter of low rank whose B is not zero."""
    adapter = tiny.adapter(unet, projection_rank=RANK, **settings)
    torch.manual_seed(7)
    for name, parameter in adapter.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.1)
    return adapter


def tokens() -> torch.Tensor:
    return torch.randn(2, 4, 40, generator=torch.Generator().manual_seed(3))


def weight_of(unet: nn.Module, path: str, name: str) -> torch.Tensor:
    return unet.get_parameter(f"{path}.to_{name[0]}.weight").detach()


def check_formula(adapter: NestedAdapter, unet: nn.Module, saved: dict[str, torch.Tensor]) -> None:
    projected = adapter.project(tokens())
    names = MECHANISMS[adapter.config["mechanism"]]
    for path, read in projected.items():
        assert len(read) == len(names)
        for name, got in zip(names, read, strict=True):
            a, b = (saved[f"projections.{path}.{name}.lora_{x}.weight"].double() for x in "AB")
            whole = weight_of(unet, path, name).double() + SCALE * b @ a
            assert (got.double() - tokens().double() @ whole.T).abs().max() < 1e-5
            assert (SCALE * b @ a).abs().max() > 1e-2


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_formula_in_every_form(unet, mechanism, tmp_path):
    norm = {} if mechanism in ("nested", "global_value", "multiple_tokens") else {"alpha": None}
    adapter = small(unet, mechanism=mechanism, **norm)
    adapter.save_pretrained(tmp_path)
    saved = load_file(tmp_path / WEIGHTS)
    check_formula(adapter.train(), unet, saved)
    check_formula(adapter.eval(), unet, saved)
    loaded = NestedAdapter.from_pretrained(tmp_path, unet=unet)
    check_formula(loaded, unet, saved)
    loaded.fuse()
    check_formula(loaded, unet, saved)
    loaded.read_base(unet)
    check_formula(loaded.train(), unet, saved)


def test_it_starts_where_a_dense_one_does(unet):
    ours = tiny.adapter(unet, projection_rank=RANK).project(tokens())
    for path, read in ours.items():
        for name, got in zip(("key", "value"), read, strict=True):
            torch.testing.assert_close(got, tokens() @ weight_of(unet, path, name).T, rtol=0, atol=1e-5)


def test_the_file_holds_a_and_b_alone(unet, tmp_path):
    adapter = small(unet)
    adapter.save_pretrained(tmp_path / "one")
    saved = load_file(tmp_path / "one" / WEIGHTS)
    layers = layer_widths(unet)
    expected = 2 * RANK * sum(40 + width for width in layers.values())
    assert sum(x.numel() for name, x in saved.items() if name.startswith("projections.")) == expected
    assert json.loads((tmp_path / "one" / "config.json").read_text())["projection_rank"] == RANK
    pipeline = tiny_pipeline_of(unet)
    pipeline.load_nested_adapter(tmp_path / "one", image_encoder_folder=None)
    loaded = pipeline.nested_adapters["person"]
    loaded.save_pretrained(tmp_path / "two")
    pipeline.unload_nested_adapter()
    again = load_file(tmp_path / "two" / WEIGHTS)
    assert saved.keys() == again.keys() and all(torch.equal(saved[name], again[name]) for name in saved)
    text = describe("one", inspect_adapter(*source_of(tmp_path / "one", None, None)))
    assert f"rank {RANK}" in text
    tiny.adapter(unet).save_pretrained(tmp_path / "dense")
    assert "projection_rank" not in (tmp_path / "dense" / "config.json").read_text()


def tiny_pipeline_of(unet: nn.Module):
    from diffusers import StableDiffusionXLPipeline

    pipeline = StableDiffusionXLPipeline(**{**tiny.components(), "unet": unet}, add_watermarker=False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def picture(pipeline: Any, source: Any) -> np.ndarray:
    pipeline.load_nested_adapter(source, image_encoder_folder=None)
    embeds = torch.randn(1, 5, 40, generator=torch.Generator().manual_seed(5))
    try:
        return pipeline(
            "a photo of a person",
            nested_adapter_image_embeds=embeds,
            num_inference_steps=2,
            height=16,
            width=16,
            output_type="np",
            generator=torch.Generator().manual_seed(0),
        ).images
    finally:
        pipeline.unload_nested_adapter()


def test_saved_and_loaded_it_makes_the_same_picture(tmp_path):
    pipeline = tiny_pipeline_of(tiny.components()["unet"])
    adapter = small(pipeline.unet).eval()
    ours = picture(pipeline, adapter)
    adapter.save_pretrained(tmp_path)
    assert np.array_equal(ours, picture(pipeline, tmp_path))
    assert np.array_equal(ours, picture(pipeline, NestedAdapter.from_pretrained(tmp_path)))
    assert not np.array_equal(ours, picture(pipeline, tiny.adapter(pipeline.unet, projection_rank=RANK)))
    cpu_offload(pipeline.unet, execution_device="cpu")
    assert next(pipeline.unet.parameters()).is_meta
    assert np.array_equal(ours, picture(pipeline, tmp_path))


def test_only_a_b_and_the_encoder_learn(unet):
    adapter = small(unet).train()
    sum(x.square().mean() for read in adapter.project(tokens()).values() for x in read).backward()
    with_gradient = {name for name, x in adapter.named_parameters() if x.grad is not None and x.grad.abs().sum() > 0}
    assert with_gradient == {name for name, _ in adapter.named_parameters() if name.startswith("projections.")}
    assert all(".lora_" in name for name in with_gradient)
    assert all(x.grad is None for x in unet.parameters())
    adapter.fuse()
    with pytest.raises(NestedAdapterError, match=r"fused.*read_base"):
        adapter.project(tokens())


def test_the_best_approximation_of_a_dense_one(unet):
    dense = tiny.adapter(unet)
    torch.manual_seed(8)
    for x in dense.projections.parameters():
        nn.init.normal_(x, std=0.2)
    made = NestedAdapter.from_unet(unet, start_from=dense, projection_rank=RANK)
    again = NestedAdapter.from_unet(unet, start_from=made)
    whole = NestedAdapter.from_unet(unet, start_from=made, projection_rank=None)
    assert whole.config.get("projection_rank") is None and again.config["projection_rank"] == RANK
    for path in layer_widths(unet):
        for name in ("key", "value"):
            own = weight_of(unet, path, name).double()
            difference = dense.projections.get_submodule(f"{path}.{name}").weight.detach().double() - own
            left, values, right = torch.linalg.svd(difference, full_matrices=False)
            best = (left[:, :RANK] * values[:RANK]) @ right[:RANK]
            part, copy = (x.projections.get_submodule(f"{path}.{name}") for x in (made, again))
            got = SCALE * part.lora_B.weight.detach().double() @ part.lora_A.weight.detach().double()
            assert (got - best).abs().max() < 1e-5 * values[0]
            assert torch.equal(part.lora_A.weight, copy.lora_A.weight)
            assert torch.equal(part.lora_B.weight, copy.lora_B.weight)
            dense_again = whole.projections.get_submodule(f"{path}.{name}").weight.detach().double()
            assert (dense_again - own - best).abs().max() < 1e-5 * values[0]


def test_a_higher_rank_leaves_room_to_learn(unet):
    made = NestedAdapter.from_unet(unet, start_from=small(unet), projection_rank=RANK + 2)
    for name, x in made.named_parameters():
        if "lora_A" in name:
            assert (x.norm(dim=1) > 0.5).all()


@pytest.mark.parametrize("rank", [0, -1, True, 2.0, "4", 41])
def test_ranks_that_are_refused(unet, rank):
    with pytest.raises(NestedAdapterError, match="projection_rank must be"):
        tiny.adapter(unet, projection_rank=rank)


def test_no_rank_without_projections(unet):
    with pytest.raises(NestedAdapterError, match=r"projection_rank must be None.*'simple'"):
        tiny.adapter(unet, projection_rank=2, mechanism="simple", alpha=None)


def test_without_the_unet_it_can_only_be_inspected(unet, tmp_path):
    small(unet).save_pretrained(tmp_path)
    loaded = NestedAdapter.from_pretrained(tmp_path)
    assert loaded.needs_base and loaded.config["projection_rank"] == RANK
    with pytest.raises(NestedAdapterError, match=r"read_base\(unet\)"):
        loaded.project(tokens())
    with pytest.raises(NestedAdapterError, match=r"read_base\(unet\)"):
        loaded.fuse()


def edited(folder: Path, **changes: Any) -> Path:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))
    return folder


@pytest.mark.parametrize(("rank", "named"), [(RANK + 1, "wrongly shaped"), (None, "misses"), (0, "must be a whole")])
def test_files_of_another_rank(unet, tmp_path, rank, named):
    small(unet).save_pretrained(tmp_path)
    pipeline = tiny_pipeline_of(unet)
    with pytest.raises(AdapterLoadError, match=named):
        pipeline.load_nested_adapter(edited(tmp_path, projection_rank=rank), image_encoder_folder=None)
    assert type(pipeline).__name__ == "StableDiffusionXLPipeline" and not hasattr(unet, "_nested_adapter_state")
    with safe_open(tmp_path / WEIGHTS, framework="pt") as file:
        assert all(".weight" in name or "encoder" in name for name in file.keys())  # noqa: SIM118


def test_lora_in_the_unet_does_not_count(tmp_path):
    unet, plain = tiny.components()["unet"], tiny.components()["unet"]
    small(plain).save_pretrained(tmp_path)
    unet.add_adapter(LoraConfig(r=2, target_modules=["to_k", "to_v"], init_lora_weights=False))
    check_formula(NestedAdapter.from_pretrained(tmp_path, unet=unet), plain, load_file(tmp_path / WEIGHTS))
    unet.fuse_lora()
    with pytest.raises(NestedAdapterError, match=r"to_k.*merged.*unfuse_lora"):
        NestedAdapter.from_pretrained(tmp_path, unet=unet)


def test_quantised_weights_are_refused(tmp_path):
    unet = tiny.components()["unet"]
    small(unet).save_pretrained(tmp_path)
    path, layer = next(iter(cross_attention_layers(unet).items()))
    assert isinstance(layer.to_v, nn.Linear)
    layer.to_v.weight = nn.Parameter(layer.to_v.weight.detach().to(torch.float8_e4m3fn), requires_grad=False)
    with pytest.raises(NestedAdapterError, match=rf"{path}.to_v.*float8_e4m3fn.*before the UNet is quantised"):
        NestedAdapter.from_pretrained(tmp_path, unet=unet)


@pytest.mark.parametrize("is_fused", [False, True])
def test_an_adapter_in_memory_that_adds_to_another_unet(unet, is_fused):
    """From a folder it would read this pipeline's keys and values; in memory it has those of the other."""
    adapter = small(unet).eval().requires_grad_(False)
    if is_fused:
        adapter.fuse()
    pipeline = StableDiffusionXLPipeline(**tiny.components(), add_watermarker=False)
    pipeline.load_nested_adapter(adapter, image_encoder_folder=None)
    pipeline.unload_nested_adapter()
    other = StableDiffusionXLPipeline(**tiny.components(seed=5), add_watermarker=False)
    with pytest.raises(AdapterLoadError, match="of another UNet"):
        other.load_nested_adapter(adapter, image_encoder_folder=None)
    assert type(other) is StableDiffusionXLPipeline
    adapter.read_base(other.unet)
    other.load_nested_adapter(adapter, image_encoder_folder=None)
