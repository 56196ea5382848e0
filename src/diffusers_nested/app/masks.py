"""What was painted with the brush, as a mask."""

from collections.abc import Mapping
from typing import Any

import numpy as np


def painted(drawing: Mapping[str, Any] | None) -> np.ndarray | None:
    """The mask of a drawing: 1 where the brush has been, 0 elsewhere.

    Args:
        drawing: As gradio's ``ImageMask`` gives it: its ``"layers"`` are arrays (height, width, 4) in uint8, whose
            last channel tells where something is painted.

    Returns:
        (height, width) in float32, or None if nothing is painted.
    """
    layers = (drawing or {}).get("layers") or []
    alphas = [np.asarray(layer)[..., 3] for layer in layers]  # (height, width)
    if not alphas:
        return None
    mask = np.maximum.reduce(alphas) > 0
    return mask.astype(np.float32) if mask.any() else None
