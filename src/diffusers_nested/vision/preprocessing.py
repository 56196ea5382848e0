"""What is done to a photo before a vision tower sees it: read from a file, and compared with the tower."""

from pathlib import Path
from typing import Any

from ..compat import clip_image_processor
from ..errors import AdapterLoadError
from ..files import file_in, read_json, shown
from ..files.limits import MAX_CONFIG_BYTES, MAX_SIDE
from .settings import Rule, checked, is_number, number, whole


def default_processor() -> Any:
    """CLIP's own, for pictures of 224 x 224 pixels."""
    return clip_image_processor()


def read_processor(path: Path) -> Any:
    """The preprocessing that a preprocessor_config.json describes.

    Raises:
        AdapterLoadError: It cannot be read, or a value is out of its range.
    """
    file_in(path.parent, path.name)
    raw = read_json(path, MAX_CONFIG_BYTES)
    if not isinstance(raw, dict):
        raise AdapterLoadError(f"{path} does not hold settings, but {shown(raw)}. Download it again.")
    # a size may be written with the sides that it does not have
    sizes = {name: _without_nulls(raw[name]) for name in ("size", "crop_size") if name in raw}
    return clip_image_processor(**checked({**raw, **sizes}, _RULES, str(path)))


def check_processor_fits(processor: Any, side: int, where: str) -> None:
    """Raise unless photos of any shape become pictures of the size that a tower sees.

    Args:
        processor: The preprocessing.
        side: Of the tower's pictures, its ``image_size``.
        where: Where the preprocessing comes from, for the message.

    Raises:
        AdapterLoadError: They become others; both sizes are named.
    """
    made = _made_size(processor)
    if made != (side, side):
        what = "pictures of the photo's own shape" if made is None else f"pictures of {made[0]} x {made[1]} pixels"
        raise AdapterLoadError(
            f"{where} makes {what}, the image encoder sees {side} x {side}. Put the preprocessing that the image "
            "encoder was trained with into feature_extractor/ beside it, with a crop_size of its image_size."
        )


def _made_size(processor: Any) -> tuple[int, int] | None:
    """(height, width) of every preprocessed photo; None if they differ."""
    size: Any = None
    if processor.do_center_crop:
        size = processor.crop_size
    elif processor.do_resize:
        size = processor.size
    height, width = (None, None) if size is None else (size.get("height"), size.get("width"))
    return None if height is None or width is None else (height, width)


def _without_nulls(value: Any) -> Any:
    return {name: side for name, side in value.items() if side is not None} if isinstance(value, dict) else value


def _is_side(value: Any) -> bool:
    return type(value) is int and 1 <= value <= MAX_SIDE


def _is_crop(value: Any) -> bool:
    return _is_side(value) or (
        isinstance(value, dict) and value.keys() == {"height", "width"} and all(map(_is_side, value.values()))
    )


def _is_size(value: Any) -> bool:
    return _is_crop(value) or (
        isinstance(value, dict) and value.keys() == {"shortest_edge"} and _is_side(value["shortest_edge"])
    )


def _three(least: float, most: float) -> Rule:
    def is_valid(value: Any) -> bool:
        return isinstance(value, list) and len(value) == 3 and all(is_number(x) and least <= x <= most for x in value)

    return is_valid, f"three numbers from {least:g} to {most:g}"


_FLAG: Rule = (lambda value: isinstance(value, bool), "true or false")
_SIDES = f"a whole number up to {MAX_SIDE}, or a dict of height and width"
_RULES: dict[str, Rule] = {
    **dict.fromkeys(("do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb"), _FLAG),
    "size": (_is_size, f"{_SIDES} or of shortest_edge"),
    "crop_size": (_is_crop, _SIDES),
    "image_mean": _three(-1000, 1000),
    "image_std": _three(1e-3, 1000),  # photos are divided by it
    "rescale_factor": number(1e-6, 1),
    "resample": whole(5, 0),
}
