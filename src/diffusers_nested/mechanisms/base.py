"""What a mechanism consists of, and what several of them share."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..attention import Doses, SubjectValues, Term, doses_of, outer_weights

Weights = tuple[Tensor, Sequence[Tensor]]


@dataclass(frozen=True)
class FastForm:
    """A mechanism as a sum: fused attention over the prompt, in all rows at once, and terms of the subjects.

    The same as ``Mechanism.attend`` in fewer operations, for layers that learn nothing.

    Attributes:
        terms: What the subjects of some rows add, with the arguments of ``attend``.
        lowers: Whether the prompt's attention is over values that are multiplied by the subjects' ``Doses.kept``.
        fits: Whether a subject can act in this form, given the doses of all that act together.
    """

    terms: Callable[..., Iterable[Term]]
    lowers: bool = False
    fits: Callable[[SubjectValues, Doses], bool] = lambda subject, doses: True


@dataclass(frozen=True)
class Mechanism:
    """A way to bring subject tokens into a cross-attention layer.

    Attributes:
        name: Its name in an adapter's config.
        attend: The layer itself: (query, key, value, subjects, attention_mask) -> (B, H, S, d), with queries
            (B, H, S, d), keys and values of the prompt (B, H, T, d), a sequence of ``SubjectValues``, and None or a
            mask that is added to the prompt's logits. Each subject acts with its own scale, log-weights and mask,
            and not in rows whose positions are all zero.
        projection: Builds a layer's trained part from (token_dim, inner_dim): a module that maps tokens
            (B, N, token_dim) to what the layer reads, a pair (K̆, V̆) or values only (V̆,), each (B, N, inner_dim);
            its ``copy_from(to_k, to_v)`` initialises it from the layer's own weights. None to use the layer's own
            keys and values, so that only the encoder is trained.
        has_norm: Whether ``alpha`` sets the norm of a subject's values.
        reads_empty_image: Whether rows without a prompt read the tokens of an empty image, if the adapter's encoder was
            trained with one.
        scales: The scales at which the mechanism is compared with others.
        locates: Whether its subjects act only where their words have been seen: ``attend`` adds what it sees of a
            word to ``SubjectValues.seen``, and the subject's mask follows from what all layers have seen so far.
        trained_as: The mechanism to train instead, for one that a single step of training knows too little for.
        fast: The same in fewer operations; None if there is no such form.
        weights: What each prompt token gets of a query's attention, (B, H, S, T), and how much of what each subject
            has reaches the query, (B, H or 1, S or 1, 1); with the arguments of ``attend`` but the values: (query, key,
            subjects, attention_mask). None if subjects leave the prompt's attention, softmax(QKᵀ/√d), as it is and are
            added with their scale.
    """

    name: str
    attend: Callable[..., Tensor]
    projection: "Callable[[int, int], ValueProjection] | None" = None
    has_norm: bool = False
    reads_empty_image: bool = False
    scales: tuple[float, ...] = (1.0,)
    locates: bool = False
    trained_as: str | None = None
    fast: FastForm | None = None
    weights: "Callable[..., Weights] | None" = None


class ValueProjection(nn.Module):
    """V̆ = W_V̆ · tokens of one layer."""

    def __init__(self, token_dim: int, inner_dim: int) -> None:
        super().__init__()
        self.value = nn.Linear(token_dim, inner_dim, bias=False)

    def forward(self, tokens: Tensor) -> tuple[Tensor, ...]:
        """Tokens (B, N, token_dim) -> V̆, (B, N, inner_dim)."""
        return (self.value(tokens),)

    @torch.no_grad()
    def copy_from(self, to_k: Tensor, to_v: Tensor) -> None:
        """Initialise from the layer's own key and value weights, each (inner_dim, token_dim)."""
        self.value.weight.copy_(to_v)


class KeyValueProjection(ValueProjection):
    """K̆ = W_K̆ · tokens and V̆ = W_V̆ · tokens of one layer."""

    def __init__(self, token_dim: int, inner_dim: int) -> None:
        nn.Module.__init__(self)
        self.key = nn.Linear(token_dim, inner_dim, bias=False)
        self.value = nn.Linear(token_dim, inner_dim, bias=False)

    def forward(self, tokens: Tensor) -> tuple[Tensor, ...]:
        """Tokens (B, N, token_dim) -> K̆ and V̆, each (B, N, inner_dim)."""
        return self.key(tokens), self.value(tokens)

    @torch.no_grad()
    def copy_from(self, to_k: Tensor, to_v: Tensor) -> None:
        """Initialise from the layer's own key and value weights, each (inner_dim, token_dim)."""
        self.key.weight.copy_(to_k)
        self.value.weight.copy_(to_v)


def raised_weights(
    query: Tensor, key: Tensor, subjects: Sequence[SubjectValues], attention_mask: Tensor | None = None
) -> Weights:
    """A with the words' logits raised by λ (5.1), and what the subjects get of it; see ``Mechanism.weights``."""
    doses = doses_of(subjects, key)
    weights = outer_weights(query, key, subjects, doses, attention_mask)
    return weights, amounts_of(weights, subjects, doses)


def amounts_of(weights: Tensor, subjects: Sequence[SubjectValues], doses: Doses) -> list[Tensor]:
    """Σ_s* A[q, s*] β m_q of each subject, (B, H, S, 1), for weights (B, H, S, T)."""
    found = []
    for subject, share in zip(subjects, doses.shares, strict=True):
        amount = weights @ share.to(weights.dtype)
        found.append(amount if subject.mask is None else amount * subject.mask.to(amount.dtype)[:, None, :, None])
    return found


def is_blended(subject: SubjectValues, doses: Doses) -> bool:
    """Whether a subject only takes a share of its word's value, the same for all queries."""
    return subject.mask is None and not doses.raises


def strengths(subjects: Sequence[SubjectValues], like: Tensor) -> list[Tensor]:
    """Of each subject, scale times mask, 0 in rows without it, (B or 1, 1, S or 1, 1); ``like`` (B, H, L, d)."""
    return [
        amount if subject.mask is None else amount * subject.mask.to(amount.dtype)[:, None, :, None]
        for subject, amount in zip(subjects, doses_of(subjects, like).strengths, strict=True)
    ]


def share_of_tokens(subject: SubjectValues, like: Tensor) -> Tensor | None:
    """How much each token counts if tokens add up, (B or 1, N); None for 1 each.

    The image with the largest weight counts as it would alone. So equal weights change nothing, and an image of
    weight 0 has no effect.
    """
    if subject.log_weights is None:
        return None
    log_weights = subject.log_weights.to(like.dtype).reshape(-1, subject.log_weights.shape[-1])
    return (log_weights - log_weights.amax(dim=-1, keepdim=True)).exp()
