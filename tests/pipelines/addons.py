"""What people use beside nested adapters, at tiny size: IP-Adapters, LoRAs, processors; and the formula beside it."""

from functools import cache
from typing import Any

import torch
from brute_force import BruteProcessor
from brute_maps import BruteMaps
from diffusers.models.attention_processor import AttnProcessor2_0
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoraConfig, get_peft_model_state_dict
from transformers import CLIPImageProcessorPil

import tiny_pipeline
from diffusers_nested.backbones import cross_attention_layers

TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]


def add_image_encoder(pipeline: Any) -> Any:
    """What IP-Adapters see their images with."""
    size = {"height": 16, "width": 16}
    extractor = CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size=size)
    pipeline.register_modules(image_encoder=tiny_pipeline.image_encoder(), feature_extractor=extractor)
    return pipeline


def ip_adapter(unet: Any, seed: int = 21) -> dict[str, dict[str, torch.Tensor]]:
    """The state dict of an IP-Adapter with weights that act."""
    generator = torch.Generator().manual_seed(seed)

    def weights(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator) / shape[-1] ** 0.5

    width, tokens, seen = unet.config.cross_attention_dim, 4, 16
    projection = {"proj.weight": weights(tokens * width, seen), "proj.bias": weights(tokens * width)}
    projection |= {"norm.weight": torch.ones(width), "norm.bias": weights(width)}
    layers = {}
    # diffusers numbers self-attention and cross-attention layers in turn
    for i, (path, layer) in enumerate(_in_order(unet)):
        assert path.endswith("attn2")
        for name in ("to_k_ip", "to_v_ip"):
            layers[f"{2 * i + 1}.{name}.weight"] = weights(layer.inner_dim, width)
    return {"image_proj": projection, "ip_adapter": layers}


def load_ip_adapters(pipeline: Any, *seeds: int) -> None:
    states = [ip_adapter(pipeline.unet, seed) for seed in seeds]
    pipeline.load_ip_adapter(states, subfolder="", weight_name=[""] * len(states), image_encoder_folder=None)


def _in_order(unet: Any) -> list[tuple[str, Any]]:
    layers = cross_attention_layers(unet)
    paths = [name.removesuffix(".processor") for name in unet.attn_processors]
    return [(path, layers[path]) for path in paths if path in layers]


@cache
def lora(seed: int = 31) -> dict[str, torch.Tensor]:
    """A LoRA for the UNet's attention layers, as it is published."""
    torch.manual_seed(seed)
    unet = tiny_pipeline.unet()
    unet.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=TARGETS))
    for name, parameter in unet.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    state = convert_state_dict_to_diffusers(get_peft_model_state_dict(unet))
    return {f"unet.{name}": value.detach() for name, value in state.items()}


class Damped:
    """A user's processor for all layers, with an argument that it cannot do without and a count of its own."""

    def __init__(self, factor):
        self.factor, self.calls = factor, 0

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, temb=None):
        self.calls += 1
        return self.factor * AttnProcessor2_0()(attn, hidden_states, encoder_hidden_states, attention_mask, temb)


class BesideProcessor(BruteProcessor):
    """Another processor's output plus W_o (A_λ V_q − A V), by the formula."""

    def __init__(self, path: str, rows_of: Any, other: Any, maps: BruteMaps):
        super().__init__(path, rows_of, maps)
        self.other = other

    def __call__(  # keywords by name, as diffusers passes on what it finds in the signature only
        self,
        attn,
        hidden_states,
        encoder_hidden_states=None,
        attention_mask=None,
        temb=None,
        ip_adapter_masks=None,
        strength=None,
    ):
        more = {"ip_adapter_masks": ip_adapter_masks, "strength": strength}
        more = {name: value for name, value in more.items() if value is not None}
        out = self.other(attn, hidden_states, encoder_hidden_states, attention_mask, temb, **more)
        states = encoder_hidden_states
        text = states[0] if isinstance(states, tuple) else states
        query, key, value = attn.to_q(hidden_states), attn.to_k(text), attn.to_v(text)
        subjects = self.subjects(attn, query, key)
        # W_o and its LoRA, without the bias
        read, plain = (
            attn.to_out[0](torch.stack([self.row(attn, *one) for one in zip(query, key, value, rows, strict=True)]))
            for rows in (subjects, [[]] * len(query))
        )
        return out + (read - plain)


def install_beside(unet: Any, rows_of: Any) -> None:
    """Give every cross-attention layer the formula beside what stands there."""
    maps = BruteMaps()
    for path, layer in cross_attention_layers(unet).items():
        layer.set_processor(BesideProcessor(path, rows_of, layer.processor, maps))
