"""Learning-rate schedules: plain functions of the step, under the names the papers and the field use."""

from __future__ import annotations

from noiseutils.config import Schedule


def constant(step: int, *, learning_rate: float) -> float:
    """The same rate at every step."""
    return learning_rate


def step_decay(step: int, *, learning_rate: float, factor: float, every: int, steps_per_epoch: int) -> float:
    """learning_rate * factor ** floor(epoch / every), epoch = step / steps_per_epoch.

    step: optimiser steps done.   every: epochs between two drops.   factor: in (0, 1].
    """
    return learning_rate * factor ** (step // (every * steps_per_epoch))


def learning_rate(schedule: Schedule, step: int, steps_per_epoch: int) -> float:
    """The rate that a schedule gives at an optimiser step, counted from 0."""
    if schedule.every is None:
        return constant(step, learning_rate=schedule.learning_rate)
    return step_decay(
        step,
        learning_rate=schedule.learning_rate,
        factor=schedule.factor,
        every=schedule.every,
        steps_per_epoch=steps_per_epoch,
    )
