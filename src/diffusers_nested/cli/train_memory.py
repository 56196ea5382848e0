"""What ``diffusers-nested train --dry_run`` prints."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..training import TrainingConfig

if TYPE_CHECKING:
    from ..adapter import NestedAdapter
    from ..data import Triplets
    from ..training import Memory
    from ..vision import ImageEncoder, ImageEncoders


def memory_tables(
    pipeline: Any,
    encoder: "ImageEncoder | ImageEncoders",
    adapter: "NestedAdapter",
    dataset: "Triplets",
    configs: Sequence[TrainingConfig],
    images: Sequence[Any],
    in_phases: bool,
) -> str:
    """What each phase needs, or the only run, after all that training checks."""
    from ..training import estimate_memory
    from ..training.train import check_training

    for config in configs:
        check_training(pipeline, encoder, adapter, dataset, config, images)
    _check_start(adapter, dataset, configs, in_phases)
    tables = [memory_table(estimate_memory(pipeline, encoder, adapter, config), config) for config in configs]
    if len(configs) == 1:
        return tables[0]
    return "\n".join(f"Phase {number}. {table}" for number, table in enumerate(tables, 1))


def _check_start(
    adapter: "NestedAdapter", dataset: "Triplets", configs: Sequence[TrainingConfig], in_phases: bool
) -> None:
    """What training would notice in its folder, its tracker and the files of the pictures; nothing is written."""
    from ..files.lock import check_holdable
    from ..training.fingerprint import digest_of
    from ..training.phases import finished_phases
    from ..training.resume import read_start
    from ..training.trackers import tracker_options

    first = configs[0]
    check_holdable(first.folder, "output_dir")
    if in_phases:
        finished_phases(adapter, configs)
    else:
        read_start(first.folder, first.resume_from_checkpoint)
    tracker_options(first)  # as that of all phases is the same
    digest_of(dataset)


def memory_table(memory: "Memory", config: TrainingConfig) -> str:
    """What a run needs, a line for each part."""
    checkpointing = "with" if config.gradient_checkpointing else "without"
    parts = {
        "frozen models": memory.frozen,
        "adapter": memory.adapter,
        "optimizer": memory.optimizer,
        "average of the weights": memory.average,
        "gradients of all processes": memory.buckets,
        "a step": memory.step,
        "in all": memory.total,
    }
    lines = [
        f"Counted for each GPU: batch {config.train_batch_size}, {config.resolution} pixels, mixed precision "
        f"{config.mixed_precision}, {checkpointing} gradient checkpointing; about 1 GB for CUDA comes on top.",
        *(f"{name:<28}{size / 1e9:9.3f} GB" for name, size in parts.items() if size),
    ]
    return "\n".join(lines) + "\n"
