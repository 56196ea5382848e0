"""Training an adapter (arXiv 2501.01407, section 3.3): the way in, with all checks before the first step."""

from collections.abc import Sequence
from typing import Any

import torch

from ..adapter import NestedAdapter
from ..data import Triplets, caption_positions, each
from ..encoder import ImageEncoder
from ..errors import NestedAdapterError
from ..injection import NestedInjector
from ..pipelines.state import inner_unet, state_of
from ..requirements import missing_extra
from .checkpoints import choose_checkpoint
from .config import TrainingConfig
from .frozen import FrozenModels
from .loop import Run, Validation
from .samples import SampleEncoder

_DTYPES = {"no": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def train_adapter(
    pipeline: Any,
    image_encoder: ImageEncoder,
    adapter: NestedAdapter,
    dataset: Triplets,
    config: TrainingConfig,
    validation_images: Sequence[Any] | None = None,
    validation_dataset: Triplets | None = None,
) -> NestedAdapter:
    """Train an adapter in place, with the pipeline and the image encoder frozen.

    Runs on one device, or on several under ``accelerate launch``. A run that was cut off and goes on from a
    checkpoint takes the very steps that it would have taken.

    Args:
        pipeline: A text-to-image pipeline of the SDXL family. Its models are moved to accelerate's device and cast
            to the type of ``mixed_precision``; the UNet keeps the self-attention processors that it has.
        image_encoder: The vision tower that the adapter reads.
        adapter: From ``NestedAdapter.from_unet``, or trained already.
        dataset: A list of triplets, a ``TripletFolder``, or another dataset of ``Triplet``.
        config: Settings of the run.
        validation_images: Subjects of the validation pictures, as paths or images.
        validation_dataset: Triplets that are not trained on, for the paired loss; by default, it is taken on some of
            ``dataset``.

    Returns:
        The adapter, with averaged weights if ``use_ema`` is set; also saved in ``output_dir``.

    Raises:
        NestedAdapterError: Anything does not fit together; nothing has been trained then.
    """
    _check(pipeline, adapter, dataset, config, validation_images)
    checkpoint = choose_checkpoint(config.folder, config.resume_from_checkpoint)
    tokenizers = (pipeline.tokenizer, pipeline.tokenizer_2)
    sets = [dataset] if validation_dataset is None else [dataset, validation_dataset]
    captions = [triplet.text for triplets in sets for triplet in each(triplets)]
    positions = caption_positions(
        [*captions, *config.validation_prompts],
        adapter.config["subject_token"],
        tokenizers,
        pipeline.maybe_convert_prompt,
    )
    accelerator = _accelerator(config)
    frozen = FrozenModels(
        pipeline,
        image_encoder,
        adapter.config["image_feature_dim"],
        accelerator.device,
        _DTYPES[config.mixed_precision],
    )
    encoder = SampleEncoder(frozen, positions, config.resolution)
    unet = inner_unet(pipeline)
    injector = NestedInjector(unet)
    validation = Validation(pipeline, image_encoder, validation_images or (), injector)
    run = Run(encoder, adapter, dataset, config, accelerator, injector, validation, validation_dataset)
    had_checkpointing = unet.is_gradient_checkpointing
    if config.gradient_checkpointing:
        unet.enable_gradient_checkpointing()  # pyright: ignore[reportCallIssue]
    injector.inject()
    try:
        return run.train(checkpoint)
    finally:
        injector.eject()
        if config.gradient_checkpointing and not had_checkpointing:
            unet.disable_gradient_checkpointing()  # pyright: ignore[reportCallIssue]


def _check(
    pipeline: Any,
    adapter: NestedAdapter,
    dataset: Triplets,
    config: TrainingConfig,
    validation_images: Sequence[Any] | None,
) -> None:
    adapter.check_fits(inner_unet(pipeline))
    if state_of(pipeline) is not None:
        raise NestedAdapterError(
            "The pipeline has nested adapters loaded, which would act on the loss. Call pipe.unload_nested_adapter() "
            "before training."
        )
    if not len(dataset):
        raise NestedAdapterError("The training set is empty.")
    factor = pipeline.vae_scale_factor
    if config.resolution % factor:
        raise NestedAdapterError(f"resolution {config.resolution} must be a multiple of {factor}, the VAE's factor.")
    if bool(validation_images) != bool(config.validation_prompts):
        raise NestedAdapterError(
            "Validation pictures need both validation_images and validation_prompts; one of them is missing."
        )


def _accelerator(config: TrainingConfig) -> Any:
    try:
        from accelerate import Accelerator
        from accelerate.utils import set_seed
    except ImportError as error:
        raise missing_extra("Training needs", "train") from error
    set_seed(config.seed)
    return Accelerator(
        mixed_precision=config.mixed_precision, gradient_accumulation_steps=config.gradient_accumulation_steps
    )
