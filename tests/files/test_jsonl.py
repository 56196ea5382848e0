"""Rows of JSON in files that may be truncated at any byte."""

import os
from pathlib import Path

import pytest

from diffusers_nested.errors import NestedAdapterError
from diffusers_nested.files.jsonl import append_jsonl, read_jsonl, write_jsonl
from diffusers_nested.files.write_whole import write_whole
from full_disk import room_for

ROWS = [{"step": 1, "loss": 0.5}, {"step": 2, "prompt": "café \u2028 naïve \x85 {}", "none": None}]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rows.jsonl"


@pytest.fixture
def full_disk():
    with room_for(100):
        yield


def test_rows_come_back_as_they_were_written(path: Path):
    append_jsonl(path, ROWS[:1])
    append_jsonl(path, ROWS[1:])
    assert read_jsonl(path) == ROWS
    assert path.read_bytes().count(b"\n") == 2


def test_what_does_not_exist_has_no_rows(path: Path):
    assert read_jsonl(path) == []


def test_wherever_a_file_is_cut_off_it_reads_and_goes_on(path: Path):
    append_jsonl(path, ROWS)
    data = path.read_bytes()
    for length in range(len(data) + 1):
        path.write_bytes(data[:length])
        whole = sum(end <= length for end in (data.index(b"\n"), len(data) - 1))  # the newline may be missing
        assert read_jsonl(path) == ROWS[:whole], length
        append_jsonl(path, [{"new": 1}])
        assert read_jsonl(path) == [*ROWS[:whole], {"new": 1}], length


def test_zeros_after_a_power_cut_are_a_torn_line(path: Path):
    append_jsonl(path, ROWS)
    with path.open("ab") as file:
        file.write(bytes(512))
    append_jsonl(path, ROWS)
    assert read_jsonl(path) == ROWS * 2


@pytest.mark.parametrize("torn", ["", '{"torn": "'])
def test_a_row_longer_than_what_is_read_at_once(path: Path, torn: str):
    long = {"text": "x" * 200_000}
    append_jsonl(path, [long])
    with path.open("a") as file:
        file.write(torn + "y" * 200_000 * bool(torn))
    append_jsonl(path, ROWS)
    assert read_jsonl(path) == [long, *ROWS]


def test_appending_leaves_the_bytes_before_alone(path: Path):
    path.write_bytes(b'{"by": "hand"}\n\n{  "step":1}\n{"torn": "caf\xc3')
    append_jsonl(path, ROWS[:1])
    assert path.read_bytes() == b'{"by": "hand"}\n\n{  "step":1}\n{"step": 1, "loss": 0.5}\n'


@pytest.mark.parametrize("broken", [b'{"step": 2', b"[1, 2]", b'{"text": "caf\xe9"}', b"null", b"[" * 100_000])
def test_a_broken_line_that_is_not_the_last_is_named(path: Path, broken: bytes):
    path.write_bytes(b'{"step": 1}\n' + broken + b'\n{"step": 3}\n')
    with pytest.raises(NestedAdapterError, match=r"rows\.jsonl, line 2, .*delete it"):
        read_jsonl(path)


def test_a_folder_in_the_files_place_is_named(path: Path):
    path.mkdir()
    for action in (lambda: read_jsonl(path), lambda: append_jsonl(path, ROWS)):
        with pytest.raises(NestedAdapterError, match="not a regular file"):
            action()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_named_pipe_is_not_waited_for(path: Path):
    os.mkfifo(path)
    with pytest.raises(NestedAdapterError, match="not a regular file"):
        read_jsonl(path)


@pytest.mark.usefixtures("full_disk")
def test_on_a_full_disk_the_rows_before_stay(path: Path):
    append_jsonl(path, ROWS[:1])
    before = path.read_bytes()
    with pytest.raises(OSError, match="No space left"):
        append_jsonl(path, ROWS * 5)
    assert path.read_bytes() == before


@pytest.mark.usefixtures("full_disk")
@pytest.mark.parametrize("write", [write_jsonl, lambda path, rows: write_whole(path, str(rows))])
def test_on_a_full_disk_the_file_before_stays(path: Path, write):
    write(path, ROWS[:1])
    before = path.read_bytes()
    with pytest.raises(OSError, match="No space left"):
        write(path, ROWS * 5)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_rows_written_whole_replace_those_before(path: Path):
    append_jsonl(path, ROWS)
    write_jsonl(path, ROWS[1:])
    assert read_jsonl(path) == ROWS[1:]
    assert os.listdir(path.parent) == [path.name]
