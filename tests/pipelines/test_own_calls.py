"""Pipeline classes of one's own with a call of their own: what it hands on acts, and what it keeps is an error."""

import copy
from functools import partial

import numpy as np
import pytest
from cases import CASES, PROMPT
from diffusers import StableDiffusionXLPipeline as Base

from diffusers_nested import NestedAdapterMixin, SubjectError
from tiny_pipeline import photo

# pyright: reportIncompatibleMethodOverride=false

CASE = CASES[0]
ONE, OTHER = photo(1), photo(2)


class FillsIn(Base):
    def __call__(self, *args, face=None, **kwargs):
        return super().__call__(*args, nested_adapter_image=face, **kwargs)


class FillsInStyled(Base):
    def __call__(self, prompt, style="", **kwargs):
        return super().__call__(prompt + style, **{**kwargs, "nested_adapter_image": OTHER})


class Prepares(Base):
    def __call__(self, *args, nested_adapter_image=None, **kwargs):
        prepared = {id(ONE): OTHER}.get(id(nested_adapter_image))
        return super().__call__(*args, nested_adapter_image=prepared, **kwargs)


class Replaces(Base):
    def __call__(self, *args, **kwargs):
        return super().__call__(*args, **{**kwargs, "nested_adapter_image": OTHER})


class PassesOn(Base):
    def __call__(self, *args, **kwargs):
        return super().__call__(*args, **kwargs)


class LeavesAlone(Base):
    def __call__(self, prompt, style="", **kwargs):
        return super().__call__(prompt + style, **kwargs)


class TakesNothing(Base):
    def __call__(self, prompt, num_inference_steps, guidance_scale, generator, output_type, height, width):
        given = {"num_inference_steps": num_inference_steps, "guidance_scale": guidance_scale, "generator": generator}
        return super().__call__(prompt, **given, output_type=output_type, height=height, width=width)


class DrawsTwice(Base):
    def __call__(self, prompt, nested_adapter_image=None, **kwargs):
        super().__call__(prompt, **{**kwargs, "generator": None})
        return super().__call__(prompt, nested_adapter_image=nested_adapter_image, **kwargs)


class Keeps(Base):
    def __call__(self, *args, nested_adapter_image=None, **kwargs):
        return super().__call__(*args, **kwargs)


class WithMixin(NestedAdapterMixin, Base):
    def __call__(self, *args, face=None, **kwargs):
        return super().__call__(*args, nested_adapter_image=face, **kwargs)


@pytest.fixture
def made(adapters):
    """Makes a pipeline of a class, which has loaded an adapter or shares the UNet of one that has."""

    def make(cls, is_shared=False):
        source = CASE.build()
        pipeline = cls(**source.components, add_watermarker=False)
        pipeline.set_progress_bar_config(disable=True)
        (source if is_shared else pipeline).load_nested_adapter(adapters["person"])
        return pipeline

    return make


@pytest.fixture(scope="module")
def pictures(adapters):
    """The picture of the class of diffusers with each photo, and without one."""
    nested = CASE.build()
    nested.load_nested_adapter(adapters["person"])
    return {"plain": CASE.run(nested), **{str(n): with_photo(nested, one) for n, one in enumerate((ONE, OTHER), 1)}}


def with_photo(pipeline, one):
    return CASE.run(pipeline, nested_adapter_image=one)


def named(pictures, drawn):
    return [name for name, picture in pictures.items() if np.array_equal(picture, drawn)]


@pytest.mark.parametrize("is_shared", [False, True])
@pytest.mark.parametrize(
    ("cls", "given", "expected"),
    [
        (FillsIn, {"face": ONE}, "1"),
        (FillsIn, {}, "plain"),
        (WithMixin, {"face": ONE}, "1"),
        (FillsInStyled, {}, "2"),
        (Prepares, {"nested_adapter_image": ONE}, "2"),
        (Prepares, {}, "plain"),
        (Replaces, {"nested_adapter_image": ONE}, "2"),
        (PassesOn, {"nested_adapter_image": ONE}, "1"),
        (PassesOn, {}, "plain"),
        (LeavesAlone, {"nested_adapter_image": ONE}, "1"),
        (LeavesAlone, {}, "plain"),
        (DrawsTwice, {"nested_adapter_image": ONE}, "1"),
        (Keeps, {}, "plain"),
    ],
    ids=lambda value: getattr(value, "__name__", None) or "+".join(value),
)
def test_what_an_own_call_hands_on_acts(made, pictures, cls, given, expected, is_shared):
    pipeline = made(cls, is_shared)
    for _ in range(2):
        assert named(pictures, CASE.run(pipeline, **given)) == [expected]


def test_an_own_call_without_further_keywords(made, pictures):
    assert named(pictures, with_photo(made(TakesNothing), ONE)) == ["1"]


def test_a_style_is_added_once(made, pictures):
    """Also where the adapter was loaded by another pipeline with the same UNet."""
    start, style = PROMPT[:-4], PROMPT[-4:]
    for is_shared in (False, True):
        drawn = CASE.run(made(LeavesAlone, is_shared), prompt=start, style=style, nested_adapter_image=ONE)
        assert named(pictures, drawn) == ["1"]


def test_an_own_call_that_keeps_the_photo_is_named(made):
    with pytest.raises(SubjectError, match=r"Keeps\.__call__ takes nested keywords, but did not hand them on"):
        with_photo(made(Keeps), ONE)


def test_an_own_call_that_hands_on_what_it_never_saw_is_named(made):
    with pytest.raises(SubjectError, match=r"FillsInStyled\.__call__ hands nested_adapter_image on.*Name it there"):
        with_photo(made(FillsInStyled), ONE)


def test_the_call_of_diffusers_class_itself(made, pictures):
    pipeline = made(Base)
    of_base = partial(Base.__call__, pipeline)
    assert named(pictures, with_photo(of_base, ONE)) == ["1"]
    with pytest.raises(SubjectError, match="nested_adapter_image="):
        CASE.run(of_base, nested_adapter_imag=ONE)


def test_calls_in_a_callback_of_an_own_call(made, pictures):
    pipeline = made(Prepares)
    drawn = []

    def draw(running, step, *_):
        if step == 0:
            own, running.scheduler = running.scheduler, copy.deepcopy(running.scheduler)
            drawn.extend([CASE.run(running), with_photo(running, ONE)])
            running.scheduler = own
        return {}

    drawn.append(CASE.run(pipeline, nested_adapter_image=ONE, callback_on_step_end=draw))
    assert [named(pictures, one) for one in drawn] == [["plain"], ["2"], ["2"]]
