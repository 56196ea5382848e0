"""Adapters on a base of this folder: the package's own training, the grammar's captions, and the paper's α.

    python -m recipes.miniature.words.adapters RUN_FOLDER/VARIANT/pipeline OUT --name people --steps 500

The vision tower is the one that comes with the package.
"""

import argparse
import logging
from pathlib import Path

from diffusers_nested import miniature
from diffusers_nested.adapter import NestedAdapter
from diffusers_nested.mechanisms import MECHANISMS

from ..bundled.adapters import SEED, WORDS, settings, train_on


def train(pipeline_folder: Path, out: Path, name: str, steps: int, mechanism: str = "nested") -> NestedAdapter:
    """Train an adapter, or resume its training; ``load_nested_adapter`` can then load ``out``."""
    return train_on(pipeline_folder, miniature.path(name), out, name, settings(out, steps, SEED), mechanism)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pipeline", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--name", choices=sorted(WORDS), default="people")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--mechanism", choices=sorted(MECHANISMS), default="nested")
    options = parser.parse_args()
    train(options.pipeline, options.out, options.name, options.steps, options.mechanism)
