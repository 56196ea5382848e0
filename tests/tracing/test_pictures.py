"""Pictures of results: colours, marks, sheets, and the pictures in what calls return."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from diffusers_nested import NestedAdapterError
from diffusers_nested.tracing.outputs import picture_in
from diffusers_nested.tracing.pictures import CELL, heat, marked, overlay, picture_of, sheet
from diffusers_nested.tracing.values import principal


def test_heat_is_brightest_where_the_map_is_largest_and_rises():
    brightness = heat(torch.linspace(0, 1, 50)[None])[0].mean(1)
    assert (brightness.diff() > 0).all()
    values = torch.zeros(4, 8)
    values[1, 6] = 0.3
    shown = np.asarray(overlay(Image.new("RGB", (64, 32), (90, 90, 90)), values)).sum(2)
    y, x = np.unravel_index(shown.argmax(), shown.shape)
    assert shown.shape == (128, 256) and 40 <= y < 56 and 200 <= x < 216
    flat = np.asarray(overlay(Image.new("RGB", (8, 8)), torch.ones(2, 2)))
    assert (flat == flat[0, 0]).all()


def test_a_mark_surrounds_its_point():
    shown = np.asarray(marked(Image.new("RGB", (32, 32)), {"A": (24, 8)})).sum(2)
    rows, columns = np.nonzero(shown)
    assert abs(columns.mean() - 192) < 3 and abs(rows.mean() - 64) < 3


def test_a_sheet_has_room_for_every_cell():
    cell = ("a caption that needs more than one line of its own", Image.new("RGB", (32, 48), "red"))
    made = sheet("A title", [("first", [cell] * 3), ("", [cell])])
    red = (np.asarray(made) == (255, 0, 0)).all(2).sum()
    assert red == pytest.approx(4 * CELL * CELL * 2 / 3, rel=0.02)


@pytest.mark.parametrize(("count", "across", "down"), [(1, 1, 1), (3, 3, 1), (4, 2, 2), (5, 3, 2), (9, 3, 3)])
def test_a_long_row_is_broken(count: int, across: int, down: int):
    cell = ("", Image.new("RGB", (CELL, CELL), "red"))
    made = np.asarray(sheet("", [("", [cell] * count)]))
    red = (made == (255, 0, 0)).all(2)
    assert made.shape[1] // CELL == across and red.sum() == count * CELL**2
    assert (red.any(1).sum(), red.any(0).sum()) == (down * CELL, across * CELL)


def test_principal_components_are_those_of_the_covariance():
    values = torch.randn(200, 6, generator=torch.Generator().manual_seed(0)) * torch.tensor([9.0, 5, 3, 1, 1, 1])
    found = principal(values)
    centred = values - values.mean(0)
    _, vectors = torch.linalg.eigh(centred.T @ centred)
    for i in range(3):
        along = centred @ vectors[:, -1 - i]
        inside = (found[:, i] > 0) & (found[:, i] < 1)
        assert abs(torch.corrcoef(torch.stack([along[inside], found[inside, i]]))[0, 1]) > 0.9999
    assert (principal(torch.ones(9, 2)) == 0.5).all()


def test_pictures_in_every_kind_of_output():
    array = np.random.default_rng(0).random((2, 3, 4, 5, 3)).astype(np.float32)  # two videos of three frames
    last = np.uint8(np.round(array[1, 2] * 255))
    as_pil = [[Image.fromarray(np.uint8(np.round(frame * 255))) for frame in video] for video in array]
    tensor = torch.from_numpy(array).movedim(-1, 2)
    for output in (array, as_pil, tensor, list(tensor), [list(video) for video in array]):
        shown = picture_in(SimpleNamespace(frames=output), 5)
        assert shown is not None and np.abs(np.asarray(shown).astype(int) - last).max() <= 1
    assert picture_in((as_pil[0], None), 1) == as_pil[0][1]
    for nothing in (None, SimpleNamespace(images=torch.zeros(1, 4, 2, 2)), ("x",), SimpleNamespace(images=[])):
        assert picture_in(nothing, 0) is None
    with pytest.raises(NestedAdapterError, match=r"Give one: overlay\(image\)"):
        picture_of(None, None)
