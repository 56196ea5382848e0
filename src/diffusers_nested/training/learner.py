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
from ..environment.engines import spreads_weights
from .config import TrainingConfig
from .finite import first_not_finite
from .optimizer import make_optimizer
from .shards import joined, mapped, own_part, shard, spread, whole


class Learner:
    """An adapter in training.

    Attributes:
        adapter: The adapter itself, in float32; if its weights are spread over processes, on the CPU, and up to date
            only in ``averaged`` and after ``finish``.
        module: What computes on this device: the adapter, or its spread copy.
        model: The module as wrapped for several processes; call this one in training, under ``autocast``.
        loss_sum: Sum of the losses of the steps since the last row of the log.
        loss_count: Number of these steps.

    Args:
        adapter: Moves to accelerate's device.
        config: Settings of the run.
        accelerator: accelerate's ``Accelerator``.
    """

    def __init__(self, adapter: NestedAdapter, config: TrainingConfig, accelerator: Any) -> None:
        self.adapter = adapter.float().requires_grad_(True).train()
        self._config, self._accelerator = config, accelerator
        self._is_spread = spreads_weights()
        self.module = self._placed(adapter)
        # The states of optimiser and average number the weights. Saving and loading an adapter may change the order of
        # its layers, so weights are numbered in the order of their names.
        self._parameters = [parameter for _, parameter in sorted(self.module.named_parameters())]
        # the average ignores what needs no gradient
        self._parts: list[Any] = [own_part(parameter).requires_grad_(True) for parameter in self._parameters]
        optimizer = make_optimizer(self._parameters, config, accelerator.device)
        self._schedule = self._schedule_from(0, optimizer)
        self.model, self._optimizer = self._prepared(optimizer)
        self._average = EMAModel(self._parts, config.ema_decay, foreach=True) if config.use_ema else None
        self.loss_sum = torch.zeros((), device=accelerator.device)
        self.loss_count = 0

    def _placed(self, adapter: NestedAdapter) -> NestedAdapter:
        """What computes: the adapter on its device, or a copy of which each process has a part."""
        if not self._is_spread:
            return adapter.to(self._accelerator.device)
        copy = shard(adapter, self._accelerator.device)
        adapter.to("cpu")  # pyright: ignore[reportArgumentType]
        return copy

    def _prepared(self, optimizer: torch.optim.Optimizer) -> tuple[Any, Any]:
        """Model and optimiser as accelerate wraps them; what is spread needs no wrapper for its gradients."""
        if self._is_spread:
            return self.module, self._accelerator.prepare_optimizer(optimizer, device_placement=False)
        model, wrapped = self._accelerator.prepare(self.module, optimizer)
        # accelerate would turn all that it computes in half precision into float32: the subjects of all layers
        free_of_accelerate(self._accelerator, model, self.module)
        return model, wrapped

    @property
    def learning_rate(self) -> float:
        """The rate of the next step."""
        return self._schedule.get_last_lr()[0]  # pyright: ignore[reportReturnType]

    def step(self) -> None:
        """Update the weights, unless gradients are still being accumulated."""
        if self._accelerator.sync_gradients:
            self._clip()
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        if self._accelerator.sync_gradients:
            self._schedule.step()
            if self._average is not None:
                self._average.step(self._parts)

    def _clip(self) -> None:
        most = self._config.max_grad_norm
        if self._is_spread:  # accelerate looks for models that it has wrapped
            torch.nn.utils.clip_grad_norm_(self._parameters, most)
        else:
            self._accelerator.clip_grad_norm_(self._parameters, most)

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
        """Inside, the adapter has the weights to publish: the averaged ones, if there is an average.

        All processes must enter together.
        """
        if self._is_spread:
            self._put_together()
            try:
                yield self.adapter
            finally:
                self.adapter.to("cpu")  # pyright: ignore[reportArgumentType]
            return
        if self._average is None:
            yield self.adapter
            return
        self._average.store(self._parts)
        self._average.copy_to(self._parts)
        try:
            yield self.adapter
        finally:
            self._average.restore(self._parts)

    def finish(self) -> NestedAdapter:
        """The adapter to publish."""
        if self._is_spread:
            self._put_together()
            self.adapter.to(self._accelerator.device)
        elif self._average is not None:
            self._average.copy_to(self._parts)
        return self.adapter.eval()

    @torch.no_grad()
    def _put_together(self) -> None:
        """Give the adapter the weights to publish, one after another."""
        parts = self._parts if self._average is None else self._average.shadow_params
        to = [parameter for _, parameter in sorted(self.adapter.named_parameters())]
        for weight, part, like in zip(to, parts, self._parameters, strict=True):
            weight.copy_(joined(part, like))

    def first_not_finite(self) -> str | None:
        """Name of the first tensor of the state with NaN or infinite values, if any."""
        average = [] if self._average is None else self._average.shadow_params
        state = {"adapter": self.module.state_dict(), "optimizer": self._optimizer.state_dict(), "average": average}
        found = first_not_finite({**mapped(state, own_part), "loss_sum": self.loss_sum})
        if not self._is_spread:
            return found
        flags = self._accelerator.gather(torch.tensor([found is not None], device=self._accelerator.device))
        return found or ("another process's part of the state" if flags.any() else None)

    def state_dict(self) -> dict[str, Any] | None:
        """Everything that a resumed run needs, in the main process; all processes must ask for it together."""
        if not (self._is_spread or self._accelerator.is_main_process):
            return None
        scaler = self._accelerator.scaler
        average = None if self._average is None else self._average.state_dict()
        if average is not None:
            pairs = zip(average["shadow_params"], self._parameters, strict=True)
            average["shadow_params"] = [self._kept(joined(part, like)) for part, like in pairs]
        return {
            "steps": self._schedule.last_epoch,
            # copied, as averaged() overwrites the weights in place
            "adapter": mapped(self.module.state_dict(), lambda x: self._kept(whole(x)).clone()),
            "optimizer": mapped(self._optimizer.state_dict(), lambda x: self._kept(whole(x))),
            "average": average,
            "scaler": None if scaler is None else scaler.state_dict(),
            "loss_sum": self.loss_sum,
            "loss_count": self.loss_count,
        }

    def _kept(self, tensor: torch.Tensor) -> torch.Tensor:
        """A tensor of a state: what has been put together waits on the CPU, and only where it is saved."""
        if not self._is_spread:
            return tensor
        return tensor.cpu() if self._accelerator.is_main_process else tensor.new_empty(0)

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state, with the learning rate and the schedule of this run from the state's step on."""
        own = self.module.state_dict()
        for name, tensor in own.items():
            tensor.copy_(spread(state["adapter"][name], tensor))
        moments = state["optimizer"]["state"]
        spread_moments = {
            number: {name: spread(x, self._parameters[number]) if torch.is_tensor(x) else x for name, x in one.items()}
            for number, one in moments.items()
        }
        self._optimizer.load_state_dict({**state["optimizer"], "state": spread_moments})
        self._schedule = self._schedule_from(state["steps"], self._optimizer.optimizer)
        if self._average is not None:
            pairs = zip(state["average"]["shadow_params"], self._parameters, strict=True)
            parts = [own_part(spread(x, like)) for x, like in pairs]
            self._average.load_state_dict({**state["average"], "shadow_params": parts})
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
