"""The inner attention, over a subject's own tokens (3.2)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import NestedAdapterError
from .values import SubjectValues

_HALF = (torch.bfloat16, torch.float16)
_BLOCK = 256  # queries


def nested_values(query: Tensor, subject: SubjectValues) -> Tensor:
    """v*_q before its norm is set: attention of the queries (B, H, S, d) over the subject's tokens."""
    if subject.key is None:
        raise NestedAdapterError("A subject has no key, so no query can read its tokens. Pass a key.")
    shape = (query.shape[0], -1, -1, -1)
    key, value, mask = subject.key.expand(shape), subject.value.expand(shape), subject.log_weights
    if mask is not None:
        mask = mask.to(query.dtype).reshape(-1, 1, 1, mask.shape[-1])  # (B or 1, 1, 1, N)
    if query.device.type == "cpu" and query.dtype in _HALF and not torch.is_grad_enabled():
        return _by_blocks(query, key, value, mask)
    return F.scaled_dot_product_attention(query, key, value, mask)


def _by_blocks(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """Attention for one block of queries at a time, whose weights fit into a CPU's cache.

    On CPUs the fused kernel computes in float32, at half the speed of this one in bfloat16 (see benchmarks/).
    """
    heads = query.shape[:2]
    key, value = key.to(query.dtype), value.to(query.dtype)  # under autocast they may be wider
    # contiguous heads, which the products read much faster; scaling N keys is cheaper than S · N logits
    key = (key.contiguous() * query.shape[-1] ** -0.5).transpose(-1, -2).flatten(0, 1)  # (B · H, d, N)
    value = value.contiguous().flatten(0, 1)  # (B · H, N, d)
    bias = None if mask is None else mask.expand(*heads, 1, -1).flatten(0, 1)  # (B · H, 1, N)
    # the same memory for every block: allocating it again takes as long as the attention
    memory = query.new_empty(len(key), min(_BLOCK, query.shape[2]), key.shape[-1])
    out = []
    for block in query.flatten(0, 1).split(_BLOCK, dim=1):
        logits = torch.bmm(block, key, out=memory[:, : block.shape[1]])
        if bias is not None:
            logits += bias
        out.append(torch.bmm(torch.softmax(logits, -1, out=logits), value))
    return torch.cat(out, dim=1).unflatten(0, heads)  # (B · H, S, d) -> (B, H, S, d)
