"""Examples with several subjects, each at its word, in batches with examples of one."""

from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator
from brute_force import BruteSubject, install, word_at

import tiny_pipeline as tiny
from diffusers_nested.data import Triplet, seeded_generator, subject_positions
from diffusers_nested.injection import NestedInjector
from diffusers_nested.training import read_log
from diffusers_nested.training.cache import Cache
from diffusers_nested.training.frozen import FrozenModels
from diffusers_nested.training.noise import Places
from diffusers_nested.training.objective import Objective
from diffusers_nested.training.samples import RawExamples, SampleEncoder, Samples, collate
from same_states import same

PAIR = "a photo of a child and a king on the beach"
WORDS = (("person",), ("king", "child"), ("child",), ("child", "king"))


@pytest.fixture
def mixed() -> list[Triplet]:
    """Examples with one subject, and with two in either order."""
    captions = ["a photo of a person", PAIR, PAIR, PAIR]
    photos = [{word: tiny.photo(10 * i + j) for j, word in enumerate(words)} for i, words in enumerate(WORDS)]
    photos[0] = photos[0]["person"]
    return [Triplet(photos[i], caption, tiny.photo(100 + i)) for i, caption in enumerate(captions)]


@pytest.fixture
def encoder(pipeline, image_encoder, mixed) -> SampleEncoder:
    frozen = FrozenModels(pipeline, image_encoder, tiny.FEATURES, torch.device("cpu"), torch.float32)
    return SampleEncoder(frozen, subject_positions(mixed, "person", (tiny.tokenizer(),)), 16)


@pytest.fixture
def samples(encoder, mixed) -> Samples:
    raw = RawExamples(mixed, [(16, 16)] * 4)
    made = encoder.encode(*collate([raw[i] for i in range(4)]))
    # the random tower tells pictures of noise hardly apart
    return replace(made, features=torch.randn(made.features.shape, generator=seeded_generator("features")))


def parts(samples: Samples) -> list[Samples]:
    """Each example alone."""
    ends = torch.tensor(samples.counts).cumsum(0).tolist()
    found = []
    for i, (end, count) in enumerate(zip(ends, samples.counts, strict=True)):
        own = {name: getattr(samples, name)[end - count : end] for name in ("features", "positions")}
        rest = {name: getattr(samples, name)[i : i + 1] for name in ("latents", "prompt_embeds", "pooled", "frames")}
        found.append(replace(samples, **own, **rest, words=samples.words[i : i + 1]))
    return found


@pytest.mark.parametrize("mechanism", ["nested", "decoupled"])
@pytest.mark.parametrize("chosen", [(0, 1, 2, 3), (1, 3)], ids=["mixed", "pairs"])
def test_every_subject_acts_at_its_word_as_in_the_formula(encoder, samples, mechanism, chosen):
    unet = encoder.frozen.unet
    adapter = tiny.adapter(unet, mechanism=mechanism)
    injector = NestedInjector(unet)
    injector.inject()
    objective = Objective(encoder.frozen, injector, adapter)
    some = [parts(samples)[i] for i in chosen]
    batch = replace(
        samples,
        **{name: torch.cat([getattr(one, name) for one in some]) for name in vars(samples) if name != "words"},
        words=tuple(samples.words[i] for i in chosen),
    )
    drawn = objective.draw(batch, Places("brute", 0, len(some)))
    with torch.no_grad():
        projected = adapter(batch.features)
        with objective.acting(projected, batch.positions, batch.counts):
            fast = objective.losses(batch, drawn)
    with objective.acting(projected, batch.positions, batch.counts):
        found = objective.losses(batch, drawn).detach()
    injector.eject()
    subjects = iter(range(sum(batch.counts)))
    known = {"alpha": adapter.config["alpha"], "mechanism": mechanism}
    rows = [
        [
            BruteSubject({path: tuple(x[m] for x in read) for path, read in projected.items()}, where, **known)
            for where, m in zip([word_at(text, word) for word in WORDS[i]], subjects)  # noqa: B905
        ]
        for i, text in ((i, "a photo of a person" if i == 0 else PAIR) for i in chosen)
    ]
    install(unet, lambda _: rows)
    with torch.no_grad():
        expected = objective.losses(batch, drawn)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(fast, expected, rtol=1e-4, atol=1e-5)


def test_gradients_of_a_mixed_batch_are_those_of_its_examples(encoder, samples):
    adapter = tiny.adapter(encoder.frozen.unet)
    injector = NestedInjector(encoder.frozen.unet)
    injector.inject()
    objective = Objective(encoder.frozen, injector, adapter)

    def gradients(batches: list[Samples]) -> list[torch.Tensor]:
        adapter.zero_grad()
        first = 0
        for one in batches:
            drawn = objective.draw(one, Places("gradients", first, 4))
            first += len(one.latents)
            with objective.acting(adapter(one.features), objective.positions(one, drawn), one.counts):
                (objective.losses(one, drawn).sum() / 4).backward()
        return [parameter.grad.clone() for parameter in adapter.parameters()]

    torch.testing.assert_close(gradients([samples]), gradients(parts(samples)), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("size", [1, 3, 256])
def test_cached_examples_are_the_encoded_ones(encoder, mixed, monkeypatch, size):
    raw = RawExamples(mixed, [(16, 16)] * 4)
    monkeypatch.setattr("diffusers_nested.training.encoded_shards.SHARD", size)
    cache = Cache(raw, encoder, None, Accelerator())
    for chosen in ([3, 0], [1, 2, 1]):
        found, expected = cache.samples(chosen), encoder.encode(*collate([raw[i] for i in chosen]))
        assert found.words == expected.words
        for name in vars(found).keys() - {"words"}:
            torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=1e-3, atol=1e-3)


def test_a_step_is_the_same_in_one_batch_and_in_several(train, settings, mixed):
    shared_out = {"max_train_steps": 2, "lr_warmup_steps": 0, "proportion_empty_prompts": 0.3}
    whole = train(settings("whole", train_batch_size=4, **shared_out), mixed)
    shared = train(settings("parts", train_batch_size=2, gradient_accumulation_steps=2, **shared_out), mixed)
    torch.testing.assert_close(shared.state_dict(), whole.state_dict(), rtol=1e-3, atol=1e-4)


def test_resumed_is_uninterrupted(train, settings, mixed):
    fast = {"lr_scheduler": "constant", "learning_rate": 0.1}  # so that the gain is above the rounding of the losses
    expected = train(settings("whole", max_train_steps=4, **fast), mixed)
    train(settings("cut", max_train_steps=2, **fast), mixed)
    more = settings("cut", max_train_steps=4, resume_from_checkpoint="latest", **fast)
    assert same(train(more, mixed).state_dict(), expected.state_dict())
    assert read_log(more.folder / "log.jsonl")[-1]["gain_over_wrong"] != 0
