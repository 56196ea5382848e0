"""Shows that the study's prompts are new to the miniature: how often they, and the clothes in them, stood in captions.

    python benchmarks/study/unseen.py docs/results/study/prompts.json

Captions are drawn as for training: the base's by lot from its grammar, the adapters' again with their seeds.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from conditions import PAIR_PROMPTS, PROMPTS

from diffusers_nested.miniature.language.known import words_of
from diffusers_nested.miniature.language.reading import said_in
from diffusers_nested.miniature.triplets import draw_triplets
from recipes.miniature.bundled.adapters import TRIPLETS, WORDS
from recipes.miniature.words.tokenizer import training_captions

DRAWN = 200_000  # captions of the base, about as many as it saw


def captions() -> Mapping[str, list[str]]:
    """What was learned from -> its captions, as words with a space between and around them."""
    texts = {name: [one.text for one in draw_triplets(name, TRIPLETS, seed=42)] for name in WORDS}
    return {name: list(map(_spaced, found)) for name, found in {"base": training_captions(DRAWN), **texts}.items()}


def clothes_in(prompt: str) -> list[str]:
    """The clothes that a prompt names, with their colour."""
    words = words_of(prompt)
    return [" ".join(words[one.start : one.end]) for one in said_in(words) if one.kind in ("shirt", "hat")]


def write(path: Path) -> None:
    """Count, and write the counts."""
    seen = captions()
    prompts = [*(prompt.format("person") for prompt in PROMPTS), *PAIR_PROMPTS]
    clothes = sorted({one for prompt in prompts for one in clothes_in(prompt)})
    table = {
        "captions": {name: len(texts) for name, texts in seen.items()},
        "prompts": _counts(prompts, seen),
        "clothes": _counts(clothes, seen),
    }
    path.write_text(json.dumps(table, indent=1) + "\n")


def _counts(phrases: Sequence[str], seen: Mapping[str, Sequence[str]]) -> dict[str, dict[str, int]]:
    return {one: {name: sum(_spaced(one) in text for text in texts) for name, texts in seen.items()} for one in phrases}


def _spaced(text: str) -> str:
    return f" {' '.join(words_of(text))} "


if __name__ == "__main__":
    write(Path(sys.argv[1]))
