"""A tiny training in two processes that share the weights by FSDP2, as ``accelerate launch`` starts it.

    python -m sharded_training FOLDER

FOLDER/run has the run; what it has after it was resumed from its checkpoint must be the same, bit for bit.
"""

import os
import socket
import sys
from pathlib import Path

import torch
from diffusers import StableDiffusionXLPipeline
from torch.distributed.tensor import DTensor
from transformers import CLIPImageProcessorPil

import tiny_pipeline as tiny
from diffusers_nested.data import Triplet
from diffusers_nested.training import TrainingConfig, train_adapter
from diffusers_nested.training.learner import Learner
from diffusers_nested.vision import ImageEncoder
from same_states import same

FSDP = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}
# in two processes; min-SNR weights and dropped prompts must go with the examples
SETTINGS = {
    "resolution": 16,
    "train_batch_size": 2,
    "max_train_steps": 3,
    "learning_rate": 1e-2,
    "snr_gamma": 5.0,
    "proportion_empty_prompts": 0.3,
    "use_ema": True,
    "ema_decay": 0.5,
    "logging_steps": 3,
    "checkpointing_steps": 2,
    "cache_features": True,
}


def triplets() -> list[Triplet]:
    return [Triplet(tiny.photo(i), "a photo of a person", tiny.photo(100 + i)) for i in range(5)]


def parts(self: Learner) -> tuple[int, int]:
    """How many weights there are, and how many of them are in this process."""
    own = [x.to_local().numel() for x in self.module.parameters() if isinstance(x, DTensor)]
    return sum(x.numel() for x in self.adapter.parameters()), sum(own)


def main(folder: str) -> None:
    """Train and resume, in each process."""
    pipeline = StableDiffusionXLPipeline(**tiny.components(), add_watermarker=False)
    size = {"height": 16, "width": 16}
    processor = CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size=size)
    encoder = ImageEncoder(tiny.image_encoder(), processor)
    found, finish = [], Learner.finish

    def counted(self: Learner):
        found.append(parts(self))
        return finish(self)

    Learner.finish = counted
    made = []
    for resume in (None, "checkpoint-2"):
        config = TrainingConfig(Path(folder) / "run", resume_from_checkpoint=resume, **SETTINGS)
        adapter = tiny.adapter(pipeline.unet)
        if os.environ["RANK"] == "1":  # all processes take the weights of the first
            torch.nn.init.zeros_(next(adapter.parameters()))
        made.append(train_adapter(pipeline, encoder, adapter, triplets(), config).state_dict())
    assert same(*made), "resumed is not uninterrupted"
    for count, own in found:
        assert 0.4 * count < own < 0.6 * count, (count, own)


def share(folder: str) -> int:
    """Run ``main`` in this process and in a fork of it, which has the same imports; returns the fork's exit status."""
    tiny.tokenizer()  # it is trained, and not twice the same
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    other = os.fork()
    rank = "0" if other else "1"
    os.environ.update(FSDP, RANK=rank, LOCAL_RANK=rank, WORLD_SIZE="2", LOCAL_WORLD_SIZE="2")
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    main(folder)
    return os.waitstatus_to_exitcode(os.waitpid(other, 0)[1]) if other else 0


if __name__ == "__main__":
    sys.exit(share(sys.argv[1]))
