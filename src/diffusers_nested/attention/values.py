"""Subjects as a layer sees them, and what their scales make of their words."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class SubjectValues:
    """One subject, as a layer sees it.

    Attributes:
        key: K̆, (B or 1, H, N, d); None for mechanisms that have values only.
        value: V̆, (B or 1, H, N, d).
        positions: (B or 1, T), 1 at the prompt tokens s* of the subject's word and 0 elsewhere. A row of
            zeros has no subject.
        scale: The dial, a number of at least 0 or a 0-d tensor; the mechanism decides what it means.
        alpha: Norm of v*_q in units of the word's own; None leaves v*_q as it is.
        log_weights: Log-weights of blended images, (N,) or (B or 1, N), added to the nested logits.
        mask: Where the subject acts, (B or 1, S), from 0 to 1; None for everywhere.
        seen: (B, S), to which a mechanism that locates words adds the attention that the subject's word gets; None
            for the others.
        doses: Of all subjects that act together with this one, if they have been computed before.
    """

    key: Tensor | None
    value: Tensor
    positions: Tensor
    scale: Tensor | float = 1.0
    alpha: float | None = 2.0
    log_weights: Tensor | None = None
    mask: Tensor | None = None
    seen: Tensor | None = None
    doses: "Doses | None" = None


@dataclass(frozen=True, eq=False)
class Doses:
    """What the scales make of the words of subjects that act together: the same for all queries and steps.

    Attributes:
        kept: How much of the values stays, (B or 1, 1, T, 1): 1 − β at s* of subjects without a mask, else 1.
        raised: What positive logits are multiplied by, (B or 1, 1, 1, T): λ at s* of subjects without a mask, else 1.
        raises: Whether a λ may be above 1.
        shares: Of each subject, β at s*, 0 elsewhere, (B or 1, 1, T, 1).
        added: Of each subject, how much of its value is added: ``shares``; with a norm, times α / √(H d), so that
            its product with ‖V[s]‖ is of the size of the values' entries, which half precision can hold.
        extras: Of each subject, λ − 1 at s*, 0 elsewhere, (B or 1, 1, 1, T).
        strengths: Of each subject, the scale in rows that have the word, 0 in others, (B or 1, 1, 1, 1).
    """

    kept: Tensor
    raised: Tensor
    raises: bool
    shares: tuple[Tensor, ...]
    added: tuple[Tensor, ...]
    extras: tuple[Tensor, ...]
    strengths: tuple[Tensor, ...]

    @classmethod
    def of(cls, subjects: Sequence[SubjectValues], size: int, dtype: torch.dtype) -> "Doses":
        """The doses in a layer whose values are of this type and have this width, H d, of all heads together."""
        precise = torch.promote_types(dtype, torch.float32)
        kept = raised = torch.ones((), dtype=precise)
        shares, added, extras, strengths = [], [], [], []
        for subject in subjects:
            at = subject.positions.to(precise)  # (B or 1, T)
            dial = torch.as_tensor(subject.scale, dtype=precise, device=at.device)
            share, extra = at * dial.clamp(max=1), at * (dial.clamp(min=1) - 1)
            shares.append(share[:, None, :, None])
            extras.append(extra[:, None, None, :])
            added.append(shares[-1] if subject.alpha is None else shares[-1] * (subject.alpha * size**-0.5))
            strengths.append((dial * at.amax(dim=1))[:, None, None, None].to(dtype))
            if subject.mask is None:  # then no other subject has its words
                kept, raised = kept.to(at.device) - shares[-1], raised.to(at.device) + extras[-1]
        raises = any([isinstance(subject.scale, Tensor) or subject.scale > 1 for subject in subjects])
        return cls(kept, raised, raises, tuple(shares), tuple(added), tuple(extras), tuple(strengths))


def doses_of(subjects: Sequence[SubjectValues], like: Tensor) -> Doses:
    """What the subjects' scales make of their words, in a layer with values (B, H, L, d)."""
    known = subjects[0].doses if subjects else None
    return known or Doses.of(subjects, like.shape[1] * like.shape[3], like.dtype)
