"""What takes part in the measurements: SDXL's UNet plain, with nested adapters, and with an IP-Adapter."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import IPAdapterAttnProcessor2_0
from diffusers.models.embeddings import MultiIPAdapterImageProjection
from torch import nn

from diffusers_nested import NestedAdapter
from diffusers_nested.backbones import cross_attention_layers, layer_heads, layer_widths
from diffusers_nested.injection import (
    Dial,
    Gate,
    Groups,
    Kind,
    NestedInjector,
    Placement,
    ProjectedSubject,
    RowFinder,
    Storage,
    split_heads,
)
from diffusers_nested.mechanisms import get_mechanism

Step = Callable[[], Any]


def sdxl_unet() -> UNet2DConditionModel:
    """The UNet of SDXL base, as it is configured."""
    return UNet2DConditionModel(
        sample_size=128,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(320, 640, 1280),
        layers_per_block=2,
        transformer_layers_per_block=(1, 2, 10),
        attention_head_dim=(5, 10, 20),  # pyright: ignore[reportArgumentType]
        cross_attention_dim=2048,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=2816,
    )


def build_unet(device: torch.device, dtype: torch.dtype) -> UNet2DConditionModel:
    """The UNet of SDXL base with random weights."""
    with torch.device("meta"):
        unet = sdxl_unet()
    unet = nn.Module.to(unet, dtype).to_empty(device=device)  # the own `to` of a model warns
    for parameter in unet.parameters():
        nn.init.normal_(parameter, std=0.02)
    return unet.eval().requires_grad_(False)


class PlainContestant:
    """The UNet alone."""

    name, tokens, preparation = "plain", 0, 0.0

    def __init__(self, unet: UNet2DConditionModel) -> None:
        self._unet = unet

    @contextmanager
    def loaded(self, inputs: dict[str, Any]) -> Iterator[Step]:
        """The step to be measured."""
        yield lambda: self._unet(**inputs)


@dataclass(frozen=True)
class _Call:
    """What a pipeline's call is to the UNet's gate."""

    gate: Gate
    groups: Callable[..., Groups]


class NestedContestant:
    """Subjects that act on the conditional row; their tokens are projected before, and the adapter is away then."""

    def __init__(self, unet: UNet2DConditionModel, tokens: int, subjects: int) -> None:
        self._unet, self._subjects = unet, subjects
        self.name = f"nested, {tokens} tokens" + (f", {subjects} subjects" if subjects > 1 else "")
        self.tokens = tokens
        self.preparation = 0.0

    @contextmanager
    def loaded(self, inputs: dict[str, Any]) -> Iterator[Step]:
        """The step to be measured."""
        states = inputs["encoder_hidden_states"]
        prompts = [[(self._project(states), (5 + i,)) for i in range(self._subjects)]]
        placement = Placement(prompts, RowFinder(states[1:], 1, states[:1]))
        injector = NestedInjector(self._unet)
        injector.inject()
        with injector.gate.serve(self._unet, _Call(injector.gate, placement.groups)):
            yield lambda: self._unet(**inputs)
        injector.eject()

    def _project(self, like: torch.Tensor) -> ProjectedSubject:
        with torch.device("meta"):
            adapter = NestedAdapter(
                layer_widths(self._unet), token_dim=2048, image_feature_dim=1280, num_queries=self.tokens
            )
        adapter = nn.Module.to(adapter, like.dtype).to_empty(device=like.device).requires_grad_(False)
        for parameter in adapter.projections.parameters():
            parameter.fill_(1e-3)
        tokens = torch.randn(1, self.tokens, 2048, device=like.device, dtype=like.dtype)
        start = time.perf_counter()
        heads, storage = layer_heads(self._unet), Storage()
        projected = {
            path: storage.keep(split_heads(read, heads[path])) for path, read in adapter.project_by_layer(tokens)
        }
        self.preparation = time.perf_counter() - start
        dials = {path: Dial(1.0) for path in projected}
        return ProjectedSubject(Kind("speed", get_mechanism("nested"), 2.0, dials, self.tokens), projected)


class IPAdapterContestant:
    """An IP-Adapter of diffusers with as many image tokens; that which makes the tokens is left out."""

    preparation = 0.0

    def __init__(self, unet: UNet2DConditionModel, tokens: int, adapters: int = 1) -> None:
        self._unet, self._adapters = unet, adapters
        self.name, self.tokens = f"IP-Adapter, {tokens} tokens", tokens

    @contextmanager
    def loaded(self, inputs: dict[str, Any]) -> Iterator[Step]:
        """The step to be measured."""
        states = inputs["encoder_hidden_states"]
        layers = cross_attention_layers(self._unet)
        before = {path: layer.processor for path, layer in layers.items()}
        for layer in layers.values():
            processor = IPAdapterAttnProcessor2_0(layer.inner_dim, 2048, [self.tokens] * self._adapters).requires_grad_(
                False
            )
            for parameter in processor.parameters():
                parameter.fill_(1e-3)
            layer.set_processor(processor.to(states.device, states.dtype))
        self._unet.encoder_hid_proj = MultiIPAdapterImageProjection([nn.Identity()] * self._adapters)  # pyright: ignore
        self._unet.config.encoder_hid_dim_type = "ip_image_proj"
        shape = (2, 1, self.tokens, 2048)
        images = [torch.randn(shape, device=states.device, dtype=states.dtype) for _ in range(self._adapters)]
        conditions = inputs["added_cond_kwargs"] | {"image_embeds": images}
        yield lambda: self._unet(**inputs | {"added_cond_kwargs": conditions})
        self._unet.encoder_hid_proj = None
        self._unet.config.encoder_hid_dim_type = None
        for path, layer in layers.items():
            layer.set_processor(before[path])  # pyright: ignore[reportArgumentType]
