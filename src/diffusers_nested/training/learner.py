"""The state of a run: the adapter's weights, their average, the optimiser and the learning rate."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from torch.optim.lr_scheduler import LambdaLR

from ..adapter import NestedAdapter
from ..compat import free_of_accelerate
from .config import TrainingConfig
from .finite import first_not_finite
from .optimizer import make_optimizer


class Learner:
    """An adapter in training.

    Attributes:
        adapter: The adapter itself, in float32.
        model: The adapter as wrapped for several processes; call this one in training, under ``autocast``.
        loss_sum: Sum of the losses of the steps since the last row of the log.
        loss_count: Number of these steps.

    Args:
        adapter: Moves to accelerate's device.
        config: Settings of the run.
        accelerator: accelerate's ``Accelerator``.
    """

    def __init__(self, adapter: NestedAdapter, config: TrainingConfig, accelerator: Any) -> None:
        self.adapter = adapter.float().requires_grad_(True).train()
        adapter.to(accelerator.device)
        # The states of optimiser and average number the weights. Saving and loading an adapter may change the order of
        # its layers, so weights are numbered in the order of their names.
        self._parameters = [parameter for _, parameter in sorted(adapter.named_parameters())]
        self._config = config
        optimizer = make_optimizer(self._parameters, config, accelerator.device)
        self._schedule = self._schedule_from(0, optimizer)
        self.model, self._optimizer = accelerator.prepare(adapter, optimizer)
        # accelerate would turn all that it computes in half precision into float32: the subjects of all layers
        free_of_accelerate(accelerator, self.model, adapter)
        self._accelerator = accelerator
        self._average = EMAModel(self._parameters, config.ema_decay, foreach=True) if config.use_ema else None
        self.loss_sum = torch.zeros((), device=accelerator.device)
        self.loss_count = 0

    @property
    def learning_rate(self) -> float:
        """The rate of the next step."""
        return self._schedule.get_last_lr()[0]  # pyright: ignore[reportReturnType]

    def step(self) -> None:
        """Update the weights, unless gradients are still being accumulated."""
        if self._accelerator.sync_gradients:
            self._accelerator.clip_grad_norm_(self._parameters, self._config.max_grad_norm)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        if self._accelerator.sync_gradients:
            self._schedule.step()
            if self._average is not None:
                self._average.step(self._parameters)

    def count(self, loss: torch.Tensor) -> None:
        """Add a step's loss to the mean in the next row of the log.

        In fp16, a loss that is not finite does not count: the scaler skips that step.
        """
        if self._accelerator.scaler is not None:
            loss = loss.nan_to_num(0.0, 0.0, 0.0)
        self.loss_sum += loss
        self.loss_count += 1

    def take_mean_loss(self) -> torch.Tensor:
        """Mean loss of the steps since the last call."""
        mean = self.loss_sum / self.loss_count
        self.loss_sum, self.loss_count = torch.zeros_like(self.loss_sum), 0
        return mean

    def share_loss(self) -> None:
        """Give all processes the same sum of losses, so that a single checkpoint serves all of them."""
        self.loss_sum = self._accelerator.reduce(self.loss_sum, reduction="mean")

    @contextmanager
    def averaged(self) -> Iterator[NestedAdapter]:
        """Inside, the adapter has the weights to publish: the averaged ones, if there is an average."""
        if self._average is None:
            yield self.adapter
            return
        self._average.store(self._parameters)
        self._average.copy_to(self._parameters)
        try:
            yield self.adapter
        finally:
            self._average.restore(self._parameters)

    def finish(self) -> NestedAdapter:
        """The adapter to publish."""
        if self._average is not None:
            self._average.copy_to(self._parameters)
        return self.adapter.eval()

    def first_not_finite(self) -> str | None:
        """Name of the first tensor of the state with NaN or infinite values, if any."""
        average = [] if self._average is None else self._average.shadow_params
        state = {"adapter": self.adapter.state_dict(), "optimizer": self._optimizer.state_dict(), "average": average}
        return first_not_finite({**state, "loss_sum": self.loss_sum})

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed run needs."""
        scaler = self._accelerator.scaler
        return {
            "steps": self._schedule.last_epoch,
            # copied, as averaged() overwrites the weights in place
            "adapter": {name: tensor.clone() for name, tensor in self.adapter.state_dict().items()},
            "optimizer": self._optimizer.state_dict(),
            "average": None if self._average is None else self._average.state_dict(),
            "scaler": None if scaler is None else scaler.state_dict(),
            "loss_sum": self.loss_sum,
            "loss_count": self.loss_count,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state, with the learning rate and the schedule of this run from the state's step on."""
        self.adapter.load_state_dict(state["adapter"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule = self._schedule_from(state["steps"], self._optimizer.optimizer)
        if self._average is not None:
            self._average.load_state_dict(state["average"])
            self._average.to(self._accelerator.device)
        if self._accelerator.scaler is not None and state["scaler"] is not None:  # None if saved in another precision
            self._accelerator.scaler.load_state_dict(state["scaler"])
        self.loss_sum = state["loss_sum"].to(self._accelerator.device)
        self.loss_count = state["loss_count"]

    def _schedule_from(self, step: int, optimizer: torch.optim.Optimizer) -> LambdaLR:
        """The learning rates of this run from a step on; they depend on the settings and the step alone."""
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] = self._config.learning_rate
        return get_scheduler(
            "cosine" if self._config.lr_scheduler == "cosine" else "constant_with_warmup",
            optimizer,
            num_warmup_steps=self._config.lr_warmup_steps,
            num_training_steps=self._config.max_train_steps,
            last_epoch=step - 1,
        )
