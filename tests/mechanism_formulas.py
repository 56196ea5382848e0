"""The mechanisms beside nested attention as the paper has them (5.2), every token and every V_q formed.

One row of the batch: queries (S, H · d), keys and values of the prompt (T, H · d), and its subjects. The dial, image
weights and masks, which the paper does not have for all of them, are written as docs/mechanisms.md defines them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class FormulaSubject:
    """What a layer reads of one subject, each (N, H · d); weights of its tokens (N,), and where it acts, (S,)."""

    key: Tensor | None
    value: Tensor
    positions: tuple[int, ...]
    alpha: float | None = None
    scale: float = 1.0
    log_weights: Tensor | None = None
    mask: Tensor | None = None

    def here(self, query: Tensor) -> Tensor:
        return query.new_ones(len(query)) if self.mask is None else self.mask.to(query.dtype)

    def weights(self) -> Tensor:
        """Of the tokens, the largest being 1."""
        if self.log_weights is None:
            return self.value.new_ones(len(self.value))
        weights = self.log_weights.to(self.value.dtype).exp()
        return weights / weights.max()


def read(query: Tensor, key: Tensor, value: Tensor, heads: int, change: Callable[[Tensor], Tensor]) -> Tensor:
    """Attention head by head, with ``change`` of the logits (S, L)."""
    d, out = query.shape[1] // heads, []
    for h in range(heads):
        part = slice(h * d, h * d + d)
        logits = change(query[:, part] @ key[:, part].T / d**0.5)
        out.append(logits.softmax(-1) @ value[:, part])
    return torch.cat(out, -1)


def decoupled(query, key, value, subjects: Sequence[FormulaSubject], heads: int, mask: Tensor | None) -> Tensor:
    """Out + scale · softmax(QK'ᵀ/√d) V'."""
    out = read(query, key, value, heads, lambda logits: logits if mask is None else logits + mask)
    for subject in subjects:
        weights = subject.weights().log()
        image = read(query, subject.key, subject.value, heads, lambda logits, w=weights: logits + w)
        out = out + (subject.scale * subject.here(query))[:, None] * image
    return out


def simple(query, key, value, subjects: Sequence[FormulaSubject], heads: int, mask: Tensor | None) -> Tensor:
    """Softmax over the prompt's tokens and the subjects', whose exp(logit) counts scale times."""
    keys, values = [key], [value]
    added = [query.new_zeros(len(query), len(key)) if mask is None else mask]
    for subject in subjects:
        keys.append(subject.key)
        values.append(subject.value)
        added.append((subject.scale * subject.here(query)[:, None] * subject.weights()[None]).log())
    return read(query, torch.cat(keys), torch.cat(values), heads, lambda logits: logits + torch.cat(added, 1))


def global_value(query, key, value, subjects: Sequence[FormulaSubject], heads: int, mask: Tensor | None) -> Tensor:
    """V[s*] := W · mean(tokens)."""
    v_q = value.expand(len(query), -1, -1).clone()  # (S, T, H * d)
    for subject in subjects:
        weights = subject.weights() / subject.weights().sum()
        mean = sum(w * v for w, v in zip(weights, subject.value, strict=True))
        beta = min(subject.scale, 1.0) * subject.here(query)[:, None]
        for s in subject.positions:
            star = mean if subject.alpha is None else mean / mean.norm() * subject.alpha * value[s].norm()
            v_q[:, s] += beta * (star - value[s])
    d, out, lam = query.shape[1] // heads, [], raised(query, len(key), subjects)
    for h in range(heads):
        part = slice(h * d, h * d + d)
        logits = query[:, part] @ key[:, part].T / d**0.5
        logits = torch.maximum(logits, lam * logits)
        weights = (logits if mask is None else logits + mask).softmax(-1)
        out.append((weights[:, :, None] * v_q[:, :, part]).sum(1))
    return torch.cat(out, -1)


def multiple_tokens(query, key, value, subjects: Sequence[FormulaSubject], heads: int, mask: Tensor | None) -> Tensor:
    """N tokens in the place of s*, with its key, and a value each; the word itself as far as it is not replaced."""
    keys, values, counts, places = [], [], [], []
    for t in range(len(key)):
        here = [subject for subject in subjects if t in subject.positions]
        shares = [min(subject.scale, 1.0) * subject.here(query) for subject in here]
        keys.append(key[t])
        values.append(value[t])
        counts.append(1 - sum(shares, query.new_zeros(len(query))))
        places.append(t)
        for subject, share in zip(here, shares, strict=True):
            for weight, own in zip(subject.weights(), subject.value, strict=True):
                keys.append(key[t])
                values.append(own if subject.alpha is None else own / own.norm() * subject.alpha * value[t].norm())
                counts.append(share * weight)
                places.append(t)
    lam = raised(query, len(key), subjects)[:, places]
    added = torch.stack(counts, 1).clamp(min=0).log() + (0 if mask is None else mask[:, places])
    return read(query, torch.stack(keys), torch.stack(values), heads, lambda x: torch.maximum(x, lam * x) + added)


def raised(query: Tensor, words: int, subjects: Sequence[FormulaSubject]) -> Tensor:
    """λ of every query and word, (S, T)."""
    lam = query.new_ones(len(query), words)
    for subject in subjects:
        for s in subject.positions:
            lam[:, s] += (max(subject.scale, 1.0) - 1) * subject.here(query)
    return lam


FORMULAS = {
    "decoupled": decoupled,
    "located": decoupled,  # in a layer, where the word is reaches it as a mask
    "simple": simple,
    "global_value": global_value,
    "multiple_tokens": multiple_tokens,
}
