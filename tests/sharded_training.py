"""A tiny training in two processes that share the weights by FSDP2, and the same one in one process.

    python -m sharded_training FOLDER

FOLDER/run has the former, which is also resumed, and must then have the same weights, bit for bit; FOLDER/alone has the
latter. All are forks of one process: their imports are its own, and so is the tokenizer, which is trained, and differs
from process to process.
"""

import os
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import StableDiffusionXLPipeline
from torch.distributed.tensor import DTensor
from transformers import CLIPImageProcessorPil

import tiny_pipeline as tiny
from diffusers_nested import NestedAdapter
from diffusers_nested.data import Triplet
from diffusers_nested.training import TrainingConfig, train_adapter
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
    "cache_features": True,
}


def train(folder: Path, batch: int, resume: str | None = None) -> NestedAdapter:
    """Train the same adapter on the same triplets."""
    pipeline = StableDiffusionXLPipeline(**tiny.components(), add_watermarker=False)
    size = {"height": 16, "width": 16}
    processor = CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size=size)
    encoder = ImageEncoder(tiny.image_encoder(), processor)
    adapter = tiny.adapter(pipeline.unet)
    if os.environ.get("RANK") == "1":  # all processes take the weights of the first
        torch.nn.init.zeros_(next(adapter.parameters()))
    triplets = [Triplet(tiny.photo(i), "a photo of a person", tiny.photo(100 + i)) for i in range(5)]
    config = TrainingConfig(folder, train_batch_size=batch, resume_from_checkpoint=resume, **SETTINGS)
    return train_adapter(pipeline, encoder, adapter, triplets, config)


def train_parts(folder: Path) -> None:
    """In each of two processes: train, and resume."""
    finish = Learner.finish

    def counted(self: Learner) -> NestedAdapter:
        own = sum(x.to_local().numel() for x in self.module.parameters() if isinstance(x, DTensor))
        count = sum(x.numel() for x in self.adapter.parameters())
        assert 0.4 * count < own < 0.6 * count, (count, own)
        return finish(self)

    Learner.finish = counted
    made = [train(folder, 2, resume).state_dict() for resume in (None, "checkpoint-2")]
    assert same(*made), "resumed is not uninterrupted"


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


def main(folder: Path) -> int:
    """Exit status: 0 if all have trained."""
    tiny.tokenizer()
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]

    def take_part(rank: int) -> None:
        os.environ.update(FSDP, RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", LOCAL_WORLD_SIZE="2")
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
        train_parts(folder / "run")

    alone = forked(lambda: train(folder / "alone", 4))
    ended = [os.waitpid(alone, 0)]
    ended += [os.waitpid(one, 0) for one in [forked(lambda rank=rank: take_part(rank)) for rank in (0, 1)]]
    return max(os.waitstatus_to_exitcode(status) for _, status in ended)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
