from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor

import tiny_pipeline as tiny
from diffusers_nested import NestedAdapterError
from diffusers_nested.data import Triplet, seeded_generator
from diffusers_nested.injection import NestedInjector
from diffusers_nested.mechanisms import MECHANISMS
from diffusers_nested.training.cache import Cache
from diffusers_nested.training.frozen import FrozenModels
from diffusers_nested.training.noise import Dropout, Noise, Places
from diffusers_nested.training.objective import Objective
from diffusers_nested.training.paired import PairedLoss, paired_row
from diffusers_nested.training.samples import RawExamples, SampleEncoder, Samples, collate

CPU, FLOAT = torch.device("cpu"), torch.float32


@pytest.fixture
def adapter(pipeline):
    return tiny.adapter(pipeline.unet)


each_mechanism = pytest.mark.parametrize("mechanism", [n for n, one in MECHANISMS.items() if one.trained_as is None])


@pytest.fixture
def by_mechanism(mechanism, pipeline, frozen):
    """An adapter of the mechanism, and the objective for it."""
    made = tiny.adapter(pipeline.unet, mechanism=mechanism)
    injector = NestedInjector(frozen.unet)
    injector.inject()
    return made, Objective(frozen, injector, made, dropout=Dropout(0.5))


@pytest.fixture
def frozen(pipeline, image_encoder) -> FrozenModels:
    return FrozenModels(pipeline, image_encoder, tiny.FEATURES, CPU, FLOAT)


@pytest.fixture
def objective(frozen, adapter):
    injector = NestedInjector(frozen.unet)
    injector.inject()
    return Objective(frozen, injector, adapter, dropout=Dropout(0.5))


@pytest.fixture
def samples(frozen, triplets) -> Samples:
    positions = {(triplet.text, None): (5,) for triplet in triplets}
    raw = RawExamples(triplets, [(16, 16)] * len(triplets))
    samples = SampleEncoder(frozen, positions, 16).encode(*collate([raw[i] for i in range(4)]))
    # the random tower tells pictures of noise hardly apart
    return replace(samples, features=torch.randn(samples.features.shape, generator=seeded_generator("features")))


def drawn_for(objective: Objective, samples: Samples, dropped: list[bool]) -> Noise:
    drawn = objective.draw(samples, Places(0, 0, len(samples.latents)))
    drawn.dropped.copy_(torch.tensor(dropped))
    return drawn


def gradients(objective: Objective, adapter, samples: Samples) -> dict[str, Tensor | None]:
    drawn = drawn_for(objective, samples, [False] * 4)
    adapter.zero_grad()
    with objective.acting(adapter(samples.features), objective.positions(samples, drawn)):
        objective.weigh(objective.losses(samples, drawn), drawn, None).backward()
    return {name: parameter.grad for name, parameter in adapter.named_parameters()}


@each_mechanism
def test_gradients_reach_every_parameter(by_mechanism, samples):
    adapter, objective = by_mechanism
    found = gradients(objective, adapter, samples)
    assert all(gradient is not None and gradient.isfinite().all() for gradient in found.values())
    # a bias on the keys adds the same to all logits of a query, which the softmax does not see
    unmoved = [name for name, gradient in found.items() if not gradient.any() and not name.endswith("key.bias")]
    assert unmoved == []


@each_mechanism
def test_gradients_with_checkpointing_are_the_same(by_mechanism, samples, pipeline):
    adapter, objective = by_mechanism
    plain = {name: gradient.clone() for name, gradient in gradients(objective, adapter, samples).items()}
    pipeline.unet.enable_gradient_checkpointing()
    calls = []
    pipeline.unet.mid_block.attentions[0].transformer_blocks[0].register_forward_pre_hook(lambda *_: calls.append(1))
    for name, gradient in gradients(objective, adapter, samples).items():
        torch.testing.assert_close(gradient, plain[name])
    assert len(calls) == 2  # computed again in the backward pass


@each_mechanism
def test_rows_without_prompt_are_the_plain_unet(by_mechanism, samples, pipeline):
    adapter, objective = by_mechanism
    drawn = drawn_for(objective, samples, [True, False, True, False])
    outputs = []
    pipeline.unet.register_forward_hook(lambda _, __, output: outputs.append(output[0]))
    with torch.no_grad(), objective.acting(adapter(samples.features), objective.positions(samples, drawn)):
        losses = objective.losses(samples, drawn)
    with torch.no_grad():
        plain = objective.losses(samples, drawn)
        noisy = objective.scheduler.add_noise(samples.latents, drawn.noise, drawn.timesteps)
        _, words, _, pooled = pipeline.encode_prompt("", do_classifier_free_guidance=True)
        size = torch.tensor([[16, 16, 0, 0, 16, 16]] * 4)
        added = {"text_embeds": pooled.expand(4, -1), "time_ids": size}
        predicted = pipeline.unet(noisy, drawn.timesteps, words.expand(4, -1, -1), added_cond_kwargs=added).sample
    expected = (predicted - drawn.noise).square().mean((1, 2, 3))
    torch.testing.assert_close(losses[[0, 2]], expected[[0, 2]])
    torch.testing.assert_close(plain[[0, 2]], expected[[0, 2]])
    acted = (outputs[0] - outputs[1]).abs().amax((1, 2, 3))
    assert (acted[[1, 3]] > 1e-4).all()


@each_mechanism
def test_each_row_has_its_own_subject(by_mechanism, samples):
    adapter, objective = by_mechanism
    drawn = drawn_for(objective, samples, [False] * 4)
    with torch.no_grad():
        with objective.acting(adapter(samples.features), samples.positions):
            together = objective.losses(samples, drawn)
        first = adapter(samples.features[:1].expand(4, -1, -1))
        with objective.acting(first, samples.positions):
            same = objective.losses(samples, drawn)
    torch.testing.assert_close(together[0], same[0])
    assert (together[1:] != same[1:]).any()


def test_nothing_acts_after_the_block(objective, adapter, samples):
    drawn = drawn_for(objective, samples, [False] * 4)
    with torch.no_grad():
        before = objective.losses(samples, drawn)
        with objective.acting(adapter(samples.features), samples.positions):
            pass
        assert torch.equal(objective.losses(samples, drawn), before)


def test_sdxl_is_told_the_size_and_the_crop_of_each_picture(frozen, image_encoder, pipeline):
    pictures = [tiny.photo(1, 16), tiny.photo(2, 40), tiny.photo(3, 40).resize((48, 32))]
    triplets = [Triplet(tiny.photo(), "a person", picture) for picture in pictures]
    encoder = SampleEncoder(frozen, {("a person", None): (2,)}, 16)
    raw = RawExamples(triplets, [(16, 16)] * len(triplets))
    objective = Objective(frozen, NestedInjector(frozen.unet), tiny.adapter(pipeline.unet))
    told = []
    pipeline.unet.register_forward_pre_hook(
        lambda _, __, given: told.append(given["added_cond_kwargs"]["time_ids"].tolist()), with_kwargs=True
    )
    for samples in (
        encoder.encode(*collate([raw[i] for i in range(3)])),
        Cache(raw, encoder, None, Accelerator()).samples([0, 1, 2]),
    ):
        with torch.no_grad():
            objective.losses(samples, objective.draw(samples, Places(0, 0, 3)))
    assert told == [[[16, 16, 0, 0, 16, 16], [40, 40, 0, 0, 16, 16], [32, 48, 0, 4, 16, 16]]] * 2


def test_paired_loss(objective, adapter, samples):
    paired = PairedLoss(objective, samples, Places(1, 0, len(samples.latents)))
    losses = paired.measure(adapter)
    assert torch.equal(paired.measure(adapter), losses)
    row = paired_row(losses.tolist())
    assert len({row["loss_right"], row["loss_wrong"], row["loss_none"]}) == 3
    assert row["gain_over_none"] == pytest.approx(row["loss_none"] - row["loss_right"])
    assert row["gain_over_wrong"] == pytest.approx(row["loss_wrong"] - row["loss_right"])


def test_latents_are_what_the_pipeline_decodes(frozen, pipeline):
    pixels = torch.rand(2, 3, 16, 16) * 2 - 1
    raw = pipeline.vae.encode(pixels).latent_dist.mode()
    torch.testing.assert_close(frozen.latents(pixels), raw * pipeline.vae.config.scaling_factor)
    pipeline.vae.register_to_config(latents_mean=[0.1, 0.2, 0.3, 0.4], latents_std=[1.0, 2.0, 3.0, 4.0])
    latents = frozen.latents(pixels)
    mean, std = torch.tensor([0.1, 0.2, 0.3, 0.4]), torch.tensor([1.0, 2.0, 3.0, 4.0])
    decoded = latents * std.view(1, 4, 1, 1) / pipeline.vae.config.scaling_factor + mean.view(1, 4, 1, 1)
    torch.testing.assert_close(decoded, raw)


def test_inpainting_unet_is_refused(pipeline, image_encoder):
    pipeline.unet = tiny.unet(in_channels=9)
    with pytest.raises(NestedAdapterError, match="9 channels"):
        FrozenModels(pipeline, image_encoder, tiny.FEATURES, CPU, FLOAT)


def test_other_vision_tower_is_refused(pipeline, image_encoder):
    models = FrozenModels(pipeline, image_encoder, 99, CPU, FLOAT)
    with pytest.raises(NestedAdapterError, match="image_feature_dim=24"):
        models.features([tiny.photo()])


@each_mechanism
def test_rows_without_a_subject_teach_nothing(by_mechanism, samples):
    """Which is why examples without one are refused."""
    adapter, objective = by_mechanism
    drawn = drawn_for(objective, samples, [True] * 4)
    with objective.acting(adapter(samples.features), objective.positions(samples, drawn)):
        objective.losses(samples, drawn).mean().backward()
    assert not any(parameter.grad.any() for parameter in adapter.parameters() if parameter.grad is not None)
