"""Settings of a training run, named as the flags of diffusers' training scripts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import NestedAdapterError
from ..files.rules import FLAG, Rule, as_plain, check_settings, number, one_of, whole


def _are_prompts(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(one, str) for one in value)


def _is_tracker(value: Any) -> bool:
    return isinstance(value, str) or hasattr(value, "store_init_configuration")


_FOLDER = Rule(lambda value: isinstance(value, str | Path) and str(value) != "", "the path of a folder")
_FRACTION = number(0, 1, below=True)
_POSITIVE = number(0, above=True)
_NOT_NEGATIVE = number(0)
_RULES: Mapping[str, Rule] = {
    "resolution": whole(1),
    "train_batch_size": whole(1),
    "max_train_steps": whole(1),
    "gradient_accumulation_steps": whole(1),
    "learning_rate": _POSITIVE,
    "lr_scheduler": one_of("cosine", "constant"),
    "lr_warmup_steps": whole(0),
    "adam_beta1": _FRACTION,
    "adam_beta2": _FRACTION,
    "adam_weight_decay": _NOT_NEGATIVE,
    "adam_epsilon": _POSITIVE,
    "use_8bit_adam": FLAG,
    "max_grad_norm": _POSITIVE,
    "mixed_precision": one_of("no", "fp16", "bf16"),
    "gradient_checkpointing": FLAG,
    "snr_gamma": _POSITIVE.or_none(),
    "proportion_empty_prompts": _FRACTION,
    "proportion_empty_captions": _FRACTION,
    "proportion_empty_images": _FRACTION,
    "use_ema": FLAG,
    "ema_decay": _FRACTION,
    "seed": whole(0, 2**32 - 1),  # numpy takes no more
    "checkpointing_steps": whole(1),
    "checkpoints_total_limit": whole(1).or_none(),
    "validation_steps": whole(1),
    "validation_prompts": Rule(_are_prompts, "a list of prompts"),
    "logging_steps": whole(1),
    "dataloader_num_workers": whole(0),
    "cache_features": FLAG,
    "output_dir": _FOLDER,
    "cache_folder": _FOLDER.or_none(),
    "log_with": Rule(_is_tracker, "the name of one of accelerate's trackers, or a tracker").or_none(),
}

# Settings of one start of a run, not of the run.
NOT_OF_A_RUN = ("output_dir", "resume_from_checkpoint", "log_with")
# Settings that all phases of a training share; a process has one precision.
OF_ALL_PHASES = (*NOT_OF_A_RUN, "mixed_precision")
# Settings that may change when a run resumes from a checkpoint; a change of any other makes it another run.
MAY_CHANGE = (
    "max_train_steps",
    "learning_rate",
    "mixed_precision",
    "gradient_checkpointing",
    "checkpointing_steps",
    "checkpoints_total_limit",
    "validation_steps",
    "validation_prompts",
    "logging_steps",
    "dataloader_num_workers",
    "cache_folder",
    "cache_file",  # of earlier versions
    "validation_dataset",  # beside the fields of the config
    "adapter.image_encoder",
)


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of one training run.

    Attributes:
        output_dir: Folder for checkpoints, log, validation pictures and, at the end, the adapter.
        resolution: Side of the target images in pixels.
        aspect_ratio_buckets: Keep the form of the targets, in buckets of about ``resolution``² pixels from 1:4 to 4:1;
            the pictures of a batch are of one bucket. Otherwise they are cropped to squares.
        train_batch_size: Examples per process and forward pass.
        max_train_steps: Optimiser steps.
        gradient_accumulation_steps: Forward passes per optimiser step.
        learning_rate: Maximum learning rate, reached after the warm-up.
        lr_scheduler: After the warm-up, ``"cosine"`` falls to zero and ``"constant"`` stays.
        lr_warmup_steps: Steps over which the learning rate rises from zero.
        adam_beta1: First decay of AdamW.
        adam_beta2: Second decay of AdamW.
        adam_weight_decay: Weight decay of AdamW.
        adam_epsilon: Epsilon of AdamW.
        use_8bit_adam: Keep AdamW's moments in 8 bits to save memory; needs CUDA and the package bitsandbytes.
        max_grad_norm: Gradients are clipped to this norm.
        mixed_precision: ``"no"``, ``"fp16"`` or ``"bf16"``: dtype of the frozen models and of the adapter's
            computations; the adapter's weights stay in float32.
        gradient_checkpointing: Recompute the UNet's activations in the backward pass to save memory.
        snr_gamma: γ of the min-SNR loss weights (arXiv 2303.09556), usually 5; None weights all timesteps equally.
        proportion_empty_prompts: Share of the examples whose whole prompt, subject included, is replaced by the
            pipeline's unconditional embedding. Only the frozen base acts on these, so they teach the adapter nothing,
            unless it reads an empty image, as IP-Adapters do.
        proportion_empty_captions: Share of the examples whose caption alone is dropped: only the subjects' words are
            left of it, or nothing with the mechanism "decoupled", which acts without a word.
        proportion_empty_images: Share of the examples whose photos alone are replaced by an empty image; only for
            adapters that read one.
        use_ema: Publish a running average of the weights.
        ema_decay: Decay of the average.
        seed: The seed and the step's number determine all randomness of a step, however its examples are shared out to
            processes and accumulated batches.
        checkpointing_steps: Steps between two checkpoints.
        checkpoints_total_limit: How many of the newest checkpoints to keep; None keeps all.
        resume_from_checkpoint: Folder of a checkpoint, or ``"latest"`` for the newest in ``output_dir``; if there is
            none, ``"latest"`` starts at the beginning.
        validation_steps: Steps between two sheets of validation pictures.
        validation_prompts: Prompts of the validation pictures, with the subject's word.
        logging_steps: Steps between two rows of the log, each with the paired loss.
        log_with: One of accelerate's trackers, such as ``"tensorboard"`` or ``"wandb"``, that also gets the rows of the
            log; or an instance of your own subclass of accelerate's ``GeneralTracker``.
        dataloader_num_workers: Processes that read images; unused if features are cached.
        cache_features: Encode all images and captions once before training and keep the results in memory (fp16).
        cache_folder: With ``cache_features``, a folder for the results, of which each process writes its share, and
            which runs with the same models and triplets read again.

    Raises:
        NestedAdapterError: A value is out of its range.
    """

    output_dir: str | Path
    resolution: int = 1024
    aspect_ratio_buckets: bool = False
    train_batch_size: int = 4
    max_train_steps: int = 10_000
    gradient_accumulation_steps: int = 1
    learning_rate: float = 1e-4
    lr_scheduler: str = "cosine"
    lr_warmup_steps: int = 0
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    adam_weight_decay: float = 1e-2
    adam_epsilon: float = 1e-8
    use_8bit_adam: bool = False
    max_grad_norm: float = 1.0
    mixed_precision: str = "no"
    gradient_checkpointing: bool = False
    snr_gamma: float | None = None
    proportion_empty_prompts: float = 0.0
    proportion_empty_captions: float = 0.0
    proportion_empty_images: float = 0.0
    use_ema: bool = False
    ema_decay: float = 0.9999
    seed: int = 0
    checkpointing_steps: int = 500
    checkpoints_total_limit: int | None = None
    resume_from_checkpoint: str | Path | None = None
    validation_steps: int = 500
    validation_prompts: Sequence[str] = ()
    logging_steps: int = 50
    log_with: str | Any | None = None
    dataloader_num_workers: int = 0
    cache_features: bool = False
    cache_folder: str | Path | None = None

    def __post_init__(self) -> None:
        check_settings(vars(self), _RULES)
        for name, value in vars(self).items():  # numpy's floats and strings could not be read from a checkpoint
            object.__setattr__(self, name, as_plain(value))
        if self.lr_warmup_steps >= self.max_train_steps:
            raise NestedAdapterError(
                f"lr_warmup_steps {self.lr_warmup_steps} must be less than max_train_steps {self.max_train_steps}: "
                "the run would never reach the learning rate."
            )
        shares = {name: value for name, value in vars(self).items() if name.startswith("proportion_empty_")}
        if sum(shares.values()) >= 1:
            listed = ", ".join(f"{name} {value}" for name, value in shares.items())
            raise NestedAdapterError(f"{listed}: together they must be below 1, or no example is whole. Lower them.")
        if self.cache_folder is not None and not self.cache_features:
            raise NestedAdapterError(
                f"cache_folder {str(self.cache_folder)!r} needs cache_features=True. Set it, or leave cache_folder out."
            )

    @property
    def folder(self) -> Path:
        """``output_dir`` as a path."""
        return Path(self.output_dir)

    @property
    def step_batch_size(self) -> int:
        """Examples per process and optimiser step."""
        return self.train_batch_size * self.gradient_accumulation_steps
