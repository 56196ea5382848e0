"""Keys and values that wait on another device or in 8 bits."""

import weakref

import numpy as np
import pytest
import torch
from cases import BY_MECHANISM, CASES
from diffusers.models.attention_processor import AttnProcessor
from test_devices import WAYS, build

from diffusers_nested import NestedAdapter, NestedAdapterError, Subject
from diffusers_nested.backbones import cross_attention_layers, layer_heads, layer_widths
from diffusers_nested.injection import Storage, split_heads
from diffusers_nested.injection.storage import EIGHT_BITS, Stored
from diffusers_nested.pipelines.state import require_state
from sdxl import sdxl_unet
from tiny_pipeline import photo

CASE = CASES[0]
SUBJECTS = {"person": photo(1), "pet": [photo(2), photo(3)]}
CPU = torch.device("cpu")
FEW = {"num_inference_steps": 1}
EIGHT = pytest.mark.parametrize("dtype", list(EIGHT_BITS), ids=str)


def run(pipeline, image=None, **keywords):
    return CASE.run(pipeline, nested_adapter_image=SUBJECTS if image is None else image, **FEW, **keywords)


@pytest.fixture(scope="module")
def expected(adapters):
    return run(build(adapters))


def rounded(x, dtype):
    """A tensor as 8 bits keep it, number by number."""
    x = x.double().numpy()
    step = np.abs(x).max(-1, keepdims=True) / (127 if dtype == torch.int8 else 448)
    if dtype == torch.int8:
        return torch.from_numpy(np.rint(x / step) * step)
    sign, size = np.sign(x), np.abs(x / step)
    # 3 bits behind the point; below 2⁻⁶ they no longer move
    unit = 2.0 ** (np.floor(np.log2(np.maximum(size, 2.0**-6))) - 3)
    return torch.from_numpy(sign * np.rint(size / unit) * unit * step)


@EIGHT
def test_8_bits_are_those_of_the_formula(dtype):
    x = torch.randn(1, 2, 7, 16, generator=torch.Generator().manual_seed(0)) * torch.tensor([1e-3, 1e3])[:, None, None]
    x[0, 0, 3] = 0
    (stored,) = Storage(dtype=dtype).keep([x])
    assert isinstance(stored, Stored)
    assert stored.values.dtype == dtype and stored.scale.shape == (1, 2, 7, 1)
    loaded = stored.load(CPU)
    assert not loaded[0, 0, 3].any()
    kept = torch.arange(7) != 3
    torch.testing.assert_close(loaded[:, :, kept].double(), rounded(x[:, :, kept], dtype), rtol=1e-5, atol=1e-9)
    bound = 0.5 / 127 if dtype == torch.int8 else 2.0**-4
    largest = x.abs().amax(-1, keepdim=True)
    assert ((loaded - x).abs() <= largest * bound * 1.001).all()


def test_the_counted_memory_of_1024_tokens_in_sdxl():
    """In the layout that attention reads."""
    with torch.device("meta"):
        unet = sdxl_unet()
        adapter = NestedAdapter(layer_widths(unet), token_dim=2048, image_feature_dim=1280, num_queries=1024).half()
        tokens = torch.empty(1, 1024, 2048, dtype=torch.float16)
    heads = layer_heads(unet)
    sizes = {}
    for name, storage in {"as it is": Storage(), "8 bits": Storage(dtype=torch.int8)}.items():
        kept = [one for p, x in adapter.project_by_layer(tokens) for one in storage.keep(split_heads(x, heads[p]))]
        parts = [x for one in kept for x in ([one] if isinstance(one, torch.Tensor) else [one.values, one.scale])]
        assert all(x.is_contiguous() and x.shape[:3] in {(1, 10, 1024), (1, 20, 1024)} for x in parts)
        sizes[name] = sum(x.numel() * x.element_size() for x in parts)
    numbers = 2 * 1024 * (10 * 640 + 60 * 1280)
    assert sizes == {"as it is": 2 * numbers, "8 bits": numbers + numbers // 64 * 4}
    assert sizes["as it is"] < 341e6 and sizes["8 bits"] < 182e6


def test_layers_are_laid_out_one_after_another(adapters):
    """When one is projected, what was projected for those before the last is gone."""
    pipeline, refs, alive = build(adapters), [], []

    def hook(module, args, out):
        alive.append(sum(ref() is not None for ref in refs))
        refs.extend(map(weakref.ref, out))

    projections = pipeline.nested_adapters["person"].projections
    for path in pipeline.nested_adapters["person"].config["layers"]:
        projections.get_submodule(path).register_forward_hook(hook)
    run(pipeline, {"person": photo(1)})
    assert len(alive) == 7 and max(alive) == 2  # a key and a value
    assert not any(ref() is not None for ref in refs)
    kept = next(iter(require_state(pipeline).cache._kept.values())).layers
    assert all(x.is_contiguous() for read in kept.values() for x in read)


OPTIONS = {
    "cpu": {"device": "cpu"},
    "int8": {"dtype": torch.int8},
    "float8": {"dtype": torch.float8_e4m3fn},
}
# what 8 bits may change in a picture, as a part of what the subjects change
TOLERANCE = {"cpu": 0.0, "int8": 0.02, "float8": 0.1}


def far(found, expected, plain):
    return np.abs(found - expected).mean() / np.abs(expected - plain).mean()


@pytest.mark.parametrize("option", list(OPTIONS))
def test_the_picture_is_near(option, adapters, expected):
    pipeline = build(adapters)
    pipeline.set_nested_adapter_storage(**OPTIONS[option])
    plain = CASE.run(pipeline, **FEW)
    found = run(pipeline)
    assert far(found, expected, plain) <= TOLERANCE[option]
    assert np.array_equal(run(pipeline), found)  # from the cache
    pipeline.set_nested_adapter_scale(0.0)
    assert np.array_equal(run(pipeline), plain)
    pipeline.set_nested_adapter_scale(1.0)
    pipeline.set_nested_adapter_storage()
    assert np.array_equal(run(pipeline), expected)


def test_several_rows_with_subjects_of_their_own(adapters):
    """And several photos, weights and masks, whose pictures 8 bits change as little."""
    mask = np.zeros((16, 16), np.float32)
    mask[:, :8] = 1
    rows = [
        [Subject([photo(1), photo(2)], token="person", image_weights=[1.0, 2.0], mask=mask, scale=0.7)],
        [Subject([photo(3), photo(4)], token="person", image_weights=[3.0, 1.0], mask=1 - mask, scale=0.7)],
    ]
    given = {"image": rows, "prompt": ["a photo of a person", "a person in the snow"]}
    pipeline = build(adapters)
    expected, plain = run(pipeline, **given), CASE.run(pipeline, prompt=given["prompt"], **FEW)
    pipeline.set_nested_adapter_storage(dtype=torch.int8)
    found = run(pipeline, **given)
    assert 0 < far(found, expected, plain) < 0.02
    for i in range(2):  # each row reads its own subject
        assert np.abs(found[i] - expected[i]).mean() < 0.02 * np.abs(expected[i] - plain[i]).mean()


@pytest.mark.parametrize("case", BY_MECHANISM, ids=str)
def test_every_mechanism(case, adapters_of):
    pipeline = case.build()
    pipeline.load_nested_adapter(adapters_of(case.mechanism)["person"])
    expected, plain = case.run(pipeline, nested_adapter_image=photo(1), **FEW), case.run(pipeline, **FEW)
    pipeline.set_nested_adapter_storage(dtype=torch.int8)
    assert 0 < far(case.run(pipeline, nested_adapter_image=photo(1), **FEW), expected, plain) < 0.03


@pytest.mark.parametrize("way", ["models offloaded", "layers offloaded", "leaves offloaded"])
def test_with_offloading(way, adapters, expected):
    pipeline = build(adapters)
    pipeline.set_nested_adapter_storage("cpu", torch.int8)
    WAYS[way](pipeline)
    first = run(pipeline)
    assert 0 < far(first, expected, CASE.run(pipeline, **FEW)) < 0.02
    assert np.array_equal(run(pipeline), first)


def test_beside_another_processor(adapters):
    pipeline = build()
    for layer in cross_attention_layers(pipeline.unet).values():
        layer.set_processor(AttnProcessor())
    pipeline.load_nested_adapter(adapters["person"])
    expected, plain = run(pipeline, photo(1)), CASE.run(pipeline, **FEW)
    pipeline.set_nested_adapter_storage(dtype=torch.int8)
    assert 0 < far(run(pipeline, photo(1)), expected, plain) < 0.02


def test_what_waits_elsewhere_is_the_same_there():
    x = torch.randn(1, 2, 5, 8)
    stored = Stored(x.to(torch.bfloat16), None, torch.bfloat16)
    assert torch.equal(stored.load(CPU), x.to(torch.bfloat16))
    meta = Storage(torch.device("meta")).keep([x])[0]
    assert isinstance(meta, Stored) and meta.values.is_meta and meta.scale is None
    assert isinstance(Storage(CPU).keep([x])[0], torch.Tensor)  # it is there already


BAD = [
    ({"device": "nowhere"}, r"device 'nowhere'.*expected one that this machine has"),
    ({"device": "cuda:63"}, r"device 'cuda:63'.*device=None"),
    ({"device": "meta"}, r"device 'meta'"),
    ({"device": 1.5}, r"device 1\.5"),
    ({"device": "hpu"}, r"device 'hpu'"),
    ({"device": 10**30}, r"device 1000"),
    ({"dtype": [torch.int8]}, r"stored as \[torch\.int8\], expected"),
    ({"dtype": np.zeros(2)}, r"stored as array"),
    ({"dtype": torch.int16}, r"stored as torch\.int16, expected torch\.int8 or torch\.float8_e4m3fn"),
    ({"dtype": "int8"}, r"stored as 'int8'.*dtype=None"),
]


def test_bad_storage_is_refused_and_nothing_changes(adapters):
    pipeline = build(adapters)
    pipeline.set_nested_adapter_storage(dtype=torch.int8)
    before = require_state(pipeline).storage
    for given, message in BAD:
        with pytest.raises(NestedAdapterError, match=message):
            pipeline.set_nested_adapter_storage(**given)
    assert require_state(pipeline).storage is before
    with pytest.raises(NestedAdapterError, match=r"No nested adapter is loaded.*load_nested_adapter"):
        CASE.build().set_nested_adapter_storage("cpu")
