"""What a training step needs of a GPU, counted from shapes before anything is trained."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..adapter import NestedAdapter
from ..backbones import backbone_of
from ..compat import without_content
from ..environment.engines import spreads_weights
from ..environment.processes import launched_processes
from ..injection import NestedInjector
from ..mechanisms import low_rank_parts
from ..pipelines.state import inner_unet
from ..vision import ImageEncoder, ImageEncoders
from ..vision.several import each_of
from .config import TrainingConfig
from .counted import CountedMemory
from .fingerprint import DTYPES
from .noise import Dropout, Noise
from .objective import Objective
from .optimizer import optimizer_bytes
from .samples import Samples


@dataclass(frozen=True)
class Memory:
    """Bytes that a run needs on each GPU.

    If the launcher asks for FSDP, weights and gradients of a step are counted as if they were all there at a time.

    Attributes:
        frozen: Weights of the pipeline's models and of the vision tower.
        adapter: Weights of the adapter, in float32.
        optimizer: AdamW's two moments, in float32 or 8 bits.
        average: The running average of the weights.
        buckets: DistributedDataParallel's copy of the gradients.
        step: The most that is alive at a time in a step: activations, projected subjects and gradients.
    """

    frozen: int
    adapter: int
    optimizer: int
    average: int
    buckets: int
    step: int

    @property
    def total(self) -> int:
        """All of it, without what CUDA and its kernels take for themselves."""
        return sum(vars(self).values())


@dataclass(frozen=True)
class Sizes:
    """Sizes of an example that is read by a UNet and an adapter.

    Attributes:
        latents: Channels and sides of the latents, (C, r, r).
        prompt: Tokens of a prompt and their width, (T, D).
        pooled: Width P of the pooled prompt; 0 where the UNet reads none.
        features: Tokens of the vision tower and their width, (L, F).
    """

    latents: tuple[int, int, int]
    prompt: tuple[int, int]
    pooled: int
    features: tuple[int, int]


@torch.no_grad()
def estimate_memory(
    pipeline: Any, image_encoder: ImageEncoder | ImageEncoders, adapter: NestedAdapter, config: TrainingConfig
) -> Memory:
    """Count what a run of ``train_adapter`` with these needs on each GPU.

    A step is taken on tensors without content, with the same models and the same batch, and everything that it makes is
    counted. What CUDA's context and its kernels take for themselves comes on top, about 1 GB.

    Args:
        pipeline: As for ``train_adapter``; it is not moved or changed.
        image_encoder: The vision tower, or several.
        adapter: The adapter.
        config: Settings of the run.
    """
    unet: Any = inner_unet(pipeline)
    backbone = backbone_of(unet)
    encoded = pipeline.encode_prompt(prompt="", num_images_per_prompt=1, do_classifier_free_guidance=False)
    words, pooled = backbone.text(encoded)  # (1, T, D), (1, P)
    side = config.resolution // pipeline.vae_scale_factor
    read = list(zip(image_encoder.parts, each_of(adapter.image_features, len(image_encoder.parts)), strict=True))
    sizes = Sizes(
        (unet.config.in_channels, side, side),
        (words.shape[1], words.shape[2]),
        pooled.shape[1],
        # of several towers, one after another
        (sum(part.count_of(one) for part, one in read), max(part.width_of(one) for part, one in read)),
    )
    width = torch.finfo(DTYPES[config.mixed_precision]).bits // 8
    towers = [part.model for part in image_encoder.parts]
    models = (unet, pipeline.vae, *towers, *backbone.text_encoders_of(pipeline).values())
    frozen = width * sum(_count(model) for model in models)
    step = count_step(type(unet), unet.config, pipeline.scheduler, adapter.config, sizes, config)
    weights = 4 * sum(x.numel() for x in adapter.parameters())
    spread, processes = spreads_weights(), launched_processes()
    parts = processes if spread else 1
    return Memory(
        frozen,
        weights + 4 * sum(x.numel() for x in adapter.buffers()) + (-(-weights // parts) if spread else 0),
        -(-optimizer_bytes([x.numel() for x in adapter.parameters()], config) // parts),
        -(-weights // parts) if config.use_ema else 0,
        weights if processes > 1 and not spread else 0,
        step,
    )


def count_step(
    kind: type[Any], unet_config: Any, scheduler: Any, adapter_config: Any, sizes: Sizes, config: TrainingConfig
) -> int:
    """The most bytes that are alive at a time in a step, beside the weights.

    Args:
        kind: Class of the UNet.
        unet_config: Its configuration.
        scheduler: The pipeline's scheduler.
        adapter_config: Configuration of the adapter.
        sizes: Of an example.
        config: Settings of the run.
    """
    with step_without_content(kind, unet_config, scheduler, adapter_config, sizes, config) as take:
        with CountedMemory() as memory:
            take()
        return memory.bytes


@contextmanager
def step_without_content(
    kind: type[Any], unet_config: Any, scheduler: Any, adapter_config: Any, sizes: Sizes, config: TrainingConfig
) -> Iterator[Callable[[], None]]:
    """Yield what takes a step, forward and backward, on tensors of the right shapes; see ``count_step``."""
    dtype = DTYPES[config.mixed_precision]
    with without_content():  # but for the dials, which are real
        unet = _made(kind, unet_config, dtype).requires_grad_(False).eval()
        if config.gradient_checkpointing:
            unet.enable_gradient_checkpointing(partial(checkpoint, use_reentrant=False, preserve_rng_state=False))
        adapter = _made(NestedAdapter, adapter_config, torch.float32).train()
        for part in low_rank_parts(adapter):
            part.make_room()
        injector = NestedInjector(unet)
        injector.inject()
        objective = Objective(
            _Shapes(unet, scheduler, sizes),  # pyright: ignore[reportArgumentType]
            injector,
            adapter,
            Dropout(config.proportion_empty_prompts),
        )
        samples, drawn = _example(sizes, config.train_batch_size)
        with torch.enable_grad():
            yield partial(_step, objective, adapter, samples, drawn, dtype)


def _step(objective: Objective, adapter: NestedAdapter, samples: Samples, drawn: Noise, dtype: torch.dtype) -> None:
    """Forward and backward pass, as in the training loop."""
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        projected = adapter(objective.features(samples, drawn))
    with objective.acting(projected, objective.positions(samples, drawn)):
        del projected
        objective.weigh(objective.losses(samples, drawn), drawn, None).backward()


def _example(sizes: Sizes, batch: int) -> tuple[Samples, Noise]:
    latents = torch.empty(batch, *sizes.latents)
    samples = Samples(
        latents,
        torch.empty(batch, *sizes.prompt),
        torch.empty(batch, sizes.pooled),
        torch.empty(batch, sizes.prompt[0]),
        torch.empty(batch, *sizes.features),
        torch.empty(batch, 6),
        ((None,),) * batch,
    )
    nothing = torch.zeros(batch, dtype=torch.bool)
    return samples, Noise(torch.empty_like(latents), nothing.long(), nothing, nothing, nothing)


class _Shapes:
    """What the objective asks of the frozen models, without their weights."""

    def __init__(self, unet: Any, scheduler: Any, sizes: Sizes) -> None:
        self.unet, self.backbone = unet, backbone_of(unet)
        self.pipeline = self
        self.scheduler = scheduler
        self._sizes = sizes

    def no_prompt(self) -> tuple[Tensor, Tensor]:
        return torch.empty(1, *self._sizes.prompt), torch.empty(1, self._sizes.pooled)

    def no_image(self) -> Tensor:
        return torch.empty(1, *self._sizes.features)


def _made(kind: type[Any], config: Any, dtype: torch.dtype) -> Any:
    """A model without content; fake weights cannot be converted."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        return kind.from_config(config)
    finally:
        torch.set_default_dtype(before)


def _count(model: nn.Module) -> int:
    return sum(x.numel() for x in _tensors(model))


def _tensors(model: nn.Module) -> Sequence[Tensor]:
    return [*model.parameters(), *model.buffers()]
