"""Loading the miniature's models with all of their tensors.

``from_pretrained`` only warns of missing tensors and fills them with noise: a version of transformers with other names
for its tensors would make meaningless pictures.
"""

from pathlib import Path
from typing import Any

from diffusers import AutoencoderKL, StableDiffusionXLPipeline, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from ..environment.requirements import versions
from ..errors import NestedAdapterError

_MODELS = {
    "text_encoder": CLIPTextModel,
    "text_encoder_2": CLIPTextModelWithProjection,
    "unet": UNet2DConditionModel,
    "vae": AutoencoderKL,
}


def load_whole_pipeline(folder: Path) -> StableDiffusionXLPipeline:
    """Load the miniature's pipeline from its folder, in float32 and without progress bars.

    Raises:
        NestedAdapterError: A model and its file do not hold the same tensors.
    """
    models: dict[str, Any] = {name: load_whole(cls, folder / name) for name, cls in _MODELS.items()}
    pipeline = StableDiffusionXLPipeline.from_pretrained(folder, add_watermarker=False, **models)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def load_whole(cls: Any, folder: Path) -> Any:
    """Load a model of diffusers or transformers from its folder.

    Raises:
        NestedAdapterError: The model and its file do not hold the same tensors.
    """
    model, found = cls.from_pretrained(folder, output_loading_info=True)
    wrong = {kind: sorted(map(str, found[f"{kind}_keys"])) for kind in ("missing", "unexpected")}
    if any(wrong.values()):
        said = ", ".join(f"{len(names)} {kind} tensors ({names[0]}, …)" for kind, names in wrong.items() if names)
        raise NestedAdapterError(
            f"{cls.__name__} cannot read {folder} whole: {said}. Installed: "
            f"{versions('diffusers', 'transformers')}. Install other versions, or reinstall this package if its files "
            "have changed."
        )
    return model
