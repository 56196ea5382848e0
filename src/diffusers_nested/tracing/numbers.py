"""A call in numbers: shares of attention, entropies, and the subject tokens that are read most."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..pipelines.prompt_words import ENCODING
from ..prompts import pieces_of
from .asking import check_picture, mean_of, reading_of, texts_of
from .record import CallRecord

_MOST = 5


def numbers(record: CallRecord, picture: int) -> dict[str, Any]:
    """See ``Trace.numbers``."""
    check_picture(record, picture)
    by_layer = {path: _shares(record, path, picture) for path in record.sizes}
    names = _names(record, picture, len(next(iter(by_layer.values()))))
    mean = torch.stack(list(by_layer.values())).mean(0)
    entropies = {path: _number(mean_of(record, "word_entropy", path, picture)) for path in record.sizes}
    subjects = record.subjects_of(picture)
    return {
        "pictures": record.pictures,
        "steps": record.steps,
        "attention_of_the_prompt": _named_shares(names, mean),
        "entropy_of_the_prompt": sum(entropies.values()) / len(entropies),
        "subjects": [{"word": one.subject.token, **_subject(record, picture, i)} for i, one in enumerate(subjects)],
        "layers": {
            path: {"start": float(shares[0]), "entropy": entropies[path], "map": list(record.sizes[path])}
            for path, shares in by_layer.items()
        },
    }


def _shares(record: CallRecord, path: str, picture: int) -> Tensor:
    """The share of each prompt token in a layer, (T,)."""
    weights = mean_of(record, "words", path, picture)
    assert weights is not None  # a layer has a size if something was kept of it
    return weights.flatten(0, -2).mean(0)


def _names(record: CallRecord, picture: int, length: int) -> Sequence[str]:
    """What stands at each position of the prompt."""
    if record.prompts["prompt"] is None:
        return [f"position {i}" for i in range(length)]
    tokenizers, convert = reading_of(record)
    present = [(text, one) for text, one in zip(texts_of(record, picture), tokenizers, strict=False) if one is not None]
    with ENCODING:
        pieces = pieces_of(*present[0], convert)
    first, last = present[0][1].bos_token, present[0][1].eos_token
    end = pieces.index(last) if last in pieces else len(pieces)
    names = [piece.removesuffix("</w>") for piece in pieces]
    named = ["(start)" if i == 0 and piece == first else piece for i, piece in enumerate(names[:end])]
    return [*named, *["(end)"] * (len(pieces) > end), *["(padding)"] * (len(pieces) - end - 1)]


def _named_shares(names: Sequence[str], shares: Tensor) -> list[dict[str, Any]]:
    """Shares in the order of the prompt; those of the padding added up."""
    found = [
        {"position": i, "token": name, "share": float(x)} for i, (name, x) in enumerate(zip(names, shares, strict=True))
    ]
    padding = [one for one in found if one["token"] == "(padding)"]
    words = [one for one in found if one["token"] != "(padding)"]
    return words + ([{**padding[0], "share": sum(one["share"] for one in padding)}] if padding else [])


def _subject(record: CallRecord, picture: int, slot: int) -> dict[str, Any]:
    """What is known of the nested attention over a subject's tokens; nothing if no query chose among them."""
    mine = (picture, slot)
    tokens = [x.flatten(0, -2).mean(0) for _, x in record.kept.read(lambda k: k.kind == "tokens" and k[2:4] == mine)]
    entropies = [float(x) for _, x in record.kept.read(lambda k: k.kind == "token_entropy" and k[2:4] == mine)]
    if not tokens:
        return {}
    mean = torch.stack(tokens).sum(0)
    mean = mean / mean.sum().clamp(min=1e-12)
    most = mean.topk(min(_MOST, len(mean)))
    pairs = zip(most.indices.tolist(), most.values.tolist(), strict=True)
    return {
        "tokens": len(mean),
        "entropy": sum(entropies) / len(entropies),
        "most_read": [{"token": token, "share": share} for token, share in pairs],
    }


def _number(x: Tensor | None) -> float:
    return float("nan") if x is None else float(x)
