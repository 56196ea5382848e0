"""A training set encoded once, in memory or in a file that several runs share."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor
from tqdm.auto import tqdm

from ..data import Words, each
from ..errors import NestedAdapterError
from .samples import RawExamples, SampleEncoder, check_finite
from .state_files import DamagedFileError, load_state, save_state

_CHUNK = 32  # examples per call of the models
_SLACK = 0.02  # tolerance for fp16 and the order of additions, in units of the largest entry

Kept = dict[str, Tensor]
_Item = TypeVar("_Item")


def encode_all(raw: RawExamples, encoder: SampleEncoder, show_progress: bool = False) -> Kept:
    """Encode every example in fp16, and each caption once.

    Returns:
        ``latents``, all numbers of all examples in a row, and their ``shapes``; ``frames`` with a row per example;
        ``features`` with a row per subject; ``prompt_embeds`` and ``pooled`` with a row per caption, and ``caption``,
        the row of each example's; ``positions`` with a row per word in a caption, and ``word``, the row of each
        subject's.
    """
    latents, features, frames, captions, photos = [], [], [], [], []
    for first in tqdm(range(0, len(raw), _CHUNK), desc="Caching features", disable=not show_progress):
        chosen = range(first, min(first + _CHUNK, len(raw)))
        pixels, texts, subjects, told = zip(*(raw[i] for i in chosen), strict=True)
        latents += _latents(pixels, encoder)
        captions += texts
        photos += [tuple(each) for each in subjects]
        frames += told
        features.append(_kept(encoder.frozen.features([photo for each in subjects for photo in each.values()])))
        own = torch.cat([one.flatten() for one in latents[first:]])
        check_finite({"latents": own, "features": features[-1]}, chosen)
    return {
        "latents": torch.cat([one.flatten() for one in latents]),
        "shapes": torch.tensor([one.shape for one in latents]),
        "frames": torch.stack(frames),
        "features": torch.cat(features),
        **_encode_captions(captions, photos, encoder),
    }


def _latents(pixels: Sequence[Tensor], encoder: SampleEncoder) -> list[Tensor]:
    """Latents of pictures, those of a size at once."""
    found: dict[int, Tensor] = {}
    for shape in dict.fromkeys(one.shape for one in pixels):
        chosen = [i for i, one in enumerate(pixels) if one.shape == shape]
        found |= zip(chosen, _kept(encoder.frozen.latents(torch.stack([pixels[i] for i in chosen]))), strict=True)
    return [found[i] for i in range(len(pixels))]


def _encode_captions(captions: Sequence[str], words: Sequence[Words], encoder: SampleEncoder) -> Kept:
    """Each caption once, and each word in it."""
    distinct, caption = _numbered(captions)
    parts = [encoder.encode_captions(distinct[i : i + _CHUNK]) for i in range(0, len(distinct), _CHUNK)]
    embeds, pooled = (torch.cat(column) for column in zip(*parts, strict=True))
    placed, word = _numbered([(text, one) for text, each in zip(captions, words, strict=True) for one in each])
    positions = encoder.positions(placed, embeds.shape[1])
    kept = {"prompt_embeds": _kept(embeds), "pooled": _kept(pooled), "positions": _kept(positions)}
    return {"caption": caption, "word": word, **kept}


def _numbered(items: Sequence[_Item]) -> tuple[list[_Item], Tensor]:
    """The distinct items, and the number of each item among them."""
    row = {item: i for i, item in enumerate(dict.fromkeys(items))}
    return list(row), torch.tensor([row[item] for item in items])


def read_or_encode(file: Path, raw: RawExamples, encoder: SampleEncoder, is_main: bool) -> Kept:
    """Read the encoded set from a file, or encode it and write the file.

    The captions of the file must be the set's, and its first examples those that the models give now.

    Args:
        file: Written by the main process of the first run, read by others.
        raw: The training set.
        encoder: Encodes it.
        is_main: Whether this is a run's main process.

    Raises:
        NestedAdapterError: The file holds another training set, or one that other models encoded.
    """
    digest = _digest([line for triplet in each(raw.triplets) for line in (triplet.text, *filter(None, triplet.photos))])
    if file.is_file():
        kept = _read(file)
        _check_same(file, kept, digest, raw, encoder)
        return kept
    kept = encode_all(raw, encoder, is_main)
    if is_main:
        _write(file, {**kept, "digest": digest})
    return kept


def _read(file: Path) -> Kept:
    try:
        return load_state(file, mmap=True)  # shared by the processes of a machine
    except DamagedFileError as error:
        raise NestedAdapterError(f"cache_file {error} Delete it, or name another file.") from error


def _write(file: Path, kept: Kept) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f"{file.name}.{os.getpid()}.partial")
    try:
        save_state(kept, partial)
        partial.replace(file)
    except (OSError, RuntimeError) as error:
        partial.unlink(missing_ok=True)
        raise NestedAdapterError(f"Cannot write cache_file {file}: {error}. Name another file, or none.") from error


def _check_same(file: Path, kept: Kept, digest: Tensor, raw: RawExamples, encoder: SampleEncoder) -> None:
    some = range(min(_CHUNK, len(raw)))
    first = encode_all(RawExamples([raw.triplets[i] for i in some], raw.sizes[: len(some)]), encoder)
    is_whole = isinstance(kept, dict) and kept.keys() == {*first, "digest"}
    if is_whole and torch.equal(kept["digest"], digest) and all(_is_close(first[name], kept[name]) for name in first):
        return
    raise NestedAdapterError(
        f"{file} holds another training set, or was written with other models, another resolution or another version "
        "of the package. Delete it, or name another cache_file."
    )


def _is_close(found: Tensor, expected: Tensor) -> bool:
    if found.shape[1:] != expected.shape[1:] or len(found) > len(expected):
        return False
    found, expected = found.float(), expected[: len(found)].float()
    # of families without pooled prompts these are empty
    return not found.numel() or bool((found - expected).abs().max() <= _SLACK * expected.abs().max())


def _digest(lines: Sequence[str]) -> Tensor:
    found = hashlib.sha256("\n".join(lines).encode()).digest()
    return torch.frombuffer(bytearray(found), dtype=torch.uint8)


def _kept(x: Tensor) -> Tensor:
    return x.cpu().half()
