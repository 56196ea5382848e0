"""Tiny trainings in two processes, and the same ones in one process, which must come to the same.

    python -m sharded_training FOLDER

FOLDER/KIND/run has the former, FOLDER/KIND/alone the latter. With the kinds "spread", the two share the weights by
FSDP2; with "copies", each has all of them. All are forks of one process: their imports are its own, and so is the
tokenizer, which is trained, and differs from process to process.
"""

import json
import os
import socket
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionXLPipeline
from torch.distributed.tensor import DTensor
from transformers import CLIPImageProcessorPil

import tiny_pipeline as tiny
from diffusers_nested import NestedAdapter
from diffusers_nested.data import Triplet, Triplets, open_training_set
from diffusers_nested.preparing import write_shards
from diffusers_nested.training import TrainingConfig, encoded_shards, train_adapter, train_in_phases
from diffusers_nested.training.encoded_shards import EncodedSet
from diffusers_nested.training.learner import Learner
from diffusers_nested.vision import ImageEncoder
from same_states import same

FSDP = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}
SETTINGS = {
    "resolution": 16,
    "max_train_steps": 3,
    "learning_rate": 1e-2,
    "snr_gamma": 5.0,  # weights and dropped prompts must go with the examples
    "proportion_empty_prompts": 0.3,
    "use_ema": True,
    "ema_decay": 0.5,
    "logging_steps": 3,
    "checkpointing_steps": 2,
}
PACKED = "packed"  # the training set in shards
FORMS = [(32, 32), (60, 20), (20, 70), (32, 30), (64, 17), (40, 40)]  # widths and heights


def train(configs: Sequence[TrainingConfig], triplets: Triplets) -> NestedAdapter:
    """Train the same adapter, in phases if there are several."""
    pipeline = StableDiffusionXLPipeline(**tiny.components(), add_watermarker=False)
    size = {"height": 16, "width": 16}
    processor = CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size=size)
    encoder = ImageEncoder(tiny.image_encoder(), processor)
    adapter = tiny.adapter(pipeline.unet)
    if os.environ.get("RANK") == "1":  # all processes take the weights of the first
        torch.nn.init.zeros_(next(adapter.parameters()))
    if len(configs) > 1:
        return train_in_phases(pipeline, encoder, adapter, triplets, configs)
    return train_adapter(pipeline, encoder, adapter, triplets, configs[0])


def spread(folder: Path, processes: int, precision: str = "no") -> None:
    """Weights in parts, several batches a step, features in shards; trained, and resumed."""
    triplets = [Triplet(tiny.photo(i), "a photo of a person", tiny.photo(100 + i)) for i in range(5)]
    more = {"mixed_precision": precision, "cache_features": True, "cache_folder": folder / "features"}
    finish, encode, written = Learner.finish, EncodedSet.encode, []

    def counted(self: Learner) -> NestedAdapter:
        own = sum(x.to_local().numel() for x in self.module.parameters() if isinstance(x, DTensor))
        count = sum(x.numel() for x in self.adapter.parameters())
        assert processes == 1 or 0.4 * count < own < 0.6 * count, (count, own)
        return finish(self)

    def encoded(self: EncodedSet, names: Sequence[str], show_progress: bool = False) -> Any:
        written.extend(names)
        return encode(self, names, show_progress)

    Learner.finish, EncodedSet.encode = counted, encoded
    encoded_shards.SHARD = 2
    made = []
    for resume in (None, "checkpoint-2"):
        shares = {"train_batch_size": 2 // processes, "gradient_accumulation_steps": 2}
        config = TrainingConfig(folder, **SETTINGS, **more, **shares, resume_from_checkpoint=resume)
        made.append(train([config], triplets).state_dict())
    (folder / f"encoded-{os.environ.get('RANK', 0)}.json").write_text(json.dumps(written))
    assert same(*made), "resumed is not uninterrupted"


def copies(folder: Path, processes: int) -> None:
    """Buckets, a set in shards, and phases, none of them cached."""
    forms = [Triplet(tiny.photo(i), "a person", tiny.photo(9 + i, 64).resize(form)) for i, form in enumerate(FORMS)]
    packed = open_training_set(folder.parents[1] / PACKED)
    one_each = {"train_batch_size": 1, "gradient_accumulation_steps": 2 // processes}  # of a bucket
    trained = {
        "buckets": (forms, [{**one_each, "resolution": 32, "aspect_ratio_buckets": True}]),
        "shards": (packed, [{"dataloader_num_workers": 1}]),
        "phases": (packed, [{}, {"resolution": 8, "max_train_steps": 1}]),
    }
    for name, (triplets, phases) in trained.items():
        common = {**SETTINGS, "train_batch_size": 2 // processes}
        configs = [TrainingConfig(folder / name, **{**common, **phase}) for phase in phases]
        train(configs, triplets)


KINDS = {
    "spread": (FSDP, spread),
    "spread-bf16": (FSDP, lambda folder, processes: spread(folder, processes, "bf16")),
    "copies": ({}, copies),
}


def pack(folder: Path) -> None:
    """Four examples in two shards."""
    source = folder / "source"
    source.mkdir()
    lines = []
    for i in range(4):
        tiny.photo(i).save(source / f"in-{i}.png")
        tiny.photo(100 + i, 20 + i).save(source / f"out-{i}.png")
        lines.append({"input_file_name": f"in-{i}.png", "file_name": f"out-{i}.png", "text": "a photo of a person"})
    (source / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    write_shards(source, folder / PACKED, 2)


def forked(do: Callable[[], object]) -> int:
    """The number of a process that does this and ends."""
    number = os.fork()
    if number:
        return number
    try:
        do()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def train_kind(folder: Path, kind: str) -> int:
    """Exit status: 0 if all processes have trained."""
    engine, do = KINDS[kind]
    folder.mkdir()
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]

    def take_part(rank: int) -> None:
        os.environ.update(engine, RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", LOCAL_WORLD_SIZE="2")
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
        do(folder / "run", 2)

    alone = forked(lambda: do(folder / "alone", 1))
    ended = [os.waitpid(alone, 0)]
    ended += [os.waitpid(one, 0) for one in [forked(lambda rank=rank: take_part(rank)) for rank in (0, 1)]]
    return max(os.waitstatus_to_exitcode(status) for _, status in ended)


if __name__ == "__main__":
    tiny.tokenizer()
    pack(Path(sys.argv[1]))
    sys.exit(max(train_kind(Path(sys.argv[1]) / kind, kind) for kind in KINDS))
