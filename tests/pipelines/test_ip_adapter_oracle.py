"""Imported IP-Adapters with mechanism="decoupled": exactly what diffusers' own IP-Adapter makes of the same file."""

from functools import cache

import numpy as np
import pytest
import torch
from addons import add_image_encoder
from cases import CASES, PROMPT, every_pipeline
from diffusers.image_processor import IPAdapterMaskProcessor
from modular_sdxl import GUIDERS, nested
from modular_sdxl import build as modular
from modular_sdxl import run as run_modular
from PIL import Image

import ip_adapter_files
import tiny_pipeline
from diffusers_nested import PromptTokenError, Subject, SubjectError
from diffusers_nested.adapter.ip_encoders import LinearProjection, Resampler
from diffusers_nested.backbones import layer_widths
from diffusers_nested.pipelines.state import require_state
from tiny_pipeline import photo

TOLERANCE = 1e-5  # of pictures in 0..1, float32
FILE = "ip-adapter.safetensors"
KINDS = {"base": LinearProjection, "plus": Resampler}
WITH_IP_ADAPTER = [case for case in CASES if case.takes("ip_adapter_image")]
CASE = CASES[0]
VIDEO = next(case for case in WITH_IP_ADAPTER if case.frames > 1)
PHOTO = photo(1)
SHORT = {"num_inference_steps": 2}


@pytest.fixture(scope="session")
def ip_adapters(tmp_path_factory):
    """Folders with an IP-Adapter and its vision tower, by kind and family."""

    @cache
    def write(kind, family="sdxl"):
        folder, random = tmp_path_factory.mktemp(f"{kind}-{family}"), torch.Generator().manual_seed(41)
        unet, tower = tiny_pipeline.FAMILIES[family]()["unet"], tiny_pipeline.image_encoder()
        width = unet.config.cross_attention_dim
        if kind == "base":
            encoder = ip_adapter_files.base_encoder(tower.config.projection_dim, width, random)
        else:
            encoder = ip_adapter_files.plus_encoder(tower.config.hidden_size, width, random)
        layers = ip_adapter_files.layer_weights(list(layer_widths(unet).values()), width, random)
        ip_adapter_files.write(folder / FILE, encoder, layers)
        tower.save_pretrained(folder / "image_encoder")
        tiny_pipeline.image_processor().save_pretrained(folder / "feature_extractor")
        return folder

    return write


def load_ours(pipeline, folder, **keywords):
    pipeline.load_nested_adapter(folder, weight_name=FILE, mechanism="decoupled", **keywords)
    return pipeline


def load_theirs(pipeline, folder):
    pipeline.load_ip_adapter(str(folder), subfolder="", weight_name=FILE)
    return pipeline


def ours(folder, case=CASE, **keywords):
    """A pipeline with the file loaded by us."""
    return load_ours(case.build(), folder, **keywords)


def theirs(folder, case=CASE):
    """A pipeline with the file loaded by diffusers."""
    return load_theirs(add_image_encoder(case.build()), folder)


@pytest.fixture(scope="module", params=KINDS)
def folder(request, ip_adapters):
    return ip_adapters(request.param)


@pytest.fixture(scope="module")
def pair(folder):
    """Two pipelines with the same file, at a scale of its own."""
    pipelines = ours(folder), theirs(folder)
    pipelines[0].set_nested_adapter_scale(0.7)
    pipelines[1].set_ip_adapter_scale(0.7)
    return pipelines


def same(left, right):
    return np.abs(left - right).max() <= TOLERANCE


def far(left, right):
    return np.abs(left - right).max() > 100 * TOLERANCE


def mask_of(columns, height=16, width=16):
    """A mask as the IP-Adapter's processor makes it, (height, width) of 0 and 1."""
    mask = np.zeros((height, width), np.uint8)
    mask[:, columns] = 255
    processor = IPAdapterMaskProcessor(vae_scale_factor=1)
    return processor.preprocess([Image.fromarray(mask)], height=height, width=width)[0, 0]


def masked(*masks):
    """What diffusers takes for masks of one IP-Adapter's images."""
    return {"cross_attention_kwargs": {"ip_adapter_masks": [torch.stack(masks)[None]]}}


@every_pipeline(WITH_IP_ADAPTER)
def test_every_pipeline(case, ip_adapters):
    folders, pipeline = [ip_adapters(kind, case.family) for kind in KINDS], case.build()
    own = []
    for folder in folders:
        own.append(case.run(load_ours(pipeline, folder), nested_adapter_image=PHOTO, **SHORT))
        pipeline.unload_nested_adapter()
    add_image_encoder(pipeline)
    expected = [case.run(load_theirs(pipeline, folder), ip_adapter_image=PHOTO, **SHORT) for folder in folders]
    assert all(map(same, own, expected))
    assert far(*expected)


def test_the_empty_image_acts(folder, monkeypatch, pair):
    expected = CASE.run(pair[1], ip_adapter_image=PHOTO)
    assert same(CASE.run(pair[0], nested_adapter_image=PHOTO), expected)
    for encoder in KINDS.values():
        monkeypatch.setattr(encoder, "reads_empty_image", False)
    assert far(CASE.run(pair[0], nested_adapter_image=PHOTO), expected)


@pytest.mark.parametrize(
    "settings",
    [
        {"guidance_scale": 1.0},
        {"prompt": [PROMPT, "a watercolor of a person on the beach"], "negative_prompt": ["blurry person", "low"]},
        {"num_images_per_prompt": 2, "prompt": [PROMPT, PROMPT]},
    ],
    ids=["without guidance", "negative prompts", "two pictures of a prompt twice"],
)
def test_other_rows(pair, settings):
    expected = CASE.run(pair[1], ip_adapter_image=PHOTO, **settings)
    assert same(CASE.run(pair[0], nested_adapter_image=PHOTO, **settings), expected)


def test_two_images(pair):
    expected = CASE.run(pair[1], ip_adapter_image=[[PHOTO, photo(2)]])
    assert same(CASE.run(pair[0], nested_adapter_image=[PHOTO, photo(2)]), expected)
    assert far(CASE.run(pair[0], nested_adapter_image=PHOTO), expected)
    weighted = Subject([PHOTO, photo(2)], image_weights=[1.0, 1.0])
    assert same(CASE.run(pair[0], nested_adapter_image=weighted), expected)


@pytest.mark.parametrize("case", [CASE, VIDEO], ids=str)
def test_masks(case, ip_adapters):
    folder = ip_adapters("plus", case.family)
    own, other = ours(folder, case), theirs(folder, case)
    # odd edges, and they overlap: each image acts in full where both are
    masks, photos = [mask_of(slice(0, 9)), mask_of(slice(5, 15))], [PHOTO, photo(2)]
    for count in (1, 2):
        subjects = [Subject(photos[i], token="person", mask=masks[i]) for i in range(count)]
        expected = case.run(other, ip_adapter_image=[photos[:count]], **masked(*masks[:count]))
        assert same(case.run(own, nested_adapter_image=subjects), expected)
    assert far(expected, case.run(other, ip_adapter_image=[photos], **masked(*masks[::-1])))


def test_a_mask_of_other_proportions_is_stretched(pair):
    subjects = [Subject(PHOTO, token="person", mask=mask_of(slice(0, 9), height)) for height in (16, 8)]
    tall, flat = [CASE.run(pair[0], nested_adapter_image=one) for one in subjects]
    assert same(tall, flat)
    assert far(tall, CASE.run(pair[0], nested_adapter_image=PHOTO))


def test_scales_by_block(pair):
    scale = {"down": {"block_1": [0.5]}, "up": {"block_0": [0.0, 1.2]}}
    pair[0].set_nested_adapter_scale(scale)
    pair[1].set_ip_adapter_scale(scale)
    expected = CASE.run(pair[1], ip_adapter_image=PHOTO)
    assert same(CASE.run(pair[0], nested_adapter_image=PHOTO), expected)
    for one, set_scale in zip(pair, ("set_nested_adapter_scale", "set_ip_adapter_scale"), strict=True):
        getattr(one, set_scale)(0.7)
    assert far(CASE.run(pair[0], nested_adapter_image=PHOTO), expected)


def test_a_part_of_the_steps_at_a_scale_of_its_own(pair):
    def stop(pipe, *step):
        pipe.set_ip_adapter_scale(0.0)
        return {}

    pair[1].set_ip_adapter_scale(0.4)
    expected = CASE.run(pair[1], ip_adapter_image=PHOTO, callback_on_step_end=stop)
    pair[1].set_ip_adapter_scale(0.7)
    assert same(CASE.run(pair[0], nested_adapter_image=Subject(PHOTO, scale=0.4, end=0.4)), expected)
    assert far(CASE.run(pair[0], nested_adapter_image=Subject(PHOTO, scale=0.4)), expected)


def test_each_prompt_has_an_image_of_its_own(pair):
    """What IP-Adapter's own call cannot do: its images serve all prompts."""
    noise = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(5))
    images = [{"person": PHOTO}, {"person": [photo(2), photo(3)]}]
    both = CASE.run(pair[0], prompt=[PROMPT, PROMPT], nested_adapter_image=images, latents=noise)
    assert same(both[:1], CASE.run(pair[1], ip_adapter_image=PHOTO, latents=noise[:1]))
    assert same(both[1:], CASE.run(pair[1], ip_adapter_image=[[photo(2), photo(3)]], latents=noise[1:]))


def test_the_word_is_required(pair):
    with pytest.raises(PromptTokenError, match="person"):
        CASE.run(pair[0], prompt="a photo of the snow", nested_adapter_image=PHOTO)


@pytest.mark.parametrize(("kind", "guidance"), [("base", 3.0), ("plus", 1.0)])
def test_embeddings_without_a_tower(kind, guidance, ip_adapters):
    """Pooled features of an empty image are zeros; without guidance, no row reads an empty image."""
    folder = ip_adapters(kind)
    embeds = ours(folder).encode_nested_adapter_image(PHOTO)
    alone = ours(folder, image_encoder_folder=None)
    expected = CASE.run(theirs(folder), ip_adapter_image=PHOTO, guidance_scale=guidance)
    assert same(CASE.run(alone, nested_adapter_image_embeds=embeds, guidance_scale=guidance), expected)


def test_the_empty_image_needs_the_tower(ip_adapters):
    alone, calls = ours(ip_adapters("plus"), image_encoder_folder=None), []
    alone.unet.register_forward_pre_hook(lambda *given: calls.append(1))
    with pytest.raises(SubjectError, match="image_encoder_folder=None"):
        CASE.run(alone, nested_adapter_image_embeds=torch.randn(1, 16, 40))
    assert not calls


def test_beside_an_ip_adapter_of_diffusers(ip_adapters):
    """One file loaded by us and another by diffusers act as both do, loaded by diffusers."""
    files = [str(ip_adapters(kind)) for kind in KINDS]
    both = add_image_encoder(CASE.build())
    both.load_ip_adapter(files, subfolder="", weight_name=[FILE, FILE])
    mixed = load_ours(theirs(files[0]), files[1])
    expected = CASE.run(both, ip_adapter_image=[PHOTO, photo(2)])
    assert same(CASE.run(mixed, ip_adapter_image=PHOTO, nested_adapter_image=photo(2)), expected)


@pytest.mark.parametrize("guider", ["cfg", "pag"])  # without guidance, diffusers 0.42 itself fails
def test_modular_diffusers(guider, ip_adapters):
    make, folder = GUIDERS[guider][0], ip_adapters("plus")
    other, pipeline = modular(guider=make), nested(guider=make)
    other.image_encoder, other.feature_extractor = tiny_pipeline.image_encoder(), tiny_pipeline.image_processor()
    load_theirs(other, folder)
    load_ours(pipeline, folder)
    expected = run_modular(other, ip_adapter_image=PHOTO)
    assert same(run_modular(pipeline, nested_adapter_image=PHOTO), expected)
    assert far(expected, run_modular(pipeline))


def test_beside_an_adapter_with_a_qformer(ip_adapters, adapters_of):
    """Both of ours by "decoupled" in one prompt: only the imported one acts in the rows of the negative prompt."""
    folder, other = ip_adapters("plus"), adapters_of("decoupled")["pet"]
    both, mixed = ours(folder), theirs(folder)
    for pipeline in (both, mixed):
        pipeline.load_nested_adapter(other)
    expected = CASE.run(mixed, ip_adapter_image=PHOTO, nested_adapter_image={"pet": photo(2)})
    assert same(CASE.run(both, nested_adapter_image={"person": PHOTO, "pet": photo(2)}), expected)
    assert far(CASE.run(both, nested_adapter_image={"person": PHOTO}), expected)


def test_the_empty_image_is_read_again_by_a_changed_tower(ip_adapters):
    """In the rows of the negative prompt."""
    pipeline, fresh = (ours(ip_adapters("plus")) for _ in range(2))
    before = CASE.run(pipeline, nested_adapter_image=PHOTO, **SHORT)
    for one in (pipeline, fresh):
        with torch.no_grad():
            # of all-zero pixels, the tower sees its class token only
            next(iter(require_state(one).loaded.values())).encoder.model.vision_model.embeddings.class_embedding.mul_(
                -3
            )
    found = CASE.run(pipeline, nested_adapter_image=PHOTO, **SHORT)
    assert np.array_equal(found, CASE.run(fresh, nested_adapter_image=PHOTO, **SHORT))
    assert not np.array_equal(found, before)
