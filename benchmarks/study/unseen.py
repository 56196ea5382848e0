"""Shows that the study's prompts are new to the miniature: how often each of them was a caption in training.

    python benchmarks/study/unseen.py docs/results/study/prompts.json

Captions are drawn again with the seeds of the base's and the adapters' training.
"""

import json
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from conditions import PAIR_PROMPTS, PROMPTS

from diffusers_nested.miniature.triplets import draw_triplets
from recipes.miniature.bundled.adapters import TRIPLETS, WORDS
from recipes.miniature.bundled.base import PICTURES
from recipes.miniature.bundled.data import draw_scenes


def captions() -> Mapping[str, Counter[str]]:
    """What was learned from -> its captions, and how often each was there."""
    drawn = {name: Counter(one.text for one in draw_triplets(name, TRIPLETS, seed=42)) for name in WORDS}
    return {"base": Counter(draw_scenes(PICTURES, seed=2)[1]), **drawn}


def write(path: Path) -> None:
    """Count, and write the counts."""
    seen = captions()
    prompts = [*(prompt.format("person") for prompt in PROMPTS), *PAIR_PROMPTS]
    table = {
        "captions": {name: counts.total() for name, counts in seen.items()},
        "prompts": {prompt: {name: counts[prompt] for name, counts in seen.items()} for prompt in prompts},
    }
    path.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
