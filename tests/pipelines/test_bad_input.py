"""Bad input is refused with a clear error, and leaves the pipeline as it was."""

import math

import numpy as np
import pytest
import torch
from cases import CASES

import tiny_pipeline
from diffusers_nested import (
    AdapterLoadError,
    NestedAdapterError,
    PromptTokenError,
    RowsNotFoundError,
    ScaleError,
    Subject,
    SubjectError,
)
from diffusers_nested.pipelines.loading import add_all, load_all
from tiny_pipeline import photo

CASE = CASES[0]


@pytest.fixture(scope="module")
def pipeline(adapters):
    pipeline = CASE.build()
    pipeline.load_nested_adapter(adapters["person"])
    return pipeline


@pytest.fixture(autouse=True)
def unchanged(pipeline):
    """After whatever a test does, the pipeline gives the same picture with the same adapter."""
    before = CASE.run(pipeline, nested_adapter_image=photo(1))
    yield
    assert list(pipeline.nested_adapters) == ["person"]
    assert np.array_equal(CASE.run(pipeline, nested_adapter_image=photo(1)), before)


LONG = "photo " * 90

CALLS = {
    "word not in the prompt": (
        {"prompt": "a photo of a pet", "nested_adapter_image": photo()},
        PromptTokenError,
    ),
    "truncated word": ({"prompt": LONG + "person", "nested_adapter_image": photo()}, PromptTokenError),
    "other positions in prompt_2": (
        {"prompt_2": "a person", "nested_adapter_image": photo()},
        PromptTokenError,
    ),
    "two subjects at one word": (
        {"nested_adapter_image": [Subject(photo()), Subject(photo(), token_indices=[5, 6])]},
        NestedAdapterError,
    ),
    "wrong type": ({"nested_adapter_image": 3}, SubjectError),
    "a path": ({"nested_adapter_image": "me.png"}, SubjectError),
    "empty list": ({"nested_adapter_image": []}, SubjectError),
    "empty dict": ({"nested_adapter_image": {}}, SubjectError),
    "token without image": ({"nested_adapter_token": "person"}, SubjectError),
    "unknown adapter name": ({"nested_adapter_image": Subject(photo(), adapter_name="cars")}, SubjectError),
    "embeddings of a wrong width": ({"nested_adapter_image_embeds": torch.zeros(1, 5, 7)}, SubjectError),
    "embeddings of a wrong rank": ({"nested_adapter_image_embeds": torch.zeros(5, 40)}, SubjectError),
    "embeddings and images": (
        {"nested_adapter_image": photo(), "nested_adapter_image_embeds": torch.zeros(1, 5, 40)},
        SubjectError,
    ),
    "a number for a prompt": ({"prompt": 5, "nested_adapter_image": photo()}, PromptTokenError),
    "no prompt in a list": ({"prompt": [], "nested_adapter_image": photo()}, PromptTokenError),
    "a word for prompt_embeds": (
        {"prompt": None, "prompt_embeds": "person", "nested_adapter_image": Subject(photo(), token_indices=[5])},
        PromptTokenError,
    ),
    "negative scale": ({"nested_adapter_image": Subject(photo(), scale=-1.0)}, SubjectError),
    "NaN scale": ({"nested_adapter_image": Subject(photo(), scale=math.nan)}, SubjectError),
    "negative prompt equal to the prompt": (
        {"negative_prompt": "a photo of a person walking a pet in the snow", "nested_adapter_image": photo()},
        RowsNotFoundError,
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_call_is_refused(pipeline, name):
    keywords, error = CALLS[name]
    with pytest.raises(error):
        CASE.run(pipeline, **keywords)


def test_missing_word_shows_the_tokenised_prompt(pipeline):
    with pytest.raises(PromptTokenError, match="pet</w>"):
        CASE.run(pipeline, prompt="a photo of a pet", nested_adapter_image=photo())


@pytest.mark.parametrize(
    "scale",
    [
        *(math.nan, math.inf, -0.1, True, "1", None, {}, {"cars": 1.0}, {"up": {"block_9": 1.0}}),
        *({"person": {}}, {"up": {}}, {"person": {"down": {}}}),
    ],
)
def test_scale_is_refused(pipeline, scale):
    with pytest.raises(ScaleError):
        pipeline.set_nested_adapter_scale(scale)


def test_a_scale_of_an_adapter_beside_one_of_a_block_is_refused(pipeline):
    with pytest.raises(ScaleError, match=r"\{'person': \{'down': \.\.\.\}\}"):
        pipeline.set_nested_adapter_scale({"down": 1.0, "person": 1.0})


def test_duplicate_name_is_refused(pipeline, adapters):
    with pytest.raises(NestedAdapterError, match="person"):
        pipeline.load_nested_adapter(adapters["person"])


@pytest.mark.parametrize("name", ["down", "mid", "up"])
def test_name_of_a_block_is_refused(pipeline, adapters, name):
    with pytest.raises(NestedAdapterError):
        pipeline.load_nested_adapter(adapters["pet"], adapter_name=name)


def test_adapter_for_another_unet_is_refused(pipeline, tmp_path):
    other = tiny_pipeline.unet(cross_attention_dim=48, block_out_channels=(32, 96), attention_head_dim=(2, 3))
    tiny_pipeline.save_adapter(tmp_path, tiny_pipeline.adapter(other, subject_token="pet"))
    with pytest.raises(AdapterLoadError, match="attn2"):
        pipeline.load_nested_adapter(tmp_path)


def test_missing_weights_are_refused(pipeline, adapters, tmp_path):
    (tmp_path / "config.json").write_text((adapters["pet"] / "config.json").read_text())
    with pytest.raises((AdapterLoadError, OSError)):
        pipeline.load_nested_adapter(tmp_path)


@pytest.mark.parametrize("what", [3, [], None])
def test_what_is_no_adapter_is_refused(pipeline, what):
    with pytest.raises(AdapterLoadError):
        pipeline.load_nested_adapter(what)


def test_other_image_encoder_is_refused(pipeline, tmp_path):
    made = tiny_pipeline.adapter(pipeline.unet, image_feature_dim=10, subject_token="pet")
    tiny_pipeline.save_adapter(tmp_path, made)
    with pytest.raises(AdapterLoadError, match="24"):
        pipeline.load_nested_adapter(tmp_path)


def test_unknown_adapter_is_not_unloaded(pipeline):
    with pytest.raises(NestedAdapterError, match="person"):
        pipeline.unload_nested_adapter("cars")


@pytest.mark.parametrize("name", [3, ["person", 3], object()], ids=["number", "list", "object"])
def test_names_of_another_type_are_refused(pipeline, name):
    with pytest.raises(NestedAdapterError, match=r"No adapter .* is loaded\. Loaded: person"):
        pipeline.unload_nested_adapter(name)
    with pytest.raises(NestedAdapterError, match=r"No adapter .* is loaded\. Loaded: person"):
        pipeline.encode_nested_adapter_image(photo(), name)


@pytest.mark.parametrize(
    ("names", "match"),
    [
        (None, "Two of the adapters would have the name 'pet'.* adapter_name="),
        ("x", "Two of the adapters would have the name 'x'"),
        (["x", "x"], "Two of the adapters would have the name 'x'"),
        (["x", "person"], "'person' is loaded already; loaded are person.*unload"),
        (["x", ""], "'' cannot be an adapter's name"),
    ],
    ids=str,
)
def test_names_that_are_taken_are_refused(pipeline, adapters, names, match):
    # what is named is checked before anything is read
    what = [adapters["pet"]] * 2 if names is None else ["/no/such/folder"] * 2
    with pytest.raises(NestedAdapterError, match=match):
        pipeline.load_nested_adapter(what, adapter_name=names)
    assert list(pipeline.nested_adapters) == ["person"]


def test_images_need_an_image_encoder(adapters):
    pipeline = CASE.build()
    pipeline.load_nested_adapter(adapters["person"], image_encoder_folder=None)
    with pytest.raises(SubjectError):
        CASE.run(pipeline, nested_adapter_image=photo())


@pytest.mark.parametrize("keyword", ["nested_adapter_image", "nested_adapter_image_embeds", "nested_adapter_token"])
def test_keywords_with_nothing_loaded_are_refused(keyword):
    with pytest.raises(NestedAdapterError, match="load_nested_adapter"):
        CASE.run(CASE.build(), **{keyword: "person"})


def test_methods_with_nothing_loaded_are_refused():
    plain = CASE.build()
    for call in (
        lambda: plain.set_nested_adapter_scale(1.0),
        plain.unload_nested_adapter,
        lambda: plain.encode_nested_adapter_image(photo()),
    ):
        with pytest.raises(NestedAdapterError, match="load_nested_adapter"):
            call()
    assert not plain.nested_adapters


PROMPTS = {
    "a number": {"prompt": 3},
    "no prompts": {"prompt": []},
    "a dict": {"prompt": {0: "a person"}},
    "embeddings that are no tensor": {"prompt": None, "prompt_embeds": [1, 2]},
    "embeddings without a batch": {"prompt": None, "prompt_embeds": torch.zeros(77, 40)},
}


@pytest.mark.parametrize("keywords", PROMPTS.values(), ids=PROMPTS)
def test_what_is_no_prompt_is_refused(pipeline, keywords):
    with pytest.raises(PromptTokenError, match="expected a"):
        CASE.run(pipeline, nested_adapter_image=Subject(photo(), token_indices=[5]), **keywords)


def test_text_without_a_tokenizer_is_refused(adapters):
    pipeline = CASE.build()
    pipeline.load_nested_adapter(adapters["person"])
    pipeline.register_modules(tokenizer=None, tokenizer_2=None)
    with pytest.raises(PromptTokenError, match="has no `tokenizer_2`"):
        CASE.run(pipeline, nested_adapter_image=photo())


def test_free_noise_is_refused(adapters_of):
    case = next(case for case in CASES if case.name == "AnimateDiffPipeline")
    pipeline = case.build()
    pipeline.load_nested_adapter(adapters_of("nested", "sd15")["person"], image_encoder_folder=None)
    pipeline.enable_free_noise(context_length=2, context_stride=1)
    embeds = torch.zeros(1, 5, 16)
    with pytest.raises(RowsNotFoundError, match="disable_free_noise"):
        case.run(pipeline, nested_adapter_image_embeds=embeds)
    pipeline.disable_free_noise()
    case.run(pipeline, nested_adapter_image_embeds=embeds)


def test_one_name_from_two_threads_at_once(adapters):
    """Both find the name free while they load."""
    pipeline = CASE.build()
    loaded = load_all(
        pipeline,
        adapters["person"],
        names=None,
        subfolders=None,
        weight_names=None,
        variant=None,
        image_encoder_folder=None,
        torch_dtype=None,
        hub={"revision": None},
    )
    pipeline.load_nested_adapter(adapters["person"])
    kept = pipeline.nested_adapters["person"]
    with pytest.raises(NestedAdapterError, match="loaded already"):
        add_all(pipeline, loaded)
    assert pipeline.nested_adapters["person"] is kept
