"""The training objective: the error of the frozen UNet's prediction while subjects act in it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from ..adapter import NestedAdapter
from ..backbones import layer_heads
from ..injection import Dial, Kind, NestedInjector, split_heads
from ..mechanisms import get_mechanism
from .bare import BareCaptions
from .frozen import FrozenModels
from .noise import Dropout, Noise, Places, draw_noise, min_snr_weights, prediction_target, training_scheduler
from .placing import row_groups
from .samples import Samples

Projected = Mapping[str, tuple[Tensor, ...]]
_NO_DROPOUT = Dropout()


class Objective:
    """The noise-prediction loss of a pipeline, with subjects acting in its UNet.

    Args:
        frozen: The models.
        injector: Injected into the UNet.
        adapter: Its mechanism and α say how subjects act.
        dropout: Shares of the examples that lose their prompt, their caption or their photos. With IP-Adapter's
            encoders and mechanism, those without photos have an empty image.
        bare: What is left of dropped captions; None for nothing.
    """

    def __init__(
        self,
        frozen: FrozenModels,
        injector: NestedInjector,
        adapter: NestedAdapter,
        dropout: Dropout = _NO_DROPOUT,
        bare: BareCaptions | None = None,
    ) -> None:
        self.scheduler = training_scheduler(frozen.pipeline.scheduler)
        self._unet = frozen.unet
        self._injector = injector
        self._heads = layer_heads(frozen.unet)
        self._kind = Kind(
            adapter="in training",
            mechanism=get_mechanism(adapter.config["mechanism"]),
            alpha=adapter.config["alpha"],
            dials=dict.fromkeys(adapter.config["layers"], Dial(1.0)),
            num_tokens=adapter.config["num_queries"],
        )
        self._dropout, self._bare = dropout, bare
        self._no_prompt = frozen.no_prompt()
        self._no_image = frozen.no_image().float() if reads_empty_image(adapter) else None
        self._conditions = frozen.backbone.conditions

    def draw(self, samples: Samples, places: Places) -> Noise:
        """The random part of a forward pass over these examples."""
        steps = self.scheduler.config["num_train_timesteps"]
        return draw_noise(samples.latents, steps, self._dropout, places)

    @contextmanager
    def acting(self, projected: Projected, positions: Tensor, counts: Sequence[int] | None = None) -> Iterator[None]:
        """Let projected subjects act on their rows of the batch, until after the backward pass.

        Gradient checkpointing recomputes the layers in the backward pass.

        Args:
            projected: All subjects, (M, …), those of the first row first.
            positions: Where they act, (M, T).
            counts: How many subjects each row has; None for one each.
        """
        dtype = self._unet.dtype  # what mechanisms without projections read is in float32
        projected = {path: tuple(x.to(dtype) for x in read) for path, read in projected.items()}
        if self._kind.mechanism.projection is not None:
            projected = {path: tuple(split_heads(read, self._heads[path])) for path, read in projected.items()}
        with self._injector.bound(*row_groups(self._kind, projected, positions, counts or [1] * len(positions))):
            yield

    def features(self, samples: Samples, drawn: Noise) -> Tensor:
        """Image features (M, L, F): an empty image's in rows without their photos, if the adapter reads them."""
        if self._no_image is None:
            return samples.features
        is_empty = samples.of_subjects(drawn.dropped | drawn.no_photo)
        return torch.where(is_empty[:, None, None], self._no_image, samples.features)

    def positions(self, samples: Samples, drawn: Noise) -> Tensor:
        """Where the subjects act, (M, T): nowhere in rows without their photos, unless they read an empty image."""
        positions = samples.positions
        if self._bare is not None:
            is_bare = samples.of_subjects(drawn.no_caption)[:, None]
            positions = torch.where(is_bare, self._bare.positions(samples.words), positions)
        if self._no_image is not None:
            return positions
        return positions * ~samples.of_subjects(drawn.dropped | drawn.no_photo)[:, None]

    def losses(self, samples: Samples, drawn: Noise) -> Tensor:
        """Mean squared error of every example, (B,), in float32."""
        target = prediction_target(self.scheduler, samples.latents, drawn)
        return (self._predict(samples, drawn).float() - target).square().mean(dim=(1, 2, 3))

    def weigh(self, losses: Tensor, drawn: Noise, snr_gamma: float | None) -> Tensor:
        """Mean of the losses, with min-SNR weights if γ is not None."""
        if snr_gamma is not None:
            losses = losses * min_snr_weights(self.scheduler, drawn.timesteps, snr_gamma)
        return losses.mean()

    def _predict(self, samples: Samples, drawn: Noise) -> Tensor:
        dtype = self._unet.dtype
        noisy = self.scheduler.add_noise(samples.latents, drawn.noise, drawn.timesteps)  # pyright: ignore[reportArgumentType]
        words, pooled = self._prompts(samples, drawn)
        added = self._conditions(pooled.to(dtype), samples.frames)
        return self._unet(
            noisy.to(dtype), drawn.timesteps, words.to(dtype), added_cond_kwargs=added, return_dict=False
        )[0]

    def _prompts(self, samples: Samples, drawn: Noise) -> tuple[Tensor, Tensor]:
        """Embeddings (B, T, D) and (B, P) of what is left of the captions."""
        words, pooled, is_empty = samples.prompt_embeds, samples.pooled, drawn.dropped
        if self._bare is not None:
            bare_words, bare_pooled = self._bare.prompts(samples.words)
            words = torch.where(drawn.no_caption[:, None, None], bare_words, words)
            pooled = torch.where(drawn.no_caption[:, None], bare_pooled, pooled)
        else:
            is_empty = is_empty | drawn.no_caption
        no_words, no_pooled = self._no_prompt
        return (
            torch.where(is_empty[:, None, None], no_words.float(), words),
            torch.where(is_empty[:, None], no_pooled.float(), pooled),
        )


def reads_empty_image(adapter: NestedAdapter) -> bool:
    """Whether an adapter reads an empty image where there is no photo, as IP-Adapters do."""
    return get_mechanism(adapter.config["mechanism"]).reads_empty_image and adapter.reads_empty_image
