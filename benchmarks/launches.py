"""Operations of a step of SDXL's UNet, each of which is a launch on a GPU: counted without memory or weights.

    python benchmarks/launches.py --output docs/results/launches.json

Operations that only view their input are left out, and attention counts as one, as in a fused kernel.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from flops import acting
from speed import step_inputs
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from contestants import IPAdapterContestant, sdxl_unet
from diffusers_nested.backbones import layer_widths

META = torch.device("meta")  # nothing is computed
SIZE, TOKENS = 512, 16  # neither changes the number of operations
# Not marked as views, though no kernel runs.
FREE = (
    *("prim::device", "aten::promote_types", "aten::_unsafe_view", "aten::detach"),
    *("aten::empty", "aten::empty_like", "aten::new_empty"),
)
CASES = (("nested", 1.0, 1), ("nested", 1.0, 2), ("nested", 2.0, 1), ("nested", 2.0, 2), ("decoupled", 0.7, 1))


class _Launches(TorchDispatchMode):
    """Counts the operations that are no views."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += not func.is_view and func._schema.name not in FREE
        return func(*args, **(kwargs or {}))


class _Fused(TorchFunctionMode):
    """Attention as one operation, which without a device falls apart into several."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not F.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        query, value = args[0], args[2] if len(args) > 2 else (kwargs or {})["value"]
        shape = (query.shape[0], query.shape[2], query.shape[1], value.shape[3])  # heads side by side, as kernels do
        return query.new_zeros(shape).transpose(1, 2)


def count(step: Callable[[], Any]) -> int:
    """How many operations a step takes."""
    with torch.no_grad(), _Fused(), _Launches() as launches:
        step()
    return launches.count


def main() -> None:
    """Count and write the results: operations of a step, and what is added per cross-attention layer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    rows = [row for dtype in (torch.float32, torch.float16) for row in count_all(dtype)]
    args.output.write_text(json.dumps(rows, indent=1) + "\n")


def count_all(dtype: torch.dtype) -> list[dict[str, Any]]:
    """Rows of results in one precision; the first is the plain UNet."""
    with META:
        unet = sdxl_unet().eval()
    unet = nn.Module.to(unet, dtype)  # the own `to` of a model warns
    inputs = step_inputs(SIZE, META, dtype)
    counts = [("plain", 0, 0.0, count(lambda: unet(**inputs)))]
    for mechanism, scale, subjects in CASES:
        with acting(unet, inputs, [TOKENS] * subjects, mechanism=mechanism, scale=scale):
            counts.append((mechanism, subjects, scale, count(lambda: unet(**inputs))))
    for images in (1, 2):
        with IPAdapterContestant(unet, TOKENS, images).loaded(inputs) as step:
            counts.append(("IP-Adapter", images, 1.0, count(step)))
    layers, plain = len(layer_widths(unet)), counts[0][-1]
    names = ("contestant", "subjects", "scale", "step")
    return [
        {"dtype": str(dtype), **dict(zip(names, one, strict=True)), "layer": round((one[-1] - plain) / layers, 2)}
        for one in counts
    ]


if __name__ == "__main__":
    main()
