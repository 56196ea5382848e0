"""Multiple tokens: N tokens in place of the word, all with its key (section 5.2 of arXiv 2501.01407).

    K := [K without s*, K[s*], …, K[s*]]       N times
    V := [V without s*, V₁, …, V_N]            Vᵢ = W_V · tokenᵢ

with W_V trained for every layer. Equal keys have equal logits, so the softmax cannot tell the N tokens apart: together
they get N exp(logit of s*), and a query reads the mean of the Vᵢ. This is global V with log N added to the logit of s*,
and is computed that way. We do not compensate for log N, as the paper does not. A word of several pieces has N tokens
for each.

The dial is that of nested attention. From 0 to 1 the word itself counts (1 − β)-fold and each of the N tokens β-fold;
1 is the paper's layer; above 1 the logit of each token is raised by λ. If α is given, each Vᵢ has α times the norm of
V[s*], as each stands for it. The tokens of several images are placed side by side; the image with the largest weight
counts as it would alone, the others less.
"""

from collections.abc import Sequence

from torch import Tensor

from ..attention import Doses, SubjectValues, accurate, doses_of, length, outer_weights
from .base import Mechanism, ValueProjection, Weights, amounts_of, share_of_tokens


def multiple_tokens_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    subjects: Sequence[SubjectValues],
    attention_mask: Tensor | None = None,
) -> Tensor:
    """Cross-attention in which some prompt tokens are replaced by many; see ``Mechanism.attend``."""
    word_norm = length(value)[:, 0].transpose(1, 2)  # ‖V[s]‖, (B, 1, T)
    doses = doses_of(subjects, value)
    # β times mask of each, 0 but at the subject's words, (B or 1, S or 1, T)
    shares = [_share(*one, word_norm) for one in zip(subjects, doses.shares, strict=True)]
    own = word_norm.new_ones(1, 1, 1) - sum(shares)  # how much of the word itself is left
    count = own + sum(share * _number(one, word_norm) for one, share in zip(subjects, shares, strict=True))
    weights = _weights(query, key, subjects, doses, count, attention_mask)
    weights = weights / count[:, None]  # of a single token in each place, (B, H, S, T)
    out = (weights * own[:, None]).to(value.dtype) @ value
    for subject, share in zip(subjects, shares, strict=True):
        stretch = share if subject.alpha is None else share * word_norm * subject.alpha
        amount = (weights * stretch[:, None]).sum(dim=-1, keepdim=True)  # (B, H, S, 1)
        out = out + (_sum(subject, word_norm) * amount).to(out.dtype)
    return out


def multiple_tokens_weights(
    query: Tensor, key: Tensor, subjects: Sequence[SubjectValues], attention_mask: Tensor | None = None
) -> Weights:
    """What each place of the prompt gets, all its tokens together; see ``Mechanism.weights``."""
    doses, like = doses_of(subjects, key), key.new_zeros((), dtype=accurate(key))
    shares = [_share(*one, like) for one in zip(subjects, doses.shares, strict=True)]
    count = 1 + sum(share * (_number(one, like) - 1) for one, share in zip(subjects, shares, strict=True))
    weights = _weights(query, key, subjects, doses, like + count, attention_mask)
    return weights, amounts_of(weights, subjects, doses)


def _weights(
    query: Tensor,
    key: Tensor,
    subjects: Sequence[SubjectValues],
    doses: Doses,
    count: Tensor,
    attention_mask: Tensor | None,
) -> Tensor:
    """What each place gets, given how many tokens stand there (B, S or 1, T): (B, H, S, T)."""
    counted = count.log()[:, None]  # (B, 1, S or 1, T)
    counted = counted if attention_mask is None else attention_mask + counted
    return outer_weights(query, key, subjects, doses, counted)


def _share(subject: SubjectValues, share: Tensor, like: Tensor) -> Tensor:
    """β (B or 1, 1, T, 1) times mask: (B or 1, S or 1, T)."""
    share = share.to(like.dtype)[:, 0].transpose(1, 2)
    return share if subject.mask is None else share * subject.mask.to(like.dtype)[:, :, None]


def _number(subject: SubjectValues, like: Tensor) -> Tensor | int:
    """The number of tokens, (B or 1, 1, 1)."""
    share = share_of_tokens(subject, like)
    return subject.value.shape[2] if share is None else share.sum(dim=1)[:, None, None]


def _sum(subject: SubjectValues, like: Tensor) -> Tensor:
    """Σ Vᵢ (B or 1, H, 1, d), of directions if a norm is set."""
    values = subject.value.to(like.dtype)
    if subject.alpha is not None:
        values = values / length(values)
    share = share_of_tokens(subject, like)
    return (values if share is None else values * share[:, None, :, None]).sum(dim=2, keepdim=True)


MULTIPLE_TOKENS = Mechanism(
    name="multiple_tokens",
    attend=multiple_tokens_attention,
    projection=ValueProjection,
    has_norm=True,
    scales=(1.0, 1.5, 2.0, 2.5, 3.0, 4.0),
    weights=multiple_tokens_weights,
)
