"""Who made the pictures of a comparison for the tests of studies; the colour says it."""

from pathlib import Path

from PIL import Image

SIDES = (("ours", 1.0), ("ours", 2.0), ("theirs", 0.5), ("plain", 0.0))
COLOURS = {"ours": (200, 0, 0), "theirs": (0, 200, 0), "plain": (0, 0, 200)}


def maker(picture: Path) -> str:
    with Image.open(picture) as image:
        colour = image.getpixel((0, 0))
    return next(name for name, own in COLOURS.items() if own == colour)
