"""The nodes of ComfyUI act as our pipelines do, leave everything else as it is, and refuse what they cannot do."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from inspect import signature
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import comfyui_stand_in as comfyui
import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLPipeline

import ip_adapter_files
import tiny_pipeline
from diffusers_nested import Subject
from diffusers_nested.backbones import BACKBONES
from diffusers_nested.backbones.base import BaseModel, Transformers
from integrations.comfyui import NODE_CLASS_MAPPINGS, nodes
from integrations.comfyui.loading import Photos

PROMPT = "a photo of a person walking a pet in the snow"
NEGATIVE = "blurry low quality person"
WORKFLOWS = Path(nodes.__file__).parent / "example_workflows"
WIDGETS = ("STRING", "FLOAT")
KEPT = ("text_embeds", "time_ids")


class World:
    """A tiny SDXL, in a pipeline of ours and in ComfyUI's form, with an adapter in a folder."""

    def __init__(self, models: Path) -> None:
        self.parts = tiny_pipeline.components(norm_num_groups=32)
        self.pipe: Any = StableDiffusionXLPipeline(**self.parts)
        self.pipe.set_progress_bar_config(disable=True)
        self.folder = models / "nested_adapters" / "humans"
        tiny_pipeline.save_adapter(self.folder, tiny_pipeline.adapter(self.parts["unet"]))
        self.pipe.load_nested_adapter(self.folder)
        self.tokenizer = comfyui.Tokenizer(g=self.parts["tokenizer_2"], l=self.parts["tokenizer"])
        self.clip = comfyui.Clip(self.tokenizer, self.encode)
        self.prompts: dict[str, Any] = {}

    def encode(self, text: str) -> torch.Tensor:
        return self.pipe.encode_prompt(text, device="cpu", do_classifier_free_guidance=False)[0]

    def model(self) -> comfyui.ModelPatcher:
        return comfyui.ModelPatcher(self.parts["unet"])

    def prompt(self, text: str) -> Any:
        if text not in self.prompts:
            self.prompts[text] = nodes.NestedAdapterPrompt().encode(self.clip, text)[0]
        return self.prompts[text]

    @cached_property
    def adapter(self) -> Any:
        return nodes.LoadNestedAdapter().load("humans")[0]

    def recorded(self, **subjects: Any) -> list[tuple[Any, ...]]:
        """What our pipeline's UNet gets and gives in each step: latents, time, embeddings, conditions, output."""
        unet, steps = self.parts["unet"], []

        def record(module: Any, args: Any, kwargs: Any, out: Any) -> None:
            states, more = kwargs["encoder_hidden_states"], kwargs["added_cond_kwargs"]
            steps.append((args[0].clone(), args[1], states, {k: more[k] for k in KEPT}, out[0].clone()))

        hook = unet.register_forward_hook(record, with_kwargs=True)
        settings = {"num_inference_steps": 1, "output_type": "latent", "height": 16, "width": 24, **subjects}
        try:
            seed = torch.Generator().manual_seed(5)
            self.pipe(PROMPT, negative_prompt=NEGATIVE, generator=seed, **settings)
        finally:
            hook.remove()
        return steps


@pytest.fixture(scope="module")
def world(tmp_path_factory: Any) -> Iterator[World]:
    with pytest.MonkeyPatch.context() as patch:
        models = tmp_path_factory.mktemp("models")
        comfyui.install(patch, models)
        yield World(models)


def image(*seeds: int) -> torch.Tensor:
    """ComfyUI's batch of pictures."""
    photos = [np.asarray(tiny_pipeline.photo(seed), np.float32) / 255 for seed in seeds]
    return torch.from_numpy(np.stack(photos))


def apply(world: World, model: Any = None, positive: Any = None, **inputs: Any) -> Any:
    model = world.model() if model is None else model
    positive = world.prompt(PROMPT) if positive is None else positive
    inputs = {"adapter": world.adapter, "image": image(3), **inputs}
    return nodes.ApplyNestedAdapter().apply(model, positive=positive, **inputs)[0]


def run(world: World, model: Any, step: tuple[Any, ...], positive: Any = None, negative: Any = None, sigma=5.0) -> Any:
    """One step in ComfyUI's form, as our pipeline orders rows: [negative, positive]."""
    x, t, _, more, _ = step
    half = len(x) // 2
    positive = world.prompt(PROMPT) if positive is None else positive
    negative = world.prompt(NEGATIVE) if negative is None else negative
    conditions = {name: (value[half:], value[:half]) for name, value in more.items()}
    with torch.inference_mode():
        out = comfyui.denoise(model, positive, negative, x[half:], sigma, t, conditions)
    return torch.cat([out[-1], out[0]])


def picture_mask() -> torch.Tensor:
    mask = torch.zeros(16, 24)
    mask[:, 5:16] = 1
    return mask


CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "one photo": ({}, {}),
    "raised": ({"scale": 2.5}, {"scale": 2.5}),
    "blended": ({"scale": 0.4}, {"scale": 0.4}),
    "two photos": ({"image": image(3, 4)}, {"image": [tiny_pipeline.photo(3), tiny_pipeline.photo(4)]}),
    "mask": ({"mask": picture_mask()[None]}, {"mask": picture_mask()}),
    "another word": ({"word": "pet"}, {"token": "pet"}),
}


@pytest.mark.parametrize("inputs, ours", CASES.values(), ids=CASES)
def test_acts_as_our_pipeline(world, inputs, ours):
    (step,) = world.recorded(nested_adapter_image=Subject(**{"image": tiny_pipeline.photo(3), **ours}))
    torch.testing.assert_close(run(world, apply(world, **inputs), step), step[4], atol=1e-4, rtol=0)
    assert (run(world, world.model(), step) - step[4]).abs().max() > 1e-3


def test_a_word_that_is_located_from_step_to_step_acts_as_in_our_pipeline(world, tmp_path):
    made = tiny_pipeline.adapter(world.parts["unet"], mechanism="located", alpha=None)
    folder = tiny_pipeline.save_adapter(tmp_path / "adapter", made)
    world.pipe.load_nested_adapter(folder, adapter_name="other")
    try:
        subject = Subject(image=tiny_pipeline.photo(3), token="person", adapter_name="other")
        steps = world.recorded(nested_adapter_image=subject, num_inference_steps=2)
    finally:
        world.pipe.unload_nested_adapter("other")
    model = apply(world, adapter=nodes.LoadNestedAdapter().load("", str(folder))[0])
    for step in steps:
        torch.testing.assert_close(run(world, model, step), step[4], atol=1e-4, rtol=0)


def test_an_ip_adapters_file_acts_at_a_word_as_in_our_pipeline(world, tmp_path, monkeypatch):
    tiny = tuple(
        Transformers(block, count, depth=1, width=width)
        for block, count, width in (
            ("down_blocks.0", 1, 32),
            ("down_blocks.1", 1, 64),
            ("up_blocks.0", 2, 64),
            ("up_blocks.1", 2, 32),
            ("mid_block", 1, 64),
        )
    )
    # known by the shapes of the weights, as SDXL is
    known = replace(BACKBONES["sdxl"], base_models=(BaseModel("Tiny SDXL", None, 40, tiny),))
    monkeypatch.setitem(BACKBONES, "sdxl", known)
    ip_adapter_files.repository(tmp_path, world.parts["unet"])
    where = {"subfolder": "sdxl_models", "weight_name": "base.safetensors"}
    world.pipe.load_nested_adapter(tmp_path, adapter_name="other", **where)
    try:
        subject = Subject(image=tiny_pipeline.photo(3), token="person", adapter_name="other", scale=0.8)
        (step,) = world.recorded(nested_adapter_image=subject)
    finally:
        world.pipe.unload_nested_adapter("other")
    file = tmp_path / "sdxl_models" / "base.safetensors"
    adapter = nodes.LoadNestedAdapter().load("", str(file))[0]
    model = apply(world, adapter=adapter, scale=0.8)
    torch.testing.assert_close(run(world, model, step), step[4], atol=1e-4, rtol=0)


@pytest.fixture(scope="module")
def step(world: World) -> tuple[Any, ...]:
    return world.recorded(num_images_per_prompt=2)[0]


def test_photos_are_blended_by_their_weights_as_in_our_pipeline(world):
    both = [tiny_pipeline.photo(3), tiny_pipeline.photo(4)]
    (step,) = world.recorded(nested_adapter_image=Subject(image=both, image_weights=[1.0, 0.25]))
    blend = nodes.BlendNestedAdapterPhotos()
    photos = blend.blend(image(4), 0.25, blend.blend(image(3), 1.0)[0])[0]
    out = run(world, apply(world, image=None, photos=photos), step)
    torch.testing.assert_close(out, step[4], atol=1e-4, rtol=0)


def test_only_the_clone_and_only_the_positive_rows_change(world, step):
    plain = world.model()
    before = run(world, plain, step)
    options = dict(plain.model_options["transformer_options"])
    with_subject = run(world, apply(world, plain), step)
    assert torch.equal(run(world, plain, step), before)
    assert plain.model_options["transformer_options"] == options
    assert not plain.wrappers
    half = len(before) // 2
    assert torch.equal(with_subject[:half], before[:half])  # though the negative prompt has the word
    assert all(not torch.equal(one, other) for one, other in zip(with_subject[half:], before[half:], strict=True))


def test_without_effect_everything_is_plain_to_the_bit(world, step):
    plain = run(world, world.model(), step)
    assert torch.equal(run(world, apply(world, scale=0.0), step), plain)
    late = apply(world, start=0.6)
    assert torch.equal(run(world, late, step, sigma=5.0), plain)
    assert not torch.equal(run(world, late, step, sigma=3.0), plain)
    early = apply(world, end=0.6)
    assert torch.equal(run(world, early, step, sigma=3.0), plain)


def test_several_subjects_act_together_as_in_our_pipeline(world):
    (step,) = world.recorded(
        nested_adapter_image=[
            Subject(image=tiny_pipeline.photo(3), token="person"),
            Subject(image=tiny_pipeline.photo(4), token="pet", scale=1.5),
        ]
    )
    one = apply(world)
    both = apply(world, one, word="pet", image=image(4), scale=1.5)
    torch.testing.assert_close(run(world, both, step), step[4], atol=1e-4, rtol=0)
    # the first model keeps its one subject
    assert not torch.allclose(run(world, one, step), step[4], atol=1e-3)


def test_prompts_of_other_lengths_in_the_batch_change_nothing(world, step):
    """ComfyUI repeats the shorter embeddings, so the word stands twice."""
    model, long = apply(world), torch.cat([world.encode(NEGATIVE), world.encode("a photo")], 1)
    half = len(step[0]) // 2
    expected = run(world, model, step)[half:]
    found = run(world, model, step, negative=[[long, {}]])[half:]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_areas_act_by_their_own_prompts(world, step):
    """One area has the subject and the other has not; their order does not matter."""
    first, other = world.prompt(PROMPT), world.prompt("a watercolor of a king on the beach")
    model = apply(world, positive=[*other, *first])  # the word is missing in one of them
    x, t, _, more, _ = step
    half = len(x) // 2
    conditions = {name: (value[half:], value[:half]) for name, value in more.items()}
    inputs = (x[half:], 5.0, t, conditions)
    both = comfyui.denoise(model, [*other, *first], world.prompt(NEGATIVE), *inputs)
    plain = comfyui.denoise(world.model(), [*other, *first], world.prompt(NEGATIVE), *inputs)
    assert torch.equal(both[0], plain[0])
    assert not torch.allclose(both[1], plain[1], atol=1e-3)
    assert torch.equal(both[2], plain[2])


def test_a_prompt_that_is_also_the_negative_one_acts_on_its_own_side(world, step):
    model, half = apply(world), len(step[0]) // 2
    out = run(world, model, step, negative=world.prompt(PROMPT))
    assert torch.equal(out[:half], run(world, world.model(), step, negative=world.prompt(PROMPT))[:half])
    assert not torch.allclose(out[:half], out[half:], atol=1e-3)


def test_a_subject_is_projected_once_per_sampling_and_released(world, step, monkeypatch):
    adapter = world.adapter
    projected = []
    own = type(adapter.adapter).project_by_layer
    monkeypatch.setattr(type(adapter.adapter), "project_by_layer", lambda *a: projected.append(1) or own(*a))
    positive, negative = world.prompt(PROMPT), world.prompt(NEGATIVE)
    model = nodes.ApplyNestedAdapter().apply(world.model(), adapter, positive, image=image(3))[0]
    assert not projected

    def steps() -> Any:
        return [run(world, model, step, positive, negative, sigma) for sigma in (9.0, 5.0, 1.0)][-1]

    out = comfyui.sample(model, positive, negative, steps)
    assert len(projected) == 1
    subjects = model.model_options["transformer_options"]["nested_adapter"]
    assert subjects._projected == [] and subjects._batches == {} and subjects._last is None
    assert torch.equal(comfyui.sample(model, positive, negative, steps), out)
    assert len(projected) == 2


def test_beside_another_replacement_the_difference_is_added(world, step):
    """As with an IP-Adapter's nodes, before ours or after it."""

    def other(q: Any, k: Any, v: Any, options: Any) -> Any:
        return comfyui.optimized_attention(q, k, v, options["n_heads"]) + added(None, q, k, v, options)

    def added(out: Any, q: Any, k: Any, v: Any, options: Any, **settings: Any) -> Any:
        return 0.1 * q

    keys = [layer.key for layer in nodes.find_layers(world.model().model.diffusion_model).values()]
    before = world.model()
    for key in keys:
        before.set_model_attn2_replace(other, *key)
    first = run(world, apply(world, before), step)
    model = apply(world)
    replaced = model.clone()
    for key in keys:
        patch = replaced.model_options["transformer_options"]["patches_replace"]["attn2"][key]
        patch.add(added, sigma_start=6.0, sigma_end=4.0)
    torch.testing.assert_close(run(world, replaced, step, sigma=5.0), first, atol=1e-4, rtol=0)
    plain = run(world, model, step)
    assert torch.equal(run(world, replaced, step, sigma=3.0), plain)  # outside the other one's limits
    assert not torch.allclose(first, plain, atol=1e-3)
    assert torch.equal(run(world, model, step, sigma=5.0), plain)  # the original is as it was


def test_half_precision(world, step):
    x, t, states, more, _ = step
    unet = tiny_pipeline.components(norm_num_groups=32)["unet"].to(torch.bfloat16)
    halved = (x.bfloat16(), t, states, {name: value.bfloat16() for name, value in more.items()}, None)
    model = apply(world, comfyui.ModelPatcher(unet))
    out = run(world, model, halved)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), run(world, apply(world), step), atol=0.1, rtol=0)


BAD: dict[str, tuple[dict[str, Any], list[str]]] = {
    "missing word": ({"word": "king"}, ["'king' is not in the prompt", "5:person</w>"]),
    "part of a word": ({"word": "per"}, ["'per'"]),
    "negative scale": ({"scale": -1.0}, ["scale", "-1.0"]),
    "no steps": ({"start": 0.5, "end": 0.5}, ["start", "end"]),
    "no photo": ({"image": None}, ["Neither image nor photos"]),
    "empty batch": ({"image": torch.rand(0, 4, 4, 3)}, ["(0, 4, 4, 3)"]),
    "no weight": ({"image": None, "photos": Photos((torch.rand(3, 4, 4),), (0.0,))}, ["weight of 'Blend", "(0.0,)"]),
    "several masks": ({"mask": torch.ones(2, 4, 4)}, ["batch of 2"]),
    "empty mask": ({"mask": torch.zeros(1, 4, 4)}, ["mask of 'Apply Nested Adapter'", "0 everywhere"]),
}


@pytest.mark.parametrize("inputs, words", BAD.values(), ids=BAD)
def test_bad_inputs_are_named(world, inputs, words):
    plain = world.model()
    with pytest.raises(ValueError) as error:
        apply(world, plain, **inputs)
    assert all(word in str(error.value) for word in words), error.value
    assert plain.model_options == {"transformer_options": {}}


def test_a_word_belongs_to_one_subject_unless_masks_keep_them_apart(world):
    one = apply(world)
    with pytest.raises(ValueError, match=r"'person'.*Give each its own word"):
        apply(world, one)
    halves = torch.zeros(2, 1, 16, 24)
    halves[0, ..., :12], halves[1, ..., 12:] = 1, 1
    apply(world, apply(world, mask=halves[0]), mask=halves[1], image=image(4))


def test_a_conditioning_must_say_what_it_was_made_of(world):
    encoded = [[world.encode(PROMPT), {}]]
    with pytest.raises(ValueError, match="'Nested Adapter Prompt'"):
        apply(world, positive=encoded)
    tagged = nodes.NestedAdapterPrompt().encode(world.clip, PROMPT, encoded)[0]
    apply(world, positive=tagged)
    two_chunks = [[torch.cat([encoded[0][0]] * 2, 1), {}]]
    with pytest.raises(ValueError, match="154 positions, but the text 77"):
        nodes.NestedAdapterPrompt().encode(world.clip, PROMPT, two_chunks)


def test_a_sampler_without_the_prompt_is_refused_before_its_first_step(world):
    model, other = apply(world), world.prompt("a watercolor of a child")
    with pytest.raises(ValueError, match="None of the 2 conditionings"):
        comfyui.sample(model, other, world.prompt(NEGATIVE), lambda: pytest.fail("sampled"))


def test_a_replacement_after_ours_is_refused(world):
    model = apply(world)
    model.set_model_attn2_replace(lambda q, k, v, options: q, "middle", 0, 0)
    with pytest.raises(ValueError, match=r"1 of the model's layers.*after that node"):
        comfyui.sample(model, world.prompt(PROMPT), [], lambda: pytest.fail("sampled"))


def test_an_adapter_of_another_family_or_a_model_of_another_kind_is_refused(world, tmp_path):
    other = comfyui.ModelPatcher(tiny_pipeline.sd15_components()["unet"])
    with pytest.raises(ValueError, match=r"width 40, but the model reads 16.*made for SDXL"):
        apply(world, other)
    other.model = SimpleNamespace(diffusion_model=torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="is a Linear without cross-attention layers"):
        apply(world, other)


def test_what_cannot_be_loaded_is_named(world, tmp_path):
    load = nodes.LoadNestedAdapter().load
    alone = tiny_pipeline.save_adapter(tmp_path / "alone", tiny_pipeline.adapter(world.parts["unet"]))
    shutil.rmtree(alone / "image_encoder")
    with pytest.raises(ValueError, match=r"config names none\. Load it from"):
        load("(repository)", str(alone))
    with pytest.raises(ValueError, match=r"image_encoder is '\.\./here'"):
        load("humans", "", "../here")
    with pytest.raises(ValueError, match="no adapter 'pets'; found are humans"):
        load("pets")
    with pytest.raises(ValueError):
        load("(repository)", str(tmp_path))
    simple = tiny_pipeline.adapter(world.parts["unet"], mechanism="simple", alpha=None)
    tiny_pipeline.save_adapter(tmp_path / "simple", simple)
    with pytest.raises(ValueError, match="'simple', which is not there in ComfyUI"):
        load("(repository)", str(tmp_path / "simple"))
    lower = tiny_pipeline.adapter(world.parts["unet"], projection_rank=2)
    tiny_pipeline.save_adapter(tmp_path / "lower", lower)
    with pytest.raises(ValueError, match="Make them dense"):
        load("(repository)", str(tmp_path / "lower"))


def test_nodes_name_their_inputs_as_comfyui_wants_them(world):
    for name, node in NODE_CLASS_MAPPINGS.items():
        inputs = node.INPUT_TYPES()
        given = {**inputs["required"], **inputs.get("optional", {})}
        _, *taken = signature(getattr(node, node.FUNCTION)).parameters
        assert list(given) == taken, name
        json.dumps(inputs)  # the frontend gets it as JSON
    assert NODE_CLASS_MAPPINGS["LoadNestedAdapter"].INPUT_TYPES()["required"]["adapter"][0] == [
        "(repository)",
        "humans",
    ]


@pytest.mark.parametrize("file", sorted(WORKFLOWS.glob("*.json")), ids=lambda file: file.stem)
def test_example_workflows_connect_what_the_nodes_have(world, file):
    flow = json.loads(file.read_text(encoding="utf-8"))
    links = {link[0]: link for link in flow["links"]}
    for node in flow["nodes"]:
        ours = NODE_CLASS_MAPPINGS.get(node["type"])
        for name, socket in [(one["name"], one) for one in node["inputs"]]:
            assert socket["link"] is None or links[socket["link"]][3] == node["id"], name
            assert socket["link"] is None or links[socket["link"]][5] == socket["type"], name
        if ours is None:
            continue
        inputs = ours.INPUT_TYPES()
        kinds = {name: one[0] for name, one in {**inputs["required"], **inputs.get("optional", {})}.items()}
        sockets = {name: kind for name, kind in kinds.items() if kind not in WIDGETS and isinstance(kind, str)}
        assert {one["name"]: one["type"] for one in node["inputs"]} == sockets
        assert len(node["widgets_values"]) == len(kinds) - len(sockets)
        assert [one["type"] for one in node["outputs"]] == list(ours.RETURN_TYPES)
        missing = [one["name"] for one in node["inputs"] if one["link"] is None and one["name"] in inputs["required"]]
        assert not missing
