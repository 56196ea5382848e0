"""The cross-attention layers of a UNet: where an adapter acts."""

from typing import Any

from diffusers.models.attention_processor import Attention
from torch import nn

from ..compat import named_modules, uncompiled


def cross_attention_layers(unet: nn.Module) -> dict[str, Attention]:
    """The layers in which a UNet reads the prompt, by their path ("down_blocks.1.….attn2").

    Self-attention and the temporal layers of video UNets do not read the prompt and are left out. The paths are the
    same whether or not modules are wrapped by ``torch.compile``.
    """
    return {
        path: module
        for path, module in named_modules(unet).items()
        if path.endswith("attn2") and isinstance(module, Attention) and module.is_cross_attention
        if "motion_modules" not in path
    }


def layer_widths(unet: nn.Module) -> dict[str, int]:
    """Inner width (heads · d) of every cross-attention layer, by path."""
    return {path: layer.inner_dim for path, layer in cross_attention_layers(unet).items()}


def layer_heads(unet: nn.Module) -> dict[str, int]:
    """Number of heads of every cross-attention layer, by path."""
    return {path: layer.heads for path, layer in cross_attention_layers(unet).items()}


def layer_levels(unet: nn.Module) -> dict[str, int]:
    """How often the latents are halved before each cross-attention layer, by path."""
    model: Any = uncompiled(unet)
    halvings = [0]
    for block in model.down_blocks:
        halvings.append(halvings[-1] + (block.downsamplers is not None))
    levels = {"mid_block": halvings[-1]} | {f"down_blocks.{i}": level for i, level in enumerate(halvings[:-1])}
    level = halvings[-1]
    for i, block in enumerate(model.up_blocks):
        levels[f"up_blocks.{i}"] = level
        level -= block.upsamplers is not None
    return {path: levels[path[: path.index(".attentions.")]] for path in cross_attention_layers(unet)}
