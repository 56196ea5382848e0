"""What `nested_attention` costs: the sizes of its tensors, and how often it is compiled."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from attention_formula import PLACEMENTS, by_the_paper, make_inputs
from diffusers_nested.attention import SubjectValues, nested_attention, nested_terms


class Sizes(TorchDispatchMode):
    """Records the number of entries of every tensor that any operation returns."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.largest = max([self.largest, *(x.numel() for x in tree_leaves(out) if isinstance(x, Tensor))])
        return out


@pytest.mark.parametrize(("words", "width"), [(20, 8), (6, 16)])
@pytest.mark.parametrize("backward", [False, True])
def test_memory(words: int, width: int, backward: bool):
    """No tensor of B·H·S·T·d or B·H·N·S·d entries; not even one of B·H·S·N."""
    rows, heads, queries, tokens = 2, 2, 128, 40
    query, key, value = (torch.randn(rows, heads, length, width) for length in (queries, words, words))
    nested = torch.randn(2, rows, heads, tokens, width)
    leaves = [x.requires_grad_(backward) for x in (query, key, value, nested)]
    positions = torch.zeros(rows, words)
    positions[:, 2:4] = 1
    subjects = [SubjectValues(*nested, positions, 2.5), SubjectValues(*nested, positions.roll(2, 1), 0.5)]
    with Sizes() as sizes:
        out = nested_attention(query, key, value, subjects)
        if backward:
            out.sum().backward()
        else:
            list(nested_terms(query, key, value, subjects))
    assert all((leaf.grad is not None) == backward for leaf in leaves)
    assert rows * heads * queries * width <= sizes.largest <= rows * heads * queries * max(words, width)


def test_compiles_once_for_all_scales():
    graphs = []

    def backend(graph: torch.fx.GraphModule, example_inputs: list[Tensor]) -> Any:
        graphs.append(graph)
        return graph.forward

    dial = torch.tensor(0.0, dtype=torch.float64)
    inputs = make_inputs(PLACEMENTS["two subjects"], scale=dial)
    compiled = torch.compile(nested_attention, backend=backend, fullgraph=True)
    for scale in (0.0, 0.3, 1.0, 2.5):
        dial.fill_(scale)
        found = compiled(inputs.query, inputs.key, inputs.value, inputs.subjects)
        torch.testing.assert_close(found, by_the_paper(inputs), rtol=1e-10, atol=1e-12)
    assert len(graphs) == 1
