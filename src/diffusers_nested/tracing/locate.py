"""Which cross-attention layers of a UNet are traced, and the sizes of their maps."""

from collections.abc import Sequence
from dataclasses import dataclass

from diffusers.models.attention_processor import Attention
from torch import nn

from ..backbones import cross_attention_layers, layer_levels
from ..errors import NestedAdapterError


@dataclass(frozen=True, eq=False)
class Site:
    """A traced layer.

    Attributes:
        path: Its path in the UNet.
        layer: The layer.
        level: How often the UNet has halved the latents there.
    """

    path: str
    layer: Attention
    level: int


def traced_sites(unet: nn.Module, layers: str | Sequence[str] | None) -> list[Site]:
    """The layers to trace.

    Args:
        unet: The UNet.
        layers: Paths, or beginnings of paths; None for all layers.

    Raises:
        NestedAdapterError: The UNet has no such layer.
    """
    levels = layer_levels(unet)
    sites = [Site(path, layer, levels[path]) for path, layer in cross_attention_layers(unet).items()]
    if layers is None:
        return sites
    wanted = list(layers) if isinstance(layers, list | tuple) else [layers]
    if not wanted:
        raise NestedAdapterError("layers is empty, so there is nothing to trace. Leave it out to trace all layers.")
    for one in wanted:
        matching([site.path for site in sites], one)
    return [site for site in sites if any(_begins(site.path, one) for one in wanted)]


def matching(paths: Sequence[str], wanted: object) -> list[str]:
    """The paths that begin with the wanted one.

    Raises:
        NestedAdapterError: None does.
    """
    found = [path for path in paths if _begins(path, wanted)]
    if not found:
        known = ", ".join(sorted({path.partition(".attentions.")[0] for path in paths}))
        raise NestedAdapterError(
            f"No traced layer is {wanted!r} or lies in it. Give a path of trace.layers or the beginning of one, such "
            f"as one of {known}."
        )
    return found


def _begins(path: str, wanted: object) -> bool:
    return isinstance(wanted, str) and bool(wanted) and f"{path}.".startswith(f"{wanted.rstrip('.')}.")


def layer_name(path: str) -> str:
    """A path in words, counted from 1: "up 2, layer 3", or "up 2, layer 3.10" for the tenth of a transformer."""
    block, _, rest = path.partition(".attentions.")
    number, _, depth = rest.removesuffix(".attn2").partition(".transformer_blocks.")
    place, _, which = block.partition("_block")
    which = which.removeprefix("s.")
    first = "middle" if place == "mid" else f"{place} {int(which) + 1}"
    return f"{first}, layer {int(number) + 1}" + ("" if depth in ("", "0") else f".{int(depth) + 1}")
