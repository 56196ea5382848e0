"""An adapter that was trained on aligned faces: its configuration says so, and a call warns of other photos."""

import json
import sys
from pathlib import Path

import pytest
from diffusers import StableDiffusionXLPipeline
from PIL import Image

import tiny_pipeline
from diffusers_nested import NestedAdapter, NestedAdapterError, prepare_face
from diffusers_nested.images import landmarks

FACE = Path(__file__).parents[1] / "data" / "photos" / "astronaut.jpg"


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    unet = tiny_pipeline.components()["unet"]
    made = tiny_pipeline.adapter(unet, image_preparation="aligned_face")
    return tiny_pipeline.save_adapter(tmp_path / "adapter", made)


def call(folder: Path, *photos: Image.Image, times: int = 1) -> None:
    pipeline = StableDiffusionXLPipeline(**tiny_pipeline.components(), add_watermarker=False)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.load_nested_adapter(folder)
    for _ in range(times):
        pipeline(
            "a photo of a person",
            nested_adapter_image=list(photos),
            num_inference_steps=1,
            output_type="latent",
            height=16,
            width=16,
        )


def test_it_is_kept_in_the_configuration(adapter: Path, tmp_path: Path):
    assert json.loads((adapter / "config.json").read_text())["image_preparation"] == "aligned_face"
    unet = tiny_pipeline.components()["unet"]
    again = NestedAdapter.from_pretrained(adapter, unet=unet)
    assert NestedAdapter.from_unet(unet, start_from=again).config["image_preparation"] == "aligned_face"
    assert (
        NestedAdapter.from_unet(unet, start_from=again, image_preparation=None).config.get("image_preparation") is None
    )
    tiny_pipeline.save_adapter(tmp_path / "plain", tiny_pipeline.adapter(unet))
    assert "image_preparation" not in (tmp_path / "plain" / "config.json").read_text()
    with pytest.raises(NestedAdapterError, match="image_preparation must be one of aligned_face, or None, got 'face'"):
        tiny_pipeline.adapter(unet, image_preparation="face")


def test_a_photo_without_a_face_gets_one_warning(adapter: Path, caplog: pytest.LogCaptureFixture):
    pytest.importorskip("dlib")
    pytest.importorskip("face_recognition_models")
    call(adapter, prepare_face(FACE), Image.new("RGB", (64, 64), "grey"), times=2)
    (record,) = caplog.records
    assert "no face was found in photo 2 of 2" in record.getMessage()
    assert "diffusers_nested.prepare_face(photo)" in record.getMessage()


def test_faces_and_other_adapters_are_quiet(adapter: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    grey = Image.new("RGB", (64, 64), "grey")
    plain = tiny_pipeline.save_adapter(tmp_path / "plain", tiny_pipeline.adapter(tiny_pipeline.components()["unet"]))
    call(plain, grey)
    if "dlib" in sys.modules:
        call(adapter, prepare_face(FACE))
    assert not caplog.records


def test_without_the_extra_nothing_is_said(adapter: Path, monkeypatch, caplog: pytest.LogCaptureFixture):
    monkeypatch.setitem(sys.modules, "dlib", None)
    landmarks.face_finder.cache_clear()
    call(adapter, Image.new("RGB", (64, 64), "grey"))
    assert not caplog.records
