"""Change a run's noise strength and learning rate between two steps."""

from __future__ import annotations

from noiseutils.config import Run
from noiseutils.errors import UserError
from noiseutils.training.state import TrainState
from noiseutils.training.steps import loss_of

CHANGEABLE = ("noise", "corruption", "adversarial_training", "parameter_noise", "schedule")


def change_run(state: TrainState, new: Run) -> None:
    """Continue with the values of `new` from the next step on; raises what `check_change` raises."""
    check_change(state.run, new)
    if new.parameter_noise not in (None, state.run.parameter_noise):
        state.parameter_noise.change(new.parameter_noise)
    if state.handle is not None and new.noise is not None:
        state.handle.change(new.noise)
    state.run = new
    if new.adversarial_training is not None:
        state.loss = loss_of(new, state.model, state.network, state.handle, state.mixup_cutout)
    state.changed_after.append(state.step)
    state.engine.forget()


def check_change(run: Run, new: Run) -> None:
    """Raise UserError where a training of `run` cannot go on with the values of `new`.

    The two may differ in the values of `CHANGEABLE` alone, not in the kind of a noise or its presence.
    """
    fixed = [name for name in Run.model_fields if name not in CHANGEABLE]
    if other := [name for name in fixed if getattr(new, name) != getattr(run, name)]:
        raise UserError(
            f"{', '.join(other)} cannot change while a training runs; allowed: {', '.join(CHANGEABLE)}"
        )
    copies = [c for c in (run.corruption, new.corruption) if c is not None and not c.fresh]
    if copies and run.corruption != new.corruption:
        raise UserError("corruption cannot change: it went into the training images before the first step")
    for name in CHANGEABLE:
        before, after = getattr(run, name), getattr(new, name)
        if _kind(before) != _kind(after):
            raise UserError(f"{name} cannot change from {before!r} to {after!r} while a training runs")


def _kind(part: object) -> object:
    return getattr(part, "kind", type(part))
