"""The miniature world: a real, tiny SDXL with adapters, on which everything can be tried on a CPU."""

from pathlib import Path

from diffusers import StableDiffusionXLPipeline
from PIL import Image

from .recogniser import Recogniser
from .whole import load_whole, load_whole_pipeline

WEIGHTS = Path(__file__).parent / "weights"
ADAPTERS = ("people", "pets")


def path(name: str = "pipeline") -> Path:
    """Folder of one of the bundled models.

    Args:
        name: ``"pipeline"`` (for ``StableDiffusionXLPipeline.from_pretrained``), ``"people"`` or ``"pets"``
            (for ``load_nested_adapter``), or ``"recogniser"``.

    Raises:
        ValueError: There is no such model.
    """
    known = sorted(folder.name for folder in WEIGHTS.iterdir() if folder.is_dir())
    if name not in known:
        raise ValueError(f"No bundled model {name!r}. There are: {', '.join(known)}.")
    return WEIGHTS / name


def load_pipeline() -> StableDiffusionXLPipeline:
    """The miniature's pipeline, in float32 and without progress bars.

    Raises:
        NestedAdapterError: The installed diffusers or transformers cannot read it whole.
    """
    return load_whole_pipeline(path())


def load_recogniser() -> Recogniser:
    """The recogniser of the miniature's people and pets.

    Raises:
        NestedAdapterError: The installed diffusers cannot read it whole.
    """
    return load_whole(Recogniser, path("recogniser")).eval()


def examples() -> list[str]:
    """Names of the bundled portraits, of people and pets that no model was trained on."""
    return sorted(file.stem for file in (Path(__file__).parent / "examples").glob("*.png"))


def example(name: str) -> Image.Image:
    """A bundled portrait by its name.

    Raises:
        ValueError: There is none of this name.
    """
    if name not in examples():
        raise ValueError(f"No example {name!r}. There are: {', '.join(examples())}.")
    with Image.open(Path(__file__).parent / "examples" / f"{name}.png") as image:
        return image.convert("RGB")


__all__ = ["ADAPTERS", "Recogniser", "example", "examples", "load_pipeline", "load_recogniser", "path"]
