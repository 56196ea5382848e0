"""The training loop: steps, and what happens between them."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from tqdm.auto import tqdm

from ..adapter import NestedAdapter
from ..data import Triplets
from ..errors import NestedAdapterError
from ..injection import NestedInjector
from .bare import BareCaptions
from .checkpoints import find_checkpoints, limit_checkpoints, save_checkpoint
from .config import TrainingConfig
from .feed import Feed
from .finite import first_not_finite
from .folder import save_adapter
from .learner import Learner
from .log import RunLog
from .noise import Dropout, Places
from .objective import Objective
from .paired import PairedLoss, paired_row
from .resume import Start, take_up
from .samples import SampleEncoder, Samples
from .stopwatch import Stopwatch
from .trackers import track
from .validation import Validation


class Run:
    """One training run.

    Args:
        encoder: Encodes the examples.
        adapter: The adapter to train.
        dataset: The training set.
        config: Settings.
        settings: Everything that the run depends on, for its checkpoints; see ``settings_of``.
        accelerator: accelerate's ``Accelerator``.
        injector: Injected into the UNet during the run.
        validation: For validation pictures.
        validation_dataset: For the paired loss; the training set if None.
        bare: What is left of dropped captions; None for nothing.
        phase: Number of the phase that the run is, for the log.
    """

    def __init__(
        self,
        encoder: SampleEncoder,
        adapter: NestedAdapter,
        dataset: Triplets,
        config: TrainingConfig,
        settings: dict[str, Any],
        accelerator: Any,
        injector: NestedInjector,
        validation: Validation,
        validation_dataset: Triplets | None = None,
        bare: BareCaptions | None = None,
        phase: int | None = None,
    ) -> None:
        self._config = config
        self._phase = {} if phase is None else {"phase": phase}
        self._settings = settings
        self._accelerator = accelerator
        self._validation = validation
        self._feed = Feed(dataset, encoder, config, accelerator)
        shares = (config.proportion_empty_prompts, config.proportion_empty_captions, config.proportion_empty_images)
        self._objective = Objective(encoder.frozen, injector, adapter, Dropout(*shares), bare)
        self._learner = Learner(adapter, config, accelerator)
        held = self._feed.held(validation_dataset)
        places = self._places("paired", 0, len(held.latents))
        self._paired = PairedLoss(self._objective, held, places, accelerator.autocast)
        self._steps, self._frozen = Stopwatch(accelerator.device), encoder.frozen.stopwatch

    def train(self, start: Start) -> NestedAdapter:
        """Take the remaining steps and save the adapter."""
        if start.learner is not None:
            self._learner.load_state_dict(start.learner)
        first, stop = start.step, self._config.max_train_steps
        parts = self._config.gradient_accumulation_steps
        samples = self._feed.batches(first * parts, stop * parts)
        self._frozen.take()  # what has been encoded so far is not of a step
        log = None
        if self._is_main:
            take_up(self._config, start)
            log = RunLog(self._config.folder / "log.jsonl", first)
        if first:
            self._draw(first, is_repeated=False)  # the run may have been killed meanwhile
        title = f"Phase {self._phase['phase']}" if self._phase else "Training"
        with tqdm(total=stop, initial=first, desc=title, disable=not self._is_main) as bar:
            for step in range(first, stop):
                rate = self._learner.learning_rate
                with self._steps.span():
                    self._learner.count(self._step(step, samples))
                self._between(step + 1, rate, log, bar)
                bar.update()
        self._check_finite(stop)
        self._accelerator.wait_for_everyone()
        adapter = self._learner.finish()
        if self._is_main:
            save_adapter(self._config.folder, adapter)
        return adapter

    @property
    def _is_main(self) -> bool:
        return self._accelerator.is_main_process

    def _step(self, step: int, samples: Iterator[Samples]) -> torch.Tensor:
        """Take one optimiser step and return its loss."""
        count = self._config.gradient_accumulation_steps
        total = torch.zeros((), device=self._accelerator.device)
        for part in range(step * count, (step + 1) * count):
            with self._accelerator.accumulate(self._learner.model):
                total += self._backward(next(samples), part)
                self._learner.step()
        return total / count

    def _backward(self, samples: Samples, part: int) -> torch.Tensor:
        """Add the gradients of the batch with this number."""
        size, count = self._config.train_batch_size, self._config.gradient_accumulation_steps
        drawn = self._objective.draw(samples, self._places("step", part, size, count))
        with self._accelerator.autocast():
            projected = self._learner.model(self._objective.features(samples, drawn))
        with self._objective.acting(projected, self._objective.positions(samples, drawn), samples.counts):
            # the frozen UNet is in the right type already; under autocast, its norms would keep copies in float32
            losses = self._objective.losses(samples, drawn)
            loss = self._objective.weigh(losses, drawn, self._config.snr_gamma)
            self._accelerator.backward(loss)
        return loss.detach()

    def _between(self, done: int, rate: float, log: RunLog | None, bar: Any) -> None:
        """Log, save a checkpoint and draw pictures if they are due after this step."""
        config = self._config
        is_last = done == config.max_train_steps
        if done % config.logging_steps == 0 or is_last:
            row = {**self._phase, "step": done, "lr": rate, **self._measure()}
            unsound = next((name for name, value in row.items() if not math.isfinite(value)), None)
            if unsound is not None:
                raise self._diverged(f"{unsound} is {row[unsound]}", done)
            bar.set_postfix(loss=row["loss"], gain=row["gain_over_wrong"])
            if log is not None:
                log.write(row)
            track(self._accelerator, row)
        if done % config.checkpointing_steps == 0:
            self._save(done)
        self._draw(done)

    def _measure(self) -> dict[str, float]:
        steps, seconds = self._steps.take()  # before the paired loss, which is not of a step
        times = torch.tensor([seconds, self._frozen.take()[1]], device=self._accelerator.device)
        paired = self._paired.measure(self._learner.module)
        measured = torch.cat([self._learner.take_mean_loss()[None], paired, times])
        loss, *losses, seconds, frozen = self._accelerator.reduce(measured, reduction="mean").tolist()
        pictures = steps * self._config.step_batch_size * self._accelerator.num_processes
        speed = {"pictures_per_second": pictures / seconds, "frozen_share": frozen / seconds}
        return {"loss": loss, **paired_row(losses), **speed}

    def _save(self, done: int) -> None:
        self._learner.share_loss()
        self._check_finite(done)
        state = {"step": done, "settings": self._settings, "learner": self._learner.state_dict()}
        with self._learner.averaged() as adapter:
            if self._is_main:
                save_checkpoint(self._config.folder, done, state, adapter)
                limit_checkpoints(self._config.folder, self._config.checkpoints_total_limit)
        self._accelerator.wait_for_everyone()

    def _check_finite(self, done: int) -> None:
        """Raise if the run has diverged, before it overwrites what it had learned."""
        losses = self._paired.measure(self._learner.module)
        # finite weights may still be too large for a finite loss
        name = self._learner.first_not_finite() or first_not_finite({"the paired loss": losses})
        if name is not None:
            raise self._diverged(f"{name} holds NaN or infinite values", done)

    def _diverged(self, what: str, done: int) -> NestedAdapterError:
        kept = find_checkpoints(self._config.folder)
        names = ", ".join(path.name for path in kept)
        remedy = f"Set resume_from_checkpoint to one of {names}, and resume" if kept else "Start again"
        return NestedAdapterError(
            f"Training has diverged: {what} after step {done}. {remedy} with a lower learning_rate, or with "
            "mixed_precision='bf16' or 'no' instead of 'fp16'; check the training set if it happens again."
        )

    def _draw(self, done: int, is_repeated: bool = True) -> None:
        """Draw pictures if they are due after this step, and not there yet or to be repeated."""
        is_due = done % self._config.validation_steps == 0 or done == self._config.max_train_steps
        if not (self._validation.images and is_due):
            return
        path = self._config.folder / "validation" / f"step-{done}.png"
        with self._learner.averaged() as adapter:
            if self._is_main and (is_repeated or not path.exists()):
                self._validation.draw(path, adapter.to(self._accelerator.device), self._config)
        self._accelerator.wait_for_everyone()

    def _places(self, purpose: str, batch: int, size: int, batches: int = 1) -> Places:
        """Where the examples of this process's batch stand, if a step has so many batches of each process."""
        processes = self._accelerator.num_processes
        first = (batch * processes + self._accelerator.process_index) * size  # as in EndlessOrder
        return Places((purpose, self._config.seed), first, size * processes * batches)
