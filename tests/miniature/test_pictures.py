"""What a user sees: pictures from the miniature as they were when they were looked at.

`make floors` runs this file with every dependency at the lowest version that is allowed. A text encoder full of noise,
such as a version of transformers that does not know the names of its tensors would give, changes these pictures by
40 levels of 255 and more. Rounding, which differs between machines and versions of torch, changes none of them by one.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest
from diffusers import StableDiffusionXLPipeline
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import diffusers_nested
from diffusers_nested import NestedAdapterError, miniature
from diffusers_nested.miniature.sampling import sample
from diffusers_nested.miniature.whole import load_whole, load_whole_pipeline

EXPECTED = Path(__file__).parents[1] / "data" / "miniature.png"
PROMPT = "a photo of a smiling person wearing a blue shirt in the snow"
BOTH = "a photo of a person and a pet on the beach"
TOLERANCE = 2.0  # levels of 255, the mean over a picture


def draw() -> np.ndarray:
    """Plain, the same with Mira, at λ = 2, and Mira with a pet: uint8 (4, 32, 32, 3)."""
    pipeline = StableDiffusionXLPipeline.from_pretrained(miniature.path(), add_watermarker=False)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.load_nested_adapter([miniature.path("people"), miniature.path("pets")])
    mira, miso = (miniature.example(name) for name in ("mira", "miso"))
    stronger = diffusers_nested.Subject(mira, token="person", scale=2.0)
    calls = [
        (PROMPT, None),
        (PROMPT, {"person": mira}),
        (PROMPT, stronger),
        (BOTH, {"person": mira, "pet": miso}),
    ]
    return np.concatenate([sample(pipeline, [prompt], [1], nested_adapter_image=image) for prompt, image in calls])


def test_pictures_are_those_that_were_looked_at():
    expected = np.asarray(Image.open(EXPECTED).convert("RGB")).reshape(32, 4, 32, 3).swapaxes(0, 1)
    difference = np.abs(draw().astype(int) - expected).mean((1, 2, 3))
    assert difference.max() <= TOLERANCE, f"mean differences of {difference.round(2)} levels of 255"
    assert np.abs(np.diff(expected.astype(int), axis=0)).mean((1, 2, 3)).min() > 3 * TOLERANCE  # no two are the same


def test_the_pictures_show_whom_they_should():
    pictures = np.asarray(Image.open(EXPECTED).convert("RGB")).reshape(32, 4, 32, 3).swapaxes(0, 1)
    mira = miniature.example("mira").resize((32, 32), Image.Resampling.NEAREST)
    whose, _ = miniature.load_recogniser().read(np.stack([np.array(mira), *pictures[:3]]))
    plain, nested, stronger = (whose[1:] @ whose[0]).tolist()
    assert plain < nested < stronger and plain < 0.1 and stronger > 0.6


@pytest.mark.parametrize("name", ["text_encoder", "text_encoder_2"])
def test_text_encoders_name_their_tensors_as_the_repositories_of_sdxl_do(name):
    """So that every version of transformers, old or new, has to read them."""
    with safe_open(miniature.path() / name / "model.safetensors", "pt") as file:
        tops = {key.split(".")[0] for key in file.keys()}  # noqa: SIM118 (it is no dict)
    assert tops <= {"text_model", "text_projection"}


class TestATensorThatIsNotWhereItIsLookedFor:
    """…is an error that names the versions, where the libraries would only warn."""

    @pytest.fixture
    def folder(self, tmp_path):
        return Path(shutil.copytree(miniature.path(), tmp_path / "pipeline"))

    @pytest.mark.parametrize(
        ("file", "prefix"),
        [
            ("text_encoder/model.safetensors", "text_model.final_layer_norm"),
            ("text_encoder_2/model.safetensors", "text_model.encoder.layers.0.mlp.fc1"),
            ("unet/diffusion_pytorch_model.safetensors", "time_embedding.linear_1"),
            ("vae/diffusion_pytorch_model.safetensors", "decoder.conv_in"),
        ],
    )
    def test_of_the_pipeline(self, folder, file, prefix):
        rename(folder / file, prefix, "somewhere.else")
        with pytest.raises(
            NestedAdapterError, match=r"whole: 2 missing tensors .*transformers \d.*needed: >="
        ) as error:
            load_whole_pipeline(folder)
        # later versions of transformers leave out the first part of the name
        assert "diffusers" in str(error.value) and prefix.removeprefix("text_model.") in str(error.value)

    def test_of_the_recogniser(self, tmp_path):
        folder = Path(shutil.copytree(miniature.path("recogniser"), tmp_path / "recogniser"))
        rename(folder / "diffusion_pytorch_model.safetensors", "identity", "somewhere.else")
        with pytest.raises(NestedAdapterError, match=r"2 missing tensors .*2 unexpected tensors"):
            load_whole(miniature.Recogniser, folder)


def rename(file: Path, prefix: str, other: str) -> None:
    tensors = load_file(file)
    assert sum(name.startswith(f"{prefix}.") for name in tensors) == 2
    save_file({name.replace(f"{prefix}.", f"{other}."): x for name, x in tensors.items()}, file, {"format": "pt"})
