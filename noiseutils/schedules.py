"""Learning-rate schedules: plain functions of the step, under the names the papers and the field use."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate

from noiseutils.config import Schedule

# You et al. use three. Table 2 and the text beside it: 300 epochs, SGD with Nesterov momentum 0.9.
ANL_TABLE_2 = Schedule(kind="step", learning_rate=0.1, factor=0.2, every=50)
# Table 3: 200 epochs without noise; with it, 100 epochs and then 100 without noise at the minimum
# (`ANL_TABLE_3.replace(switch=100)`, and `noise_epochs=100` in the run).
ANL_TABLE_3 = Schedule(kind="plateau", learning_rate=0.1, factor=0.5, every=5, minimum=1e-3)
# The ImageNet experiment: 90 epochs.
ANL_IMAGENET = Schedule(kind="step", learning_rate=0.01, factor=0.1, every=30)


def constant(step: int, *, learning_rate: float) -> float:
    """The same rate at every step."""
    return learning_rate


def step_decay(step: int, *, learning_rate: float, factor: float, every: int, steps_per_epoch: int) -> float:
    """learning_rate * factor ** floor(epoch / every), epoch = step / steps_per_epoch.

    step: optimiser steps done.   every: epochs between two drops.   factor: in (0, 1].
    """
    return learning_rate * factor ** (step // (every * steps_per_epoch))


def plateau_decay(
    losses: Sequence[float],
    *,
    learning_rate: float,
    factor: float,
    every: int,
    minimum: float = 0.0,
    switch: int | None = None,
) -> float:
    """Times `factor` unless the last `every` epochs lowered the best loss so far   (You et al., Table 3).

    losses: the validation loss of every epoch done.   every: epochs; each rate also stays at least so long.
    minimum: the rate falls no lower.   switch: epochs after which the rate is `minimum` whatever the losses.
    """
    if switch is not None and len(losses) >= switch:
        return minimum
    best = [math.inf, *accumulate(losses, min)]  # after each number of epochs
    rate, held = learning_rate, 0
    for done in range(1, len(losses) + 1):
        held += 1
        if held >= every and not best[done] < best[done - every]:
            rate, held = max(rate * factor, minimum), 0
    return rate


def learning_rate(schedule: Schedule, step: int, steps_per_epoch: int, losses: Sequence[float] = ()) -> float:
    """The rate that a schedule gives at an optimiser step, counted from 0.

    losses: the validation loss of every epoch done, which a plateau schedule goes by.
    """
    if schedule.every is None:
        return constant(step, learning_rate=schedule.learning_rate)
    told = {name: getattr(schedule, name) for name in ("learning_rate", "factor", "every")}
    if schedule.kind == "plateau":
        return plateau_decay(losses, **told, minimum=schedule.minimum, switch=schedule.switch)
    return step_decay(step, **told, steps_per_epoch=steps_per_epoch)
