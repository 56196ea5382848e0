"""How an adapter is trained; the names are those of the flags of diffusers' training scripts."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import NestedAdapterError

_CHOICES = {"lr_scheduler": ("cosine", "constant"), "mixed_precision": ("no", "fp16", "bf16")}
_COUNTS = (  # whole numbers, and the least that each may be
    ("resolution", 1),
    ("train_batch_size", 1),
    ("max_train_steps", 1),
    ("gradient_accumulation_steps", 1),
    ("lr_warmup_steps", 0),
    ("checkpointing_steps", 1),
    ("checkpoints_total_limit", 1),
    ("validation_steps", 1),
    ("logging_steps", 1),
    ("dataloader_num_workers", 0),
    ("seed", 0),
)
_FRACTION = ("a number from 0 to below 1", lambda value: 0 <= value < 1)
_POSITIVE = ("a finite number above 0", lambda value: 0 < value < math.inf)
_NOT_NEGATIVE = ("a finite number of at least 0", lambda value: 0 <= value < math.inf)
_NUMBERS = {
    "learning_rate": _POSITIVE,
    "adam_beta1": _FRACTION,
    "adam_beta2": _FRACTION,
    "adam_weight_decay": _NOT_NEGATIVE,
    "adam_epsilon": _POSITIVE,
    "max_grad_norm": _POSITIVE,
    "snr_gamma": _POSITIVE,
    "proportion_empty_prompts": _FRACTION,
    "ema_decay": _FRACTION,
}
_OPTIONAL = ("checkpoints_total_limit", "snr_gamma")

# Of one start of a run, not of the run.
NOT_OF_A_RUN = ("output_dir", "resume_from_checkpoint")
# Settings that may be others when a run goes on from a checkpoint; with any other, it would be another run.
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
    "cache_file",
    "validation_dataset",  # beside the fields of the config
    "adapter.image_encoder",
)


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of one training run.

    Attributes:
        output_dir: Receives checkpoints, log, validation pictures, and in the end the adapter.
        resolution: Side of the target images in pixels.
        train_batch_size: Examples per process and forward pass.
        max_train_steps: Steps of the optimiser.
        gradient_accumulation_steps: Forward passes per step of the optimiser.
        learning_rate: Highest learning rate, reached after the warm-up.
        lr_scheduler: After the warm-up, ``"cosine"`` falls to zero, ``"constant"`` stays.
        lr_warmup_steps: Steps over which the rate rises from zero.
        adam_beta1: First decay of AdamW.
        adam_beta2: Second decay of AdamW.
        adam_weight_decay: Weight decay of AdamW.
        adam_epsilon: Smallest denominator of AdamW.
        max_grad_norm: Gradients are clipped to this norm.
        mixed_precision: ``"no"``, ``"fp16"`` or ``"bf16"``: type of the frozen models, and of the adapter's
            computations; its weights stay in float32.
        gradient_checkpointing: Compute the UNet's activations twice to save memory.
        snr_gamma: γ of the min-SNR loss weights (arXiv 2303.09556), usually 5; None weighs all timesteps alike.
        proportion_empty_prompts: Share of the examples whose whole prompt, subject included, is replaced by the
            pipeline's unconditional embedding. On these rows only the frozen base acts, so they teach the adapter
            nothing.
        use_ema: Publish a running average of the weights.
        ema_decay: Decay of the average.
        seed: All randomness of a step follows from this, the process and the step's number.
        checkpointing_steps: Steps between two checkpoints.
        checkpoints_total_limit: How many checkpoints to keep, the newest; None for all.
        resume_from_checkpoint: A checkpoint's folder, or ``"latest"`` for the newest in ``output_dir``, which
            starts from the beginning if there is none.
        validation_steps: Steps between two sheets of validation pictures.
        validation_prompts: Prompts of the validation pictures; they contain the subject's word.
        logging_steps: Steps between two rows of the log, each with the paired loss.
        dataloader_num_workers: Processes that read images; without use if features are cached.
        cache_features: Encode all images and captions once before training, and keep the results in memory (fp16).
        cache_file: With ``cache_features``, a file that the results are written to, or read from if it is there: for
            further runs with the same models and triplets.

    Raises:
        NestedAdapterError: A value is out of its range.
    """

    output_dir: str | Path
    resolution: int = 1024
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
    max_grad_norm: float = 1.0
    mixed_precision: str = "no"
    gradient_checkpointing: bool = False
    snr_gamma: float | None = None
    proportion_empty_prompts: float = 0.0
    use_ema: bool = False
    ema_decay: float = 0.9999
    seed: int = 0
    checkpointing_steps: int = 500
    checkpoints_total_limit: int | None = None
    resume_from_checkpoint: str | Path | None = None
    validation_steps: int = 500
    validation_prompts: Sequence[str] = ()
    logging_steps: int = 50
    dataloader_num_workers: int = 0
    cache_features: bool = False
    cache_file: str | Path | None = None

    def __post_init__(self) -> None:
        for name, least in _COUNTS:
            self._check(name, int, f"a whole number of at least {least}", lambda value, least=least: value >= least)
        for name, (expected, is_valid) in _NUMBERS.items():
            self._check(name, (int, float), expected, is_valid)
        for name, options in _CHOICES.items():
            self._check(name, str, f"one of {', '.join(options)}", lambda value, options=options: value in options)
        if isinstance(self.validation_prompts, str):
            raise NestedAdapterError("validation_prompts must be a list of prompts, got one string. Put it in a list.")
        if self.lr_warmup_steps >= self.max_train_steps:
            raise NestedAdapterError(
                f"lr_warmup_steps {self.lr_warmup_steps} must be less than max_train_steps {self.max_train_steps}: "
                "the learning rate would never be reached."
            )
        if self.cache_file is not None and not self.cache_features:
            raise NestedAdapterError(
                f"cache_file {str(self.cache_file)!r} needs cache_features=True, without which nothing is kept."
            )

    @property
    def folder(self) -> Path:
        """``output_dir`` as a path."""
        return Path(self.output_dir)

    def _check(self, name: str, kind: Any, expected: str, is_valid: Any) -> None:
        value = getattr(self, name)
        if value is None and name in _OPTIONAL:
            return
        if not isinstance(value, kind) or isinstance(value, bool) or not is_valid(value):
            raise NestedAdapterError(f"{name} must be {expected}, got {value!r}.")
