"""Every form in which a call gives subjects, against the formula or against each other."""

import numpy as np
import pytest
import torch
from brute_force import brute_subject_of, install
from cases import CASES, PROMPT
from diffusers import StableDiffusionXLImg2ImgPipeline, StableDiffusionXLPipeline

import tiny_pipeline
from diffusers_nested import NestedAdapterMixin, Subject
from diffusers_nested.mechanisms import MECHANISMS
from tiny_pipeline import photo

CASE = CASES[0]
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def pipeline(adapters):
    pipeline = CASE.build()
    pipeline.load_nested_adapter([adapters["person"], adapters["pet"]])
    return pipeline


def run(pipeline, image=None, **keywords):
    given = {} if image is None else {"nested_adapter_image": image}
    return CASE.run(pipeline, **given, **keywords)


def formula(subjects, **keywords):
    """The plain pipeline with these subjects of the formula on the prompt's rows."""
    plain = CASE.build()
    install(plain.unet, lambda count: [[], subjects])
    return CASE.run(plain, **keywords)


def close(left, right):
    return np.abs(left - right).max() < TOLERANCE


def test_accepted_image_types_are_the_same_image(pipeline):
    array = np.asarray(photo(1))
    expected = run(pipeline, {"person": photo(1)})
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)
    for image in (array, array / 255.0, tensor, tensor / 255.0):
        assert close(run(pipeline, {"person": image}), expected)


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_prompt_without_subjects_beside_one_with_a_subject(mechanism, adapters_of):
    """Those without are the plain pipeline's, bit for bit, also if they have the same words."""
    pipeline, prompts = CASE.build(), [PROMPT, PROMPT, "a person in the rain", "a street"]
    plain = run(pipeline, prompt=prompts)
    pipeline.load_nested_adapter(adapters_of(mechanism)["person"])
    ours = run(pipeline, [None, {"person": photo(1)}, {}, []], prompt=prompts)
    assert [np.array_equal(*pair) for pair in zip(ours, plain, strict=True)] == [True, False, True, True]
    of_all = run(pipeline, {"person": photo(1)}, prompt=[PROMPT, PROMPT, "a person in the rain", PROMPT])
    assert close(ours[1], of_all[1])


def test_several_photos_equal_the_formula(pipeline, adapters):
    photos = [photo(1), photo(2), photo(3)]
    subject = brute_subject_of(adapters["person"], photos, PROMPT, "person")
    assert close(run(pipeline, {"person": photos}), formula([subject]))


def test_image_weights_equal_the_formula(pipeline, adapters):
    photos, weights = [photo(1), photo(2)], [1.0, 300.0]
    log_weights = torch.tensor(weights).log().repeat_interleave(5)
    subject = brute_subject_of(adapters["person"], photos, PROMPT, "person", log_weights=log_weights)
    ours = run(pipeline, Subject(photos, token="person", image_weights=weights))
    assert close(ours, formula([subject]))
    assert np.abs(ours - run(pipeline, {"person": photos})).max() > 1e-5


@pytest.mark.parametrize("weights", [[0.0, 1.0], [0.0, 1e-60], [1.0, 1e300]], ids=str)
def test_weight_zero_leaves_an_image_out(pipeline, weights):
    """Only ratios count, also of weights that float32 cannot hold."""
    blend = Subject([photo(1), photo(2)], token="person", image_weights=weights)
    assert close(run(pipeline, blend), run(pipeline, {"person": photo(2)}))


def test_another_word_for_the_subject(pipeline, adapters):
    prompt = "a watercolor of a child and a king on the beach"
    subject = brute_subject_of(adapters["person"], [photo(1)], prompt, "king")
    ours = run(pipeline, Subject(photo(1), token="king", adapter_name="person"), prompt=prompt)
    assert close(ours, formula([subject], prompt=prompt))


def test_token_keyword_is_the_word_of_a_single_subject(adapters):
    pipeline = CASE.build()
    pipeline.load_nested_adapter(adapters["person"])
    prompt = "a photo of a child"
    ours = run(pipeline, photo(1), nested_adapter_token="child", prompt=prompt)
    assert np.array_equal(ours, run(pipeline, {"child": photo(1)}, prompt=prompt))


def test_embeddings_equal_images(pipeline):
    embeds = pipeline.encode_nested_adapter_image(photo(1), "person")
    assert embeds.shape == (1, 5, 40)
    expected = run(pipeline, {"person": photo(1)})
    assert np.array_equal(run(pipeline, nested_adapter_image_embeds={"person": embeds}), expected)
    assert np.array_equal(run(pipeline, Subject(image_embeds=embeds, token="person")), expected)
    several = pipeline.encode_nested_adapter_image([photo(1), photo(2)], "person")
    assert several.shape == (2, 5, 40)
    expected = run(pipeline, {"person": [photo(1), photo(2)]})
    assert close(run(pipeline, nested_adapter_image_embeds={"person": several}), expected)


def test_one_subject_per_prompt_equals_single_calls(pipeline):
    prompts = ["a photo of a person", "a watercolor of a person in the snow"]
    noise = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(5))
    subjects = [{"person": photo(1)}, {"person": photo(2)}]
    both = run(pipeline, subjects, prompt=prompts, latents=noise.clone())
    for i in range(2):
        single = run(pipeline, subjects[i], prompt=prompts[i], latents=noise[i : i + 1].clone())
        assert close(both[i], single[0])


def test_same_prompt_with_other_subjects_equals_single_calls(pipeline):
    noise = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(5))
    subjects = [[Subject(photo(1), token="person")], [Subject(photo(2), token="person")]]
    both = run(pipeline, subjects, prompt=[PROMPT, PROMPT], latents=noise.clone())
    for i in range(2):
        assert close(both[i], run(pipeline, subjects[i], latents=noise[i : i + 1].clone())[0])


def test_prompt_embeds_with_token_indices(pipeline):
    embeds, negative, pooled, negative_pooled = pipeline.encode_prompt(PROMPT)
    given = {
        "prompt": None,
        "prompt_embeds": embeds,
        "negative_prompt_embeds": negative,
        "pooled_prompt_embeds": pooled,
        "negative_pooled_prompt_embeds": negative_pooled,
    }
    position = PROMPT.split().index("person") + 1
    ours = run(pipeline, Subject(photo(1), token="person", token_indices=[position]), **given)
    assert close(ours, run(pipeline, {"person": photo(1)}))


def test_scale_of_a_subject_replaces_the_adapters(pipeline):
    expected = run(pipeline, {"person": photo(1)})
    pipeline.set_nested_adapter_scale(3.0)
    try:
        assert np.array_equal(run(pipeline, Subject(photo(1), token="person", scale=1.0)), expected)
        assert not close(run(pipeline, {"person": photo(1)}), expected)
    finally:
        pipeline.set_nested_adapter_scale(1.0)


def test_scales_by_adapter_and_by_block(pipeline):
    both = {"person": photo(1), "pet": photo(2)}
    person, plain = run(pipeline, {"person": photo(1)}), run(pipeline)
    everything = run(pipeline, both)
    try:
        pipeline.set_nested_adapter_scale({"pet": 0.0})
        assert close(run(pipeline, both), person)
        pipeline.set_nested_adapter_scale({"person": {"up": 0.0}, "pet": {"down": 0.0}})
        assert np.array_equal(run(pipeline, both), plain)
        pipeline.set_nested_adapter_scale({"down": {"block_0": [1.0]}, "up": {"block_1": 1.0}})
        some = run(pipeline, both)
        assert not close(some, plain) and not close(some, everything)
    finally:
        pipeline.set_nested_adapter_scale(1.0)


def test_unloading_one_keeps_the_other(adapters):
    pipeline = CASE.build()
    pipeline.load_nested_adapter(adapters["person"])
    alone = run(pipeline, photo(1))
    pipeline.load_nested_adapter(adapters["pet"], adapter_name="animals")
    assert list(pipeline.nested_adapters) == ["person", "animals"]
    pipeline.unload_nested_adapter("animals")
    assert np.array_equal(run(pipeline, photo(1)), alone)


def test_pipelines_that_share_the_unet_share_the_adapters(adapters):
    pipeline = CASE.build()
    pipeline.load_nested_adapter(adapters["person"])
    other = StableDiffusionXLImg2ImgPipeline.from_pipe(pipeline)
    other.set_progress_bar_config(disable=True)
    assert list(other.nested_adapters) == ["person"]
    settings = {
        "prompt": PROMPT,
        "image": photo(4),
        "num_inference_steps": 3,
        "output_type": "np",
        "strength": 0.9,
    }

    def picture(**keywords):
        return other(generator=torch.Generator().manual_seed(0), **settings, **keywords).images

    assert not close(picture(nested_adapter_image=photo(1)), picture())
    other.unload_nested_adapter()
    assert type(other) is StableDiffusionXLImg2ImgPipeline
    assert not pipeline.nested_adapters


def test_own_pipeline_class(adapters):
    class Mine(NestedAdapterMixin, StableDiffusionXLPipeline):
        pass

    mine = Mine(**tiny_pipeline.components(), add_watermarker=False)
    mine.set_progress_bar_config(disable=True)
    theirs = CASE.build()
    for each in (mine, theirs):
        each.load_nested_adapter(adapters["person"])
    assert np.array_equal(run(mine, photo(1)), run(theirs, photo(1)))
    mine.unload_nested_adapter()
    assert type(mine) is Mine


def test_adapter_object_is_left_as_it_was(adapters):
    pipeline = CASE.build()
    made = tiny_pipeline.adapter(pipeline.unet).train()
    pipeline.load_nested_adapter(made, image_encoder_folder=None)
    assert pipeline.nested_adapters["person"] is made
    assert made.training and all(parameter.requires_grad for parameter in made.parameters())
