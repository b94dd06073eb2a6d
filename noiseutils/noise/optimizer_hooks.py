"""Noise on gradients and weights in a training loop of one's own, in two lines.

    noise = attach_to_optimizer(optimizer, AdaptiveNoise(), epochs=300)
    ...
    noise.end_epoch(validation_loss)           # after each epoch, once its weights are stored or scored

The loop, the network and the optimiser stay as they are. Hooks of `optimizer.step()` put noise on gradients
before it and, with `weight_every="step"`, on weights after it; noise that weights get once an epoch goes on
in `end_epoch`, for the epoch that follows. Hooks of a step come too late for `weight_every="step_restored"`.

Noise goes on the parameters that the optimiser trains: on those that are thawed or added later, too, from
the next step on, and no longer on frozen ones. A warning says so.

A fused optimiser gets gradients of the scaled loss from `torch.amp.GradScaler` and divides them itself: noise
and norms are in the units of the unscaled gradients, and a step that is skipped after an overflow counts for
nothing. On a GPU it uses draws up, as looking would wait for the device.

Several processes train one network: under DistributedDataParallel the noise is the same in all, under
`fully_shard` each shard has noise of its own, and the norms are those of the whole. Attach with one seed in
all, and call `end_epoch` in all.
"""

from __future__ import annotations

import math
import operator
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Self

import torch
from torch import Tensor

from noiseutils.errors import UserError
from noiseutils.noise.parameters import Action, ParameterNoise, ParameterNoiseSpec
from noiseutils.noise.trained import (
    device_of,
    of_all_processes,
    shard_of,
    total_norm,
    trained_parameters,
    unwrapped_optimizer,
)
from noiseutils.rng import generator

STATE_KEYS = ("kind", "shapes", "shard", "epochs", "random")  # the keys of a stored state
ROW_KEYS = ("gradient_norm", "update_norm", "validation_loss", "train_loss")  # those of each of its epochs


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
        replace: bool = False,
    ) -> None:
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise UserError(f"optimizer must be a torch.optim.Optimizer, got {type(optimizer).__name__}")
        if not isinstance(noise, ParameterNoiseSpec):
            raise UserError(f"noise must be AdaptiveNoise or ScriptedNoise, got {noise!r}")
        if epochs < 1:
            raise UserError(f"epochs must be at least 1, got {epochs}")
        noise.check_epochs(epochs)
        if noise.weight_every == "step_restored":
            raise UserError(
                "weight_every='step_restored' puts noise on weights before the forward pass, which an "
                "optimiser does not see: use 'epoch' or 'step' here, or `noiseutils.train`"
            )
        self._optimizer = optimizer = unwrapped_optimizer(optimizer)
        self.parameters = trained_parameters(optimizer)
        self._shard, device = shard_of(self.parameters), device_of(self.parameters)
        purpose = "/".join(["parameters", *(f"shard {place}" for place in self._shard)])
        self.epochs = epochs
        self._noise = ParameterNoise(noise, epochs, self.parameters, generator(seed, purpose, device))
        self._seed = seed
        self._rows: list[dict[str, float]] = []
        if state is not None:
            self._restore(state)
        self._replace(replace)
        self._hooks = [
            optimizer.register_step_pre_hook(self._before_step),
            optimizer.register_step_post_hook(self._after_step),
        ]
        if state is None:  # otherwise the restored weights have it
            self._noise.begin_epoch()
        self._start_counting()

    @property
    def action(self) -> Action:
        """The noise of the current epoch."""
        return self._noise.action

    def end_epoch(self, validation_loss: float, train_loss: float | None = None) -> Action:
        """End an epoch, after its last step and validation; return the next epoch's action.

        train_loss: mean over the epoch's steps; `AdaptiveNoise(overfit="both")` needs it.
        Noise that weights get once an epoch goes on here. Where a process group of torch.distributed exists,
        all its processes must call this method: of those that train one network, and have equal gradients,
        the losses are averaged, so that all decide alike.
        UserError after `epochs` epochs, without a step, after `remove`, for a loss that is not finite, a
        training loss that is missing, and for seeds that differ between processes.
        """
        if not self._hooks:
            raise UserError(
                "this noise was removed from the optimiser: end_epoch must not be called any more"
            )
        if len(self._rows) >= self.epochs:
            raise UserError(
                f"all {self.epochs} epochs are done: call attach_to_optimizer with the number of epochs of "
                "the whole training"
            )
        skipped = int(self._skipped)
        if self._steps == skipped:
            why = (
                f"all {skipped} steps were skipped after an overflow"
                if skipped
                else "attach the noise to the optimiser that trains the network"
            )
            raise UserError(f"the optimiser has taken no step since the last end_epoch: {why}")
        if train_loss is None and self._noise.spec.needs_train_loss:
            raise UserError(
                "this noise depends on the training loss, too: call end_epoch(validation_loss, train_loss)"
            )
        self._follow()
        changes = [p.detach() - b for p, b in zip(self.parameters, self._before, strict=True)]
        row = {
            "gradient_norm": self._norms.item() / (self._steps - skipped),
            "update_norm": total_norm(changes).item(),
            "validation_loss": float(validation_loss),
            "train_loss": math.nan if train_loss is None else float(train_loss),
        }
        row = of_all_processes(row, self._seed, self._noise.device)
        if not math.isfinite(row["validation_loss"]):
            raise UserError(f"the validation loss must be a finite number, got {row['validation_loss']}")
        self._rows.append(row)
        self._noise.observe(row)
        self._noise.begin_epoch()
        self._start_counting()
        return self.action

    def state_dict(self) -> dict[str, Any]:
        """Return a state to store beside the network's and the optimiser's, all three after `end_epoch`.

        It is of this process's shard, where several hold one of `fully_shard` each: every one stores its own.
        """
        return {
            "kind": getattr(self._noise.spec, "kind", type(self._noise.spec).__name__),
            "shapes": [list(p.shape) for p in self.parameters],
            "shard": list(self._shard),
            "epochs": [dict(row) for row in self._rows],
            **self._noise.state(),
        }

    def remove(self) -> None:
        """Take the noise off the optimiser; the end of a `with` block does so, too."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def _restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a stored state. Raises UserError for one of another noise or other parameters."""
        lacking = set(STATE_KEYS) - set(state) if isinstance(state, Mapping) else set(STATE_KEYS)
        if lacking:
            raise UserError(
                f"the state lacks {', '.join(sorted(lacking))}: it must come from OptimizerNoise.state_dict()"
            )
        ours = self.state_dict()
        for key, what in (
            ("kind", "another noise"),
            ("shapes", "other parameters"),
            ("shard", "another shard"),
        ):
            if state[key] != ours[key]:
                raise UserError(f"the state is of {what}: {_difference(state[key], ours[key])}")
        rows = state["epochs"]
        try:
            self._rows = [{name: float(row[name]) for name in ROW_KEYS} for row in rows]
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"the state's epochs need numbers for {', '.join(ROW_KEYS)}: {error!r}"
            ) from error
        if len(self._rows) > self.epochs:
            raise UserError(f"the state has {len(self._rows)} epochs, and the training {self.epochs}")
        try:
            self._noise.restore(state, self._rows)
        except (AttributeError, RuntimeError, TypeError) as error:
            where = self._noise.device.type
            raise UserError(
                f"the state's random numbers are not of a generator on {where}: {error}"
            ) from error

    def _replace(self, replace: bool) -> None:
        """Take earlier noise off the optimiser, or warn that it acts, too."""
        hooks = self._optimizer._optimizer_step_pre_hooks.values()
        owners = [getattr(hook, "__self__", None) for hook in hooks]
        earlier = [owner for owner in owners if isinstance(owner, OptimizerNoise)]
        if earlier and not replace:
            warnings.warn(
                "this optimiser has noise already, and each acts in every step: replace=True takes the "
                "earlier off",
                stacklevel=4,  # the caller of attach_to_optimizer
            )
            return
        for noise in earlier:
            noise.remove()

    def _before_step(
        self, optimizer: torch.optim.Optimizer, args: tuple, kwargs: dict[str, Any]
    ) -> tuple[tuple, dict[str, Any]] | None:
        """Put noise on the gradients, or return the step's arguments with a closure that does."""
        for closure in (*args, *kwargs.values()):
            if callable(closure) and closure is not optimizer:
                noisy = self._inside(closure)
                return (
                    tuple(noisy if given is closure else given for given in args),
                    {name: noisy if given is closure else given for name, given in kwargs.items()},
                )
        if "grad_scaler" in kwargs:
            raise UserError(
                "this optimiser's step takes a grad_scaler, and how it scales gradients is not known: "
                "use one that reads `grad_scale` and `found_inf`, or no GradScaler"
            )
        self._follow()
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        if len(gradients) < len(self.parameters):
            missing = [tuple(p.shape) for p in self.parameters if p.grad is None]
            raise UserError(
                f"{len(missing)} of the optimiser's parameters have no gradient, the first of shape "
                f"{missing[0]}: all of them get noise; give the optimiser only parameters that are trained"
            )
        self._steps += 1
        taken, scale = self._scaling("found_inf"), self._scaling("grad_scale")
        if taken is None and scale is None:
            self._norms += total_norm(gradients)
            self._noise.add_to_gradients()
            return None
        if taken is not None:
            taken = (taken == 0).float()
            self._skipped += 1 - taken
            if _known_to_be_zero(taken):
                return None
        norm = total_norm(gradients) if scale is None else total_norm(gradients) / scale
        self._norms += norm if taken is None else norm.where(taken > 0, 0)
        self._noise.add_to_gradients(scale)
        return None

    def _inside(self, closure: Callable[[], Any]) -> Callable[[], Any]:
        """Return a closure of a step that puts noise on the gradients which the given one leaves."""
        steps = self._steps

        def noisy() -> Any:
            if self._steps > steps:
                raise UserError(
                    f"{type(self._optimizer).__name__} evaluates its closure more than once a step: noise on "
                    "gradients needs an optimiser whose step has one gradient"
                )
            loss = closure()
            self._before_step(self._optimizer, (), {})
            return loss

        return noisy

    def _after_step(self, *_: object) -> None:
        found_inf = self._scaling("found_inf")
        taken = None if found_inf is None else (found_inf == 0).float()
        if taken is None or not _known_to_be_zero(taken):
            self._noise.add_to_weights(taken)

    def _scaling(self, name: str) -> Tensor | None:
        """Return a tensor, (), that GradScaler leaves on an optimiser which scales gradients in its step."""
        found = getattr(self._optimizer, name, None)
        return None if found is None else found.to(self._noise.device, non_blocking=True)

    def _follow(self) -> None:
        """Put the noise on what the optimiser trains now, and warn, where that has changed."""
        trained = trained_parameters(self._optimizer)
        if len(trained) == len(self.parameters) and all(map(operator.is_, trained, self.parameters)):
            if trained[0].device != self._noise.device:
                raise UserError(
                    f"the parameters were moved from {self._noise.device} to {trained[0].device} after "
                    "attach_to_optimizer: attach after the move"
                )
            return
        if shard_of(trained) != self._shard or device_of(trained) != self._noise.device:
            raise UserError(
                "the optimiser's parameters lie on another device or are shared otherwise than at "
                "attach_to_optimizer: attach again, with replace=True"
            )
        before = {id(p): b for p, b in zip(self.parameters, self._before, strict=True)}
        new = sum(id(p) not in before for p in trained)
        gone = len(self.parameters) + new - len(trained)
        warnings.warn(
            f"the optimiser trains other parameters than before: {new} were thawed or added, and {gone} were "
            "frozen or taken out. From here on noise goes on those it trains, and the norms are theirs; a "
            "state stored from now on is of them, too",
            stacklevel=4,  # the caller of the optimiser's step
        )
        self._noise.cover(trained)
        self._before = [before[id(p)] if id(p) in before else p.detach().clone() for p in trained]
        self.parameters = trained

    def _start_counting(self) -> None:
        self._before: list[Tensor] = [p.detach().clone() for p in self.parameters]
        self._norms = torch.zeros((), device=self._noise.device)  # over steps; no wait for the device
        self._skipped = torch.zeros((), device=self._noise.device)  # steps, by the gradient scaler
        self._steps = 0


def attach_to_optimizer(
    optimizer: torch.optim.Optimizer,
    noise: ParameterNoiseSpec,
    *,
    epochs: int,
    seed: int = 0,
    state: Mapping[str, Any] | None = None,
    replace: bool = False,
) -> OptimizerNoise:
    """Put noise on the gradients and weights that `optimizer` trains, when the training stagnates.

    optimizer: the optimiser, or a wrapper that holds the optimiser. Every parameter that needs a gradient
    gets noise. If other parameters are trained later, these get noise, too, and a warning says so.
    noise: AdaptiveNoise (defaults: Table V, for 300 epochs) or ScriptedNoise.
    epochs: number of epochs of the whole training; the noise fades towards the last epoch.
    seed: of the noise; must be equal in all processes that train together. torch's global generator is not
    used.
    state: from `OptimizerNoise.state_dict`, to continue a training whose network's weights are restored.
    replace: True removes noise that the optimiser already has; with False both noises act, and a warning
    says so.
    Raises UserError for parameters on several devices or split in several ways, for a script of another
    length, and for a state of another noise or of other parameters; nothing is changed then. In a step, a
    parameter without a gradient raises UserError.
    """
    return OptimizerNoise(optimizer, noise, epochs=epochs, seed=seed, state=state, replace=replace)


def _known_to_be_zero(number: Tensor) -> bool:
    """Return whether a number, (), is 0, without waiting for a device: False where looking would."""
    return number.device.type == "cpu" and not number


def _difference(theirs: Any, ours: Any) -> str:
    """Describe how two values differ, in a few words where they are long lists."""
    if not isinstance(ours, list) or not isinstance(theirs, list) or len(theirs) == len(ours) < 4:
        return f"{theirs} there, {ours} here"
    if len(theirs) != len(ours):
        return f"{len(theirs)} there, {len(ours)} here"
    i = next(i for i, (one, other) in enumerate(zip(theirs, ours, strict=True)) if one != other)
    return f"number {i} is {theirs[i]} there, {ours[i]} here"
