"""Headers of safetensors: inconsistent ones are refused before a tensor is read."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from diffusers_nested import AdapterLoadError
from diffusers_nested.files import TensorInfo, check_tensors, read_header

TWO = {
    "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
    "b": {"dtype": "F16", "shape": [4], "data_offsets": [24, 32]},
}


def write(path: Path, header: Any, data: bytes = bytes(32), length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def changed(name: str, **values: Any) -> dict[str, Any]:
    return {**TWO, name: {**TWO[name], **values}}


def test_a_valid_header(tmp_path: Path):
    path = write(tmp_path / "a.safetensors", {"__metadata__": {"format": "pt"}, **TWO})
    assert read_header(path) == {"a": TensorInfo("F32", (2, 3)), "b": TensorInfo("F16", (4,))}


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.bool, torch.float8_e5m2]
)
def test_files_that_safetensors_writes(tmp_path: Path, dtype: torch.dtype):
    tensors = {"x": torch.zeros(3, 5).to(dtype), "scalar": torch.zeros(()).to(dtype), "none": torch.zeros(0, 2)}
    save_file(tensors, tmp_path / "a.safetensors")
    header = read_header(tmp_path / "a.safetensors")
    assert {name: info.shape for name, info in header.items()} == {name: x.shape for name, x in tensors.items()}
    assert {name: info.numel for name, info in header.items()} == {"x": 15, "scalar": 1, "none": 0}


HOSTILE: dict[str, Any] = {
    "empty file": lambda p: p.write_bytes(b""),
    "seven bytes": lambda p: p.write_bytes(bytes(7)),
    "a header longer than the file": lambda p: write(p, TWO, length=10_000),
    "a huge header": lambda p: write(p, TWO, length=2**63),
    "the largest header": lambda p: write(p, TWO, length=2**64 - 1),
    "a header of no length": lambda p: write(p, TWO, length=0),
    "a header that is too long to read": lambda p: write(p, json.dumps(TWO).encode() + b" " * 2**22),
    "no JSON": lambda p: write(p, b"{oops"),
    "a list": lambda p: write(p, [1]),
    "no Unicode": lambda p: write(p, b'{"\xff": 1}'),
    "half of a surrogate pair": lambda p: write(p, b'{"\\ud800": ' + json.dumps(TWO["a"]).encode() + b"}", bytes(24)),
    "deep nesting": lambda p: write(p, b'{"a":' * 100_000),
    "deep nesting in lists": lambda p: write(p, b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "a name that occurs twice": lambda p: write(
        p, json.dumps(TWO).encode()[:-1] + b', "a": ' + json.dumps(TWO["a"]).encode() + b"}"
    ),
    "a number of too many digits": lambda p: write(p, b'{"a": ' + b"9" * 5000 + b"}"),
    "NaN": lambda p: write(p, b'{"a": NaN}'),
    "metadata that is no text": lambda p: write(p, {"__metadata__": {"a": 1}, **TWO}),
    "metadata that is a list": lambda p: write(p, {"__metadata__": [], **TWO}),
    "a tensor that is a number": lambda p: write(p, {**TWO, "c": 3}),
    "no dtype": lambda p: write(p, changed("a", dtype=None)),
    "an unknown dtype": lambda p: write(p, changed("a", dtype="F7")),
    "a dtype that is a list": lambda p: write(p, changed("a", dtype=["F32"])),
    "a shape that is a number": lambda p: write(p, changed("a", shape=6)),
    "a negative shape": lambda p: write(p, changed("a", shape=[-2, -3])),
    "a shape of floats": lambda p: write(p, changed("a", shape=[2.0, 3])),
    "a shape of booleans": lambda p: write(p, changed("a", shape=[True, 6])),
    "too many dimensions": lambda p: write(p, changed("a", shape=[2, 3, *[1] * 7])),
    "a shape whose product overflows": lambda p: write(p, changed("a", shape=[2**62, 2**62])),
    "a shape beyond the data": lambda p: write(p, changed("a", shape=[2, 4])),
    "three offsets": lambda p: write(p, changed("a", data_offsets=[0, 24, 24])),
    "negative offsets": lambda p: write(p, changed("a", data_offsets=[-24, 0])),
    "offsets in reverse": lambda p: write(p, changed("a", data_offsets=[24, 0])),
    "overlapping tensors": lambda p: write(p, changed("b", data_offsets=[20, 28])),
    "a gap": lambda p: write(p, changed("b", data_offsets=[26, 34]), bytes(34)),
    "the same bytes twice": lambda p: write(p, changed("b", dtype="F32", shape=[2, 3], data_offsets=[0, 24])),
    "offsets beyond the file": lambda p: write(p, TWO, bytes(20)),
    "bytes that no tensor has": lambda p: write(p, TWO, bytes(33)),
    "a pointer of Git LFS": lambda p: p.write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    ),
    "a pickle": lambda p: torch.save({"a": torch.zeros(2)}, p),
}


@pytest.mark.parametrize("make", HOSTILE.values(), ids=HOSTILE)
def test_what_does_not_add_up_is_refused(tmp_path: Path, make: Any):
    path = tmp_path / "weights.safetensors"
    make(path)
    with pytest.raises(AdapterLoadError, match=r"weights\.safetensors") as caught:
        read_header(path)
    assert len(str(caught.value)) < 1000
    assert str(caught.value).replace("λ", "").isprintable()


def test_git_lfs_is_named(tmp_path: Path):
    HOSTILE["a pointer of Git LFS"](tmp_path / "a")
    with pytest.raises(AdapterLoadError, match="git lfs pull"):
        read_header(tmp_path / "a")


FOUND = {"a": TensorInfo("F32", (2, 3)), "b": TensorInfo("I64", (4,))}


@pytest.mark.parametrize(
    ("expected", "named"),
    [
        ({"a": (2, 3)}, "unknown.*b"),
        ({"a": (2, 3), "b": (4,), "c": (1,)}, "misses.*c"),
        ({"a": (3, 2), "b": (4,)}, r"a: \(2, 3\) instead of \(3, 2\)"),
        ({"a": (2, 3), "b": (4,)}, "b: I64"),
    ],
)
def test_tensors_other_than_the_expected(expected: dict, named: str):
    with pytest.raises(AdapterLoadError, match=named):
        check_tensors(FOUND, expected, "here")


def test_tensors_that_will_not_be_read_may_be_anything():
    check_tensors(FOUND, {"a": (2, 3)}, "here", allow_others=True)
    with pytest.raises(AdapterLoadError, match="misses"):
        check_tensors(FOUND, {"a": (2, 3), "c": (1,)}, "here", allow_others=True)
