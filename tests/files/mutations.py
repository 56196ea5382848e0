"""Deterministic damage to the files of an adapter."""

import json
import random
import struct
from collections.abc import Callable
from typing import Any

Files = dict[str, bytes]  # path within the folder -> content

# What a hostile value may look like, for any setting, shape, offset or name.
VALUES: list[Any] = [
    None,
    True,
    0,
    -1,
    1,
    2,
    7,
    64,
    10**6,
    2**31,
    2**63,
    2**64,
    10**4000,
    0.5,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "x",
    "../../x.safetensors",
    "/etc/passwd",
    "model.bin",
    "\ud800",
    "\x00",
    "λ" * 70,
    "a" * 100_000,
    [],
    [1],
    [[[]]],
    {},
    {"a": {"b": []}},
    "F8_E4M3",
    "I64",
    "nested",
    "gelu",
]


def mutate(files: Files, rng: random.Random) -> tuple[str, Files]:
    """One to three mutations of random files; returns what was done, and the changed files."""
    changed, done = dict(files), []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        mutation = rng.choice(MUTATIONS)
        name = rng.choice(sorted(changed))
        changed |= mutation(changed, name, rng)
        done.append(f"{mutation.__name__} {name}")
    return ", ".join(done), {name: data for name, data in changed.items() if data != files[name]}


def flip_bits(files: Files, name: str, rng: random.Random) -> Files:
    data = bytearray(files[name])
    reach = rng.choice((len(data), min(len(data), 400)))  # the whole file, or what is likely its header
    for _ in range(rng.randint(1, 8) if reach else 0):
        data[rng.randrange(reach)] ^= 1 << rng.randrange(8)
    return {name: bytes(data)}


def truncate(files: Files, name: str, rng: random.Random) -> Files:
    return {name: files[name][: rng.randrange(len(files[name]) + 1)]}


def extend(files: Files, name: str, rng: random.Random) -> Files:
    return {name: files[name] + rng.randbytes(rng.choice((1, 7, 300)))}


def cut_out(files: Files, name: str, rng: random.Random) -> Files:
    start = rng.randrange(len(files[name]) + 1)
    return {name: files[name][:start] + files[name][start + rng.randint(1, 40) :]}


def overwrite(files: Files, name: str, rng: random.Random) -> Files:
    start, length = rng.randrange(len(files[name]) + 1), rng.randint(1, 64)
    data = files[name][:start] + rng.choice((rng.randbytes(length), b"\xff" * length, bytes(length)))
    return {name: data + files[name][len(data) :]}


def swap(files: Files, name: str, rng: random.Random) -> Files:
    other = rng.choice(sorted(files))
    return {name: files[other], other: files[name]}


def copy(files: Files, name: str, rng: random.Random) -> Files:
    return {name: files[rng.choice(sorted(files))]}


def header_length(files: Files, name: str, rng: random.Random) -> Files:
    length = rng.choice((0, 1, 2, 8, 100, 2**20, 2**32, 2**63, 2**64 - 1, rng.getrandbits(64)))
    return {name: struct.pack("<Q", length) + files[name][8:]}


def edit_header(files: Files, name: str, rng: random.Random) -> Files:
    """Like ``edit_json``, for the JSON in a safetensors file."""
    weights = rng.choice([name for name in sorted(files) if name.endswith(".safetensors")])
    data = files[weights]
    length = int.from_bytes(data[:8], "little")
    edited = _edited(data[8 : 8 + length], rng)
    return {} if edited is None else {weights: struct.pack("<Q", len(edited)) + edited + data[8 + length :]}


def edit_json(files: Files, name: str, rng: random.Random) -> Files:
    """Replace, remove, rename, add or double one value somewhere."""
    chosen = rng.choice([name for name in sorted(files) if name.endswith(".json")])
    edited = _edited(files[chosen], rng)
    return {} if edited is None else {chosen: edited}


def _edited(text: bytes, rng: random.Random) -> bytes | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None  # damaged already
    inner = [part for part in _parts(value) if part]
    if not inner:
        return None
    part = rng.choice(inner)
    key = rng.choice(sorted(part)) if isinstance(part, dict) else rng.randrange(len(part))
    what = rng.choice(("replace", "replace", "replace", "near", "remove", "add", "swap"))
    if what == "replace":
        part[key] = rng.choice(VALUES)
    elif what == "near" and isinstance(part[key], int):
        part[key] += rng.choice((-1, 1, 4))
    elif what == "remove":
        del part[key]
    elif what == "add" and isinstance(part, dict):
        part[rng.choice(("x", "quantization_config", "_class_name", "auto_map", "__metadata__"))] = rng.choice(VALUES)
    elif what == "swap":
        other = rng.choice(sorted(part)) if isinstance(part, dict) else rng.randrange(len(part))
        part[key], part[other] = part[other], part[key]
    return json.dumps(value).encode()


def _parts(value: Any) -> list[Any]:
    """All dicts and lists in a value."""
    inner = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else None
    return [] if inner is None else [value, *(part for one in inner for part in _parts(one))]


MUTATIONS: list[Callable[[Files, str, random.Random], Files]] = [
    flip_bits,
    truncate,
    extend,
    cut_out,
    overwrite,
    swap,
    copy,
    header_length,
    edit_header,
    edit_header,
    edit_json,
    edit_json,
    edit_json,
]
