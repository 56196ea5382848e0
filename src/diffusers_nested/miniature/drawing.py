"""Sprites of the miniature world on a 32 x 32 integer grid, without anti-aliasing."""

from collections.abc import Sequence

import numpy as np

from .backgrounds import draw_place
from .world import CLOTH, EYES, FUR, GLASSES, HAIR, RGB, SKIN, Look, Person, Pet, Scene

SIZE = 32
GOLD: RGB = (250, 196, 30)
RED: RGB = (214, 30, 40)
LIP: RGB = (150, 40, 46)
WHITE: RGB = (252, 252, 252)


class Canvas:
    """A uint8 picture (32, 32, 3), painted with clipped rectangles."""

    def __init__(self) -> None:
        self.pixels = np.zeros((SIZE, SIZE, 3), np.uint8)

    def box(self, left: int, top: int, width: int, height: int, colour: RGB) -> None:
        """Fill a rectangle, clipped to the picture."""
        self.pixels[max(top, 0) : max(top + height, 0), max(left, 0) : max(left + width, 0)] = colour

    def round_box(self, left: int, top: int, width: int, height: int, colour: RGB, cut: int = 1) -> None:
        """A rectangle with its corners cut off by ``cut`` pixels."""
        self.box(left + cut, top, width - 2 * cut, height, colour)
        self.box(left, top + cut, width, height - 2 * cut, colour)


def shaded(colour: RGB, shade: tuple[int, ...]) -> RGB:
    """The colour with a personal offset, clipped to 0..255."""
    r, g, b = (int(np.clip(c + s, 0, 255)) for c, s in zip(colour, shade, strict=True))
    return r, g, b


def darker(colour: RGB, factor: float = 0.72) -> RGB:
    """The same colour with less light."""
    r, g, b = (int(c * factor) for c in colour)
    return r, g, b


def render(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """Draw a scene; ``rng`` gives small shifts of the subjects and details of the place.

    Returns:
        uint8 array of shape (32, 32, 3).
    """
    canvas = Canvas()
    draw_place(canvas, scene.place, rng)
    _draw_subjects([canvas] * len(scene.subjects), scene, rng)
    return in_style(canvas.pixels, scene.style)


def subject_masks(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """Where each subject is visible in the picture that ``render`` draws with an equal ``rng``.

    Returns:
        Boolean array of shape (subjects, 32, 32).
    """
    draw_place(Canvas(), scene.place, rng)
    canvases = [_Stencil() for _ in scene.subjects]
    _draw_subjects(canvases, scene, rng)
    masks = np.stack([canvas.pixels.any(axis=-1) for canvas in canvases])
    for i in range(1, len(masks)):
        masks[:i] &= ~masks[i]  # later subjects stand before earlier ones
    return masks


class _Stencil(Canvas):
    """A canvas that paints everything white."""

    def box(self, left: int, top: int, width: int, height: int, colour: RGB) -> None:
        """Fill a rectangle, whatever its colour."""
        super().box(left, top, width, height, (255, 255, 255))


def _draw_subjects(canvases: Sequence[Canvas], scene: Scene, rng: np.random.Generator) -> None:
    """Each subject on its canvas."""
    alone = len(scene.subjects) == 1
    still = scene.place == "studio" and alone
    for i, (subject, look) in enumerate(zip(scene.subjects, scene.looks, strict=True)):
        canvas = canvases[i]
        reach = 1 if still or not alone else 2
        centre = (16 if alone else (8, 24)[i]) + int(rng.integers(-reach, reach + 1))
        top = (8 if alone else 13) + int(rng.integers(-1, 2))
        width = 14 if alone else 10
        if isinstance(subject, Person):
            _person(canvas, subject, look, centre, top, width)
        else:
            _pet(canvas, subject, look, centre, top, width)


def in_style(pixels: np.ndarray, style: str) -> np.ndarray:
    """Turn a picture into a photo, a watercolor, a pencil drawing or neon, by mapping its colours."""
    if style == "photo":
        return pixels
    x = pixels.astype(np.float32)
    grey = x @ np.array([0.3, 0.59, 0.11], np.float32)
    if style == "watercolor":
        out = 0.55 * x + 0.45 * np.array([255, 250, 232], np.float32)
    elif style == "pencil":
        rows, columns = np.indices(grey.shape)
        hatch = ((rows + columns) % 4 == 0) * 16.0
        out = np.repeat((76 + 0.66 * grey - hatch)[..., None], 3, axis=-1)
    else:  # neon: hues glow out of a violet dusk
        out = 0.4 * x + 1.5 * (x - grey[..., None]) + np.array([56, 0, 104], np.float32)
    return np.clip(out, 0, 255).astype(np.uint8)


def _body(canvas: Canvas, centre: int, top: int, width: int, shirt: RGB) -> None:
    half = width // 2 + 2
    canvas.box(centre - half + 1, top, 2 * half - 2, 1, shirt)
    canvas.box(centre - half, top + 1, 2 * half, SIZE, shirt)
    canvas.box(centre - half + 2, top + 3, 1, SIZE, darker(shirt))
    canvas.box(centre + half - 3, top + 3, 1, SIZE, darker(shirt))


def _person(canvas: Canvas, who: Person, look: Look, centre: int, top: int, width: int) -> None:
    skin, hair = shaded(SKIN[who.skin], who.shade[:3]), shaded(HAIR[who.hair], who.shade[3:])
    left, height = centre - width // 2, width - 1
    _hair_behind(canvas, who.hair_style, hair, left, top, width)
    canvas.box(centre - 2, top + height - 1, 4, 4, darker(skin, 0.85))
    _body(canvas, centre, top + height + 1, width, CLOTH[look.shirt])
    canvas.round_box(left, top, width, height, skin)
    eye_row = top + width // 2 - 2
    if who.beard == "beard":
        canvas.round_box(left, eye_row + 4, width, height - (eye_row + 4 - top) + 1, hair)
    _face(canvas, centre, eye_row, width, EYES[who.eyes], look.expression, darker(skin, 0.75))
    if who.beard == "moustache":
        canvas.box(centre - 3, eye_row + 3, 6, 1, hair)
        canvas.box(centre - 4, eye_row + 4, 2, 1, hair)
        canvas.box(centre + 2, eye_row + 4, 2, 1, hair)
    frame = GLASSES[who.glasses]
    if frame is not None:
        _glasses(canvas, centre, eye_row, width, frame)
    _hair_front(canvas, who.hair_style, hair, left, top, width)
    _headwear(canvas, look, centre, left, top, width)


def _eye_columns(centre: int, width: int) -> tuple[int, int, int]:
    """Left edge of both eyes, and an eye's width."""
    size = 3 if width >= 14 else 2
    return centre - 2 - size, centre + 2, size


def _face(canvas: Canvas, centre: int, row: int, width: int, iris: RGB, expression: str, nose: RGB) -> None:
    left, right, size = _eye_columns(centre, width)
    for column, outer in ((left, left), (right, right + size - 1)):
        canvas.box(column, row, size, 2, iris)
        if size == 3:
            canvas.box(outer, row, 1, 2, WHITE)
    canvas.box(centre - 1, row + 2, 2, 1, nose)
    mouth = row + (5 if width >= 14 else 4)
    canvas.box(centre - 2, mouth, 4, 1, LIP)
    if expression == "smiling":
        canvas.box(centre - 3, mouth - 1, 1, 1, LIP)
        canvas.box(centre + 2, mouth - 1, 1, 1, LIP)
        canvas.box(centre - 2, mouth, 4, 1, WHITE)
        canvas.box(centre - 2, mouth + 1, 4, 1, RED)
    elif expression == "sad":
        canvas.box(centre - 3, mouth + 1, 1, 1, LIP)
        canvas.box(centre + 2, mouth + 1, 1, 1, LIP)


def _glasses(canvas: Canvas, centre: int, row: int, width: int, colour: RGB) -> None:
    left, right, size = _eye_columns(centre, width)
    for column in (left, right):
        canvas.box(column - 1, row - 1, size + 2, 1, colour)
        canvas.box(column - 1, row + 2, size + 2, 1, colour)
        canvas.box(column - 1, row - 1, 1, 4, colour)
        canvas.box(column + size, row - 1, 1, 4, colour)
    canvas.box(centre - 1, row, 2, 1, colour)


def _hair_behind(canvas: Canvas, style: str, hair: RGB, left: int, top: int, width: int) -> None:
    if style == "long":
        canvas.round_box(left - 2, top - 2, width + 4, width + 7, hair, cut=2)
    elif style == "curly":
        canvas.round_box(left - 3, top - 4, width + 6, width - 1, hair, cut=3)
    elif style == "pigtails":
        ball = 4 if width >= 14 else 3
        canvas.round_box(left - ball, top + 2, ball, ball + 2, hair)
        canvas.round_box(left + width, top + 2, ball, ball + 2, hair)


def _hair_front(canvas: Canvas, style: str, hair: RGB, left: int, top: int, width: int) -> None:
    middle = left + width // 2
    if style == "mohawk":
        canvas.box(middle - 2, top - 5, 4, 7, hair)
        return
    canvas.round_box(left - 1, top - 2, width + 2, 4, hair)
    if style in ("short", "bun"):
        canvas.box(left - 1, top, 1, 4, hair)
        canvas.box(left + width, top, 1, 4, hair)
    if style == "bun":
        canvas.round_box(middle - 3, top - 6, 6, 5, hair)


def _headwear(canvas: Canvas, look: Look, centre: int, left: int, top: int, width: int) -> None:
    if look.hat != "none":
        colour = CLOTH[look.hat]
        canvas.box(left - 2, top - 1, width + 4, 2, darker(colour, 0.8))
        canvas.box(left + 2, top - 6, width - 4, 5, colour)
    if look.role == "king":
        canvas.box(left + 1, top - 3, width - 2, 3, GOLD)
        for column in (left + 1, centre - 1, left + width - 3):
            canvas.box(column, top - 6, 2, 3, GOLD)
    elif look.role == "wizard":
        for step in range(4):
            canvas.box(left - 2 + 2 * step, top - 2 * step - 1, width + 4 - 4 * step, 2, (70, 30, 150))
        canvas.box(centre - 1, top - 4, 2, 2, GOLD)
    elif look.role == "chef":
        canvas.box(left + 1, top - 3, width - 2, 4, (226, 226, 232))
        canvas.round_box(left - 1, top - 7, width + 2, 5, WHITE)
    elif look.role == "clown":
        canvas.round_box(centre - 2, top + width // 2, 4, 3, RED, cut=0)


def _pet(canvas: Canvas, who: Pet, look: Look, centre: int, top: int, width: int) -> None:
    fur = shaded(FUR[who.fur], who.shade)
    mark = darker(fur, 0.5) if sum(fur) > 330 else (216, 208, 198)
    left, height = centre - width // 2, width - 1
    _ears(canvas, who.species, fur, left, top, width)
    shirt = fur if look.shirt == "grey" else CLOTH[look.shirt]
    _body(canvas, centre, top + height, width, darker(shirt, 0.85) if shirt is fur else shirt)
    canvas.round_box(left, top, width, height, fur)
    eye_row = top + width // 2 - 3
    if who.pattern == "patch":
        canvas.box(centre + 1, eye_row - 1, width // 2 - 1, 4, mark)
    elif who.pattern == "blaze":
        canvas.box(centre - 1, top, 2, width // 2 + 1, mark)
    elif who.pattern == "mask":
        canvas.round_box(left + 1, eye_row + 3, width - 2, height - (eye_row + 3 - top), mark)
    nose: RGB = (236, 120, 150) if sum(fur) < 200 else (24, 20, 24)
    _face(canvas, centre, eye_row, width, EYES[who.eyes], look.expression, nose)
    canvas.box(centre - 1, eye_row + 2, 2, 2, nose)
    if look.hat != "none":
        _headwear(canvas, look, centre, left, top, width)


def _ears(canvas: Canvas, species: str, fur: RGB, left: int, top: int, width: int) -> None:
    inner: RGB = (244, 166, 176)
    right = left + width
    if species == "cat":
        for step in range(4):
            canvas.box(left, top - step, 4 - step, 1, fur)
            canvas.box(right - 4 + step, top - step, 4 - step, 1, fur)
    elif species == "dog":
        canvas.round_box(left - 3, top, 4, width - 3, darker(fur, 0.6))
        canvas.round_box(right - 1, top, 4, width - 3, darker(fur, 0.6))
    elif species == "rabbit":
        for column in (left + 1, right - 4):
            canvas.round_box(column, top - 7, 3, 9, fur)
            canvas.box(column + 1, top - 5, 1, 5, inner)
    else:
        for column in (left - 2, right - 3):
            canvas.round_box(column, top - 3, 5, 5, fur)
            canvas.box(column + 2, top - 1, 1, 2, inner)
