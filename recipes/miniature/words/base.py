"""The miniature's UNet, trained on frozen or learning text encoders, with attention as in Stable Diffusion.

Run as ``python -m recipes.miniature.words.base RUN_FOLDER VARIANT`` (see ``VARIANTS``). It resumes from its last
checkpoint, and saves a complete pipeline under ``RUN_FOLDER / VARIANT / "pipeline"`` when it is done.
"""

import argparse
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, StableDiffusionXLPipeline, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor2_0
from torch import Tensor, nn
from transformers import CLIPTokenizer

from diffusers_nested import miniature

from ..bundled.base import TIME_IDS, build_scheduler, build_unet, noisy_batch
from ..bundled.loop import Recipe, fit
from . import encoders
from .data import load_pictures
from .grammar import describe
from .reading import FREE, Ledger, install, sentences
from .tokenizer import LENGTH, Encoder, build_tokenizer

BATCH, DROPOUT = 16, 0.1


@dataclass(frozen=True)
class Variant:
    """One way to train a base.

    Attributes:
        words: The pre-trained text encoders to start from; none if empty.
        learning: The text encoders learn together with the UNet; else they are frozen.
        until: With ``learning``, the step from which on they are frozen; 0 for never.
        price: Weight of the cost of reading.
        free: See ``Ledger``.
        hardness: See ``Ledger``.
        least: Share of its attention that a head is to give to words at least, on the mean over queries.
        unpooled: Share of the captions whose pooled embedding is that of the empty prompt; a contrastive one says so
            much of the picture that the UNet may do without words.
        decay: Weight of the squares of the cross-attention's W_q and W_k.
        again: The UNet starts from the bundled one, which can draw already, and learns to read anew.
        heads: Heads at the two levels of 64 and 128 channels: (4, 8) are 44 heads of width 16 in all.
    """

    words: str = "words"
    learning: bool = False
    until: int = 0
    price: float = 0.0
    free: float = FREE
    hardness: float = 0.0
    least: float = 0.0
    unpooled: float = 0.0
    decay: float = 0.0
    again: bool = False
    heads: tuple[int, int] = (4, 8)


VARIANTS = {
    "joint": Variant(words="", learning=True),
    "joint-priced": Variant(words="", learning=True, price=0.5),
    "tuned-priced": Variant(learning=True, price=0.5),
    "frozen": Variant(),
    "frozen-priced": Variant(price=0.5),
    "frozen-decay": Variant(decay=1e-3),
    "again-frozen": Variant(again=True),
    "again-frozen-priced": Variant(again=True, price=0.5),
    "again-frozen-band": Variant(again=True, price=2.0, least=0.15),
    "again-frozen-unpooled": Variant(again=True, price=0.5, unpooled=0.7),
    "again-joint-priced": Variant(words="", again=True, learning=True, price=0.5),
    "again-tuned-band": Variant(again=True, learning=True, price=2.0, least=0.15),
    "again-tuned": Variant(again=True, learning=True),
    "again-tuned-gentle": Variant(again=True, learning=True, price=0.05, free=0.35, hardness=2.0),
    "again-tuned-soft": Variant(again=True, learning=True, price=0.1, free=1.0, hardness=1.0),
    "again-tuned-held": Variant(again=True, learning=True, until=800),
    "again-tuned-priced": Variant(again=True, learning=True, price=0.5),
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
    base, scheduler, ledger = build(folder, variant, tokenizer), build_scheduler(), ledger_of(variant)
    install(base.unet, ledger)
    scored = [p for n, p in base.unet.named_parameters() if "attn2.to_q" in n or "attn2.to_k" in n]

    def batch_loss(step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        chosen = torch.randint(len(pictures.scenes), (BATCH,), generator=generator)
        rng = np.random.default_rng(int(torch.randint(2**31, (1,), generator=generator)))
        ids = torch.tensor(encoder.padded([describe(pictures.scenes[i], rng) for i in chosen])[0])
        ids[torch.rand(BATCH, generator=generator) < DROPOUT] = empty_prompt(tokenizer)
        ledger.words = sentences(ids, tokenizer.eos_token_id)
        noisy, times, target = noisy_batch(pictures.latents[chosen].float(), scheduler, generator)
        with torch.set_grad_enabled(variant.learning and not 0 < variant.until <= step):
            states, pooled, _ = base.text(ids)
            hidden = torch.rand(BATCH, generator=generator) < variant.unpooled
            pooled = torch.where(hidden[:, None], base.text(empty_prompt(tokenizer)[None])[1], pooled)
        added = {"text_embeds": pooled, "time_ids": torch.tensor(TIME_IDS).expand(BATCH, 6)}
        out = base.unet(noisy, times, states, added_cond_kwargs=added).sample
        loss, cost = F.mse_loss(out.float(), target), ledger.cost()
        parts = {"mse": float(loss.detach()), "cost": float(cost.detach())}
        loss = loss + variant.price * cost
        if variant.decay:
            loss = loss + variant.decay * torch.stack([p.square().sum() for p in scored]).sum()
        return loss, parts

    average = fit(base, batch_loss, recipe_of(steps, whole), folder / name)
    assert isinstance(average, Base)
    pipeline = assemble(average, tokenizer, vae)
    pipeline.save_pretrained(folder / name / "pipeline")
    return pipeline


def ledger_of(variant: Variant) -> Ledger:
    """What writes down, and prices, what the heads read."""
    return Ledger(least=variant.least, free=variant.free, hardness=variant.hardness)


def build(folder: Path, variant: Variant, tokenizer: CLIPTokenizer) -> Base:
    """An untrained base, on pre-trained encoders if the variant uses them."""
    torch.manual_seed(10)
    text = encoders.train(folder, name=variant.words) if variant.words else encoders.TextEncoders(tokenizer)
    torch.manual_seed(11)
    base = Base(text.requires_grad_(variant.learning), variant.heads)
    if variant.again:
        start_from_bundled(base.unet)
    return base


def start_from_bundled(unet: UNet2DConditionModel) -> None:
    """Give the UNet the bundled one's weights, except those that read the text and its pooled embedding.

    Heads half as wide see half of a product of query and key, at a scale that is larger by the root of two; queries are
    made larger by as much again, so that self-attention stays about as sharp as it was.
    """
    bundled = UNet2DConditionModel.from_pretrained(miniature.path() / "unet").state_dict()
    own = unet.state_dict()
    for name, weight in bundled.items():
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
    base = build(folder, VARIANTS[name], tokenizer)
    state = torch.load(folder / name / "checkpoint.pt", weights_only=True)
    young = recipe_of(1, False).ema ** state["step"] > 0.01
    weights = state["model"] if young else state["average"]
    base.load_state_dict({k.removeprefix("module."): v for k, v in weights.items() if k != "n_averaged"})
    return assemble(base.eval().requires_grad_(False), tokenizer, bundled_vae()), state["step"]


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("variant", choices=VARIANTS)
    parser.add_argument("--steps", type=int, required=True, help="train up to this step")
    parser.add_argument("--whole", action="store_true", help="this is all: lower the rate over the last 60 %%")
    options = parser.parse_args()
    train(options.folder, options.variant, options.steps, options.whole)
