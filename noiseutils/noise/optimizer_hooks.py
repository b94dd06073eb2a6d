"""Noise on gradients and weights in a training loop of one's own, in two lines.

    noise = attach_to_optimizer(optimizer, AdaptiveNoise(), epochs=300)
    ...
    noise.end_epoch(validation_loss)           # after each epoch, once its weights are stored or scored

The loop, the network and the optimiser stay as they are. Hooks of `optimizer.step()` put noise on gradients
before it and, with `weight_every="step"`, on weights after it; noise that weights get once an epoch goes on
in `end_epoch`, for the epoch that follows. Hooks of a step come too late for `weight_every="step_restored"`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

from noiseutils.errors import UserError
from noiseutils.noise.parameters import Action, ParameterNoise, ParameterNoiseSpec
from noiseutils.rng import generator


class OptimizerNoise:
    """Noise on an optimiser's gradients and weights; `attach_to_optimizer` describes the arguments."""

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        noise: ParameterNoiseSpec,
        *,
        epochs: int,
        seed: int = 0,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        if epochs < 1:
            raise UserError(f"epochs must be at least 1, got {epochs}")
        noise.check_epochs(epochs)
        if noise.weight_every == "step_restored":
            raise UserError(
                "weight_every='step_restored' puts noise on weights before the forward pass, which an "
                "optimiser does not see: use 'epoch' or 'step' here, or `noiseutils.train`"
            )
        self.parameters = [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]
        devices = {p.device for p in self.parameters}
        if len(devices) != 1:
            names = ", ".join(sorted(map(str, devices))) or "none"
            raise UserError(
                f"the optimiser's trainable parameters must lie on one device, they lie on: {names}"
            )
        source = generator(seed, "parameters", devices.pop())
        self.epochs = epochs
        self._noise = ParameterNoise(noise, epochs, self.parameters, source)
        self._rows: list[dict[str, float]] = []
        self._hooks = [
            optimizer.register_step_pre_hook(self._before_step),
            optimizer.register_step_post_hook(lambda *_: self._noise.add_to_weights()),
        ]
        if state is None:
            self._noise.begin_epoch()
        else:
            self._rows = [dict(row) for row in state["epochs"]]
            self._noise.restore(state, self._rows)
        self._start_counting()

    @property
    def action(self) -> Action:
        """The noise of the current epoch."""
        return self._noise.action

    def end_epoch(self, validation_loss: float, train_loss: float | None = None) -> Action:
        """End an epoch, after its last step and validation; return the next epoch's action.

        train_loss: mean over the epoch's steps; `AdaptiveNoise(overfit="both")` needs it.
        Noise that weights get once an epoch goes on here. UserError after `epochs` epochs, without a step,
        for a loss that is not finite, or a training loss that is missing.
        """
        if len(self._rows) >= self.epochs:
            raise UserError(f"all {self.epochs} epochs are done: attach with as many as the training has")
        if not self._steps:
            raise UserError("no step of the optimiser since the last epoch: is it the one that trains?")
        if not math.isfinite(validation_loss):
            raise UserError(f"the validation loss must be a finite number, got {validation_loss}")
        if train_loss is None and self._noise.spec.needs_train_loss:
            raise UserError(
                "this noise goes by the training loss, too: end_epoch(validation_loss, train_loss)"
            )
        changes = [p.detach() - b for p, b in zip(self.parameters, self._before, strict=True)]
        self._rows.append(
            {
                "gradient_norm": self._norms.item() / self._steps,
                "update_norm": nn.utils.get_total_norm(changes).item(),
                "validation_loss": float(validation_loss),
                "train_loss": math.nan if train_loss is None else float(train_loss),
            }
        )
        self._noise.observe(self._rows[-1])
        self._noise.begin_epoch()
        self._start_counting()
        return self.action

    def state_dict(self) -> dict[str, Any]:
        """Return a state to store beside the network's and the optimiser's, all three after `end_epoch`."""
        return {"epochs": [dict(row) for row in self._rows], **self._noise.state()}

    def remove(self) -> None:
        """Take the noise off the optimiser; the end of a `with` block does so, too."""
        for hook in self._hooks:
            hook.remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def _before_step(self, optimizer: object, args: tuple, kwargs: dict[str, Any]) -> None:
        if any(callable(given) and given is not optimizer for given in (*args, *kwargs.values())):
            raise UserError("noise on gradients comes before the step: `optimizer.step()` takes no closure")
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        if missing := [tuple(p.shape) for p in self.parameters if p.grad is None]:
            raise UserError(
                f"{len(missing)} of the optimiser's parameters have no gradient, the first of shape "
                f"{missing[0]}: noise goes on all; leave out of the optimiser what is not trained"
            )
        self._norms += nn.utils.get_total_norm(gradients).detach()
        self._steps += 1
        self._noise.add_to_gradients()

    def _start_counting(self) -> None:
        self._before: list[Tensor] = [p.detach().clone() for p in self.parameters]
        self._norms = torch.zeros((), device=self._noise.device)  # over steps; no wait for the device
        self._steps = 0


def attach_to_optimizer(
    optimizer: torch.optim.Optimizer,
    noise: ParameterNoiseSpec,
    *,
    epochs: int,
    seed: int = 0,
    state: Mapping[str, Any] | None = None,
) -> OptimizerNoise:
    """Put noise on the gradients and weights that `optimizer` trains, when the training stagnates.

    optimizer: with all its parameters; those added later get no noise.   noise: AdaptiveNoise (defaults:
    Table V, for 300 epochs) or ScriptedNoise.   epochs: of the whole training: noise fades towards their end.
    seed: of the noise; torch's global generator is untouched.   state: from `OptimizerNoise.state_dict`, to
    continue a training whose network's weights are restored.
    Raises UserError for parameters on several devices, and for a script of another length; a step does for
    a parameter without a gradient.
    """
    return OptimizerNoise(optimizer, noise, epochs=epochs, seed=seed, state=state)
