"""Sizes of adapters for SDXL at several ranks of their projections, counted on the meta device.

python benchmarks/ranks.py --output docs/results/ranks.json
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from diffusers_nested import NestedAdapter
from diffusers_nested.backbones import BACKBONES, BaseModel

RANKS = (4, 8, 16, 32, 64, None)


def main() -> None:
    """Count and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    base = BACKBONES["sdxl"].base_models[0]
    rows = [count(base, rank) for rank in RANKS]
    parser.parse_args().output.write_text(json.dumps(rows, indent=1) + "\n")


def count(base: BaseModel, rank: int | None) -> dict[str, Any]:
    """Parameters of the encoder and of the projections in a file."""
    with torch.device("meta"):
        adapter = NestedAdapter(base.layers, base.token_dim, image_feature_dim=1280, projection_rank=rank)
    sizes = {part: sum(x.numel() for x in getattr(adapter, part).state_dict().values()) for part in _PARTS}
    return {"rank": rank, **sizes}


_PARTS = ("encoder", "projections")

if __name__ == "__main__":
    main()
