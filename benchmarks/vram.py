"""Memory that SDXL with subjects needs on a GPU, counted from shapes: what fits on which card.

    python benchmarks/vram.py --output docs/results/vram.json

Weights and tensors in float16, and the VAE in float32, as SDXL's own asks for. Activations are the most bytes of
tensors that are alive at a time, counted on fake tensors in a step with guidance, and in decoding.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from fewsteps import sdxl_adapter, vision_tower
from flops import CPU, acting
from speed import step_inputs
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from contestants import sdxl_unet
from diffusers_nested.backbones import layer_widths
from diffusers_nested.injection import Storage
from diffusers_nested.training.counted import CountedMemory

STORAGES = {
    "as it is": Storage(),
    "8 bits": Storage(dtype=torch.int8),
    "on the CPU": Storage(torch.device("meta")),  # which holds no memory either
}


def main() -> None:
    """Count and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--tokens", type=int, nargs="+", default=[16, 256, 1024])
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    with FakeTensorMode(allow_non_fake_inputs=True):  # for the dials, which are real
        unet = _half_unet()
        adapters = {tokens: sdxl_adapter(unet, tokens) for tokens in args.tokens}
        vae = sdxl_vae()
        models = {
            "unet": unet,
            "text_encoders": nn.ModuleList(sdxl_text_encoders()),
            "vae": vae,
            "tower": vision_tower(),
        }
        weights = {name: _bytes(model, 4 if name == "vae" else 2) for name, model in models.items()}
        adapter_bytes = {tokens: _bytes(adapter, 2) for tokens, adapter in adapters.items()}
        latents = torch.empty(1, 4, args.size // 8, args.size // 8, device=CPU)
        decoding = _alive(lambda: vae.decode(latents))
        inputs = step_inputs(args.size, CPU, torch.float16)
        plain = _alive(lambda: unet(**inputs))
        rows = [{"tokens": 0, "subjects": 0, "storage": "", "kept": 0, "adapter": 0, "step": plain}]
        for tokens in args.tokens:
            for subjects in (1, 2):
                with acting(unet, inputs, [tokens] * subjects):
                    step = _alive(lambda: unet(**inputs))
                for name, storage in STORAGES.items():
                    kept, layer = _kept(unet, tokens, storage)
                    row = {"tokens": tokens, "subjects": subjects, "storage": name, "kept": subjects * kept}
                    rows.append({**row, "adapter": adapter_bytes[tokens], "step": step + subjects * layer})
    found = {"size": args.size, "weights": weights, "decoding": decoding, "rows": rows}
    args.output.write_text(json.dumps(found, indent=1) + "\n")


def _half_unet() -> Any:
    torch.set_default_dtype(torch.float16)  # fake weights cannot be converted
    try:
        return sdxl_unet().eval().requires_grad_(False)
    finally:
        torch.set_default_dtype(torch.float32)


def _bytes(model: Any, width: int) -> int:
    return width * sum(parameter.numel() for parameter in model.parameters())


def _alive(step: Callable[[], Any]) -> int:
    with torch.no_grad(), CountedMemory() as memory:
        step()
    return memory.bytes


def _kept(unet: Any, tokens: int, storage: Storage) -> tuple[int, int]:
    """Bytes that a subject keeps on the GPU, and those that a layer has loaded while it runs."""
    kept, largest = 0, 0
    for width in layer_widths(unet).values():
        x = torch.empty(1, width // 64, tokens, 64, device=CPU, dtype=torch.float16)
        for one in storage.keep([x, x]):
            if isinstance(one, torch.Tensor):
                kept += one.nbytes
                continue
            parts = [part for part in (one.values, one.scale) if part is not None]
            kept += sum(part.nbytes for part in parts if not part.is_meta)
            # in float32 between 8 bits and 16
            largest = max(largest, 2 * x.nbytes + (2 * x.nbytes if one.scale is not None else 0))
    return kept, largest


def sdxl_vae() -> AutoencoderKL:
    """The VAE of SDXL, as it is configured."""
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        latent_channels=4,
        sample_size=1024,
    )
    return vae.eval().requires_grad_(False)


def sdxl_text_encoders() -> list[nn.Module]:
    """The text encoders of SDXL, CLIP ViT-L and OpenCLIP ViT-bigG, as they are configured."""
    large = CLIPTextConfig(
        hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, projection_dim=768
    )
    big = CLIPTextConfig(
        hidden_size=1280, intermediate_size=5120, num_hidden_layers=32, num_attention_heads=20, projection_dim=1280
    )
    return [CLIPTextModel(large), CLIPTextModelWithProjection(big)]


if __name__ == "__main__":
    main()
