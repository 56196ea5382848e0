"""Training of the miniature's adapters with the package's own training loop.

Run as ``python -m recipes.miniature.bundled.adapters RUN_FOLDER people`` (or ``pets``) after the base and
the vision tower. It saves a publishable folder under ``RUN_FOLDER / people``; with ``--mechanism decoupled``, under
``RUN_FOLDER / people-decoupled``.
"""

import argparse
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionXLPipeline
from diffusers.models.attention_processor import Attention, AttnProcessor
from torch.nn.attention import SDPBackend, sdpa_kernel

from diffusers_nested.adapter import NestedAdapter
from diffusers_nested.data import Triplet
from diffusers_nested.mechanisms import MECHANISMS, get_mechanism
from diffusers_nested.miniature.triplets import draw_triplets
from diffusers_nested.training import TrainingConfig, train_adapter
from diffusers_nested.vision import ImageEncoder, load_vision_tower

from .loop import HAS_FAST_BF16

Draw = Callable[..., list[Triplet]]  # of a name, a count, a seed and ``held_out``
WORDS = {"people": "person", "pets": "pet"}
STEPS = {"people": 4000, "pets": 2000}
TRIPLETS, SEED = 24_000, 40
CHECKPOINTING_STEPS = 500
ALPHA = 2.0  # the paper's
QFORMER = {
    "num_queries": 32,
    "qformer_hidden_size": 128,
    "qformer_num_layers": 3,
    "qformer_num_heads": 4,
    "qformer_intermediate_size": 384,
}


def train(folder: Path, name: str, mechanism: str = "nested") -> NestedAdapter:
    """Train an adapter on the pipeline and the vision tower in ``folder``, or resume its training."""
    title = name if mechanism == "nested" else f"{name}-{mechanism}"
    config = settings(folder / f"{title}-run", STEPS[name], SEED)
    return train_on(folder / "pipeline", folder, folder / title, name, config, mechanism)


def train_on(
    pipeline_folder: Path, vision: Path, out: Path, name: str, config: TrainingConfig, mechanism: str = "nested"
) -> NestedAdapter:
    """Train an adapter, or resume its training, and save it in ``out`` for ``load_nested_adapter``.

    Args:
        pipeline_folder: The base.
        vision: Folder with ``image_encoder`` and ``feature_extractor``.
        out: Folder of the adapter.
        name: "people" or "pets".
        config: Settings of the training; its seed is also that of the initial weights.
        mechanism: How subjects enter a layer.
    """
    pipeline = StableDiffusionXLPipeline.from_pretrained(pipeline_folder, add_watermarker=False)
    tower = load_vision_tower(str(vision / "image_encoder"))
    torch.manual_seed(config.seed)
    adapter = new_adapter(pipeline, tower, name, mechanism)
    fit(pipeline, tower, adapter, config, name)
    adapter.save_pretrained(out)
    for part in ("image_encoder", "feature_extractor"):
        shutil.copytree(vision / part, out / part, dirs_exist_ok=True)
    return adapter


def new_adapter(pipeline: Any, encoder: ImageEncoder, name: str, mechanism: str, **changes: Any) -> NestedAdapter:
    """An untrained adapter for people or pets; ``changes`` are settings of its class."""
    norm = {"alpha": ALPHA} if get_mechanism(mechanism).has_norm else {}
    return NestedAdapter.from_unet(
        pipeline.unet,
        image_feature_dim=encoder.feature_dim,
        subject_token=WORDS[name],
        image_encoder=None,
        mechanism=mechanism,
        **{**norm, **QFORMER, **changes},
    )


def settings(output_dir: Path, steps: int, seed: int, cache_folder: Path | None = None) -> TrainingConfig:
    """Settings of the training of the miniature's adapters."""
    return TrainingConfig(
        output_dir=output_dir,
        resolution=32,
        train_batch_size=16,
        max_train_steps=steps,
        learning_rate=1e-3,
        lr_warmup_steps=min(100, steps // 10),
        mixed_precision="bf16" if HAS_FAST_BF16 else "no",
        use_ema=True,
        ema_decay=0.995,
        seed=seed,
        checkpointing_steps=CHECKPOINTING_STEPS,
        checkpoints_total_limit=1,
        resume_from_checkpoint="latest",
        cache_features=True,
        cache_folder=cache_folder,
        logging_steps=100,
        validation_steps=steps,
    )


def fit(
    pipeline: Any,
    encoder: ImageEncoder,
    adapter: NestedAdapter,
    config: TrainingConfig,
    name: str,
    count: int = TRIPLETS,
    draw: Draw = draw_triplets,
) -> None:
    """Train an adapter on triplets of people or pets, or resume its training."""
    for module in pipeline.unet.modules():
        if isinstance(module, Attention) and not module.is_cross_attention:
            module.set_processor(AttnProcessor())  # the same without checks for masked rows, a sixth faster still
    validation = draw(name, 64, seed=41, held_out=True)
    dataset = draw(name, count, seed=42)
    with sdpa_kernel(SDPBackend.MATH):  # explicit softmax: its backward pass is the faster one on a CPU
        train_adapter(pipeline, encoder, adapter, dataset, config, validation_dataset=validation)


def _read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="of the run")
    parser.add_argument("name", choices=sorted(WORDS))
    parser.add_argument("--mechanism", default="nested", choices=sorted(MECHANISMS))
    return parser.parse_args()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    given = _read_arguments()
    train(given.folder, given.name, given.mechanism)
