"""The cross-attention layers of ComfyUI's UNets, under the paths by which adapters know them.

ComfyUI has a UNet's blocks in one list each for the way down and the way up, as its checkpoints do; adapters have the
paths of diffusers, in which every resolution is a block of its own:

    ("input", 4), 0    input_blocks.4.1.transformer_blocks.0     down_blocks.1.attentions.0.transformer_blocks.0
    ("middle", 0), 3   middle_block.1.transformer_blocks.3       mid_block.attentions.0.transformer_blocks.3
    ("output", 0), 9   output_blocks.0.1.transformer_blocks.9    up_blocks.0.attentions.0.transformer_blocks.9
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from diffusers_nested import AdapterLoadError
from diffusers_nested.adapter.checks import first_difference
from diffusers_nested.backbones import BACKBONES

Block = tuple[str, int]

_LAYER = re.compile(r"(input|middle|output)_blocks?\.(?:(\d+)\.)?(\d+)\.transformer_blocks\.(\d+)\.attn2")


@dataclass(frozen=True)
class Layer:
    """A cross-attention layer.

    Attributes:
        path: Its path in the UNet of diffusers.
        block: The block in which ComfyUI counts it, such as ``("input", 4)``.
        index: Its transformer block there.
        level: How often the UNet has halved the latents there.
        heads: Number of heads.
        width: Inner width, heads · d.
        token_dim: Width of the prompt embeddings that it reads.
    """

    path: str
    block: Block
    index: int
    level: int
    heads: int
    width: int
    token_dim: int

    @property
    def key(self) -> tuple[str, int, int]:
        """The key of a patch that replaces the layer's attention."""
        return (*self.block, self.index)


def find_layers(unet: Any) -> dict[str, Layer]:
    """The layers in which a UNet of ComfyUI reads the prompt, by their path in the UNet of diffusers.

    Args:
        unet: The ``diffusion_model`` of a model.

    Raises:
        AdapterLoadError: It is no UNet like those of SDXL and Stable Diffusion.
    """
    named = {name: module for name, module in unet.named_modules() if _LAYER.fullmatch(name)}
    res_blocks = getattr(unet, "num_res_blocks", None)
    if not named or not isinstance(res_blocks, list | tuple):
        families = " or ".join(one.title for one in BACKBONES.values())
        raise AdapterLoadError(
            f"The model is a {type(unet).__name__} without cross-attention layers like those of {families}. Load a "
            "checkpoint of the family that the adapter is made for."
        )
    places = block_places(res_blocks)
    layers = [_layer(name, module, places) for name, module in named.items()]
    return {layer.path: layer for layer in layers}


def block_places(res_blocks: Sequence[int]) -> dict[Block, tuple[str, int]]:
    """ComfyUI's blocks with attention, each with the path of the attention in diffusers, and its level.

    Args:
        res_blocks: Residual blocks of each level, from the finest to the coarsest.
    """
    places: dict[Block, tuple[str, int]] = {}
    number = 1  # 0 is the first convolution
    for level, count in enumerate(res_blocks):
        for i in range(count):
            places["input", number + i] = f"down_blocks.{level}.attentions.{i}", level
        number += count + 1  # what halves the latents has a number of its own
    last = len(res_blocks) - 1
    places["middle", 0] = "mid_block.attentions.0", last
    number = 0
    for up, count in enumerate(reversed(res_blocks)):
        for i in range(count + 1):  # one more: the way up also reads what the last halving left
            places["output", number + i] = f"up_blocks.{up}.attentions.{i}", last - up
        number += count + 1
    return places


def check_fits(config: Mapping[str, Any], layers: Mapping[str, Layer]) -> None:
    """Raise unless an adapter of this configuration fits a UNet with these layers.

    Raises:
        AdapterLoadError: The layers, their widths or those of the prompt embeddings differ.
    """
    ours, theirs = config["layers"], {path: layer.width for path, layer in layers.items()}
    title = BACKBONES[config["base_family"]].title if config["base_family"] in BACKBONES else config["base_family"]
    remedy = f"The adapter is made for {title}: load a checkpoint of that family, or another adapter."
    if ours != theirs:
        raise AdapterLoadError(
            f"The adapter does not fit the model: it has {len(ours)} layers, the model {len(theirs)}. "
            f"{first_difference(ours, theirs)} {remedy}"
        )
    widths = {layer.token_dim for layer in layers.values()}
    if widths != {config["token_dim"]}:
        raise AdapterLoadError(
            f"The adapter is made for prompt embeddings of width {config['token_dim']}, but the model reads "
            f"{', '.join(map(str, sorted(widths)))}. {remedy}"
        )


def _layer(name: str, module: Any, places: Mapping[Block, tuple[str, int]]) -> Layer:
    match = _LAYER.fullmatch(name)
    assert match is not None  # by its caller
    part, number, _, index = match.groups()
    block = (part, int(number or 0))
    if block not in places:
        raise AdapterLoadError(
            f"The model has an attention layer {name}, which the UNets of diffusers have not. Load a checkpoint of the "
            "family that the adapter is made for."
        )
    place, level = places[block]
    width = module.heads * module.dim_head
    path = f"{place}.transformer_blocks.{index}.attn2"
    return Layer(path, block, int(index), level, module.heads, width, module.to_k.in_features)
