"""SDXL in Modular Diffusers: one call of the UNet per condition, under several guiders."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from brute_force import brute_subject_of, install
from cases import PROMPT, controlled, inpaint, redraw
from diffusers import (
    ClassifierFreeGuidance,
    LayerSkipConfig,
    LoopSequentialPipelineBlocks,
    PerturbedAttentionGuidance,
    SequentialPipelineBlocks,
    StableDiffusionXLAutoBlocks,
    StableDiffusionXLModularPipeline,
)

import tiny_parts
import tiny_pipeline
from diffusers_nested import (
    NestedAdapterError,
    NestedDenoiseStep,
    PromptTokenError,
    RowsNotFoundError,
    Subject,
    add_nested_subjects,
)
from diffusers_nested.backbones import cross_attention_layers
from tiny_pipeline import photo

TOLERANCE = 2e-5  # of pictures in 0..1, float32; without guidance a subject changes them little
STEPS = 3
WITH_THE_WORD = "blurry photo of a person"
PROMPTS = [PROMPT, "a watercolor of a king and a person on the beach"]


def cfg() -> Any:
    return ClassifierFreeGuidance(guidance_scale=3.0)


def pag() -> Any:
    layers = LayerSkipConfig(indices=[0], fqn="mid_block.attentions.0.transformer_blocks")
    return PerturbedAttentionGuidance(
        guidance_scale=3.0,
        perturbed_guidance_scale=4.0,
        perturbed_guidance_start=0.0,
        perturbed_guidance_stop=1.0,
        perturbed_guidance_config=layers,
    )


def off() -> Any:
    return ClassifierFreeGuidance(guidance_scale=1.0)


# guider -> the conditions of the UNet's calls, step by step; diffusers never perturbs the first step
GUIDERS = {"cfg": (cfg, "cu cu cu"), "pag": (pag, "cu cuc cuc"), "off": (off, "c c c")}


def no_parts(unet: Any) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class Task:
    """A workflow of SDXL's blocks, with what its call needs beside the prompt."""

    inputs: Callable[[], dict[str, Any]] = dict
    parts: Callable[[Any], dict[str, Any]] = no_parts
    unet: dict[str, Any] = field(default_factory=dict)
    steps: int = STEPS


TASKS = {
    "text2image": Task(),
    "image2image": Task(redraw, steps=2),
    "inpainting": Task(inpaint, steps=2),
    "controlnet_text2image": Task(controlled(dict), tiny_parts.controlnet),
    "controlnet_inpainting": Task(controlled(inpaint), tiny_parts.controlnet, steps=2),
}
TEXT = TASKS["text2image"]


def build(task: Task = TEXT, guider: Callable[[], Any] = cfg, blocks: Any = None) -> Any:
    """A pipeline of SDXL's blocks; the same weights every time."""
    pipeline = (StableDiffusionXLAutoBlocks() if blocks is None else blocks).init_pipeline()
    parts = tiny_pipeline.components(**task.unet)
    named = {**parts, **task.parts(parts["unet"]), "guider": guider()}
    pipeline.update_components(**{name: part for name, part in named.items() if name in pipeline.component_names})
    return pipeline


def nested(task: Task = TEXT, guider: Callable[[], Any] = cfg) -> Any:
    return build(task, guider, add_nested_subjects(StableDiffusionXLAutoBlocks()))


def run(pipeline: Any, task: Task = TEXT, **keywords: Any) -> np.ndarray:
    """Generate with fixed noise; pictures (N, 16, 16, 3) in 0..1."""
    settings = {"prompt": PROMPT, "num_inference_steps": STEPS, "output_type": "np"}
    seeded = {"generator": torch.Generator().manual_seed(0)}
    return np.asarray(pipeline(output="images", **{**settings, **task.inputs(), **seeded, **keywords}))


def formula(rows: list, calls: str, task: Task = TEXT, guider: Callable[[], Any] = cfg, **keywords: Any) -> np.ndarray:
    """The plain pipeline's pictures with the formula; ``calls`` says which calls of the UNet have the prompt."""
    pipeline, order, number = build(task, guider), calls.replace(" ", ""), []
    pipeline.unet.register_forward_pre_hook(lambda *given: number.append(1))
    install(pipeline.unet, lambda count: rows if order[len(number) - 1] == "c" else [[]] * len(rows))
    pictures = run(pipeline, task, **keywords)
    assert len(number) == len(order)
    return pictures


@pytest.fixture
def pipeline(adapters):
    pipeline = nested()
    pipeline.load_nested_adapter([adapters["person"], adapters["pet"]])
    return pipeline


def person(adapters, prompt: str = PROMPT, **values: Any) -> Any:
    return brute_subject_of(adapters["person"], [photo(1)], prompt, **values)


@pytest.mark.parametrize("scale", [0.4, 1.0, 3.0])
@pytest.mark.parametrize("guider", GUIDERS)
def test_equals_the_formula(adapters, guider, scale):
    make, calls = GUIDERS[guider]
    ours = nested(guider=make)
    ours.load_nested_adapter(adapters["person"])
    ours.set_nested_adapter_scale(scale)
    pictures = run(ours, nested_adapter_image=photo(1))
    expected = formula([[person(adapters, scale=scale)]], calls, guider=make)
    assert np.abs(pictures - expected).max() < TOLERANCE
    assert np.abs(pictures - run(build(guider=make))).max() > 5 * TOLERANCE


def test_maps_of_words_last_from_call_to_call(adapters_of):
    make, calls = GUIDERS["pag"]
    ours, adapters = nested(guider=make), adapters_of("located")
    ours.load_nested_adapter(adapters["person"])
    expected = formula([[person(adapters)]], calls, guider=make)
    assert np.abs(run(ours, nested_adapter_image=photo(1)) - expected).max() < TOLERANCE


def test_perturbed_calls_have_the_subject_and_are_perturbed(adapters):
    make, calls = GUIDERS["pag"]
    ours = nested(guider=make)
    ours.load_nested_adapter(adapters["person"])
    pictures = run(ours, nested_adapter_image=photo(1))
    without = formula([[person(adapters)]], calls.replace("cuc", "cuu"), guider=make)
    assert np.abs(pictures - without).max() > 5 * TOLERANCE
    ours.update_components(guider=cfg())
    assert np.abs(pictures - run(ours, nested_adapter_image=photo(1))).max() > 5 * TOLERANCE


@pytest.mark.parametrize("name", TASKS)
def test_every_task_equals_the_formula(adapters, name):
    task = TASKS[name]
    ours = nested(task)
    ours.load_nested_adapter(adapters["person"])
    pictures = run(ours, task, nested_adapter_image=photo(1))
    expected = formula([[person(adapters)]], "cu" * task.steps, task)
    assert np.abs(pictures - expected).max() < TOLERANCE
    assert np.abs(pictures - run(build(task), task)).max() > 5 * TOLERANCE


def test_workflows_keep_the_block(adapters):
    blocks = add_nested_subjects(StableDiffusionXLAutoBlocks())
    alone = build(blocks=blocks.get_workflow("text2image"))
    assert "controlnet" not in alone.component_names
    after = build(blocks=add_nested_subjects(StableDiffusionXLAutoBlocks().get_workflow("text2image")))
    expected = formula([[person(adapters)]], "cu" * STEPS)
    for ours in (alone, after):
        ours.load_nested_adapter(adapters["person"])
        assert np.abs(run(ours, nested_adapter_image=photo(1)) - expected).max() < TOLERANCE


@pytest.mark.parametrize("guider", GUIDERS)
def test_without_keywords_it_is_the_plain_pipeline(adapters, guider):
    make, _ = GUIDERS[guider]
    ours = nested(guider=make)
    ours.load_nested_adapter(adapters["person"])
    plain = run(build(guider=make))
    assert np.array_equal(run(ours), plain)
    ours.set_nested_adapter_scale(0.0)
    assert np.array_equal(run(ours, nested_adapter_image=photo(1)), plain)


def test_two_subjects_and_two_photos(pipeline, adapters):
    ours = run(pipeline, nested_adapter_image={"person": photo(1), "pet": [photo(2), photo(3)]})
    pet = brute_subject_of(adapters["pet"], [photo(2), photo(3)], word="pet")
    assert np.abs(ours - formula([[person(adapters), pet]], "cu" * STEPS)).max() < TOLERANCE


def test_another_word_and_embeddings(pipeline, adapters):
    embeds = pipeline.encode_nested_adapter_image(photo(1), "person")
    subject = person(adapters, word="pet")
    ours = run(pipeline, nested_adapter_image_embeds=Subject(image_embeds=embeds, token="pet", adapter_name="person"))
    assert np.abs(ours - formula([[subject]], "cu" * STEPS)).max() < TOLERANCE
    pipeline.unload_nested_adapter("pet")
    ours = run(pipeline, nested_adapter_image=photo(1), nested_adapter_token="pet")
    assert np.abs(ours - formula([[subject]], "cu" * STEPS)).max() < TOLERANCE


@pytest.mark.parametrize("guider", GUIDERS)
def test_prompts_with_two_pictures_each(adapters, guider):
    make, calls = GUIDERS[guider]
    ours = nested(guider=make)
    ours.load_nested_adapter(adapters["person"])
    keywords = {"prompt": PROMPTS, "num_images_per_prompt": 2, "negative_prompt": [WITH_THE_WORD, "blurry"]}
    images = [photo(1), photo(2)]
    pictures = run(ours, nested_adapter_image=[{"person": image} for image in images], **keywords)
    rows = [
        [brute_subject_of(adapters["person"], [image], prompt)]
        for image, prompt in zip(images, PROMPTS, strict=True)
        for _ in range(2)
    ]
    assert np.abs(pictures - formula(rows, calls, guider=make, **keywords)).max() < TOLERANCE
    assert np.abs(pictures - formula(rows[::-1], calls, guider=make, **keywords)).max() > 5 * TOLERANCE


def test_a_negative_prompt_with_the_word_has_no_subject(pipeline, adapters):
    keywords = {"negative_prompt": WITH_THE_WORD}
    ours = run(pipeline, nested_adapter_image={"person": photo(1)}, **keywords)
    assert np.abs(ours - formula([[person(adapters)]], "cu" * STEPS, **keywords)).max() < TOLERANCE


@pytest.mark.parametrize("name", ["text2image", "image2image"])
def test_parts_of_the_steps_are_those_of_the_loop(adapters, name):
    task = TASKS[name]
    ours = nested(task)
    ours.load_nested_adapter(adapters["person"])
    # of text2image's 3 steps and of image2image's 2 it is the first; of the 3 in the scheduler it would be none
    pictures = run(ours, task, nested_adapter_image=Subject(photo(1), end=0.5))
    calls = "cu" + "uu" * (task.steps - 1)
    assert np.abs(pictures - formula([[person(adapters)]], calls, task)).max() < TOLERANCE


def test_encoded_by_another_pipeline(adapters):
    blocks = add_nested_subjects(StableDiffusionXLAutoBlocks())
    encoding = build(blocks=SequentialPipelineBlocks.from_blocks_dict({"text": blocks.sub_blocks.pop("text_encoder")}))
    denoising = build(blocks=blocks)
    denoising.load_nested_adapter(adapters["person"])
    keywords = {"prompt": PROMPTS, "negative_prompt": [WITH_THE_WORD, "blurry"]}
    names = ["prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds"]
    embeds = encoding(output=names, **keywords)
    given = [[Subject(photo(1), token_indices=[5])], [Subject(photo(1), token_indices=[8])]]
    subjects = [[person(adapters, prompt)] for prompt in PROMPTS for _ in range(2)]
    pictures = run(denoising, nested_adapter_image=given, num_images_per_prompt=2, **embeds)
    expected = formula(subjects, "cu" * STEPS, num_images_per_prompt=2, **keywords)
    assert np.abs(pictures - expected).max() < TOLERANCE
    with pytest.raises(PromptTokenError):
        run(denoising, nested_adapter_image=photo(1), **embeds)


def test_load_and_unload_twice_leaves_no_trace(adapters):
    ours = nested(guider=pag)
    plain = run(ours)  # the guider leaves traces of its own in the UNet
    before = {path: layer.processor for path, layer in cross_attention_layers(ours.unet).items()}
    attributes = set(vars(ours.unet))
    for _ in range(2):
        ours.load_nested_adapter(adapters["person"])
        assert type(ours) is StableDiffusionXLModularPipeline
        run(ours, nested_adapter_image=photo(1))
        ours.unload_nested_adapter()
        after = {path: layer.processor for path, layer in cross_attention_layers(ours.unet).items()}
        assert all(after[path] is before[path] for path in before)
        assert set(vars(ours.unet)) == attributes
        assert np.array_equal(run(ours), plain)


def test_an_exception_while_denoising_releases_the_subjects(pipeline):
    plain, hooks = run(pipeline), len(pipeline.unet._forward_pre_hooks)

    def fail(module, args, output):
        raise KeyboardInterrupt

    handle = pipeline.unet.mid_block.register_forward_hook(fail)
    with pytest.raises(KeyboardInterrupt):
        run(pipeline, nested_adapter_image={"person": photo(1)})
    handle.remove()
    assert all(not layer.processor.acting for layer in cross_attention_layers(pipeline.unet).values())
    assert len(pipeline.unet._forward_pre_hooks) == hooks
    assert np.array_equal(run(pipeline), plain)


def test_other_rows_than_the_prompts_are_refused(pipeline):
    # a guider that changes the embeddings would have the subjects act nowhere
    class Changing(ClassifierFreeGuidance):
        def prepare_inputs(self, data):
            positive, negative = data["prompt_embeds"]
            return super().prepare_inputs({**data, "prompt_embeds": (positive + 0.1, negative)})

    pipeline.update_components(guider=Changing(guidance_scale=3.0))
    with pytest.raises(RowsNotFoundError):
        run(pipeline, nested_adapter_image={"person": photo(1)})


def test_a_pipeline_without_the_block_refuses_the_keywords(adapters):
    plain = build()
    plain.load_nested_adapter(adapters["person"])
    with pytest.raises(NestedAdapterError):
        run(plain, nested_adapter_image=photo(1))
    again = add_nested_subjects(plain.blocks).init_pipeline()
    # the UNet brings its adapters along; diffusers takes no feature extractor that was not loaded by itself
    again.update_components(**{name: one for name, one in plain.components.items() if name != "feature_extractor"})
    ours = run(again, nested_adapter_image=photo(1))
    assert np.abs(ours - formula([[person(adapters)]], "cu" * STEPS)).max() < TOLERANCE


def test_subjects_without_an_adapter_are_refused():
    with pytest.raises(NestedAdapterError):
        run(nested(), nested_adapter_image=photo(1))


def test_loading_needs_a_unet(adapters):
    empty = add_nested_subjects(StableDiffusionXLAutoBlocks()).init_pipeline()
    with pytest.raises(NestedAdapterError):
        empty.load_nested_adapter(adapters["person"])
    assert type(empty) is StableDiffusionXLModularPipeline


def test_blocks_are_copied_and_enclosed_once():
    blocks = StableDiffusionXLAutoBlocks()
    names = set(blocks.input_names)
    once = add_nested_subjects(blocks)
    assert set(blocks.input_names) == names
    assert set(once.input_names) > names
    twice = add_nested_subjects(once)
    kinds = [type(block) for block in leaves(twice)]
    assert kinds.count(NestedDenoiseStep) == 4
    assert not any(issubclass(kind, LoopSequentialPipelineBlocks) for kind in kinds)


def leaves(block: Any) -> list[Any]:
    return [leaf for part in block.sub_blocks.values() for leaf in leaves(part)] if block.sub_blocks else [block]


def test_blocks_without_a_unet_are_refused():
    encoder = StableDiffusionXLAutoBlocks().sub_blocks["text_encoder"]
    with pytest.raises(NestedAdapterError):
        add_nested_subjects(encoder)


def test_the_subjects_stay_beside_what_diffusers_puts_in_for_ip_adapters(pipeline, adapters):
    pipeline.unload_ip_adapter()  # makes new processors for every layer, as loading does
    ours = run(pipeline, nested_adapter_image={"person": photo(1)})
    assert np.abs(ours - formula([[person(adapters)]], "cu" * STEPS)).max() < TOLERANCE
