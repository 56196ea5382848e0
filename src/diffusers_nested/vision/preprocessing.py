"""Image preprocessing for a vision tower: read from its file, and checked against the tower."""

from pathlib import Path
from typing import Any

from ..errors import AdapterLoadError
from ..files import read_json, shown
from ..files.limits import MAX_ATTENTION, MAX_CONFIG_BYTES, MAX_PATCHES, MAX_SIDE
from ..files.rules import FLAG, Rule, known_settings, list_of, number, whole


def read_processor(path: Path, kind: type[Any]) -> Any:
    """The preprocessing that a preprocessor_config.json describes.

    Args:
        path: The file.
        kind: Class of the image processor.

    Raises:
        AdapterLoadError: A value is out of range.
    """
    raw = read_json(path, MAX_CONFIG_BYTES)
    if not isinstance(raw, dict):
        raise AdapterLoadError(f"{path} must contain settings, got {shown(raw)}. Download it again.")
    # unused sides of a size may be written as null
    sizes = {name: _without_nulls(raw[name]) for name in ("size", "crop_size") if name in raw}
    return kind(**known_settings({**raw, **sizes}, _RULES, str(path), AdapterLoadError))


def check_processor_fits(
    processor: Any, config: Any, where: str, any_size: bool = False, folder: str = "feature_extractor"
) -> None:
    """Raise unless the preprocessing turns photos of any shape into pictures that the tower can read.

    Args:
        processor: The image processor.
        config: The tower's configuration.
        where: Where the preprocessing comes from, for the message.
        any_size: Whether the tower takes pictures of other sizes than its ``image_size``.
        folder: Name of the folder for it beside the tower.

    Raises:
        AdapterLoadError: The sizes differ; the message gives both.
    """
    made, side, patch = made_size(processor), config.image_size, config.patch_size
    if made == (side, side):
        return
    what = "pictures of the photo's own shape" if made is None else f"pictures of {made[0]} x {made[1]} pixels"
    if not any_size:
        raise AdapterLoadError(
            f"{where} makes {what}, but the image encoder expects {side} x {side}. Put the preprocessing that it "
            f"was trained with into {folder}/ beside it, with a crop_size equal to its image_size."
        )
    if made is None or min(made) < patch or not fits_memory(config, made):
        raise AdapterLoadError(
            f"{where} makes {what}, but the image encoder expects all of one size, of 1 to {MAX_PATCHES} patches of "
            f"{patch} x {patch}. Put the preprocessing that it was trained with into {folder}/ beside it."
        )


def fits_memory(config: Any, size: tuple[int, int]) -> bool:
    """Whether a tower may read pictures of this height and width; see ``files.limits``."""
    patches = (size[0] // config.patch_size) * (size[1] // config.patch_size)
    return patches <= MAX_PATCHES and config.num_attention_heads * (patches + 1) ** 2 <= MAX_ATTENTION


_SIDE = whole(1, MAX_SIDE)


def made_size(processor: Any) -> tuple[int, int] | None:
    """(height, width) of preprocessed photos; None if it depends on the photo."""
    size: Any = None
    if processor.do_center_crop:
        size = processor.crop_size
    elif processor.do_resize:
        size = processor.size
    height, width = (None, None) if size is None else (size.get("height"), size.get("width"))
    return None if height is None or width is None else (height, width)


def _without_nulls(value: Any) -> Any:
    return {name: side for name, side in value.items() if side is not None} if isinstance(value, dict) else value


def _is_crop(value: Any) -> bool:
    return _SIDE.is_valid(value) or (
        isinstance(value, dict) and value.keys() == {"height", "width"} and all(map(_SIDE.is_valid, value.values()))
    )


def _is_size(value: Any) -> bool:
    return _is_crop(value) or (
        isinstance(value, dict) and value.keys() == {"shortest_edge"} and _SIDE.is_valid(value["shortest_edge"])
    )


_SIDES = f"a whole number up to {MAX_SIDE}, or a dict of height and width"
_RULES: dict[str, Rule] = {
    **dict.fromkeys(("do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb"), FLAG),
    "size": Rule(_is_size, f"{_SIDES} or of shortest_edge"),
    "crop_size": Rule(_is_crop, _SIDES),
    "image_mean": list_of(number(-1000, 1000), 3),
    "image_std": list_of(number(1e-3, 1000), 3),  # photos are divided by it
    "rescale_factor": number(1e-6, 1),
    "resample": whole(0, 5),
}
