"""Training an adapter (arXiv 2501.01407, section 3.3): the entry point, with all checks before the first step."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

from ..adapter import NestedAdapter
from ..adapter.towers import expected_shape
from ..backbones import backbone_of
from ..data import (
    Positions,
    Triplet,
    Triplets,
    bare_captions,
    bucket_sizes,
    caption_positions,
    load_image,
    subject_positions,
)
from ..environment.processes import join_processes, launched_processes
from ..environment.requirements import missing_extra
from ..errors import NestedAdapterError
from ..files.jsonl import read_jsonl
from ..files.lock import held
from ..injection import NestedInjector
from ..mechanisms import get_mechanism
from ..pipelines.state import inner_unet, state_of
from ..vision import ImageEncoder, ImageEncoders, check_encoder
from .bare import BareCaptions
from .config import TrainingConfig
from .fingerprint import DTYPES, settings_of
from .frozen import FrozenModels
from .loop import Run, Validation
from .objective import reads_empty_image
from .optimizer import check_optimizer
from .resume import Start, find_start
from .samples import SampleEncoder
from .trackers import tracked, tracker_options

PATIENCE = 10.0  # seconds: workers of a killed run hold its lock until they notice


def train_adapter(
    pipeline: Any,
    image_encoder: ImageEncoder | ImageEncoders,
    adapter: NestedAdapter,
    dataset: Triplets,
    config: TrainingConfig,
    validation_images: Sequence[Any] | None = None,
    validation_dataset: Triplets | None = None,
    *,
    phase: int | None = None,
) -> NestedAdapter:
    """Train an adapter in place, with the pipeline and the image encoder frozen.

    Runs on one device, or on several under ``accelerate launch``. A run that resumes from a checkpoint takes the very
    steps that it would have taken, with the checkpoint's weights. Checkpoints of another run are refused.

    Args:
        pipeline: Text-to-image, of a base family; its models move to accelerate's device and ``mixed_precision``.
        image_encoder: The vision tower that the adapter reads, or several, from ``load_vision_tower([...])``.
        adapter: From ``NestedAdapter.from_unet``, or one that is trained already.
        dataset: A list of triplets, what ``open_training_set`` gives, or another dataset of ``Triplet``.
        config: Settings of the run.
        validation_images: Subjects of the validation pictures, as paths or images.
        validation_dataset: Triplets for the paired loss that are not trained on; by default some of ``dataset``.
        phase: Number for the log, if the run is one of several phases; see ``train_in_phases``.

    Returns:
        The adapter, with averaged weights if ``use_ema`` is set; also saved in ``output_dir``.

    Raises:
        NestedAdapterError: Something does not fit together; nothing has been trained then.
    """
    check_optimizer(config)
    positions = check_training(pipeline, image_encoder, adapter, dataset, config, validation_images, validation_dataset)
    adapter.read_base(inner_unet(pipeline))  # of this one, as loading will take them from the pipeline's, too
    accelerator = _accelerator(config)
    processes = accelerator.num_processes
    settings = settings_of(pipeline, image_encoder, adapter, dataset, validation_dataset, config, processes)
    with _held(config, accelerator):
        start = _start(config, settings, accelerator)
        encoder = _encoder(pipeline, image_encoder, adapter, positions, config, accelerator)
        injector = NestedInjector(inner_unet(pipeline))
        images = [load_image(image) for image in validation_images or ()]  # a file may be gone when training ends
        validation = Validation(pipeline, image_encoder, images, injector)
        bare = _bare_captions(adapter, dataset, config, encoder)
        parts = (encoder, adapter, dataset, config, settings, accelerator, injector, validation, validation_dataset)
        run = Run(*parts, bare, phase)
        with tracked(accelerator, config), _prepared(inner_unet(pipeline), injector, config.gradient_checkpointing):
            return run.train(start)


def check_training(
    pipeline: Any,
    image_encoder: ImageEncoder | ImageEncoders,
    adapter: NestedAdapter,
    dataset: Triplets,
    config: TrainingConfig,
    validation_images: Sequence[Any] | None = None,
    validation_dataset: Triplets | None = None,
) -> Positions:
    """Check what a run is given, before anything changes.

    Returns:
        Where the subjects' words stand in the captions.

    Raises:
        NestedAdapterError: Something does not fit together.
    """
    _check(pipeline, adapter, dataset, config, validation_images)
    check_encoder(adapter.config, adapter.image_features, image_encoder)
    return _word_positions(pipeline, adapter, [dataset, validation_dataset or []], config)


def _word_positions(
    pipeline: Any, adapter: NestedAdapter, sets: Sequence[Triplets], config: TrainingConfig
) -> Positions:
    """Where the subjects' words stand in all captions; the validation prompts must have the adapter's, too."""
    word, tokenizers = adapter.config["subject_token"], backbone_of(inner_unet(pipeline)).tokenizers_of(pipeline)
    if _keeps_words(adapter, config):
        captions = bare_captions(sets[0], word)
        sets = [*sets, [Triplet(dict.fromkeys(words), captions[words], None) for words in captions]]
    found = [subject_positions(triplets, word, tokenizers, pipeline.maybe_convert_prompt) for triplets in sets]
    convert = pipeline.maybe_convert_prompt
    caption_positions(config.validation_prompts, word, tokenizers, convert, "Validation prompt {}")
    return {place: where for positions in found for place, where in positions.items()}


def _keeps_words(adapter: NestedAdapter, config: TrainingConfig) -> bool:
    """Whether captions are dropped, and subjects act only at their words."""
    return config.proportion_empty_captions > 0 and not get_mechanism(adapter.config["mechanism"]).reads_empty_image


def _bare_captions(
    adapter: NestedAdapter, dataset: Triplets, config: TrainingConfig, encoder: SampleEncoder
) -> BareCaptions | None:
    """What is left of dropped captions; None for nothing."""
    if not _keeps_words(adapter, config):
        return None
    return BareCaptions(bare_captions(dataset, adapter.config["subject_token"]), encoder)


def _held(config: TrainingConfig, accelerator: Any) -> AbstractContextManager[Any]:
    """The folder of the run, which the main process keeps for this run alone."""
    return held(config.folder, "run", "output_dir", PATIENCE) if accelerator.is_main_process else nullcontext()


def _encoder(
    pipeline: Any,
    image_encoder: ImageEncoder | ImageEncoders,
    adapter: NestedAdapter,
    positions: Positions,
    config: TrainingConfig,
    accelerator: Any,
) -> SampleEncoder:
    """The frozen models, on their device, and what they make of the examples."""
    (_, width), dtype = expected_shape(adapter.config), DTYPES[config.mixed_precision]
    frozen = FrozenModels(pipeline, image_encoder, width, accelerator.device, dtype, adapter.image_features)
    buckets = bucket_sizes(config.resolution, _step(pipeline)) if config.aspect_ratio_buckets else ()
    return SampleEncoder(frozen, positions, config.resolution, buckets)


def _step(pipeline: Any) -> int:
    """What the sides of buckets are multiples of, so that no layer of the UNet has to round: 64 pixels for SDXL."""
    return 8 * pipeline.vae_scale_factor


def _start(config: TrainingConfig, settings: dict[str, Any], accelerator: Any) -> Start:
    """Where all processes start; the main one holds the folder already."""
    accelerator.wait_for_everyone()
    read_jsonl(config.folder / "log.jsonl")  # a damaged line is an error before anything changes
    start = find_start(config.folder, config.resume_from_checkpoint, settings)
    steps = accelerator.gather(torch.tensor([start.step], device=accelerator.device)).tolist()
    if len(set(steps)) > 1:
        raise NestedAdapterError(
            f"The processes find checkpoints of different steps, {steps}. {config.folder} must be one folder that all "
            "processes share."
        )
    return start


@contextmanager
def _prepared(unet: Any, injector: NestedInjector, gradient_checkpointing: bool) -> Iterator[None]:
    """Inside, the UNet is ready for training with subjects."""
    had_checkpointing = unet.is_gradient_checkpointing
    if gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    injector.inject()
    try:
        yield
    finally:
        injector.eject()
        if gradient_checkpointing and not had_checkpointing:
            unet.disable_gradient_checkpointing()


def _check(
    pipeline: Any,
    adapter: NestedAdapter,
    dataset: Triplets,
    config: TrainingConfig,
    validation_images: Sequence[Any] | None,
) -> None:
    adapter.check_fits(inner_unet(pipeline))
    mechanism = get_mechanism(adapter.config["mechanism"])
    if mechanism.trained_as is not None:
        raise NestedAdapterError(
            f"The mechanism {mechanism.name!r} cannot be trained: where a word is follows from earlier steps of a "
            f"sampling, which a step of training does not have. Train an adapter with mechanism="
            f'{mechanism.trained_as!r}, which has the same weights, and set "mechanism" in its config.json afterwards.'
        )
    if state_of(pipeline) is not None:
        raise NestedAdapterError(
            "The pipeline has nested adapters loaded, which would change the loss. Call pipe.unload_nested_adapter() "
            "before training."
        )
    if not len(dataset):
        raise NestedAdapterError("The training set is empty.")
    if config.proportion_empty_images and not reads_empty_image(adapter):
        raise NestedAdapterError(
            f"proportion_empty_images is {config.proportion_empty_images}, but the adapter reads no empty image: "
            "without a photo, the frozen base would act alone, and the example would teach the adapter nothing. Leave "
            "it at 0. Adapters that start from an IP-Adapter, with mechanism='decoupled', read one."
        )
    factor = pipeline.vae_scale_factor
    if config.resolution % factor:
        raise NestedAdapterError(f"resolution {config.resolution} must be a multiple of {factor}, the VAE's factor.")
    if config.aspect_ratio_buckets and config.resolution % _step(pipeline):
        raise NestedAdapterError(
            f"resolution {config.resolution} must be a multiple of {_step(pipeline)} with aspect_ratio_buckets."
        )
    if bool(validation_images) != bool(config.validation_prompts):
        raise NestedAdapterError(
            "Validation pictures need validation_images and validation_prompts; only one of them is given."
        )
    for image in validation_images or ():
        load_image(image)


def _accelerator(config: TrainingConfig) -> Any:
    try:
        from accelerate import Accelerator
        from accelerate.utils import set_seed
    except ImportError as error:
        raise missing_extra("Training needs", "train") from error
    options = tracker_options(config)
    set_seed(config.seed)
    if launched_processes() > 1:
        join_processes()
    try:
        return Accelerator(
            mixed_precision=config.mixed_precision,
            gradient_accumulation_steps=config.gradient_accumulation_steps,
            **options,
        )
    except ValueError as error:
        raise NestedAdapterError(
            f"accelerate cannot compute with mixed_precision={config.mixed_precision!r} here: {error} A process has "
            "one precision; start a new process to use another."
        ) from error
