"""Seconds of spans, by a clock of the test's own, and what a log makes of them."""

import pytest
import torch

from diffusers_nested.training import read_log
from diffusers_nested.training.stopwatch import Stopwatch


def test_spans_add_up():
    times = iter([1.0, 1.5, 10.0, 12.0, 20.0])
    watch = Stopwatch(torch.device("cpu"), lambda: next(times))
    for _ in range(2):
        with watch.span():
            pass
    with pytest.raises(KeyboardInterrupt), watch.span():
        raise KeyboardInterrupt
    assert watch.take() == (2, 2.5)
    assert watch.take() == (0, 0)


waited: list["Event"] = []
clock = [0.0, 200.0, 300.0, 800.0]


class Event:
    """What torch.cuda.Event does, with a clock of its own in milliseconds."""

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing

    def record(self) -> None:
        self.at = clock.pop(0)

    def synchronize(self) -> None:
        waited.append(self)

    def elapsed_time(self, end: "Event") -> float:
        assert end in waited
        return end.at - self.at


def test_cuda_is_not_waited_for_within_a_step(monkeypatch):
    monkeypatch.setattr(torch.cuda, "Event", Event)
    watch = Stopwatch(torch.device("cuda"))
    for _ in range(2):
        with watch.span():
            pass
    assert not waited
    assert watch.take() == (2, pytest.approx(0.7))


@pytest.mark.parametrize("cached", [False, True])
def test_the_log_tells_pictures_per_second_and_the_share_of_the_frozen_models(train, settings, monkeypatch, cached):
    """Each reading of the clock is a second after the one before."""
    seconds = iter(range(10_000))
    monkeypatch.setattr(Stopwatch.__init__, "__defaults__", (lambda: float(next(seconds)),))
    config = settings(max_train_steps=2, logging_steps=2, gradient_accumulation_steps=2, cache_features=cached)
    train(config)
    row = read_log(config.folder / "log.jsonl")[-1]
    # a step starts and ends; in each of its two parts, features, latents and prompts do
    step, frozen = (1, 0) if cached else (1 + 2 * 3 * 2, 2 * 3)
    assert row["pictures_per_second"] == pytest.approx(4 / step)
    assert row["frozen_share"] == pytest.approx(frozen / step)
