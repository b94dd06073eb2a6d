"""Learning-rate schedules: plain functions of the step, under the names the papers and the field use."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from noiseutils.errors import UserError
from noiseutils.spec import NonNegative, Positive, PositiveInt, Spec


class Schedule(Spec):
    """Learning rate over epochs.

    constant   the same at every step
    step       times `factor` every `every` epochs
    plateau    times `factor` when the last `every` epochs have not lowered the validation loss, at least
               `every` epochs at each rate, down to `minimum`; from epoch `switch` on, `minimum`
    cosine_decaying_restarts
               down to `minimum` by half a cosine in `every` epochs, then from a lower rate again, which falls
               to `last`; each cycle `t_mult` times as long as the one before
    """

    kind: Literal["constant", "step", "plateau", "cosine_decaying_restarts"] = "constant"
    learning_rate: Positive = 0.05  # at the first step
    factor: Annotated[float, Field(gt=0, le=1)] = 1.0
    every: PositiveInt | None = None  # epochs
    minimum: NonNegative = 0.0  # of a plateau or cosine schedule
    switch: PositiveInt | None = None  # epochs after which a plateau schedule stays at its minimum
    last: Positive | None = None  # of a cosine schedule: the rate of its last restart
    t_mult: Annotated[float, Field(ge=1, le=1000)] = 1.0  # of a cosine schedule

    @model_validator(mode="after")
    def _kind_and_fields_agree(self) -> Self:
        cosine = self.kind == "cosine_decaying_restarts"
        if (self.kind == "constant") != (self.every is None):
            raise ValueError(
                "a constant schedule takes no `every`; every other schedule needs `every` (in epochs)"
            )
        if self.switch is not None and self.kind != "plateau":
            raise ValueError("`switch` belongs to a plateau schedule")
        if self.minimum and self.kind not in ("plateau", "cosine_decaying_restarts"):
            raise ValueError("`minimum` belongs to a plateau or cosine schedule")
        if cosine == (self.last is None) or (self.t_mult != 1 and not cosine):
            raise ValueError("a cosine schedule needs `last`; other schedules take no `last` and no `t_mult`")
        if cosine and self.factor != 1:
            raise ValueError("a cosine schedule takes no `factor`")
        if self.minimum > self.learning_rate:
            raise ValueError(f"minimum {self.minimum} is above the learning rate {self.learning_rate}")
        if self.last is not None and not self.minimum <= self.last <= self.learning_rate:
            raise ValueError(
                f"last is {self.last}; allowed: from minimum, {self.minimum}, to learning_rate, "
                f"{self.learning_rate}"
            )
        if self.switch is not None and not self.minimum:
            raise ValueError("`switch` needs a `minimum` above 0 to switch to")
        return self


# You et al. use three. Table 2 and the text beside it: 300 epochs, SGD with Nesterov momentum 0.9.
ANL_TABLE_2 = Schedule(kind="step", learning_rate=0.1, factor=0.2, every=50)
# Table 3: 200 epochs without noise; with it, 100 epochs and then 100 without noise at the minimum
# (`ANL_TABLE_3.replace(switch=100)`, and `noise_epochs=100` in the run).
ANL_TABLE_3 = Schedule(kind="plateau", learning_rate=0.1, factor=0.5, every=5, minimum=1e-3)
# The ImageNet experiment: 90 epochs.
ANL_IMAGENET = Schedule(kind="step", learning_rate=0.01, factor=0.1, every=30)
# Logean & Feillard, Table IV: 300 epochs, rates 1e-1 to 1e-4. Its "1^-5" and "1^-6" are 1e-5 and 1e-6, as the
# text of II-C1 says: "the learning rate value is 10^{-5} and decay [...] until 10^{-6}".
ADAPTIVE_NOISE = Schedule(
    kind="cosine_decaying_restarts", learning_rate=0.1, last=1e-5, minimum=1e-6, every=50
)


def constant(step: int, *, learning_rate: float) -> float:
    """Return the same rate at every step."""
    return learning_rate


def step_decay(step: int, *, learning_rate: float, factor: float, every: int, steps_per_epoch: int) -> float:
    """Return learning_rate * factor ** floor(epoch / every), epoch = step / steps_per_epoch.

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
    """Multiply by `factor` unless the last `every` epochs lowered the best loss   (You et al., Table 3).

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


def cosine_decaying_restarts(
    step: int,
    *,
    eta_max: float,
    eta_final_max: float,
    eta_min: float,
    epochs: int,
    restart_epochs: float,
    steps_per_epoch: int,
    t_mult: float = 1.0,
) -> float:
    """Anneal by half cosines, with restarts from ever lower rates   (Logean & Feillard, II-C1 and Table IV).

    step: optimiser steps done, t.   eta_max: the rate at step 0.   eta_final_max: that of the last restart.
    eta_min: where each cycle ends.   epochs: E_max.   restart_epochs: E_restart, of the first cycle; each is
    t_mult times as long as the one before, and t_mult = 1 is the limit of the printed formula, n =
    floor(t / T_0). At the end of the training the last cycle is over, and no other begins. Raises UserError
    for numbers that give no schedule.
    """
    if not (1e-6 <= restart_epochs < math.inf and 1 <= t_mult <= 1000):  # with others no cycle ends
        raise UserError(
            f"got restart_epochs {restart_epochs} and t_mult {t_mult}; allowed: a finite restart_epochs "
            "from 1e-6, and t_mult from 1 to 1000"
        )
    if not (math.isfinite(step) and epochs >= 1 and steps_per_epoch >= 1):
        raise UserError(
            f"got step {step}, epochs {epochs} and steps_per_epoch {steps_per_epoch}; allowed: a finite "
            "step, and at least 1 for epochs and steps_per_epoch"
        )
    total, first = epochs * steps_per_epoch, restart_epochs * steps_per_epoch
    t = min(step, total)

    def start(n: int) -> float:
        return first * (n if t_mult == 1 else (t_mult**n - 1) / (t_mult - 1))

    n = int(t / first if t_mult == 1 else math.log(t / first * (t_mult - 1) + 1, t_mult))
    while start(n + 1) <= t:  # a logarithm may fall short of the whole number by rounding
        n += 1
    while n > 0 and (start(n) > t or start(n) == t == total):
        n -= 1
    decaying = (epochs - restart_epochs) * steps_per_epoch
    decayed = min(1.0, t / decaying) if decaying > 0 else 0.0  # one cycle has no restart
    highest = eta_max - decayed * (eta_max - eta_final_max)
    return eta_min + 0.5 * (highest - eta_min) * (
        1 + math.cos(math.pi * (t - start(n)) / (first * t_mult**n))
    )


def learning_rate(
    schedule: Schedule,
    step: int,
    steps_per_epoch: int,
    losses: Sequence[float] = (),
    *,
    epochs: int | None = None,
) -> float:
    """Return the rate that a schedule gives at an optimiser step, counted from 0.

    losses: the validation loss of every epoch done, which a plateau schedule goes by.   epochs: of the whole
    training, which a cosine schedule goes by.
    """
    if schedule.every is None:
        return constant(step, learning_rate=schedule.learning_rate)
    if schedule.kind == "cosine_decaying_restarts":
        assert schedule.last is not None
        if epochs is None:
            raise ValueError("a cosine schedule goes by the number of epochs: give `epochs`")
        return cosine_decaying_restarts(
            step,
            eta_max=schedule.learning_rate,
            eta_final_max=schedule.last,
            eta_min=schedule.minimum,
            epochs=epochs,
            restart_epochs=schedule.every,
            steps_per_epoch=steps_per_epoch,
            t_mult=schedule.t_mult,
        )
    told = {name: getattr(schedule, name) for name in ("learning_rate", "factor", "every")}
    if schedule.kind == "plateau":
        return plateau_decay(losses, **told, minimum=schedule.minimum, switch=schedule.switch)
    return step_decay(step, **told, steps_per_epoch=steps_per_epoch)
