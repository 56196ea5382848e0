"""Whether λ is a dial: identity and prompt of held-out people in held-out wordings, at several scales.

python -m recipes.miniature.words.dial RUN_FOLDER/VARIANT/pipeline ADAPTER OUT.json
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from diffusers import StableDiffusionXLPipeline
from PIL import Image

from diffusers_nested import miniature
from diffusers_nested.miniature.drawing import render
from diffusers_nested.miniature.language import Caption, plain_caption
from diffusers_nested.miniature.sampling import sample
from diffusers_nested.miniature.world import Look, Person, Scene, portrait, random_person, random_scene

SCALES = {"nested": (1.0, 1.5, 2.0, 3.0), "decoupled": (0.5, 0.75, 1.0)}


def draw_prompts(people: int, prompts: int, seed: int = 800) -> tuple[list[Person], list[list[Caption]]]:
    """Held-out people, and for each some captions of scenes with a person, in held-out wordings."""
    rng = np.random.default_rng(seed)
    who = [random_person(rng, held_out=True) for _ in range(people)]
    said = [[plain_caption(_scene(person, rng), rng, held_out=True) for _ in range(prompts)] for person in who]
    return who, said


def _scene(person: Person, rng: np.random.Generator) -> Scene:
    """A place, a shirt that has a colour, and no role."""
    while True:
        scene = random_scene(rng, (person,))
        look = scene.looks[0]
        if look.shirt != "grey" and scene.place != "studio":
            return Scene(scene.subjects, (Look(look.shirt, look.hat, look.expression),), scene.place, scene.style)


def measure(pipeline: Any, adapter: Path, people: int, prompts: int, steps: int) -> dict[str, Any]:
    """Identity (cosine with the portrait's embedding), that of another, and the share of the prompt that is read."""
    recogniser = miniature.load_recogniser()
    pipeline.load_nested_adapter(adapter, adapter_name="dial")
    mechanism = pipeline.nested_adapters["dial"].config.mechanism
    who, said = draw_prompts(people, prompts)
    rng = np.random.default_rng(801)
    photos = np.stack([render(portrait(person), rng) for person in who])
    own = recogniser.read(photos)[0].repeat_interleave(prompts, 0)
    flat = [caption for row in said for caption in row]
    images = [{"person": Image.fromarray(photo)} for photo in photos for _ in range(prompts)]
    rows: dict[str, Any] = {}
    for scale in (None, *SCALES.get(mechanism, (1.0,))):
        given: dict[str, Any] = {} if scale is None else {"nested_adapter_image": images}
        if scale is not None:
            pipeline.set_nested_adapter_scale(scale)
        texts = [caption.text for caption in flat]
        drawn = sample(pipeline, texts, range(len(flat)), num_inference_steps=steps, **given)
        seen, read = recogniser.read(drawn)
        hits: dict[str, list[bool]] = {}
        for caption, found in zip(flat, read, strict=True):
            for trait, answer in caption.named[0].items():
                hits.setdefault(trait, []).append(found[f"scene.{trait}"] == answer)
        rows["plain" if scale is None else f"{scale:g}"] = {
            "identity": round(float((seen * own).sum(-1).mean()), 3),
            "identity of another": round(float((seen * own.roll(prompts, 0)).sum(-1).mean()), 3),
            "prompt": round(float(np.mean([hit for values in hits.values() for hit in values])), 3),
            **{trait: round(float(np.mean(values)), 3) for trait, values in sorted(hits.items())},
        }
    pipeline.unload_nested_adapter("dial")
    return {"mechanism": mechanism, "people": people, "prompts": prompts, "steps": steps, "scales": rows}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pipeline", type=Path)
    parser.add_argument("adapter", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--people", type=int, default=24)
    parser.add_argument("--prompts", type=int, default=2)
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    pipe = StableDiffusionXLPipeline.from_pretrained(options.pipeline, add_watermarker=False)
    pipe.set_progress_bar_config(disable=True)
    result = measure(pipe, options.adapter, options.people, options.prompts, options.steps)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
