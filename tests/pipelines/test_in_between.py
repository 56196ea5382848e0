"""What comes between a call and its subjects: other threads, copies of the pipeline, and other loaders."""

from threading import Thread

import numpy as np
import pytest
from addons import add_image_encoder, load_ip_adapters
from cases import CASES
from diffusers import StableDiffusionXLImg2ImgPipeline, StableDiffusionXLPipeline

from diffusers_nested import NestedAdapterError, ProcessorReplacedError
from tiny_pipeline import photo

CASE = CASES[0]


@pytest.fixture
def pipeline(adapters):
    made = CASE.build()
    made.load_nested_adapter(adapters["person"])
    return made


@pytest.mark.parametrize("is_copy", [False, True])
def test_unloading_while_photos_are_read_is_no_plain_picture(pipeline, adapters, is_copy):
    other = StableDiffusionXLPipeline.from_pipe(pipeline) if is_copy else pipeline

    def unload(*given):
        thread = Thread(target=other.unload_nested_adapter)
        thread.start()
        thread.join()

    encoder = pipeline.nested_adapters["person"].encoder
    hook = encoder.register_forward_hook(unload)
    with pytest.raises(NestedAdapterError, match="'person' was unloaded while"):
        CASE.run(pipeline, nested_adapter_image=photo(1))
    hook.remove()
    assert np.array_equal(CASE.run(pipeline), CASE.plain())
    pipeline.load_nested_adapter(adapters["person"])
    assert not np.array_equal(CASE.run(pipeline, nested_adapter_image=photo(1)), CASE.plain())


def test_attention_slicing_within_a_call_is_noticed(pipeline):
    def slice_attention(self, step, timestep, tensors):
        self.enable_attention_slicing()
        return tensors

    with pytest.raises(ProcessorReplacedError, match="slicing"):
        CASE.run(pipeline, nested_adapter_image=photo(1), callback_on_step_end=slice_attention)


@pytest.mark.parametrize(
    ("names", "match"),
    [("", "''"), ([None], "None"), ([], "empty"), (["person", "nobody"], "'nobody'"), ([["person"]], "person")],
)
def test_names_that_cannot_be_unloaded(pipeline, names, match):
    with pytest.raises(NestedAdapterError, match=match):
        pipeline.unload_nested_adapter(names)
    assert list(pipeline.nested_adapters) == ["person"]


def test_a_name_twice_is_unloaded_once(pipeline):
    pipeline.unload_nested_adapter(["person", "person"])
    assert type(pipeline) is StableDiffusionXLPipeline
    assert np.array_equal(CASE.run(pipeline), CASE.plain())


def test_a_copy_loads_and_unloads_an_ip_adapter(pipeline):
    add_image_encoder(pipeline)
    before = CASE.run(pipeline, nested_adapter_image=photo(1))
    copy = StableDiffusionXLImg2ImgPipeline.from_pipe(pipeline)
    load_ip_adapters(copy, 21)
    copy.set_ip_adapter_scale(0.0)
    given = {"nested_adapter_image": photo(1), "ip_adapter_image": photo(2)}
    assert np.abs(CASE.run(pipeline, **given) - before).max() < 1e-4
    copy.unload_ip_adapter()
    assert np.array_equal(CASE.run(pipeline, nested_adapter_image=photo(1)), before)


def test_an_adapter_in_memory_takes_no_settings_of_files(pipeline, adapters):
    made = pipeline.nested_adapters["person"]
    pipeline.unload_nested_adapter()
    for given in ({"weight_name": "other.bin"}, {"variant": "fp16"}, {"torch_dtype": "float16"}):
        with pytest.raises(NestedAdapterError, match=f"{next(iter(given))}=.*in memory"):
            pipeline.load_nested_adapter(made, image_encoder_folder=None, **given)
    pipeline.load_nested_adapter(made, image_encoder_folder=None, torch_dtype=made.dtype)
