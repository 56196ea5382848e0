"""Base families: what an adapter asks of the UNet that it acts in."""

from .layers import cross_attention_layers, layer_levels, layer_widths

__all__ = ["cross_attention_layers", "layer_levels", "layer_widths"]
