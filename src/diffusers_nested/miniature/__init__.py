"""The miniature world: a real but tiny SDXL with adapters, to try everything on a CPU."""

from pathlib import Path

from diffusers import StableDiffusionXLPipeline
from PIL import Image

from .recogniser import Recogniser
from .whole import load_whole, load_whole_pipeline

WEIGHTS = Path(__file__).parent / "weights"
ADAPTERS = ("people", "pets")


def path(name: str = "pipeline") -> Path:
    """The folder of a bundled model.

    Args:
        name: ``"pipeline"`` (for ``StableDiffusionXLPipeline.from_pretrained``), ``"people"`` or ``"pets"``
            (for ``load_nested_adapter``), or ``"recogniser"``.

    Raises:
        ValueError: There is no such model.
    """
    known = sorted(folder.name for folder in WEIGHTS.iterdir() if folder.is_dir())
    if name not in known:
        raise ValueError(f"A bundled model must be one of {', '.join(known)}, got {name!r}.")
    return WEIGHTS / name


def load_pipeline() -> StableDiffusionXLPipeline:
    """Load the miniature's pipeline in float32, without progress bars.

    Raises:
        NestedAdapterError: The installed diffusers or transformers do not load all of its tensors.
    """
    return load_whole_pipeline(path())


def load_recogniser() -> Recogniser:
    """Load the recogniser of the miniature's people and pets.

    Raises:
        NestedAdapterError: The installed diffusers does not load all of its tensors.
    """
    return load_whole(Recogniser, path("recogniser")).eval()


def examples() -> list[str]:
    """Names of the bundled portraits; they show people and pets that no model was trained on."""
    return sorted(file.stem for file in (Path(__file__).parent / "examples").glob("*.png"))


def example(name: str) -> Image.Image:
    """Open a bundled portrait.

    Raises:
        ValueError: There is none of this name.
    """
    if name not in examples():
        raise ValueError(f"An example must be one of {', '.join(examples())}, got {name!r}.")
    with Image.open(Path(__file__).parent / "examples" / f"{name}.png") as image:
        return image.convert("RGB")


__all__ = ["ADAPTERS", "Recogniser", "example", "examples", "load_pipeline", "load_recogniser", "path"]
