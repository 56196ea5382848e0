"""How hard the attention of the miniature's UNet is: how much of it the subject's word gets, head by head.

    python benchmarks/study/heads.py docs/results/study/attention.json

The plain pipeline draws the study's prompts; no adapter is loaded.
"""

import json
import sys
from pathlib import Path

import torch
from conditions import PROMPTS
from diffusers.models.attention_processor import Attention, AttnProcessor
from torch import Tensor

from diffusers_nested.miniature import load_pipeline
from diffusers_nested.miniature.sampling import GUIDANCE, STEPS
from diffusers_nested.prompts import word_positions

WORD, PICTURES = "person", 4


class Reader(AttnProcessor):
    """Computes a layer as ever, and keeps the word's share of the attention."""

    def __init__(self, position: int, kept: list[Tensor]) -> None:
        super().__init__()
        self._position, self._kept = position, kept

    def __call__(self, attn: Attention, hidden_states: Tensor, encoder_hidden_states: Tensor, **more) -> Tensor:
        """The layer's output."""
        query = attn.head_to_batch_dim(attn.to_q(hidden_states))
        key = attn.head_to_batch_dim(attn.to_k(encoder_hidden_states))
        weights = attn.get_attention_scores(query, key)[..., self._position]  # (rows · H, S)
        self._kept.append(weights.unflatten(0, (-1, attn.heads))[len(hidden_states) // 2 :])  # rows with the prompt
        return super().__call__(attn, hidden_states, encoder_hidden_states, **more)


@torch.no_grad()
def shares() -> Tensor:
    """Per head of all layers: the word's attention where it gets most, the mean over prompts, pictures and steps."""
    pipeline = load_pipeline()
    pipeline.set_progress_bar_config(disable=True)
    found = []
    for prompt in (prompt.format(WORD) for prompt in PROMPTS):
        (position,) = word_positions(prompt, None, WORD, (pipeline.tokenizer, pipeline.tokenizer_2))
        names = pipeline.unet.attn_processors
        layers: dict[str, list[Tensor]] = {name: [] for name in names if "attn2" in name}
        readers = {name: Reader(position, kept) for name, kept in layers.items()}
        pipeline.unet.set_attn_processor({name: readers.get(name, AttnProcessor()) for name in names})
        pipeline(
            prompt,
            num_images_per_prompt=PICTURES,
            num_inference_steps=STEPS,
            guidance_scale=GUIDANCE,
            generator=torch.Generator().manual_seed(0),
            output_type="latent",
        )
        # (steps, rows, H, S) -> (H,)
        found.append(torch.cat([torch.stack(kept).amax(-1).mean((0, 1)) for kept in layers.values()]))
    return torch.stack(found).mean(0)


def write(path: Path) -> None:
    """Measure, and write what was found."""
    share = shares()
    table = {
        "heads": len(share),
        "word gets at least half at some query": round((share >= 0.5).float().mean().item(), 3),
        "word gets less than a tenth at every query": round((share < 0.1).float().mean().item(), 3),
        "shares": [round(x, 3) for x in sorted(share.tolist())],
    }
    path.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
