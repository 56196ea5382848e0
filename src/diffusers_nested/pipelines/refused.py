"""Pipelines in which a nested adapter cannot act, each with the reason."""

from typing import Any

from diffusers import ModularPipeline

from ..errors import AdapterLoadError

_KOLORS = (
    "its text encoder is ChatGLM, whose tokens an adapter's word cannot be looked up in, and no adapter is trained on "
    "its embeddings. Use an SDXL pipeline, such as {instead}, with SDXL weights."
)
REFUSED = {
    "LEditsPPPipelineStableDiffusionXL": (
        "it has no prompt of the whole picture, only edits of an inverted one, and it replaces all attention "
        "processors at every call. To change a given picture, use StableDiffusionXLImg2ImgPipeline or "
        "StableDiffusionXLInpaintPipeline."
    ),
    "KolorsPipeline": _KOLORS.format(instead="StableDiffusionXLPipeline"),
    "KolorsImg2ImgPipeline": _KOLORS.format(instead="StableDiffusionXLImg2ImgPipeline"),
    "KolorsPAGPipeline": _KOLORS.format(instead="StableDiffusionXLPAGPipeline"),
}
_PACKAGE = __name__.partition(".")[0]


def refuse(pipeline: Any, *args: Any, **kwargs: Any) -> None:
    """Stands in for ``load_nested_adapter`` of a pipeline in which no adapter can act.

    Raises:
        AdapterLoadError: Always; says why and what to use instead.
    """
    check_pipeline(pipeline)


def check_pipeline(pipeline: Any) -> None:
    """Raise unless the pipeline's prompt is SDXL's.

    Raises:
        AdapterLoadError: Says why an adapter cannot act in it.
    """
    name, classes = type(pipeline).__name__, type(pipeline).__mro__
    for cls in classes:
        if cls.__name__ in REFUSED:
            raise AdapterLoadError(f"Nested adapters cannot act in {name}: {REFUSED[cls.__name__]}")
    if isinstance(pipeline, ModularPipeline):
        return  # blocks encode its prompts, maybe those of another pipeline
    # the mixin has an encode_prompt too, which needs one to call
    if not any("encode_prompt" in vars(cls) for cls in classes if not cls.__module__.startswith(f"{_PACKAGE}.")):
        raise AdapterLoadError(
            f"Nested adapters cannot act in {name}: it has no encode_prompt, by which a prompt's rows are known. "
            "Derive it from an SDXL pipeline of diffusers: class Mine(NestedAdapterMixin, StableDiffusionXLPipeline)."
        )
    if not hasattr(pipeline, "tokenizer_2"):  # it may be None, for prompts given as embeddings
        raise AdapterLoadError(
            f"Nested adapters cannot act in {name}: it has no tokenizer_2, in which SDXL looks up every word of the "
            "prompt. Use an SDXL pipeline, with its tokenizers."
        )
