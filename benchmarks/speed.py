"""Time per denoising step and peak memory of SDXL's UNet, plain, with nested adapters and with IP-Adapters.

The UNet has the true configuration of SDXL base and random weights: what is computed does not depend on them.
All contestants take turns in one process, step by step, so that whatever else the machine does meets all of them.

    python benchmarks/speed.py --sizes 512 --subjects 1 2 --output docs/results/speed-512.json
"""

import argparse
import gc
import json
import platform
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from statistics import median
from typing import Any

import torch
from memory import PeakMemory

from contestants import IPAdapterContestant, NestedContestant, PlainContestant, build_unet


def step_inputs(size: int, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """What one UNet call gets in a step with guidance: an unconditional row and a conditional one."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(device, dtype)

    return {
        "sample": random(2, 4, size // 8, size // 8),
        "timestep": torch.tensor(500, device=device),
        "encoder_hidden_states": random(2, 77, 2048),
        "added_cond_kwargs": {
            "text_embeds": random(2, 1280),
            "time_ids": torch.tensor([[size, size, 0, 0, size, size]] * 2, device=device).to(dtype),
        },
    }


def timed(step: Callable[[], Any], device: torch.device) -> float:
    """Seconds of a step."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def measure(size: int, contestants: list[Any], rounds: int, device: torch.device, dtype: torch.dtype) -> list[Any]:
    """Median seconds and extra memory of every contestant at one resolution; the first one is the plain UNet."""
    inputs = step_inputs(size, device, dtype)
    seconds: dict[str, list[float]] = {one.name: [] for one in contestants}
    peaks: dict[str, float] = {}
    for number in range(rounds + 1):
        for one in contestants:
            with one.loaded(inputs) as step:
                gc.collect()
                with PeakMemory(device) if number == 0 else nullcontext() as memory:
                    taken = timed(step, device)
            if memory is not None:
                peaks[one.name] = memory.bytes
            else:
                seconds[one.name].append(taken)
    plain = contestants[0].name
    return [
        {
            "size": size,
            "contestant": one.name,
            "tokens": one.tokens,
            "seconds": round(median(seconds[one.name]), 3),
            # of the same round, so that slow spells of the machine cancel
            "ratio": round(median(a / b for a, b in zip(seconds[one.name], seconds[plain], strict=True)), 4),
            "preparation_seconds": round(one.preparation, 3),
            "peak_mib": round(peaks[one.name] / 2**20),
        }
        for one in contestants
    ]


def machine(device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """Where it was measured."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    return {"device": name, "threads": torch.get_num_threads(), "torch": torch.__version__, "dtype": str(dtype)}


def _processor() -> str:
    cpus = Path("/proc/cpuinfo")  # of Linux; elsewhere Python knows a name
    models = [line for line in cpus.read_text().splitlines() if line.startswith("model name")] if cpus.exists() else []
    return models[0].partition(":")[2].strip() if models else platform.processor() or platform.machine()


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[512])
    parser.add_argument("--tokens", type=int, nargs="+", default=[16, 256, 1024])
    parser.add_argument("--subjects", type=int, nargs="+", default=[1])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", choices=["bfloat16", "float16", "float32"], default="bfloat16")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    device, dtype = torch.device(args.device), getattr(torch, args.dtype)
    unet = build_unet(device, dtype)
    contestants: list[Any] = [PlainContestant(unet)]
    for tokens in args.tokens:
        contestants += [NestedContestant(unet, tokens, subjects) for subjects in args.subjects]
        contestants.append(IPAdapterContestant(unet, tokens))
    rows = []
    with torch.inference_mode():
        for size in args.sizes:
            rows += measure(size, contestants, args.rounds, device, dtype)
            args.output.write_text(json.dumps({"machine": machine(device, dtype), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
