"""Pictures of the miniature's pipeline in batches, as arrays."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

STEPS, GUIDANCE = 20, 4.0


@torch.no_grad()
def sample(pipeline: Any, prompts: Sequence[str], seeds: Sequence[int], batch: int = 25, **keywords: Any) -> np.ndarray:
    """Generate one picture per prompt and seed.

    Args:
        pipeline: The miniature's pipeline.
        prompts: One per picture.
        seeds: One per picture; it alone determines the noise.
        batch: Pictures per call.
        **keywords: For the pipeline; lists with one entry per picture are split into batches with the prompts.

    Returns:
        uint8 pictures (N, 32, 32, 3).
    """
    pictures = []
    for start in range(0, len(prompts), batch):
        part = slice(start, start + batch)
        cut = {k: v[part] if isinstance(v, list) and len(v) == len(prompts) else v for k, v in keywords.items()}
        generators = [torch.Generator().manual_seed(seed) for seed in seeds[part]]
        settings = {"num_inference_steps": STEPS, "guidance_scale": GUIDANCE, "output_type": "np", **cut}
        pictures.append(pipeline(list(prompts[part]), generator=generators, **settings).images)
    return np.round(np.concatenate(pictures) * 255).astype(np.uint8)
