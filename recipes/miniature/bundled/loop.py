"""The training loop of the miniature's own models: seeded, logged, resumable."""

import json
import logging
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

logger = logging.getLogger(__name__)
# without AVX-512, products in bfloat16 are emulated, ten times slower than float32
HAS_FAST_BF16 = torch.backends.cpu.get_cpu_capability() not in ("DEFAULT", "AVX2")
BatchLoss = Callable[[int, torch.Generator], tuple[Tensor, dict[str, float]]]


@dataclass(frozen=True)
class Recipe:
    """How long and how fast a model learns.

    Attributes:
        steps: Optimiser steps.
        lr: Highest learning rate, reached after ``warmup`` steps, held until ``flat`` of the run, then
            lowered along a cosine to one hundredth.
        ema: Decay of the running average of the weights, which is what gets published.
        save_every: Steps between two checkpoints.
    """

    steps: int
    lr: float
    warmup: int = 150
    flat: float = 0.4
    ema: float = 0.998
    clip: float = 1.0
    weight_decay: float = 0.01
    seed: int = 0
    bf16: bool = HAS_FAST_BF16
    save_every: int = 500
    log_every: int = 100


def fit(model: nn.Module, batch_loss: BatchLoss, recipe: Recipe, folder: Path) -> nn.Module:
    """Train ``model`` in place, resuming from ``folder`` if it holds a checkpoint.

    All randomness of a step comes from the generator handed to ``batch_loss``, which is seeded by the
    step's number: a run that was cut off and resumed takes the same steps as one that was not.

    Returns:
        The running average of the model, in evaluation mode.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True)
    average = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(recipe.ema), use_buffers=False
    )
    start = _resume(folder / "checkpoint.pt", model, average, optimizer)
    clock = time.monotonic()
    for step in range(start, recipe.steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, recipe)
        generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)
        with torch.autocast("cpu", torch.bfloat16) if recipe.bf16 else nullcontext():
            loss, metrics = batch_loss(step, generator)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, recipe.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        average.update_parameters(model)
        done = step + 1
        if done % recipe.log_every == 0 or done == recipe.steps:
            _log(folder, step=done, loss=loss.item(), seconds=time.monotonic() - clock, **metrics)
        if done % recipe.save_every == 0 or done == recipe.steps:
            _save(folder / "checkpoint.pt", done, model, average, optimizer)
    return average.module.eval().requires_grad_(False)


def learning_rate(step: int, recipe: Recipe) -> float:
    """Linear warm-up, flat, then a cosine down to one hundredth."""
    if step < recipe.warmup:
        return recipe.lr * (step + 1) / recipe.warmup
    falling = recipe.steps * (1 - recipe.flat)  # steps of the cosine; none if the rate stays flat
    progress = max(0.0, (step - recipe.steps * recipe.flat) / falling) if falling else 0.0
    return recipe.lr * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))


def _resume(path: Path, model: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    average.load_state_dict(state["average"])
    optimizer.load_state_dict(state["optimizer"])
    logger.info("resumed from step %d", state["step"])
    return state["step"]


def _save(path: Path, step: int, model: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    state = {
        "step": step,
        "model": model.state_dict(),
        "average": average.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    torch.save(state, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)


def _log(folder: Path, **values: float) -> None:
    row = {name: round(value, 5) if isinstance(value, float) else value for name, value in values.items()}
    logger.info("%s: %s", folder.name, "  ".join(f"{k} {v}" for k, v in row.items()))
    with (folder / "log.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
