import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diffusers_nested import NestedAdapterError, PromptTokenError, SubjectError
from diffusers_nested.data import (
    EndlessOrder,
    Triplet,
    TripletFolder,
    caption_positions,
    frame_of,
    read_lines,
    seeded_generator,
    subject_positions,
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


A, B = {"word": "person", "file_name": "in.png"}, {"word": "child", "file_name": "out.png"}
PAIR = {"subjects": [A, B], "file_name": "out.png", "text": "a person and a child"}
ALONE = {"file_name": "out.png", "text": "a person"}


def test_rows_of_several_subjects(tmp_path: Path):
    triplets = TripletFolder(folder(tmp_path, PAIR, ROW))
    assert triplets[0].photos == {"person": tmp_path / "in.png", "child": tmp_path / "out.png"}
    assert triplets[1].photos == {None: tmp_path / "in.png"}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({**PAIR, "subjects": []}, "has no subject.*would teach the adapter nothing"),
        ({**ALONE, "input_file_name": None}, "line 1, has no subject"),
        ({**ALONE, "subject": [A]}, "line 1, has no subject.*has file_name, text, subject;"),
        ({**PAIR, "subjects": A}, "expected a list"),
        ({**PAIR, "subjects": [A, {"wrod": "child", "file_name": "in.png"}]}, r"\{'wrod'.*expected one such as"),
        ({**PAIR, "subjects": [A, {**B, "word": " "}]}, "expected one such as"),
        ({**PAIR, "subjects": [A, {**B, "word": "Person"}]}, "two subjects with the word 'Person'"),
        ({**PAIR, "subjects": [A, {**B, "file_name": "gone.png"}]}, "subjects names .*gone.png, which does not exist"),
        ({**PAIR, "input_file_name": "in.png"}, "both input_file_name and subjects"),
        ({**PAIR, "text": None}, "lacks text"),
    ],
)
def test_bad_subjects_are_named(tmp_path: Path, row: dict, message: str):
    with pytest.raises(NestedAdapterError, match=message):
        TripletFolder(folder(tmp_path, row))


def test_each_subject_stands_at_its_word():
    pair = Triplet({"person": 1, "child": 2}, "a child and a person", 3)
    found = subject_positions([pair, Triplet(1, pair.text, 3)], "person", (tokenizer(), tokenizer()))
    assert found == {(pair.text, "person"): (5,), (pair.text, "child"): (2,), (pair.text, None): (5,)}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("person", "king"), r"Caption 0 .*'king' is not in the prompt"),
        (("person", "Person"), "'person' and 'Person' of two subjects overlap"),
        (("person", "a person"), "'person' and 'a person' of two subjects overlap"),
        ((), "Triplet 0 has no subject"),
    ],
)
def test_words_that_cannot_be_told_apart(words: tuple, message: str):
    pair = Triplet(dict.fromkeys(words), "a child and a person", None)
    with pytest.raises(NestedAdapterError, match=message):
        subject_positions([pair], "person", (tokenizer(), tokenizer()))


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


@pytest.mark.parametrize(
    ("picture", "size", "frame"),
    [
        ((640, 480), 512, [480, 640, 0, 85, 512, 512]),  # 682 x 512 after resizing
        ((480, 641), 512, [641, 480, 86, 0, 512, 512]),
        ((100, 100), (64, 128), [100, 100, 32, 0, 64, 128]),
        ((4000, 1000), 1024, [1000, 4000, 0, 1536, 1024, 1024]),
    ],
)
def test_frames_are_those_of_a_resize_and_a_crop(picture: tuple, size, frame: list):
    assert frame_of(Image.new("RGB", picture), size).tolist() == frame


def test_the_frame_is_where_the_crop_was():
    """A picture whose red is its row and whose green is its column."""
    rows, columns = np.mgrid[0:60, 0:90]
    picture = np.stack([rows * 4, columns * 2, rows * 0], -1).astype(np.uint8)
    pixels = (to_pixels(picture, (30, 30)) + 1) * 127.5
    _, _, top, left, _, _ = frame_of(Image.fromarray(picture), (30, 30)).tolist()
    middle = pixels[:2, 15, 15] / torch.tensor([8.0, 4.0])  # in rows and columns of the resized picture, half as large
    torch.testing.assert_close(middle, torch.tensor([top + 15.0, left + 15.0]), rtol=0, atol=1)


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
