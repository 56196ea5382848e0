"""The cross-attention layers of a UNet: where an adapter acts."""

from diffusers.models.attention_processor import Attention
from torch import nn


def cross_attention_layers(unet: nn.Module) -> dict[str, Attention]:
    """The layers in which a UNet reads the prompt, by their path ("down_blocks.1.….attn2").

    Self-attention layers and the temporal layers of video UNets do not read the prompt and are left out. The paths
    are the same whether or not modules are wrapped by ``torch.compile``.
    """
    return {
        path.replace("_orig_mod.", ""): module
        for path, module in unet.named_modules()
        if isinstance(module, Attention) and module.is_cross_attention and _reads_prompt(path)
    }


def layer_widths(unet: nn.Module) -> dict[str, int]:
    """Inner width (heads · d) of every cross-attention layer, by path."""
    return {path: layer.inner_dim for path, layer in cross_attention_layers(unet).items()}


def _reads_prompt(path: str) -> bool:
    return path.endswith("attn2") and "motion_modules" not in path
