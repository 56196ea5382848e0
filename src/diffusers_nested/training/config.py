"""How an adapter is trained; the names are those of the flags of diffusers' training scripts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import NestedAdapterError
from ..files.rules import Rule, check_settings, number, one_of, whole


def _is_tracker(value: Any) -> bool:
    return isinstance(value, str) or hasattr(value, "store_init_configuration")


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
    "max_grad_norm": _POSITIVE,
    "mixed_precision": one_of("no", "fp16", "bf16"),
    "snr_gamma": _POSITIVE.or_none(),
    "proportion_empty_prompts": _FRACTION,
    "ema_decay": _FRACTION,
    "seed": whole(0),
    "checkpointing_steps": whole(1),
    "checkpoints_total_limit": whole(1).or_none(),
    "validation_steps": whole(1),
    "logging_steps": whole(1),
    "dataloader_num_workers": whole(0),
    "log_with": Rule(_is_tracker, "the name of one of accelerate's trackers, or a tracker").or_none(),
}

# Of one start of a run, not of the run.
NOT_OF_A_RUN = ("output_dir", "resume_from_checkpoint", "log_with")
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
        log_with: A tracker of accelerate that gets the rows of the log, too, such as ``"tensorboard"`` or ``"wandb"``;
            or an object of a class of one's own that is derived from its ``GeneralTracker``.
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
    log_with: str | Any | None = None
    dataloader_num_workers: int = 0
    cache_features: bool = False
    cache_file: str | Path | None = None

    def __post_init__(self) -> None:
        check_settings(vars(self), _RULES)
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
