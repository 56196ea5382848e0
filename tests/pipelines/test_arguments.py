"""``load_nested_adapter`` takes its first arguments as ``load_ip_adapter`` does: swapping is one word."""

import inspect
import shutil

import numpy as np
import pytest
from cases import CASES
from diffusers.loaders import IPAdapterMixin

from diffusers_nested import NestedAdapterMixin
from tiny_pipeline import photo

CASE = CASES[0]


def by_position(method):
    parameters = inspect.signature(method).parameters.values()
    return [parameter.name for parameter in parameters if parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]


def test_the_same_arguments_by_position():
    theirs, ours = by_position(IPAdapterMixin.load_ip_adapter), by_position(NestedAdapterMixin.load_nested_adapter)
    assert ours == ["self", "pretrained", *theirs[2:]]


@pytest.mark.parametrize("given", [1, 2, 3])
def test_by_position(adapters, tmp_path, given):
    shutil.copytree(adapters["person"], tmp_path / "people")
    (tmp_path / "people" / "diffusion_pytorch_model.safetensors").rename(tmp_path / "people" / "mine.safetensors")
    (tmp_path / "people" / "image_encoder").rename(tmp_path / "people" / "tower")
    values = {"subfolder": "people", "weight_name": "mine.safetensors", "image_encoder_folder": "tower"}
    pipeline, same = CASE.build(), CASE.build()
    rest = dict(list(values.items())[given:])
    pipeline.load_nested_adapter(tmp_path, *list(values.values())[:given], **rest)
    same.load_nested_adapter(adapters["person"])
    ours = CASE.run(pipeline, nested_adapter_image=photo(1))
    assert np.array_equal(ours, CASE.run(same, nested_adapter_image=photo(1)))


def test_an_empty_subfolder_is_none_at_all(adapters):
    pipeline = CASE.build()
    pipeline.load_nested_adapter(adapters["person"], "", "diffusion_pytorch_model.safetensors")
    assert list(pipeline.nested_adapters) == ["person"]


def test_by_position_for_several(adapters):
    pipeline = CASE.build()
    folder = adapters["person"].parent
    pipeline.load_nested_adapter([folder, folder], ["person", "pet"], [None, None], None)
    assert list(pipeline.nested_adapters) == ["person", "pet"]
