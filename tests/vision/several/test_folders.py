"""Where the towers of an adapter lie, and other towers, which are refused."""

import shutil
from pathlib import Path

import pytest

import tiny_towers as towers
from diffusers_nested import NestedAdapterError
from hub.steps import check_untouched, generate
from two_towers import CLIP, DINO, change_config


def swap(folder: Path) -> None:
    for name in ("image_encoder", "feature_extractor"):
        (folder / name).rename(folder / "aside")
        (folder / f"{name}_2").rename(folder / name)
        (folder / "aside").rename(folder / f"{name}_2")


def without_second(folder: Path) -> None:
    shutil.rmtree(folder / "image_encoder_2")


def narrower(folder: Path) -> None:
    towers.save(folder, "dinov2 with registers", 2, width=16)


def of_another_size(folder: Path) -> None:
    kind = towers.FAMILIES["dinov2"][2]
    kind(size={"shortest_edge": 24}, crop_size={"height": 24, "width": 24}).save_pretrained(
        folder / "feature_extractor_2"
    )


def without_registers(folder: Path) -> None:
    towers.save(folder, "dinov2", 2, width=DINO)


def without_a_count(folder: Path) -> None:
    change_config(folder, image_feature_count=[5, None])


def without_preprocessing(folder: Path) -> None:
    shutil.rmtree(folder / "feature_extractor_2")


def as_one(folder: Path) -> None:
    change_config(folder, image_feature_dim=CLIP, image_feature_count="leave out", image_encoder_type="leave out")


def without_counts(folder: Path) -> None:
    change_config(folder, image_feature_count="leave out")


def of_three(folder: Path) -> None:
    change_config(folder, image_encoder_type=["clip_vision_model", "dinov2", "vit"])


def of_no_kind(folder: Path) -> None:
    change_config(folder, image_encoder_type=["clip_vision_model", "resnet"])


WRONG = {
    swap: r"is a 'dinov2_with_registers', but the adapter reads a 'clip_vision_model'.*in the same order",
    without_second: r"without its image encoder 2.*contains image_encoder_2/",
    narrower: f"image_encoder_2 gives features of width 16, but the adapter reads {DINO}",
    of_another_size: r"image_encoder_2 gives 10 features .*, but the adapter reads 5: .*the same preprocessing",
    without_registers: "image_encoder_2 is a 'dinov2', but the adapter reads a 'dinov2_with_registers'",
    as_one: "do not match its config.json",
    without_a_count: r"image_feature_count is \[5, None\], expected a list of 2 numbers",
    without_preprocessing: r"There is no feature_extractor_2/ beside .*224 x 224|gives 785 features",
    without_counts: r"image_feature_count is None, expected a list of 2",
    of_three: "image_encoder_type has 3 values, but image_feature_dim has 2",
    of_no_kind: "image_encoder_type must be one of clip_vision_model, dinov2, .*got",
}


@pytest.mark.parametrize("change", WRONG, ids=lambda change: change.__name__)
def test_other_towers_are_refused_before_anything_changes(change, folder, pipeline):
    processors = dict(pipeline.unet.attn_processors)
    change(folder)
    with pytest.raises(NestedAdapterError, match=WRONG[change]):
        pipeline.load_nested_adapter(folder)
    check_untouched(pipeline, processors)


def test_a_folder_for_each_tower(folder, pipeline):
    (folder / "image_encoder").rename(folder / "mine")
    (folder / "image_encoder_2").rename(folder / "mine_2")
    with pytest.raises(NestedAdapterError, match=r"without an image encoder"):
        pipeline.load_nested_adapter(folder)
    for wrong in (["mine"], ["mine", None], []):
        with pytest.raises(
            NestedAdapterError, match=r"image_encoder_folder is \[.*but the adapter reads 2 vision towers"
        ):
            pipeline.load_nested_adapter(folder, image_encoder_folder=wrong)
    for given in ("mine", ["mine", "mine_2"]):
        pipeline.load_nested_adapter(folder, image_encoder_folder=given)
        names = pipeline.unet._nested_adapter_state.loaded["person"].encoder_names
        assert names == (str(folder / "mine"), str(folder / "mine_2"))
        pipeline.unload_nested_adapter()


def test_a_numbered_folder_has_the_preprocessing_of_its_number(folder, pipeline):
    pipeline.load_nested_adapter(folder)
    expected = generate(pipeline)
    pipeline.unload_nested_adapter()
    other = towers.FAMILIES["dinov2"][2](**towers.CROP, image_mean=[0.1] * 3)
    other.save_pretrained(folder / "feature_extractor_2")
    swap(folder)
    pipeline.load_nested_adapter(folder, image_encoder_folder=["image_encoder_2", "image_encoder"])
    first, second = pipeline.unet._nested_adapter_state.loaded["person"].encoder.parts
    assert list(second.processor.image_mean) == [0.1] * 3 and list(first.processor.image_mean) != [0.1] * 3
    assert not (generate(pipeline) == expected).all()
