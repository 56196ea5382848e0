"""The mechanisms by the paper's equations, every V_q formed, as processors of a plain UNet."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from brute_maps import BruteMaps
from cases import PROMPT, Case
from torch import Tensor
from transformers import CLIPImageProcessorPil, CLIPVisionModelWithProjection

from diffusers_nested import NestedAdapter
from diffusers_nested.backbones import cross_attention_layers
from mechanism_formulas import FORMULAS, FormulaSubject


@dataclass
class BruteSubject:
    """One subject: what it has for each layer, token positions, α, scale, log-weights (N,), mask by query.

    For each layer: K̆ and V̆ (N, inner), or V̆ only, or the tokens themselves (N, D).
    """

    projected: dict[str, tuple[Tensor, ...]]
    positions: tuple[int, ...]
    alpha: float | None = 2.0
    scale: float = 1.0
    log_weights: Tensor | None = None
    # number of a layer's queries -> where the subject acts, (S,)
    masks: dict[int, Tensor] | None = None
    mechanism: str = "nested"


class BruteProcessor:
    """Cross-attention of one layer, row by row and head by head.

    ``rows_of`` gives the subjects of each row of the batch; ``maps`` are those of all layers.
    """

    def __init__(self, path: str, rows_of, maps: BruteMaps):
        self.path, self.rows_of, self.maps = path, rows_of, maps

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, temb=None):
        query, key, value = (
            attn.to_q(hidden_states),
            attn.to_k(encoder_hidden_states),
            attn.to_v(encoder_hidden_states),
        )
        subjects = self.subjects(attn, query, key)
        rows = [self.row(attn, query[i], key[i], value[i], subjects[i]) for i in range(len(query))]
        return attn.to_out[0](torch.stack(rows))

    def subjects(self, attn: Any, query: Tensor, key: Tensor) -> list[list[BruteSubject]]:
        """Of each row, with their masks."""
        rows = self.rows_of(len(query))
        assert len(rows) == len(query), f"{len(query)} rows in the UNet, not {len(rows)}"
        return self.maps.located(self.path, attn, query, key, rows)

    def row(self, attn: Any, query: Tensor, key: Tensor, value: Tensor, subjects: list[BruteSubject]) -> Tensor:
        if not subjects or subjects[0].mechanism == "nested":
            return self.nested(attn.heads, query, key, value, subjects)
        formula = FORMULAS[subjects[0].mechanism]
        return formula(query, key, value, [self.seen(attn, one, query) for one in subjects], attn.heads, None)

    def seen(self, attn: Any, subject: BruteSubject, query: Tensor) -> FormulaSubject:
        """The subject as the formula of its mechanism takes it."""
        *key, value = subject.projected[self.path]
        if subject.mechanism == "simple":
            key, value = [attn.to_k(value)], attn.to_v(value)
        mask = None if subject.masks is None else subject.masks[len(query)]
        own = (subject.positions, subject.alpha, subject.scale, subject.log_weights, mask)
        return FormulaSubject(key[0] if key else None, value, *own)

    def nested(self, heads: int, query: Tensor, key: Tensor, value: Tensor, subjects: list[BruteSubject]) -> Tensor:
        d = query.shape[-1] // heads
        lam = torch.ones(len(query), len(key))
        v_q = value.expand(len(query), -1, -1).clone()  # V_q for every query: (S, T, H * d)
        for subject in subjects:
            star = self.star(heads, query, subject)
            here = torch.ones(len(query)) if subject.masks is None else subject.masks[len(query)]
            beta = min(subject.scale, 1.0) * here[:, None]
            for s in subject.positions:
                nested = star
                if subject.alpha is not None:
                    nested = star / star.norm(dim=-1, keepdim=True) * subject.alpha * value[s].norm()
                v_q[:, s] += beta * (nested - value[s])
                lam[:, s] += (max(subject.scale, 1.0) - 1) * here
        out = []
        for h in range(heads):
            part = slice(h * d, h * d + d)
            logits = query[:, part] @ key[:, part].T / d**0.5
            weights = torch.maximum(logits, lam * logits).softmax(-1)  # (S, T)
            out.append((weights[:, :, None] * v_q[:, :, part]).sum(1))
        return torch.cat(out, -1)

    def star(self, heads: int, query: Tensor, subject: BruteSubject) -> Tensor:
        """v*_q: (S, H * d)."""
        key, value = subject.projected[self.path]
        d = query.shape[-1] // heads
        out = []
        for h in range(heads):
            part = slice(h * d, h * d + d)
            logits = query[:, part] @ key[:, part].T / d**0.5
            if subject.log_weights is not None:
                logits = logits + subject.log_weights
            out.append(logits.softmax(-1) @ value[:, part])
        return torch.cat(out, -1)


def install(unet, rows_of) -> None:
    """Give every cross-attention layer of a plain UNet the formula."""
    maps = BruteMaps()
    for path, layer in cross_attention_layers(unet).items():
        layer.set_processor(BruteProcessor(path, rows_of, maps))


def with_formula(case: Case, prompts: Sequence[Sequence[BruteSubject]], order: str = "", images: int = 1) -> Any:
    """The case's plain pipeline with the formula, until the next one of the case.

    Args:
        case: Which pipeline.
        prompts: The subjects of each prompt.
        order: Of the UNet's rows; by default the case's with guidance.
        images: Pictures per prompt.
    """
    pipeline, repeats = _host(case), images * case.frames
    pictures = [list(subjects) for subjects in prompts for _ in range(repeats)]
    rows = [subjects if kind == "c" else [] for kind in order or case.rows for subjects in pictures]
    install(pipeline.unet, lambda count: rows)
    return pipeline


@torch.no_grad()
def brute_subject_of(folder: Path, images, prompt: str = PROMPT, word: str = "person", **values) -> BruteSubject:
    """A subject from its images, by the published files of its adapter."""
    adapter, encoder, extractor = _published(folder)
    pixels = extractor(images=list(images), return_tensors="pt").pixel_values
    tokens = adapter.encode(encoder(pixels).last_hidden_state)  # (images, N, D)
    projected = adapter.project(tokens.reshape(1, -1, tokens.shape[-1]))
    by_layer = {path: tuple(x[0] for x in read) for path, read in projected.items()}
    known = {name: adapter.config[name] for name in ("alpha", "mechanism")}
    return BruteSubject(by_layer, word_at(prompt, word), **{**known, **values})


def word_at(prompt: str, word: str) -> tuple[int, ...]:
    """Every word of the tiny tokenizer is one token, after one start token."""
    return tuple(i + 1 for i, each in enumerate(prompt.split()) if each == word)


@cache
def _host(case: Case) -> Any:
    return case.build()


@cache
def _published(folder: Path) -> tuple[NestedAdapter, CLIPVisionModelWithProjection, CLIPImageProcessorPil]:
    return (
        NestedAdapter.from_pretrained(folder),
        CLIPVisionModelWithProjection.from_pretrained(folder / "image_encoder"),
        CLIPImageProcessorPil.from_pretrained(folder / "feature_extractor"),
    )
