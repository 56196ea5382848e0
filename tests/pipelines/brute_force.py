"""Nested attention by the paper's equations, every V_q formed, as processors of a plain UNet."""

from dataclasses import dataclass

import torch
from torch import Tensor

from diffusers_nested.layers import cross_attention_layers


@dataclass
class BruteSubject:
    """One subject: K̆ and V̆ per layer (N, inner), token positions, α, scale, log-weights (N,)."""

    projected: dict[str, tuple[Tensor, Tensor]]
    positions: tuple[int, ...]
    alpha: float | None = 2.0
    scale: float = 1.0
    log_weights: Tensor | None = None


class BruteProcessor:
    """Cross-attention of one layer, row by row and head by head.

    ``rows_of`` gives the subjects of each row of the batch.
    """

    def __init__(self, path: str, rows_of):
        self.path, self.rows_of = path, rows_of

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, temb=None):
        query, key, value = (
            attn.to_q(hidden_states),
            attn.to_k(encoder_hidden_states),
            attn.to_v(encoder_hidden_states),
        )
        subjects = self.rows_of(len(query))
        rows = [self.row(attn.heads, query[i], key[i], value[i], subjects[i]) for i in range(len(query))]
        return attn.to_out[0](torch.stack(rows))

    def row(self, heads: int, query: Tensor, key: Tensor, value: Tensor, subjects: list[BruteSubject]) -> Tensor:
        d = query.shape[-1] // heads
        lam = torch.ones(len(key))
        v_q = value.expand(len(query), -1, -1).clone()  # V_q for every query: (S, T, H * d)
        for subject in subjects:
            star = self.star(heads, query, subject)
            beta = min(subject.scale, 1.0)
            for s in subject.positions:
                nested = star
                if subject.alpha is not None:
                    nested = star / star.norm(dim=-1, keepdim=True) * subject.alpha * value[s].norm()
                v_q[:, s] = (1 - beta) * value[s] + beta * nested
                lam[s] = max(subject.scale, 1.0)
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
    for path, layer in cross_attention_layers(unet).items():
        layer.set_processor(BruteProcessor(path, rows_of))


@torch.no_grad()
def brute_subject(adapter, encoder, extractor, images, positions, **values) -> BruteSubject:
    """A subject from its images, by the adapter's own encoder."""
    pixels = extractor(images=list(images), return_tensors="pt").pixel_values
    tokens = adapter.encode(encoder(pixels).last_hidden_state)  # (images, N, D)
    projected = adapter.project(tokens.reshape(1, -1, tokens.shape[-1]))
    return BruteSubject({path: (k[0], v[0]) for path, (k, v) in projected.items()}, positions, **values)
