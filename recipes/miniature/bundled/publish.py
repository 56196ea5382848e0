"""Putting finished models into the package: fp16 safetensors, and a few example portraits.

Run as ``python -m recipes.miniature.bundled.publish RUN_FOLDER``.
"""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionXLPipeline
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPVisionModelWithProjection

from diffusers_nested.adapter import NestedAdapter
from diffusers_nested.miniature import ADAPTERS, WEIGHTS
from diffusers_nested.miniature.drawing import render
from diffusers_nested.miniature.language.known import WORDS_FILE
from diffusers_nested.miniature.recogniser import Recogniser
from diffusers_nested.miniature.world import portrait, random_person, random_pet

EXAMPLES = {"people": ("mira", "otto", "lena", "ravi"), "pets": ("miso", "bruno")}
LIMIT = 25_000_000  # bytes of all weights together


def publish(folder: Path) -> int:
    """Write all weights and portraits of the package.

    Returns:
        Size of the weights in bytes.

    Raises:
        RuntimeError: They exceed the size limit of the package.
    """
    pipeline = StableDiffusionXLPipeline.from_pretrained(folder / "pipeline", add_watermarker=False)
    pipeline.to(torch.float16).save_pretrained(WEIGHTS / "pipeline")
    shutil.copy(folder / "pipeline" / WORDS_FILE, WEIGHTS / "pipeline")
    # transformers would load half-precision text encoders as such, beside a float32 UNet
    for name in ("text_encoder", "text_encoder_2"):
        _say_float32(WEIGHTS / "pipeline" / name / "config.json")
        name_as_on_the_hub(WEIGHTS / "pipeline" / name / "model.safetensors")
    Recogniser.from_pretrained(folder / "recogniser").half().save_pretrained(WEIGHTS / "recogniser")
    for name in ADAPTERS:
        if (folder / name).is_dir():
            publish_adapter(folder / name, WEIGHTS / name)
    for config in WEIGHTS.rglob("*.json"):
        _forget_origin(config)
    write_examples(WEIGHTS.parent / "examples")
    size = sum(file.stat().st_size for file in WEIGHTS.rglob("*") if file.is_file())
    if size > LIMIT:
        raise RuntimeError(f"The weights take {size} bytes, more than {LIMIT}.")
    return size


def publish_adapter(source: Path, target: Path) -> None:
    """Write an adapter with its image encoder, in half precision."""
    NestedAdapter.from_pretrained(source).half().save_pretrained(target)
    encoder = CLIPVisionModelWithProjection.from_pretrained(source / "image_encoder")
    encoder.half().save_pretrained(target / "image_encoder")
    _say_float32(target / "image_encoder" / "config.json")
    shutil.copytree(source / "feature_extractor", target / "feature_extractor", dirs_exist_ok=True)


def write_examples(folder: Path) -> None:
    """Portraits of held-out identities, enlarged to 256 pixels."""
    rng = np.random.default_rng(7)
    folder.mkdir(exist_ok=True)
    for kind, names in EXAMPLES.items():
        for name in names:
            subject = random_person(rng, held_out=True) if kind == "people" else random_pet(rng, held_out=True)
            picture = render(portrait(subject), rng).repeat(8, axis=0).repeat(8, axis=1)
            Image.fromarray(picture).save(folder / f"{name}.png")


def name_as_on_the_hub(weights: Path) -> None:
    """Name a text encoder's tensors as SDXL repositories do, which every version of transformers can read.

    Later versions save them without the prefix, which earlier ones do not recognise.
    """
    tensors = load_file(weights)
    prefixes = ("text_model.", "text_projection.")
    named = {name if name.startswith(prefixes) else f"text_model.{name}": tensors[name] for name in tensors}
    save_file(named, weights, metadata={"format": "pt"})


def _forget_origin(config: Path) -> None:
    """Remove the folder of the run from a config."""
    values = json.loads(config.read_text())
    if values.pop("_name_or_path", None) is not None:
        config.write_text(json.dumps(values, indent=2) + "\n")


def _say_float32(config: Path) -> None:
    """Make float32 the default dtype of the weights."""
    values = json.loads(config.read_text())
    for key in ("dtype", "torch_dtype"):
        if key in values:
            values[key] = "float32"
    config.write_text(json.dumps(values, indent=2) + "\n")


if __name__ == "__main__":
    sys.stdout.write(f"{publish(Path(sys.argv[1]))} bytes\n")
