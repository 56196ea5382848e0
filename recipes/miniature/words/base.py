"""The miniature's UNet, trained on frozen or learning text encoders, with attention as in Stable Diffusion.

Run as ``python -m recipes.miniature.words.base RUN_FOLDER VARIANT`` (see ``VARIANTS``). It resumes from its last
checkpoint, and saves a complete pipeline under ``RUN_FOLDER / VARIANT / "pipeline"`` when it is done.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, StableDiffusionXLPipeline, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor2_0
from torch import Tensor, nn
from transformers import CLIPTokenizer

from diffusers_nested import miniature
from diffusers_nested.miniature.language import describe

from ..bundled.base import TIME_IDS, build_scheduler, build_unet, noisy_batch
from ..bundled.loop import Recipe, fit
from ..bundled.tokenizer import save_words
from . import encoders
from .data import Pictures, load_pictures
from .reading import Ledger, install, sentences
from .tokenizer import LENGTH, Encoder, build_tokenizer, training_captions

BATCH, LARGER, GROWN, DROPOUT = 16, 32, 1150, 0.1  # batches of 16, and from step 1150 on of 32
CLOSER, FACES = 2100, 3250  # the steps from which on subjects' pixels count more, and those of their expressions
CHECKPOINT = "checkpoint.pt"
FIRST = "first"  # folder of the first base, in the run's
CEILING = 0.4  # share of its attention that a head may give to words free of charge


@dataclass(frozen=True)
class Variant:
    """One way to train a base.

    Attributes:
        words: The pre-trained text encoders to start from; none if empty.
        learning: The text encoders learn together with the UNet; else they are frozen.
        price: Weight of the cost of reading more than ``CEILING``.
        aim: Weight of how far the nouns' maps are from where the renderer drew their subjects.
        floor: See ``Ledger``.
        unpooled: Share of the captions whose pooled embedding is that of the empty prompt; a contrastive one says so
            much of the picture that the UNet may do without words.
        again: The UNet starts from the first base's, which can draw already, and learns to read anew.
        alone: Where captions have no pooled embedding, the UNet cannot read the attributes before a noun either: the
            noun's own place must tell them.
        after: The variant whose whole training it goes on from.
        heads: Heads at the two levels of 64 and 128 channels: (4, 8) are 44 heads of width 16 in all.
    """

    words: str = "words"
    learning: bool = False
    price: float = 0.0
    aim: float = 0.0
    floor: float = 0.0
    unpooled: float = 0.0
    again: bool = False
    alone: bool = False
    after: str = ""
    heads: tuple[int, int] = (4, 8)


_AIMED = Variant(learning=True, price=0.02, aim=0.02, floor=0.08, unpooled=0.5, again=True)
VARIANTS = {
    "aimed": _AIMED,
    "alone": replace(_AIMED, floor=0.15, alone=True),
    "louder": replace(_AIMED, floor=0.3, alone=True, after="alone"),
    "aimed-then-alone": replace(_AIMED, alone=True, after="aimed"),
    "aimed-pooled": replace(_AIMED, unpooled=0.0),
    "again-tuned-aimed": replace(_AIMED, floor=0.0),
    "again-tuned-ceiling": replace(_AIMED, floor=0.0, aim=0.0),
    "again-tuned": Variant(learning=True, again=True),
    "again-frozen": Variant(again=True),
    "joint": Variant(words="", learning=True),
    "frozen": Variant(),
}


class Base(nn.Module):
    """Text encoders and UNet."""

    def __init__(self, text: encoders.TextEncoders, heads: tuple[int, int]) -> None:
        super().__init__()
        self.text = text
        unet = UNet2DConditionModel.from_config({**build_unet().config, "attention_head_dim": heads})
        assert isinstance(unet, UNet2DConditionModel)
        self.unet = unet


def recipe_of(steps: int, whole: bool) -> Recipe:
    """How the UNet learns: with ``whole``, the rate falls in the last 60 % of the steps; else it stays.

    A run that is not whole is the beginning of a longer one: the same steps, as long as they are its first 40 %.
    """
    flat = 0.4 if whole else 1.0
    return Recipe(steps=steps, lr=1e-3, warmup=50, flat=flat, seed=11, ema=0.995, save_every=50, log_every=20)


def train(folder: Path, name: str, steps: int, whole: bool = False) -> StableDiffusionXLPipeline:
    """Train a variant, or resume its training.

    Args:
        folder: Where the data and the encoders are, or will be.
        name: One of ``VARIANTS``.
        steps: The step to stop at.
        whole: Whether the run ends there, so that the rate falls towards the end.
    """
    variant = VARIANTS[name]
    tokenizer, vae = build_tokenizer(), bundled_vae()
    pictures, encoder = load_pictures(folder, vae), Encoder(tokenizer)
    base, scheduler = build(folder, name, tokenizer), build_scheduler()
    ledger = Ledger(ceiling=CEILING, floor=variant.floor)
    install(base.unet, ledger)

    def batch_loss(step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        late = sys.maxsize if variant.after else step  # what goes on from a whole training has all that came late in it
        size = BATCH if late < GROWN else LARGER
        chosen = torch.randint(len(pictures.scenes), (size,), generator=generator)
        rng = np.random.default_rng(int(torch.randint(2**31, (1,), generator=generator)))
        captions = [describe(pictures.scenes[i], rng) for i in chosen]
        ids, at = (list(x) for x in encoder.padded(captions))
        ids, dropped = torch.tensor(ids), torch.rand(size, generator=generator) < DROPOUT
        ids[dropped] = empty_prompt(tokenizer)
        ledger.words = sentences(ids, tokenizer.eos_token_id)
        if variant.aim:
            ledger.nouns, ledger.places = places_of(at, pictures.masks[chosen], dropped)
        noisy, times, target = noisy_batch(pictures.latents[chosen].float(), scheduler, generator)
        with torch.set_grad_enabled(variant.learning):
            states, pooled, _ = base.text(ids)
            hidden = torch.rand(size, generator=generator) < variant.unpooled
            if variant.alone:
                ledger.unread = (hidden & ~dropped)[:, None] * torch.tensor(encoder.attributes(captions)).float()
            pooled = torch.where(hidden[:, None], base.text(empty_prompt(tokenizer)[None])[1], pooled)
        added = {"text_embeds": pooled, "time_ids": torch.tensor(TIME_IDS).expand(size, 6)}
        out = base.unet(noisy, times, states, added_cond_kwargs=added).sample
        pixels = pixel_weights(pictures, chosen, faces=late >= FACES) if late >= CLOSER else torch.ones(())
        loss, parts = (pixels * (out.float() - target).square()).mean(), {"cost": ledger.cost()}
        parts["mse"] = loss
        loss = loss + variant.price * parts["cost"]
        if variant.aim:
            parts["missed"] = ledger.missed()
            loss = loss + variant.aim * parts["missed"]
        return loss, {name: float(part.detach()) for name, part in parts.items()}

    average = fit(base, batch_loss, recipe_of(steps, whole), folder / name)
    assert isinstance(average, Base)
    pipeline = assemble(average, tokenizer, vae)
    pipeline.save_pretrained(folder / name / "pipeline")
    save_words(training_captions(), folder / name / "pipeline")
    return pipeline


def pixel_weights(pictures: Pictures, chosen: Tensor, faces: bool) -> Tensor:
    """(B, 1, 16, 16) of mean 1: subjects count three times, and with ``faces`` what expressions decide 8 more."""
    rows = chosen.tolist()
    weights = 1 + 2 * pictures.masks[rows].any(1).astype(np.float32)
    if faces:
        weights += 8 * np.stack([pictures.of_expression(row) for row in rows])
    small = F.avg_pool2d(torch.from_numpy(weights)[:, None], 2)
    return small / small.mean()


def places_of(at: Sequence[dict[str, int]], masks: np.ndarray, dropped: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and positions of nouns (N, 2), and where their subjects are seen (N, 32, 32); masks are (B, 2, 32, 32)."""
    nouns, places = [], []
    for row, tags in enumerate(at):
        for slot in range(2):
            if f"noun {slot}" in tags and masks[row, slot].any() and not dropped[row]:
                nouns.append((row, tags[f"noun {slot}"]))
                places.append(torch.from_numpy(masks[row, slot]).float())
    return torch.tensor(nouns), torch.stack(places)


def build(folder: Path, name: str, tokenizer: CLIPTokenizer) -> Base:
    """A variant's base before its training, on pre-trained encoders if the variant uses them."""
    variant = VARIANTS[name]
    torch.manual_seed(10)
    text = encoders.train(folder, name=variant.words) if variant.words else encoders.TextEncoders(tokenizer)
    torch.manual_seed(11)
    base = Base(text.requires_grad_(variant.learning), variant.heads)
    if (folder / name / CHECKPOINT).exists():  # what the variant starts from is overwritten by it
        return base
    if variant.after:
        _load(base, torch.load(folder / variant.after / CHECKPOINT, weights_only=True)["average"])
    elif variant.again:
        start_from(folder / FIRST / "unet", base.unet)
    return base


def start_from(first: Path, unet: UNet2DConditionModel) -> None:
    """Give the UNet the weights of the first one, except those that read the text and its pooled embedding.

    Heads half as wide see half of a product of query and key, at a scale that is larger by the root of two; queries are
    made larger by as much again, so that self-attention stays about as sharp as it was.
    """
    learnt = UNet2DConditionModel.from_pretrained(first).state_dict()
    own = unet.state_dict()
    for name, weight in learnt.items():
        if ".attn2." in name or name.startswith("add_embedding"):
            continue
        own[name] = weight * 2**0.5 if ".attn1.to_q" in name else weight
    unet.load_state_dict(own)


def bundled_vae() -> AutoencoderKL:
    """The autoencoder that comes with the package."""
    return AutoencoderKL.from_pretrained(miniature.path() / "vae").requires_grad_(False)


def empty_prompt(tokenizer: CLIPTokenizer) -> Tensor:
    """(77,) token ids of a prompt without words: what guidance is measured from."""
    return torch.tensor([tokenizer.bos_token_id] + [tokenizer.eos_token_id] * (LENGTH - 1))


def assemble(base: Base, tokenizer: CLIPTokenizer, vae: AutoencoderKL) -> StableDiffusionXLPipeline:
    """The parts as a pipeline; without a negative prompt, guidance starts from the empty one."""
    base.unet.set_attn_processor(AttnProcessor2_0())
    pipeline = StableDiffusionXLPipeline(
        vae=vae,
        text_encoder=base.text.text_encoder,
        text_encoder_2=base.text.text_encoder_2,
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=base.unet,
        scheduler=build_scheduler(),
        force_zeros_for_empty_prompt=False,
        add_watermarker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def from_checkpoint(folder: Path, name: str) -> tuple[StableDiffusionXLPipeline, int]:
    """The pipeline of an unfinished run, and its number of steps.

    Its weights are the last ones until the average of them has forgotten the first.
    """
    tokenizer = build_tokenizer()
    base = build(folder, name, tokenizer)
    state = torch.load(folder / name / CHECKPOINT, weights_only=True)
    young = recipe_of(1, False).ema ** state["step"] > 0.01
    weights = state["model"] if young else state["average"]
    _load(base, weights)
    return assemble(base.eval().requires_grad_(False), tokenizer, bundled_vae()), state["step"]


def _load(base: Base, weights: dict[str, Tensor]) -> None:
    base.load_state_dict({k.removeprefix("module."): v for k, v in weights.items() if k != "n_averaged"})


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("variant", choices=VARIANTS)
    parser.add_argument("--steps", type=int, required=True, help="train up to this step")
    parser.add_argument("--whole", action="store_true", help="this is all: lower the rate over the last 60 %%")
    options = parser.parse_args()
    train(options.folder, options.variant, options.steps, options.whole)
