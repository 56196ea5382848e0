"""What prompt tokens and subjects get of a query's attention, by each mechanism, written out token by token."""

import pytest
import torch

from diffusers_nested.attention import SubjectValues
from diffusers_nested.mechanisms import MECHANISMS

WORD, TOKENS = 2, 5  # the word's position among so many
SHARES = torch.tensor([1.0, 0.5, 1.0])  # of the subject's tokens, by image weights
MASK = torch.tensor([0.0, 0.5, 1.0, 1.0])  # of the queries


def tensors():
    generator = torch.Generator().manual_seed(0)
    query, key = torch.randn(1, 2, 4, 6, generator=generator), torch.randn(1, 2, TOKENS, 6, generator=generator)
    return query, key, torch.randn(1, 2, 3, 6, generator=generator)


def subject(own, scale, mask):
    positions = torch.zeros(1, TOKENS)
    positions[0, WORD] = 1
    log_weights = SHARES.log()[None]
    return SubjectValues(own, own, positions, scale, 2.0, log_weights, MASK[None] if mask else None)


def logits_of(query, key):
    return [[[float(q @ k) / 6**0.5 for k in head] for q in queries] for queries, head in zip(query, key, strict=True)]


def expected(name, query, key, own, scale, mask):
    """(H, S, T) and (H, S), by powers and sums."""
    words, amounts = torch.zeros(2, 4, TOKENS), torch.zeros(2, 4)
    texts, owns = logits_of(query[0], key[0]), logits_of(query[0], own[0])
    for head in range(2):
        for q in range(4):
            here = float(MASK[q]) if mask else 1.0
            text = torch.tensor(texts[head][q])
            share = min(scale, 1.0) * here
            if name == "simple":
                beside = torch.tensor(owns[head][q]).exp() * SHARES * scale * here
                total = text.exp().sum() + beside.sum()
                words[head, q], amounts[head, q] = text.exp() / total, beside.sum() / total
                continue
            raised = max(text[WORD], text[WORD] * (1 + (max(scale, 1.0) - 1) * here))
            powers = text.exp()
            number = float(SHARES.sum()) if name == "multiple_tokens" else 1.0
            powers[WORD] = raised.exp() * ((1 - share) + share * number)
            words[head, q] = powers / powers.sum()
            amounts[head, q] = words[head, q, WORD] * share
    return words, amounts


@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("scale", [0.4, 1.0, 2.5])
@pytest.mark.parametrize("name", ["nested", "global_value", "multiple_tokens", "simple"])
def test_weights_are_those_written_out(name, scale, mask):
    query, key, own = tensors()
    words, (amount,) = MECHANISMS[name].weights(query, key, [subject(own, scale, mask)])
    wanted, amounts = expected(name, query, key, own, scale, mask)
    assert torch.allclose(words[0], wanted, atol=1e-5)
    assert torch.allclose(amount.expand(1, 2, 4, 1)[0, ..., 0], amounts, atol=1e-5)


def test_only_mechanisms_that_leave_the_prompt_alone_have_none():
    assert {name for name, one in MECHANISMS.items() if one.weights is None} == {"decoupled", "located"}
