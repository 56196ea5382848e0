"""`diffusers-nested generate`, as a user calls it."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from diffusers import StableDiffusionPipeline
from PIL import Image

import tiny_pipeline
from diffusers_nested import NestedAdapterError, miniature
from diffusers_nested.cli import main
from diffusers_nested.cli.subjects import read_images, with_word

PROMPT = "a photo of a person on the beach"
PEOPLE, PETS = (str(miniature.path(name)) for name in ("people", "pets"))
# what one writes in Python only
PYTHON = re.compile(r"\w=\.\.\.|\w=None|\bdicts?\b|\bSubjects?\(|nested_adapter_|\bpipe\.|Traceback")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def generate(*arguments: str, prompt: str = PROMPT) -> int:
    try:
        return main(["generate", prompt, "--num-inference-steps", "2", *arguments])
    except SystemExit as end:  # of argparse
        assert isinstance(end.code, int)
        return end.code


def pixels(file: str | Path) -> np.ndarray:
    with Image.open(file) as picture:
        return np.asarray(picture)


def refused(capsys: pytest.CaptureFixture, *arguments: str, prompt: str = PROMPT) -> str:
    """The message with which the command ends; nothing is written."""
    before = {path: path.stat().st_mtime_ns for path in Path().rglob("*")}
    assert generate(*arguments, prompt=prompt) == 2
    shown = capsys.readouterr()
    lines = [line for line in shown.err.splitlines() if "it/s]" not in line and "Loading" not in line and line.strip()]
    assert len(lines) <= 2 and lines[0].startswith("diffusers-nested generate: "), shown.err
    assert not PYTHON.search("\n".join(lines)), lines
    assert not shown.out
    assert {path: path.stat().st_mtime_ns for path in Path().rglob("*")} == before
    return lines[0]


def test_paths_of_enlarged_pictures_on_the_standard_output(folder: Path, capsys: pytest.CaptureFixture):
    assert generate("--image", "person=mira", "--num-images", "2", "--output", "out.png") == 0
    files = [folder / "out.png", folder / "out-2.png"]
    assert capsys.readouterr().out == "".join(f"{file}\n" for file in files)
    assert [pixels(file).shape for file in files] == [(256, 256, 3)] * 2
    assert not np.array_equal(*map(pixels, files))


def test_the_image_acts_and_the_seed_repeats():
    for file, person in (("1.png", "mira"), ("2.png", "mira"), ("3.png", "otto")):
        assert generate("--image", f"person={person}", "--output", file) == 0
    assert np.array_equal(pixels("1.png"), pixels("2.png"))
    assert not np.array_equal(pixels("1.png"), pixels("3.png"))


def test_a_pipeline_of_stable_diffusion(folder: Path, capsys: pytest.CaptureFixture):
    pipeline = StableDiffusionPipeline(**tiny_pipeline.sd15_components(), requires_safety_checker=False)
    pipeline.save_pretrained(folder / "base")
    tiny_pipeline.save_adapter(folder / "adapter", tiny_pipeline.adapter(pipeline.unet))
    flags = ("--pipeline", "base", "--height", "16", "--width", "16", "--device", "cpu")
    prompt = "a photo of a person in the snow"
    assert generate("--output", "plain.png", "--adapter", "adapter", *flags, prompt=prompt) == 0
    assert generate("--output", "mira.png", "--image", "mira", "--adapter", "adapter", *flags, prompt=prompt) == 0
    assert not np.array_equal(pixels("plain.png"), pixels("mira.png"))
    capsys.readouterr()
    message = refused(capsys, "--image", "mira", "--adapter", PEOPLE, *flags, "--output", "no.png", prompt=prompt)
    assert "'sdxl' family" in message and "'sd15'" in message


def test_words_that_the_miniature_does_not_know_are_named_and_the_picture_is_drawn(caplog: pytest.LogCaptureFixture):
    assert generate("--image", "mira", prompt="a photo of a person on a sofa with a labradoodle") == 0
    assert Path("result.png").is_file()
    (message,) = (one.getMessage() for one in caplog.records if one.name.startswith("diffusers_nested.miniature"))
    assert '"sofa", "labradoodle"' in message


def test_size_type_and_word():
    prompt = "a photo of a king on the beach"
    flags = ("--height", "48", "--width", "64", "--adapter", "people")
    assert generate("--output", "plain.png", *flags, prompt=prompt) == 0
    assert generate("--output", "king.png", "--image", "mira", "--word", "king", *flags, prompt=prompt) == 0
    assert generate("--output", "half.png", "--image", "king=mira", "--dtype", "bfloat16", *flags, prompt=prompt) == 0
    plain, king, half = (pixels(f"{name}.png") for name in ("plain", "king", "half"))
    assert king.shape == half.shape == (384, 512, 3)
    assert not np.array_equal(king, plain)
    assert 0 < np.abs(king.astype(float) - half).mean() < 8  # the same picture, in fewer digits


def test_only_the_default_file_is_replaced_unasked(capsys: pytest.CaptureFixture):
    for name in ("result.png", "out-2.png"):
        Path(name).write_bytes(b"mine")
    assert "out-2.png" in refused(capsys, "--output", "out.png", "--num-images", "2")
    assert generate() == 0 and Path("result.png").read_bytes() != b"mine"
    assert generate("--output", "out.png", "--num-images", "2", "--overwrite") == 0
    assert Path("out-2.png").read_bytes() != b"mine"


@pytest.mark.parametrize(
    "arguments",
    [
        ("--output", "picture.foo"),
        ("--output", "picture.h5"),  # an ending that PIL knows but does not write
        ("--output", "picture"),
        ("--output", ""),
        ("--output", "folder"),
        ("--output", "missing/picture.png"),
        ("--output", "text.png"),
        ("--num-inference-steps", "0"),
        ("--num-inference-steps", "-1"),
        ("--num-inference-steps", "2.5"),
        ("--num-images", "0"),
        ("--guidance-scale", "nan"),
        ("--scale", "-1"),
        ("--scale", "inf"),
        ("--height", "100"),
        ("--width", "0"),
        ("--seed", "-1"),
        ("--seed", "99999999999999999999"),
        ("--device", "foo"),
        ("--device", "cuda:99"),
        ("--device", "meta"),
        ("--device", ""),
        ("--dtype", "int8"),
        ("--offload", "--device", "cpu"),
        ("--image", "nobody.png"),
        ("--image", "text.png"),
        ("--image", "folder"),
        ("--image", "person="),
        ("--image", "=mira"),
        ("--image", "mira", "--image", "person=otto"),
        ("--word", "person"),
        ("--word", " ", "--image", "mira"),
        ("--nonsense",),
    ],
    ids=" ".join,
)
def test_bad_values_are_refused_before_any_model_is_loaded(
    folder: Path, capsys: pytest.CaptureFixture, arguments: tuple[str, ...]
):
    (folder / "folder").mkdir()
    (folder / "text.png").write_text("no picture")
    message = refused(capsys, "--pipeline", "/nowhere", "--adapter", PEOPLE, *arguments)
    assert "/nowhere" not in message
    assert arguments[0].lstrip("-") in message


@pytest.mark.parametrize(
    ("prompt", "arguments", "named"),
    [
        ("a photo of a dog", ("--image", "mira"), "person, pet"),
        ("a person and a pet", ("--image", "mira"), "person, pet"),
        ("a photo of a king", ("--image", "king=mira"), "--adapter"),
        ("a photo of a dog", ("--image", "mira", "--adapter", PEOPLE), "--image WORD=FILE"),
        (PROMPT, ("--image", "pet=miso"), "--image WORD=FILE"),
        (PROMPT, ("--adapter", "people", "--adapter", PEOPLE), "'person'"),
        (PROMPT, ("--adapter", "/nowhere"), "/nowhere"),
        (PROMPT, ("--adapter", "empty"), "config.json"),
        (PROMPT, ("--adapter", "unfinished"), "safetensors"),
        (PROMPT, ("--adapter", f"{PEOPLE}/config.json"), "folder"),
        (PROMPT, ("--pipeline", "empty", "--adapter", PEOPLE), "--pipeline empty"),
        (PROMPT, ("--pipeline", "empty"), "--adapter"),
    ],
)
def test_what_does_not_fit_together(
    folder: Path, capsys: pytest.CaptureFixture, prompt: str, arguments: tuple[str, ...], named: str
):
    (folder / "empty").mkdir()
    shutil.copytree(PEOPLE, folder / "unfinished", ignore=shutil.ignore_patterns("diffusion_*"))
    assert named in refused(capsys, *arguments, prompt=prompt)


def test_read_images_groups_by_word(folder: Path):
    miniature.example("otto").save("a=b.png")
    given = read_images(["person=mira", "Person=a=b.png", "pet=miso"])
    assert {word: len(images) for word, images in given.items()} == {"person": 2, "pet": 1}
    assert len(read_images(["mira", "a=b.png"])) == 2
    assert {word: len(images) for word, images in read_images(["mira", "pet=miso"], "king").items()} == {
        "king": 1,
        "pet": 1,
    }
    Path("text.png").write_text("no picture")
    with pytest.raises(NestedAdapterError, match=r"text\.png"):
        read_images(["text.png"])


def test_photos_get_the_word_that_the_prompt_holds():
    photos = read_images(["mira"])
    assert with_word(photos, "a Pet, running", ["person", "pet"]) == {"pet": photos}
    assert with_word(photos, "a king", ["person"]) == photos  # the adapter's word, which the pipeline looks for


def test_a_folder_comes_before_a_bundled_adapter_of_its_name(folder: Path):
    assert generate("--image", "mira", "--adapter", "people", "--output", "bundled.png") == 0
    shutil.copytree(PETS, folder / "people")
    with_folder = ("--image", "pet=miso", "--adapter", "people")
    assert generate(*with_folder, "--output", "own.png", prompt="a photo of a pet") == 0
    assert generate("--image", "mira", "--adapter", "pets", "--output", "none.png") == 2  # no "person"
