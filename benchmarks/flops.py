"""Floating-point operations of a step of SDXL's UNet, counted on fake tensors: no memory, no time, no noise.

python benchmarks/flops.py --sizes 512 1024 --tokens 16 256 1024 --output docs/results/flops.json
"""

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from speed import step_inputs
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from contestants import IPAdapterContestant, sdxl_unet
from diffusers_nested.backbones import layer_widths
from diffusers_nested.injection import Dial, Kind, NestedInjector, PlacedSubject, ProjectedSubject, RowGroup, Storage
from diffusers_nested.mechanisms import get_mechanism

CPU, DTYPE = torch.device("cpu"), torch.float32  # the type does not matter to the count


def main() -> None:
    """Count and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 1024])
    parser.add_argument("--tokens", type=int, nargs="+", default=[16, 256, 1024])
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    with FakeTensorMode():
        unet = sdxl_unet().eval()
        rows = [{"size": size, **row} for size in args.sizes for row in _count_size(unet, size, args.tokens)]
    args.output.write_text(json.dumps(rows, indent=1) + "\n")


def _count_size(unet: Any, size: int, tokens: list[int]) -> list[dict[str, Any]]:
    inputs = step_inputs(size, CPU, DTYPE)
    rows = [{"contestant": "plain", "tokens": 0, "tflop": count(lambda: unet(**inputs))}]
    for number in tokens:
        rows.append({"contestant": "nested", "tokens": number, "tflop": count_nested(unet, inputs, number)})
        with IPAdapterContestant(unet, number).loaded(inputs) as step:
            rows.append({"contestant": "IP-Adapter", "tokens": number, "tflop": count(step)})
    return rows


def count(step: Callable[[], Any]) -> float:
    """TFLOP of a step."""
    # as plain products, of which all are counted; not all fused kernels are
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        step()
    return round(counter.get_total_flops() / 1e12, 4)


def count_nested(unet: Any, inputs: dict[str, Any], tokens: int) -> float:
    """TFLOP of a step with a subject in one row: the only one, or the prompt's beside an unconditional one."""
    with acting(unet, inputs, [tokens]):
        return count(lambda: unet(**inputs))


@contextmanager
def acting(
    unet: Any,
    inputs: dict[str, Any],
    tokens: Sequence[int],
    storage: Storage | None = None,
    mechanism: str = "nested",
    scale: float = 1.0,
) -> Iterator[None]:
    """Let subjects with so many tokens act in the prompt's row; in empty tensors like the inputs."""
    states = inputs["encoder_hidden_states"]
    widths = layer_widths(unet)

    def random(width: int) -> Tensor:
        # (1, H, N, d), with SDXL's heads of width 64
        return torch.empty(1, width // 64, number, 64, device=states.device, dtype=states.dtype)

    placed = []
    for number in tokens:
        kind = Kind("counted", get_mechanism(mechanism), 2.0, {path: Dial(scale) for path in widths}, number)
        layers = {path: (storage or Storage()).keep([random(w), random(w)]) for path, w in widths.items()}
        positions = torch.empty(1, 77, device=states.device, dtype=states.dtype)
        placed.append(PlacedSubject((ProjectedSubject(kind, layers),), positions))
    rows = [(1, 2), (0, 1)] if len(states) == 2 else [None, None]
    injector = NestedInjector(unet)
    injector.inject()
    try:
        with injector.bound(RowGroup(placed, *rows, batch=len(states))):
            yield
    finally:
        injector.eject()


if __name__ == "__main__":
    main()
