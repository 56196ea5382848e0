"""Pipelines that do not support nested adapters, each with the reason."""

from typing import Any

from diffusers import ModularPipeline

from ..backbones import BACKBONES, family_of
from ..errors import AdapterLoadError
from .state import inner_unet

_KOLORS = (
    "its text encoder is ChatGLM: an adapter's word cannot be looked up in its tokens, and no adapter is trained on "
    "its embeddings. Use an SDXL pipeline, such as {instead}, with SDXL weights."
)
_EDITS = (
    "it has no prompt for the whole picture, only edits of an inverted one, and replaces all attention processors at "
    "every call. To change a given picture, use {instead}Img2ImgPipeline or {instead}InpaintPipeline."
)
_PROCESSORS = "it replaces all attention processors at every call. Use StableDiffusionPipeline."
_NO_PROMPT = "it has no encode_prompt, which tells the rows of a prompt. Use {instead}."
_NO_CONVERSION = "it has no maybe_convert_prompt, which finding words in a prompt needs. Use {instead}."
_ROWS = "nobody has checked which rows of its UNet carry the prompt. Use {instead}."
_UNET = "its UNet is of a kind that no adapter is made for. Use {instead}."
REFUSED = {
    "LEditsPPPipelineStableDiffusionXL": _EDITS.format(instead="StableDiffusionXL"),
    "KolorsPipeline": _KOLORS.format(instead="StableDiffusionXLPipeline"),
    "KolorsImg2ImgPipeline": _KOLORS.format(instead="StableDiffusionXLImg2ImgPipeline"),
    "KolorsPAGPipeline": _KOLORS.format(instead="StableDiffusionXLPAGPipeline"),
    "LEditsPPPipelineStableDiffusion": _EDITS.format(instead="StableDiffusion"),
    "StableDiffusionAttendAndExcitePipeline": _PROCESSORS,
    "StableDiffusionPix2PixZeroPipeline": _PROCESSORS,
    "StableDiffusionInstructPix2PixPipeline": _NO_PROMPT.format(instead="StableDiffusionXLInstructPix2PixPipeline"),
    "StableDiffusionImageVariationPipeline": _NO_PROMPT.format(instead="StableDiffusionImg2ImgPipeline"),
    "SemanticStableDiffusionPipeline": _NO_PROMPT.format(instead="StableDiffusionPipeline"),
    "StableDiffusionPipelineSafe": _NO_PROMPT.format(instead="StableDiffusionPipeline"),
    "StableDiffusionAdapterPipeline": _NO_CONVERSION.format(instead="StableDiffusionControlNetPipeline"),
    "StableDiffusionGLIGENPipeline": _NO_CONVERSION.format(instead="StableDiffusionPipeline"),
    "StableDiffusionGLIGENTextImagePipeline": _NO_CONVERSION.format(instead="StableDiffusionPipeline"),
    "CycleDiffusionPipeline": _ROWS.format(instead="StableDiffusionImg2ImgPipeline"),
    "StableDiffusionDiffEditPipeline": _ROWS.format(instead="StableDiffusionInpaintPipeline"),
    "StableDiffusionDepth2ImgPipeline": _ROWS.format(instead="StableDiffusionControlNetPipeline"),
    "StableDiffusionModelEditingPipeline": _ROWS.format(instead="StableDiffusionPipeline"),
    "StableDiffusionPanoramaPipeline": _ROWS.format(instead="StableDiffusionPipeline"),
    "StableDiffusionParadigmsPipeline": _ROWS.format(instead="StableDiffusionPipeline"),
    "StableDiffusionSAGPipeline": _ROWS.format(instead="StableDiffusionPAGPipeline"),
    "AnimateDiffPAGPipeline": _ROWS.format(instead="AnimateDiffPipeline"),
    "AnimateDiffControlNetPipeline": _ROWS.format(instead="AnimateDiffPipeline"),
    "AnimateDiffSparseControlNetPipeline": _ROWS.format(instead="AnimateDiffPipeline"),
    "AnimateDiffVideoToVideoPipeline": _ROWS.format(instead="AnimateDiffPipeline"),
    "AnimateDiffVideoToVideoControlNetPipeline": _ROWS.format(instead="AnimateDiffPipeline"),
    "StableDiffusionControlNetXSPipeline": _UNET.format(instead="StableDiffusionControlNetPipeline"),
    "StableDiffusionLatentUpscalePipeline": _UNET.format(instead="StableDiffusionImg2ImgPipeline"),
    "StableDiffusionUpscalePipeline": _UNET.format(instead="StableDiffusionImg2ImgPipeline"),
    "StableUnCLIPImg2ImgPipeline": _UNET.format(instead="StableDiffusionImg2ImgPipeline"),
    "StableUnCLIPPipeline": _UNET.format(instead="StableDiffusionPipeline"),
}
_PACKAGE = __name__.partition(".")[0]


def refuse(pipeline: Any, *args: Any, **kwargs: Any) -> None:
    """``load_nested_adapter`` of a pipeline that does not support adapters.

    Raises:
        AdapterLoadError: Always, with the reason and an alternative.
    """
    check_pipeline(pipeline)


def check_pipeline(pipeline: Any) -> None:
    """Raise unless the pipeline reads its prompt like the others of its UNet's family.

    Raises:
        AdapterLoadError: Adapters cannot act in the pipeline; says why.
    """
    name, classes = type(pipeline).__name__, type(pipeline).__mro__
    for cls in classes:
        if cls.__name__ in REFUSED:
            raise AdapterLoadError(f"Nested adapters cannot act in {name}: {REFUSED[cls.__name__]}")
    if isinstance(pipeline, ModularPipeline):
        return  # its blocks, or those of another pipeline, encode the prompts
    # the mixin's encode_prompt calls the pipeline's own
    if not any("encode_prompt" in vars(cls) for cls in classes if not cls.__module__.startswith(f"{_PACKAGE}.")):
        raise AdapterLoadError(
            f"Nested adapters cannot act in {name}: it has no encode_prompt, which tells the rows of a prompt. "
            "Derive it from a supported pipeline: class Mine(NestedAdapterMixin, StableDiffusionXLPipeline)."
        )
    backbone = BACKBONES.get(family_of(inner_unet(pipeline)))
    # a tokenizer may be None if prompts come as embeddings
    missing = [] if backbone is None else [one for one in backbone.tokenizers if not hasattr(pipeline, one)]
    if backbone is not None and missing:
        raise AdapterLoadError(
            f"Nested adapters cannot act in {name}: it has no {missing[0]}, and its UNet is of {backbone.title}, whose "
            f"prompts need {' and '.join(backbone.tokenizers)}. Use {backbone.text_to_image}, or a pipeline like it."
        )
