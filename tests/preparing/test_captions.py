import json
from pathlib import Path

import pytest

from diffusers_nested import NestedAdapterError
from diffusers_nested.preparing.captions import read_captions

NAMES = ["a.jpg", "b c/é.png"]


def listed(file: Path, content: str | bytes) -> dict[str, str]:
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_captions(file.parent, NAMES, file)


def test_texts_beside_photos(tmp_path: Path):
    (tmp_path / "b c").mkdir()
    (tmp_path / "a.txt").write_text("\ufeffa dog\nby the sea\n", encoding="utf-8")
    (tmp_path / "b c" / "é.txt").write_text("of another", encoding="utf-8")
    (tmp_path / "b c" / "é.png.txt").write_text("a cat", encoding="utf-8")
    assert read_captions(tmp_path, NAMES, None) == {"a.jpg": "a dog by the sea", "b c/é.png": "a cat"}
    assert read_captions(tmp_path, ["none.jpg"], None) == {}


def test_lists(tmp_path: Path):
    table = '\ufefffile_name,text,more\r\n./a.jpg,"a dog, asleep",1\r\nb c/é.png,a cat,2\r\n'
    expected = {"a.jpg": "a dog, asleep", "b c/é.png": "a cat"}
    assert listed(tmp_path / "a.csv", table) == expected
    lines = "\n".join(json.dumps({"file_name": name, "text": text}) for name, text in expected.items())
    assert listed(tmp_path / "a.jsonl", lines) == expected


def test_accents_in_either_spelling(tmp_path: Path):
    assert listed(tmp_path / "a.csv", "file_name,text\nb c/e\u0301.png,a cat\n") == {"b c/é.png": "a cat"}


def test_names_that_are_not_there_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO", "diffusers_nested")
    assert listed(tmp_path / "a.csv", "file_name,text\na.jpg,a dog\ngone.jpg,a cat\n") == {"a.jpg": "a dog"}
    assert "1 files" in caplog.text and "gone.jpg" in caplog.text


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "", "ends in .csv or .jsonl"),
        ("a.csv", "file_name,text\ngone.jpg,a cat\n", "names no photo of .*gone.jpg"),
        ("a.csv", "", "names no photo"),
        ("a.csv", "name,caption\na.jpg,a cat\n", "line 2, lacks file_name or text"),
        ("a.csv", "file_name,text\na.jpg,a cat, by the sea\n", "line 2, has more columns .*by the sea.*double quotes"),
        ("a.csv", 'file_name,text\na.jpg,"a cat\nb.jpg,a dog\n', "Are all quotes closed"),
        ("a.csv", 'file_name,text\na.jpg,"a cat" by the sea\n', "Are all quotes closed"),
        ("a.csv", "file_name,text\na.jpg\n", "line 2, lacks file_name or text"),
        ("a.csv", "file_name,text\na.jpg,x\na.jpg,y\n", "line 3, names 'a.jpg' a second time"),
        ("a.csv", "file_name,text\na.jpg,é\n".encode("latin-1"), "not in UTF-8"),
        ("a.csv", f"file_name,text\na.jpg,{'a' * 200_000}\n", "comma-separated"),
        ("a.jsonl", '{"file_name": "a.jpg"', "line 1, is not JSON"),
    ],
)
def test_bad_lists_are_named(tmp_path: Path, name: str, content: str | bytes, message: str):
    with pytest.raises(NestedAdapterError, match=message):
        listed(tmp_path / name, content)
