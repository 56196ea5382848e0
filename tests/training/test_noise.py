import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler
from diffusers.training_utils import compute_snr

from diffusers_nested import NestedAdapterError
from diffusers_nested.training.noise import (
    Dropout,
    Places,
    draw_noise,
    min_snr_weights,
    prediction_target,
    training_scheduler,
)


def scheduler(kind: str, zero_snr: bool = False):
    return training_scheduler(
        DDIMScheduler(beta_schedule="scaled_linear", prediction_type=kind, rescale_betas_zero_snr=zero_snr)
    )


@pytest.mark.parametrize(("kind", "divisor"), [("epsilon", lambda snr: snr), ("v_prediction", lambda snr: snr + 1)])
def test_min_snr_weights_follow_the_definition(kind: str, divisor):
    made = scheduler(kind)
    steps = torch.arange(1000)
    snr = compute_snr(made, steps).double()
    expected = snr.clamp(max=5) / divisor(snr)
    torch.testing.assert_close(min_snr_weights(made, steps, 5.0).double(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("kind", "last"), [("epsilon", 1.0), ("v_prediction", 0.0)])
def test_min_snr_weights_at_pure_noise(kind: str, last: float):
    made = scheduler(kind, zero_snr=True)
    assert made.alphas_cumprod[-1] == 0
    weights = min_snr_weights(made, torch.arange(1000), 5.0)
    assert weights.isfinite().all()
    assert weights[-1] == last


def test_targets():
    latents = torch.randn(2, 4, 3, 3)
    drawn = draw_noise(latents, 1000, Dropout(), Places("test", 0, 2))
    signal = scheduler("epsilon").alphas_cumprod[drawn.timesteps].view(-1, 1, 1, 1)
    velocity = signal.sqrt() * drawn.noise - (1 - signal).sqrt() * latents
    assert torch.equal(prediction_target(scheduler("epsilon"), latents, drawn), drawn.noise)
    torch.testing.assert_close(prediction_target(scheduler("v_prediction"), latents, drawn), velocity)


def test_timesteps_are_one_from_each_part():
    latents = torch.zeros(8, 1, 1, 1)
    parts = [draw_noise(latents, 1000, Dropout(), Places("test", 8 * i, 8)).timesteps for i in range(50)]
    assert all(torch.equal(part // 125, torch.arange(8)) for part in parts)
    assert len({int(step) for part in parts for step in part}) > 250


def test_share_of_dropped_prompts():
    latents = torch.zeros(2000, 1, 1, 1)
    drawn = draw_noise(latents, 1000, Dropout(0.25), Places("test", 0, 2000))
    assert 0.2 < drawn.dropped.float().mean() < 0.3
    assert not draw_noise(latents, 1000, Dropout(), Places("test", 0, 2000)).dropped.any()


def test_each_example_loses_one_thing_at_most():
    latents = torch.zeros(2000, 1, 1, 1)
    drawn = draw_noise(latents, 1000, Dropout(0.1, 0.2, 0.3), Places("test", 0, 2000))
    lost = torch.stack([drawn.dropped, drawn.no_caption, drawn.no_photo]).float()
    torch.testing.assert_close(lost.mean(1), torch.tensor([0.1, 0.2, 0.3]), rtol=0, atol=0.03)
    assert lost.sum(0).max() == 1
    # those that lose both are the same as without the others
    assert torch.equal(drawn.dropped, draw_noise(latents, 1000, Dropout(0.1), Places("test", 0, 2000)).dropped)


def test_noise_belongs_to_the_example():
    """Eight examples of a step at once, or shared out in twos."""
    latents = torch.zeros(8, 4, 3, 3)
    whole = vars(draw_noise(latents, 1000, Dropout(0.5), Places("test", 16, 8)))
    parts = [vars(draw_noise(latents[:2], 1000, Dropout(0.5), Places("test", 16 + i, 8))) for i in range(0, 8, 2)]
    assert all(torch.equal(torch.cat([part[name] for part in parts]), whole[name]) for name in whole)
    assert len({float(x) for x in whole["noise"][:, 0, 0, 0]}) == 8
    for other in (Places("test", 24, 8), Places("seed", 16, 8)):
        assert not torch.equal(draw_noise(latents, 1000, Dropout(0.5), other).noise, whole["noise"])


def test_any_sampler_gives_its_forward_process():
    sampler = EulerDiscreteScheduler(beta_schedule="scaled_linear", prediction_type="v_prediction")
    made = training_scheduler(sampler)
    assert made.config["prediction_type"] == "v_prediction"
    torch.testing.assert_close(made.alphas_cumprod, scheduler("epsilon").alphas_cumprod)


def test_unknown_prediction_is_refused():
    with pytest.raises(NestedAdapterError, match="'sample'"):
        scheduler("sample")
