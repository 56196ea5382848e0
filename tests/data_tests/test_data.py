import json
from pathlib import Path

import numpy as np
import pytest
import torch

from diffusers_nested import NestedAdapterError, PromptTokenError, SubjectError
from diffusers_nested.data import (
    EndlessOrder,
    TripletFolder,
    caption_positions,
    read_lines,
    seeded_generator,
    to_pixels,
)
from tiny_pipeline import photo, tokenizer

ROW = {"input_file_name": "in.png", "file_name": "out.png", "text": "a photo of a person"}


def folder(path: Path, *lines: object) -> Path:
    for name in ("in.png", "out.png"):
        photo().save(path / name)
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    (path / "metadata.jsonl").write_text(text)
    return path


def test_folder_gives_paths_and_caption(tmp_path: Path):
    triplets = TripletFolder(folder(tmp_path, ROW, "", {**ROW, "text": "a person", "extra": 1}))
    assert len(triplets) == 2
    assert triplets[0].input_image == tmp_path / "in.png"
    assert triplets[0].target_image == tmp_path / "out.png"
    assert triplets[1].text == "a person"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "no examples"),
        ([ROW, "{oops"], "line 2, is not JSON"),
        (["[" * 100_000], "line 1, is not JSON"),
        (["[1]"], "line 1, is not a JSON object"),
        ([{}], "lacks input_file_name, file_name, text"),
        ([{**ROW, "text": 3}], "lacks text"),
        ([{**ROW, "input_file_name": "gone.png"}], "input_file_name names .*gone.png, which does not exist"),
    ],
)
def test_bad_metadata_is_named(tmp_path: Path, lines: list, message: str):
    with pytest.raises(NestedAdapterError, match=message):
        TripletFolder(folder(tmp_path, *lines))


def test_folder_without_metadata(tmp_path: Path):
    with pytest.raises(NestedAdapterError, match="needs one"):
        TripletFolder(tmp_path)


def test_metadata_as_other_programs_write_it(tmp_path: Path):
    """With a byte order mark, carriage returns, and characters at which Python would split a text."""
    caption = "a person \u2028 in the\x85 café\x0c"
    rows = "\r\n".join(json.dumps({**ROW, "text": text}, ensure_ascii=False) for text in (caption, "a person"))
    folder(tmp_path)
    (tmp_path / "metadata.jsonl").write_bytes(b"\xef\xbb\xbf" + rows.encode() + b"\r\n\r\n")
    triplets = TripletFolder(tmp_path)
    assert [triplets[i].text for i in range(len(triplets))] == [caption, "a person"]


@pytest.mark.parametrize("line", ["a café".encode("latin-1"), "a photo".encode("utf-16"), b"\xff\xfe"])
def test_a_line_that_is_not_in_utf_8_is_named(tmp_path: Path, line: bytes):
    (tmp_path / "prompts.txt").write_bytes(b"a person\n\n" + line + b"\na dog\n")
    with pytest.raises(NestedAdapterError, match=r"prompts\.txt, line 3, is not in UTF-8.*Save"):
        read_lines(tmp_path / "prompts.txt")


def test_captions_are_placed_once_each():
    found = caption_positions(["a photo of a person", "a person"] * 2, "person", (tokenizer(), tokenizer()))
    assert found == {"a photo of a person": (5,), "a person": (2,)}


def test_caption_without_the_word_is_shown():
    with pytest.raises(PromptTokenError, match=r"Caption 1 .*'a photo of a pet'.*not in the prompt"):
        caption_positions(["a person", "a photo of a pet"], "person", (tokenizer(), tokenizer()))


def test_pixels_fill_the_square_from_the_centre():
    wide = np.zeros((4, 12, 3), np.uint8)
    wide[:, 4:8] = 255
    pixels = to_pixels(wide, 4)
    assert pixels.shape == (3, 4, 4)
    assert torch.equal(pixels, torch.ones(3, 4, 4))


def test_pixels_of_a_file(tmp_path: Path):
    photo().save(tmp_path / "a.png")
    assert torch.equal(to_pixels(tmp_path / "a.png", 16), to_pixels(photo(), 16))


def test_unreadable_images(tmp_path: Path):
    (tmp_path / "a.png").write_text("no picture")
    for path in (tmp_path / "a.png", tmp_path / "gone.png"):
        with pytest.raises(NestedAdapterError, match="cannot be read"):
            to_pixels(path, 16)
    with pytest.raises(SubjectError):
        to_pixels(3, 16)


def test_processes_share_an_epoch():
    orders = [EndlessOrder(12, 2, 7, process, 3) for process in range(3)]
    for epoch in range(2):
        seen = [i for order in orders for number in (2 * epoch, 2 * epoch + 1) for i in order.batch(number)]
        assert sorted(seen) == list(range(12))


def test_order_depends_on_number_and_seed_alone():
    order = EndlessOrder(5, 3, 7)
    batches = [order.batch(i) for i in range(9)]
    assert [EndlessOrder(5, 3, 7).batch(i) for i in reversed(range(9))] == batches[::-1]
    assert [EndlessOrder(5, 3, 8).batch(i) for i in range(9)] != batches
    indices = [i for batch in batches for i in batch]
    for epoch in range(5):
        assert sorted(indices[5 * epoch : 5 * epoch + 5]) == list(range(5))


def test_batches_may_be_larger_than_the_set():
    assert sorted(EndlessOrder(2, 6, 0).batch(3)) == [0, 0, 0, 1, 1, 1]


def test_generators_of_other_keys_differ():
    keys = [(0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 0, 10), (0, 0, 1, 0)]
    drawn = {torch.rand(1, generator=seeded_generator(*key)).item() for key in keys}
    assert len(drawn) == len(keys)
    assert torch.rand(1, generator=seeded_generator(0, 0, 1)).item() in drawn
