"""How words act in a base of the miniature: what the heads read, where a word's map lies, what pictures show.

    python -m recipes.miniature.words.measure OUT.json                               # the bundled base
    python -m recipes.miniature.words.measure OUT.json --run RUN_FOLDER VARIANT       # a run, finished or not

All on held-out identities and held-out wordings.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from diffusers_nested import miniature
from diffusers_nested.miniature.drawing import render, subject_masks
from diffusers_nested.miniature.language import describe, plain_caption
from diffusers_nested.miniature.recogniser import Recogniser, crop_subject
from diffusers_nested.miniature.sampling import sample
from diffusers_nested.miniature.world import Look, Scene, random_person, random_pet, random_scene
from diffusers_nested.prompts import word_positions

from ..bundled.base import TIME_IDS, encode_pictures
from ..bundled.data import to_pixels
from .base import from_checkpoint
from .reading import Ledger, install, sentences

LEVELS = (250, 500, 750)  # timesteps
THRESHOLDS = np.arange(0.05, 1.0, 0.05)
WORDS, CLOTHES = ("person", "pet"), ("shirt", "hat")


@dataclass(frozen=True)
class Task:
    """Scenes of held-out subjects without roles, their plain captions, pictures and masks."""

    scenes: list[Scene]
    texts: list[str]
    pixels: np.ndarray
    masks: list[np.ndarray]


def draw_task(count: int, pairs: bool, seed: int = 600) -> Task:
    """A person alone or a person and a pet, in either order, with "person" and "pet" in the caption."""
    rng = np.random.default_rng([seed, pairs])
    scenes, texts, pixels, masks = [], [], [], []
    for i in range(count):
        subjects: tuple[Any, ...] = (random_person(rng, held_out=True),)
        if pairs:
            subjects = (*subjects, random_pet(rng, held_out=True))[:: 1 if rng.random() < 0.5 else -1]
        drawn = random_scene(rng, subjects)
        looks = tuple(Look(look.shirt, look.hat, look.expression) for look in drawn.looks)
        scene = Scene(subjects, looks, drawn.place, drawn.style)
        scenes.append(scene)
        texts.append(plain_caption(scene, rng, held_out=True).text)
        pixels.append(render(scene, np.random.default_rng([seed, i])))
        masks.append(subject_masks(scene, np.random.default_rng([seed, i])))
    return Task(scenes, texts, np.stack(pixels), masks)


@torch.no_grad()
def attention(pipeline: Any, task: Task) -> dict[str, Any]:
    """Shares, heads and maps of the words, mean over the noise levels."""
    ledger = Ledger(keep=True)
    before = dict(pipeline.unet.attn_processors)
    install(pipeline.unet, ledger)
    latents = encode_pictures(pipeline.vae, to_pixels(task.pixels)).float()
    states, pooled, ids = _encoded(pipeline, task.texts)
    generator = torch.Generator().manual_seed(0)
    shares, tops, maps = [], [], []
    for level in LEVELS:
        noise = torch.randn(latents.shape, generator=generator)
        times = torch.full((len(latents),), level)
        noisy = pipeline.scheduler.add_noise(latents, noise, times)
        added = {"text_embeds": pooled, "time_ids": torch.tensor(TIME_IDS).expand(len(latents), 6)}
        pipeline.unet(noisy, times, states, added_cond_kwargs=added)
        share, top, each = _read(ledger, pipeline, task.texts, ids)
        shares.append(share)
        tops.append(top)
        maps.append(each)
    pipeline.unet.set_attn_processor(before)
    head = torch.stack(tops).mean(0)  # (words, heads)
    result: dict[str, Any] = {name: round(float(np.mean([s[name] for s in shares])), 3) for name in shares[0]}
    for i, word in enumerate(word for word in WORDS if word in task.texts[0].split()):
        result[f"heads that give {word} .05 or more"] = round((head[i] >= 0.05).float().mean().item(), 3)
        result[f"heads that give {word} over half"] = round((head[i] > 0.5).float().mean().item(), 3)
    result |= _found(torch.stack(maps).mean(0), task)
    return result


def _encoded(pipeline: Any, texts: Sequence[str]) -> tuple[Tensor, Tensor, Tensor]:
    parts = [pipeline.encode_prompt(text, num_images_per_prompt=1, do_classifier_free_guidance=False) for text in texts]
    ids = pipeline.tokenizer(list(texts), padding="max_length", max_length=77, return_tensors="pt").input_ids
    return torch.cat([part[0] for part in parts]), torch.cat([part[2] for part in parts]), ids


def _read(ledger: Ledger, pipeline: Any, texts: Sequence[str], ids: Tensor) -> tuple[dict[str, float], Tensor, Tensor]:
    """Shares of the kinds of tokens; the most that any query gives a word, by head; a map per picture and word."""
    inside = sentences(ids, pipeline.tokenizer.eos_token_id)  # (B, 77), the end included
    ends = inside * (ids == pipeline.tokenizer.eos_token_id)
    start = torch.zeros_like(inside)
    start[:, 0] = 1
    kinds = {"start": start, "padding": 1 - inside - start, "end": ends, "words": inside - ends}
    present = [word for word in WORDS if word in texts[0].split()]
    spots = torch.stack([_spots(pipeline, texts, word) for word in present], 1)  # (B, words, 77)
    for i, word in enumerate(present):
        kinds[word] = spots[:, i]
    total = {name: [] for name in kinds}
    tops, maps = [], []
    for weights in ledger.weights.values():
        mean = weights.mean((1, 2))  # (B, 77)
        for name, kind in kinds.items():
            total[name] += [(mean * kind).sum(1).mean().item()] * weights.shape[1]  # every head counts the same
        word = torch.einsum("bhqt,bwt->bwhq", weights, spots)
        tops.append(word.amax(-1).mean(0))  # (words, heads)
        side = int(word.shape[-1] ** 0.5)
        square = word.unflatten(-1, (side, side)).flatten(1, 2)  # (B, words · heads, side, side)
        grown = F.interpolate(square, size=(32, 32), mode="bilinear").unflatten(1, word.shape[1:3])
        maps.append(grown.sum(2))
    heads = sum(weights.shape[1] for weights in ledger.weights.values())
    return {k: float(np.mean(v)) for k, v in total.items()}, torch.cat(tops, 1), torch.stack(maps).sum(0) / heads


def _spots(pipeline: Any, texts: Sequence[str], word: str) -> Tensor:
    """(B, 77): 1 at the word's tokens."""
    spots = torch.zeros(len(texts), 77)
    for i, text in enumerate(texts):
        spots[i, list(word_positions(text, None, word, (pipeline.tokenizer, pipeline.tokenizer_2)))] = 1
    return spots


def _found(maps: Tensor, task: Task) -> dict[str, Any]:
    """IoU of each word's map (B, words, 32, 32), over its maximum, with its subject, at the best single threshold."""
    present = [word for word in WORDS if word in task.texts[0].split()]
    result: dict[str, Any] = {}
    for w, word in enumerate(present):
        rows = []
        for i, scene in enumerate(task.scenes):
            kinds = ["person" if hasattr(subject, "skin") else "pet" for subject in scene.subjects]
            mask = task.masks[i][kinds.index(word)]
            share = (maps[i, w] / maps[i, w].max()).numpy()
            rows.append([(mask & (share > t)).sum() / max((mask | (share > t)).sum(), 1) for t in THRESHOLDS])
        mean = np.mean(rows, 0)
        result[f"IoU of {word}"] = round(float(mean.max()), 3)
        result[f"threshold of {word}"] = round(float(THRESHOLDS[mean.argmax()]), 2)
    return result


def pictures(pipeline: Any, recogniser: Recogniser, count: int, steps: int) -> dict[str, float]:
    """Share of what captions name that is read in pictures drawn from them: one subject, and a person and a pet.

    Pencil drawings have no colours; clothes "in colour" leave them out.
    """
    result: dict[str, float] = {}
    for pairs in (False, True):
        rng = np.random.default_rng([700, pairs])
        scenes = [_any_scene(rng, pairs) for _ in range(count if not pairs else count // 2)]
        said = [describe(scene, rng, held_out=True) for scene in scenes]
        drawn = sample(pipeline, [one.text for one in said], range(len(said)), num_inference_steps=steps)
        hits: dict[str, list[bool]] = {}
        for picture, scene, one in zip(drawn, scenes, said, strict=True):
            alone = len(one.named) == 1
            views = [picture] if alone else [crop_subject(picture, i) for i in range(2)]
            for named, found in zip(one.named, recogniser.read(np.stack(views))[1], strict=True):
                for trait, answer in named.items():
                    names = [trait, f"{trait} in colour"][: 1 + (trait in CLOTHES and scene.style != "pencil")]
                    for name in names:
                        hits.setdefault(name, []).append(found[f"scene.{trait}"] == answer)
        for trait, values in sorted(hits.items()):
            result[f"{'pairs' if pairs else 'alone'}: {trait}"] = round(float(np.mean(values)), 3)
    return result


def _any_scene(rng: np.random.Generator, pairs: bool) -> Scene:
    person, pet = random_person(rng, held_out=True), random_pet(rng, held_out=True)
    if pairs:
        return random_scene(rng, (person, pet) if rng.random() < 0.5 else (pet, person))
    return random_scene(rng, (person,) if rng.random() < 0.7 else (pet,))


def measure(pipeline: Any, subjects: int, samples: int, steps: int) -> dict[str, Any]:
    """Everything about one base."""
    result: dict[str, Any] = {"heads": sum(m.heads for n, m in pipeline.unet.named_modules() if n.endswith("attn2"))}
    result["alone"] = attention(pipeline, draw_task(subjects, pairs=False))
    result["pair"] = attention(pipeline, draw_task(subjects, pairs=True))
    if samples:
        result["pictures"] = pictures(pipeline, miniature.load_recogniser(), samples, steps)
        result["samples"] = [samples, steps]
    return result


def main() -> None:
    """Measure the base on the command line and write the results."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--run", nargs=2, metavar=("RUN_FOLDER", "VARIANT"))
    parser.add_argument("--subjects", type=int, default=40)
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    began, trained = time.process_time(), None
    if options.run:
        pipeline, trained = from_checkpoint(Path(options.run[0]), options.run[1])
    else:
        pipeline = miniature.load_pipeline()
    result = measure(pipeline, options.subjects, options.samples, options.steps)
    name = f"{options.run[1]}, {trained} steps" if options.run else "bundled"
    text = json.dumps({"base": name, **result, "seconds": round(time.process_time() - began)}, indent=1)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
