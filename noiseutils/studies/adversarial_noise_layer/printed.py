"""The numbers that the ANL paper prints for the two sides of a claim, in words behind the claim's text."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from noiseutils.studies.adversarial_noise_layer.tables import reported
from noiseutils.studies.results import select

Direction = Literal["up", "down", "within"]


class Printed(NamedTuple):
    """A number of the paper, or the mean of several. error: a share.   text: as printed, in per cent."""

    error: float
    text: str
    quantity: str


@functools.cache
def _numbers() -> pd.DataFrame:
    return reported()


def printed(
    table: str,
    method: str,
    *,
    models: Sequence[str],
    data: str = "cifar10",
    epsilon: float | None = None,
    deltas: Sequence[float] = (),
) -> Printed | None:
    """Return what a table prints for a kind of training; None where it prints nothing.

    A mean over several models, or over the attack sizes of Table 4 (deltas, in 255ths).
    """
    rows = select(_numbers(), table=table, data=data, model=tuple(models), method=method)
    if epsilon is not None:
        rows = rows.loc[np.isclose(rows.epsilon, epsilon)]
    if deltas:
        rows = select(rows, x=tuple(deltas))
    if rows.empty:
        return None
    mean, quantity = float(rows.value.mean()), str(rows.quantity.iloc[0])
    digits = round(-math.log10(200 * rows.rounding.max()))  # `rounding` is half a unit of the last digit
    return Printed(1 - mean if quantity == "accuracy" else mean, f"{100 * mean:.{digits}f} %", quantity)


def networks(table: str) -> tuple[str, ...]:
    """Return the networks that a table prints numbers for."""
    return tuple(dict.fromkeys(select(_numbers(), table=table).model))


def note(
    control: Printed | None,
    treated: Printed | None,
    claimed: Direction,
    *,
    names: tuple[str, str] = ("without", "with"),
    margin: float = math.inf,
    means: str = "",
) -> str:
    """Return the paper's numbers for both sides of a claim, and whether they are against it.

    claimed: of the error, treated minus control.   names: of the two sides.   means: over what the numbers
    are means. Empty where the paper prints no number for one of them.
    """
    if control is None or treated is None:
        return ""
    change = treated.error - control.error
    contrary = abs(change) > margin if claimed == "within" else (change > 0) != (claimed == "up")
    what = "accuracy " if control.quantity == "accuracy" else ""
    both = f"{what}{control.text} {names[0]}, {treated.text} {names[1]}"
    return f" (printed: {both}{means and f', means over {means}'}{', against the claim' * contrary})"


def cosines() -> str:
    """Return Table 1 in words: the cosine within class 0, and its mean with the other classes."""
    rows = select(_numbers(), table="table1")
    own, others = select(rows, x=0).value.item(), rows[rows.x > 0].value.mean()
    return f" (printed: {own:.2f} and {others:.2f})".replace("-", "−")


def costs(more: str, less: str) -> str:
    """Return in points what a negative ε costs two networks by Table 2.   more: what it is to cost more."""
    found = []
    for model in (more, less):
        plain, negative = (printed("table2", m, models=[model]) for m in ("baseline", "anl_negative"))
        if plain is None or negative is None:
            return ""
        found.append(100 * (negative.error - plain.error))
    words = f"{found[0]:+.2f} points for {more}, {found[1]:+.2f} for {less}"
    return f" (printed: {words}{', against the claim' * (found[0] <= found[1])})"
