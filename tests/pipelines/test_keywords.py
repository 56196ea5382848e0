"""What a call takes: mistyped keywords are refused, and help() shows the right ones, in every pipeline."""

import inspect
import pydoc

import diffusers
import pytest
import torch
from cases import CASES
from diffusers import AutoPipelineForImage2Image, StableDiffusionXLModularPipeline, StableDiffusionXLPipeline

import tiny_pipeline
from diffusers_nested import NestedAdapterError, NestedAdapterMixin, SubjectError
from diffusers_nested.injection.swap import swap_in
from diffusers_nested.pipelines import SUPPORTED
from diffusers_nested.pipelines.keywords import KEYWORDS
from tiny_pipeline import photo

# mistyped -> what the message must name
MISTYPED = {
    "nested_adapter_images": "nested_adapter_image=",
    "nested_image": "nested_adapter_image=",
    "Nested_Adapter_Image": "nested_adapter_image=",
    "nested_adapter_image_embed": "nested_adapter_image_embeds=",
    "nested_adapter_tokens": "nested_adapter_token=",
    "nested_adapter_scale": r"Subject\(scale=.*set_nested_adapter_scale",
    "nested_adapter_scales": r"Subject\(scale=.*set_nested_adapter_scale",
    "nested_adapter_mask": r"Subject\(mask=",
    "nested_adapter_name": r"Subject\(adapter_name=",
    "nested": "nested_adapter_",
    "nestd_adapter_image": "nested_adapter_image=",
    "neste_adapter_image_embeds": "nested_adapter_image_embeds=",
    "nsted_adapter_token": "nested_adapter_token=",
}


def bare(cls, unet=None):
    """A pipeline with nothing in it, or with a UNet only: what is tested here comes before anything is used."""
    made = object.__new__(cls)
    made.__dict__["unet"] = unet
    return made


def loaded(pipeline):
    swap_in(pipeline, NestedAdapterMixin)
    return pipeline


def mine(cls):
    """A class of a user's own, whose call hands everything on."""

    def __call__(self, *args, **kwargs):
        return super(made, self).__call__(*args, **kwargs)

    made = type("Mine", (cls,), {"__call__": __call__})
    return made


@pytest.mark.parametrize("name", SUPPORTED)
def test_every_pipeline_refuses_a_mistyped_keyword(name):
    """Also once an adapter is loaded, and of a class of the user's own."""
    cls = getattr(diffusers, name)
    for pipeline in (bare(cls), loaded(bare(cls)), bare(mine(cls))):
        with pytest.raises(SubjectError, match=r"nested_adapter_images.*nested_adapter_image="):
            pipeline("a photo of a person", nested_adapter_images=photo())


@pytest.mark.parametrize("keyword", MISTYPED)
def test_what_is_meant_is_named(keyword):
    pipeline = bare(StableDiffusionXLPipeline)
    for value in (photo(), None):
        with pytest.raises(SubjectError, match=rf"{keyword}.*{MISTYPED[keyword]}"):
            pipeline("a photo of a person", **{keyword: value})


def test_a_mistyped_keyword_beside_a_right_one_is_refused_first():
    pipeline = loaded(bare(StableDiffusionXLPipeline))
    with pytest.raises(SubjectError, match="nested_adapter_tokn"):
        pipeline("a photo", nested_adapter_image=photo(), nested_adapter_tokn="person")


def test_modular_pipelines_refuse_them_too():
    pipeline = StableDiffusionXLModularPipeline()
    with pytest.raises(SubjectError, match=r"nested_adapter_images.*nested_adapter_image="):
        pipeline(prompt="a photo", nested_adapter_images=photo())


@pytest.mark.parametrize("keyword", ["nested_adapter_images", "nested_level"])
def test_a_keyword_of_the_pipelines_own_is_handed_on(keyword):
    class Mine(StableDiffusionXLPipeline):
        def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]
            self, nested_adapter_images=None, nested_level=0
        ):
            return nested_adapter_images, nested_level

    for pipeline in (bare(Mine), loaded(bare(Mine))):
        assert 3 in pipeline(**{keyword: 3})


def test_other_keywords_are_left_to_the_pipeline(adapters):
    pipeline = CASES[0].build()
    pipeline.load_nested_adapter(adapters["person"])
    CASES[0].run(pipeline, adapter_images=1, promt="a", nest=2)


def is_described(cls, own):
    parameters = inspect.signature(cls.__call__).parameters
    kinds = [parameter.kind for parameter in parameters.values()]
    assert kinds == sorted(kinds)
    assert list(inspect.signature(own).parameters) == [name for name in parameters if name not in KEYWORDS]
    text = pydoc.plain(pydoc.render_doc(cls.__call__))
    for name in KEYWORDS:
        assert parameters[name].kind is inspect.Parameter.KEYWORD_ONLY
        assert parameters[name].default is None
        assert text.count(f"{name}=None") == 1
        assert text.count(f"{name} (") == 1
    assert inspect.getdoc(cls.__call__).startswith(inspect.cleandoc(own.__doc__).strip())


def own_call(cls):
    """The call that diffusers gave the class."""
    return inspect.unwrap(cls.__call__, stop=lambda call: "diffusers_nested" not in call.__globals__["__name__"])


@pytest.mark.parametrize("name", SUPPORTED)
def test_help_shows_the_pipelines_arguments_and_ours(name):
    cls = getattr(diffusers, name)

    class Mine(NestedAdapterMixin, cls):
        pass

    class More(Mine):
        pass

    class Derived(cls):
        pass

    assert "self" not in inspect.signature(loaded(bare(cls)).__call__).parameters
    for each in (cls, type(loaded(bare(cls))), Mine, More, Derived, type(loaded(bare(Derived)))):
        is_described(each, own_call(cls))


def test_a_class_of_ones_own_shows_its_own_call():
    class Mine(NestedAdapterMixin, StableDiffusionXLPipeline):
        def __call__(self, prompt):  # pyright: ignore[reportIncompatibleMethodOverride]
            """As told."""
            return prompt

    class Other(StableDiffusionXLPipeline):
        def __call__(self, prompt, *, level=0, **kwargs):  # pyright: ignore[reportIncompatibleMethodOverride]
            """As told."""
            return prompt, level, kwargs

    assert list(inspect.signature(Mine.__call__).parameters) == ["self", "prompt"]
    other = loaded(bare(Other))
    is_described(type(other), Other.__call__)
    assert other("a", level=2, more=3) == ("a", 2, {"more": 3})


def test_the_mixin_behind_the_pipeline_is_refused():
    with pytest.raises(NestedAdapterError, match=r"class Mine\(NestedAdapterMixin, StableDiffusionXLPipeline\)"):

        class Mine(StableDiffusionXLPipeline, NestedAdapterMixin):
            pass


def test_other_mixins_may_stand_before_it():
    calls = []

    class Counting:
        def __call__(self, *args, **kwargs):
            calls.append(args)
            return super().__call__(*args, **kwargs)

    class Mine(Counting, NestedAdapterMixin, StableDiffusionXLPipeline):
        pass

    with pytest.raises(SubjectError, match="nested_adapter_images"):
        bare(Mine)("a photo", nested_adapter_images=1)
    assert calls == [("a photo",)]


def test_a_typed_class_of_the_same_name_is_to_diffusers_what_its_base_is(adapters, tmp_path):
    class Typed(NestedAdapterMixin, StableDiffusionXLPipeline):
        pass

    Typed.__name__ = "StableDiffusionXLPipeline"
    pipeline = Typed(**tiny_pipeline.components(), add_watermarker=False)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.load_nested_adapter(adapters["person"])
    assert AutoPipelineForImage2Image.from_pipe(pipeline).nested_adapters.keys() == {"person"}
    ours = CASES[0].run(pipeline, nested_adapter_image=photo(1))
    pipeline.save_pretrained(tmp_path)
    again = Typed.from_pretrained(tmp_path, add_watermarker=False)
    assert type(again) is Typed
    again.set_progress_bar_config(disable=True)
    again.load_nested_adapter(adapters["person"])
    assert (CASES[0].run(again, nested_adapter_image=photo(1)) == ours).all()


@pytest.fixture(scope="module")
def nested(adapters):
    """A pipeline with a nested adapter and no IP-Adapter."""
    pipeline = CASES[0].build()
    pipeline.load_nested_adapter(adapters["person"])
    return pipeline


@pytest.mark.parametrize("name", SUPPORTED)
def test_images_for_an_ip_adapter_that_is_not_loaded_are_refused(name, nested):
    pipeline = bare(getattr(diffusers, name), nested.unet)
    for each, keyword in ((pipeline, "ip_adapter_image"), (loaded(pipeline), "ip_adapter_image_embeds")):
        with pytest.raises(SubjectError, match=rf"{keyword} .*person.*nested_{keyword[3:]}="):
            each("a photo of a person", **{keyword: [photo()]})
        with pytest.raises(SubjectError, match=keyword):
            each("a photo of a person", nested_adapter_image=photo(), **{keyword: [photo()]})


def test_masks_for_an_ip_adapter_that_is_not_loaded_are_refused(nested):
    masks = {"ip_adapter_masks": [torch.ones(1, 1, 16, 16)]}
    for more in ({}, {"nested_adapter_image": photo(1)}):
        with pytest.raises(SubjectError, match=r"ip_adapter_masks .*Subject\(photo, mask=...\)"):
            CASES[0].run(nested, cross_attention_kwargs=masks, **more)


def test_modular_pipelines_refuse_images_for_a_missing_ip_adapter_too(nested):
    pipeline = StableDiffusionXLModularPipeline()
    pipeline.unet = nested.unet
    with pytest.raises(SubjectError, match="nested_adapter_image="):
        pipeline(prompt="a photo", ip_adapter_image=photo())


@pytest.mark.parametrize("unet", [None, object()])
def test_images_are_handed_on_to_a_unet_of_another_kind(unet):
    class Mine(StableDiffusionXLPipeline):
        def __call__(self, **kwargs):  # pyright: ignore[reportIncompatibleMethodOverride]
            return kwargs

    assert loaded(bare(Mine, unet))(ip_adapter_image=3) == {"ip_adapter_image": 3}


def test_no_image_for_an_ip_adapter_is_as_none_given(nested):
    given = {"ip_adapter_image": None, "ip_adapter_image_embeds": None}
    assert (CASES[0].run(nested, **given) == CASES[0].plain()).all()
