"""All that a subject can be, with the mechanisms beside nested attention. (Contracts run with them, too.)"""

import numpy as np
import pytest
import torch
from addons import add_image_encoder, install_beside, load_ip_adapters, lora
from brute_force import brute_subject_of, install, with_formula
from cases import BY_MECHANISM, PROMPT

from diffusers_nested import NestedAdapter, Subject, SubjectError
from tiny_pipeline import photo

TOLERANCE = 1e-4

pytestmark = pytest.mark.parametrize("case", BY_MECHANISM, ids=str)


@pytest.fixture
def adapters(case, adapters_of):
    """Folders of adapters of the case's mechanism."""
    return adapters_of(case.mechanism)


@pytest.fixture
def pipeline(case, adapters):
    made = case.build()
    made.load_nested_adapter([adapters["person"], adapters["pet"]])
    return made


def run(case, pipeline, *subjects, **keywords):
    return case.run(pipeline, nested_adapter_image=list(subjects), **keywords)


def test_it_is_the_mechanism_of_the_file(case, pipeline, adapters):
    mechanism = case.mechanism
    assert pipeline.nested_adapters["person"].config["mechanism"] == mechanism
    read = NestedAdapter.from_pretrained(adapters["person"]).project(torch.zeros(1, 5, 40)).values()
    sizes = {"decoupled": 2, "located": 2, "simple": 1, "global_value": 1, "multiple_tokens": 1}
    assert {len(each) for each in read} == {sizes[mechanism]}


def test_several_photos_with_weights_equal_the_formula(case, pipeline, adapters):
    photos, weights = [photo(1), photo(2), photo(3)], [1.0, 30.0, 0.0]
    ours = run(case, pipeline, Subject(photos, token="person", image_weights=weights))
    log_weights = torch.tensor(weights).log().repeat_interleave(5)
    subject = brute_subject_of(adapters["person"], photos, log_weights=log_weights)
    assert np.abs(ours - case.run(with_formula(case, [[subject]]))).max() < TOLERANCE
    unweighted = case.run(with_formula(case, [[brute_subject_of(adapters["person"], photos)]]))
    assert np.abs(run(case, pipeline, Subject(photos, token="person")) - unweighted).max() < TOLERANCE


@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_masks_equal_the_formula(case, pipeline, adapters, scale):
    left = np.zeros((16, 16), np.float32)
    left[:, :7] = 1  # an odd edge: some queries lie half inside
    subjects, made = [], []
    for i, mask in ((1, left), (2, 1 - left)):
        squares = torch.from_numpy(mask)
        masks = {n * n: squares.reshape(n, 16 // n, n, 16 // n).mean((1, 3)).flatten() for n in (8, 4)}
        subjects.append(Subject(photo(i), token="person", adapter_name="person", mask=mask, scale=scale))
        made.append(brute_subject_of(adapters["person"], [photo(i)], masks=masks, scale=scale))
    ours = run(case, pipeline, *subjects)
    assert np.abs(ours - case.run(with_formula(case, [made]))).max() < TOLERANCE


def test_a_part_of_the_steps(case, pipeline, adapters):
    ours = run(case, pipeline, Subject(photo(1), token="person", end=0.5), num_inference_steps=4)
    plain, calls = case.build(), []
    made = [brute_subject_of(adapters["person"], [photo(1)])]
    install(plain.unet, lambda count: [[], made if len(calls) <= 2 else []])
    plain.unet.register_forward_pre_hook(lambda *given: calls.append(1))
    assert np.abs(ours - case.run(plain, num_inference_steps=4)).max() < TOLERANCE


def test_a_lora_acts_beside_it(case, pipeline, adapters):
    """On the keys and values that the simple adapter takes from the layer, too."""
    plain = case.build()
    for each in (pipeline, plain):
        each.load_lora_weights(dict(lora()), adapter_name="lora")
    made = [brute_subject_of(adapters["person"], [photo(1)])]
    install(plain.unet, lambda count: [[], made])
    ours = run(case, pipeline, Subject(photo(1), token="person"))
    assert np.abs(ours - case.run(plain)).max() < TOLERANCE


def test_an_ip_adapter_acts_beside_it(case, pipeline, adapters):
    plain = case.build()
    for each in (pipeline, plain):
        load_ip_adapters(add_image_encoder(each), 21)
    made = [brute_subject_of(adapters["person"], [photo(1)])]
    install_beside(plain.unet, lambda count: [[], made])
    ours = run(case, pipeline, Subject(photo(1), token="person"), ip_adapter_image=photo(5))
    assert np.abs(ours - case.run(plain, ip_adapter_image=photo(5))).max() < TOLERANCE


def test_subjects_of_one_prompt_have_one_mechanism(case, adapters, adapters_of):
    pipeline = case.build()
    pipeline.load_nested_adapter([adapters["person"], adapters_of("nested")["pet"]])
    both = {"person": photo(1), "pet": photo(2)}
    with pytest.raises(SubjectError, match=f"{case.mechanism}.*nested"):
        case.run(pipeline, nested_adapter_image=both)
    assert np.array_equal(case.run(pipeline), case.plain())
    # each prompt of a batch may have another
    prompts = ["a photo of a person", "a photo of a pet"]
    noise = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(5))
    subjects = [{word: image} for word, image in both.items()]
    pictures = case.run(pipeline, prompt=prompts, nested_adapter_image=subjects, latents=noise.clone())
    for i in range(2):
        alone = {"prompt": prompts[i], "nested_adapter_image": subjects[i], "latents": noise[i : i + 1].clone()}
        assert np.abs(pictures[i] - case.run(pipeline, **alone)[0]).max() < TOLERANCE


def test_a_word_is_still_needed(case, pipeline):
    """It tells the rows in which the subject acts, also where no attention to it is changed."""
    with pytest.raises(ValueError, match="person"):
        case.run(pipeline, prompt=PROMPT.replace("person", "child"), nested_adapter_image={"person": photo(1)})
