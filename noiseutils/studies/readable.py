"""Tables as readers see them: shares in per cent, an interval in its value's cell, four significant digits.

The files keep full precision and shares in [0, 1]; only what is displayed is made here.
"""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

SHARE = re.compile(
    r"\b(accuracy|error|precision)\b"
)  # in a column's or a quantity's name, without underscores
MORE_SHARES = {"recalibrated", "off", "on", "clean"}  # columns: errors and accuracies by their condition
DIFFERENCES = ("difference", "cost")  # columns: of shares where nothing else is said
COMPARED = ("value", "paper", "ours", *DIFFERENCES)  # columns whose unit a row's `quantity` or `test` says
PER_CLASS = "per_class"  # the table whose columns are named after classes, besides these:
KEYS = {"reading", "p", "level", "n"}


def readable(table: pd.DataFrame, name: str = "") -> tuple[pd.DataFrame, list[str]]:
    """Return a table's cells as texts, and the names of its columns of words.

    A column `low` or `<name>_low`, and `high` likewise, are folded into the column before them. Shares are in
    per cent, their differences in points: the head says so, or each cell where the rows have several units.
    name: of the table's file.
    """
    shown, words, bounds = {}, [], set()
    columns = list(table.columns)
    for i, column in enumerate(columns):
        if column in bounds:
            continue
        low, high = (*columns[i + 1 : i + 3], "", "")[:2]
        folded = str(low).endswith("low") and str(high).endswith("high")
        if folded:
            bounds |= {low, high}
        shares = _shares(table, column, name)
        unit = "points" if column in DIFFERENCES else "%"
        everywhere = bool(len(shares)) and shares.all()
        head = f"{column} ({unit})" if everywhere else str(column)
        if not is_numeric_dtype(table[column]):
            words.append(head)
        spans = zip(table[low], table[high], strict=True) if folded else [(None, None)] * len(table)
        shown[head] = [
            _cell(value, *span, share) + (f" {unit}" if share and not everywhere and pd.notna(value) else "")
            for value, span, share in zip(table[column], spans, shares, strict=True)
        ]
    return pd.DataFrame(shown, index=table.index, dtype=object), words


def is_share_difference(test: str) -> bool:
    """Tell whether a claim's contrast is a difference of shares, which reads best in percentage points."""
    first = test.partition(",")[0]
    return bool(SHARE.search(first)) and not first.startswith("slope")


def claimed_in_points(claimed: str) -> str:
    """Return what is claimed of a difference of shares, its margin in percentage points."""
    found = re.fullmatch(r"within ±(.+)", claimed)
    return f"within ±{100 * float(found[1]):g} points" if found else claimed


def effect(mean: float, low: float, high: float, test: str) -> str:
    """Return a difference and its interval with the digits that the interval leaves.   test: its contrast."""
    points = is_share_difference(test)
    mean, low, high = (100 * value if points else value for value in (mean, low, high))
    half = (high - low) / 2
    digits = 2 if not half > 0 else next((d for d in range(1, 5) if half * 10**d >= 2), 4)
    while digits < 4 and half > 0 and any(bound and not round(bound, digits) for bound in (low, high)):
        digits += 1  # the bound's sign decides
    bounds = f" [{signed(low, digits)}, {signed(high, digits)}]" if half >= 0 else ""
    return f"{signed(mean, digits)}{bounds}{' points' if points else ''}"


def signed(value: float, digits: int) -> str:
    """Return a number with its sign; what rounds to zero has none. – for what is no number."""
    if not math.isfinite(value):
        return "–"
    sign = "+" if round(value, digits) else ""
    return f"{round(value, digits) + 0.0:{sign}.{digits}f}".replace("-", "−")


def brief(value: object, share: bool = False) -> str:
    """Return a cell for readers: four significant digits, a share as per cent, – for what is missing."""
    if isinstance(value, float):
        return "–" if pd.isna(value) else f"{100 * value:.2f}" if share else f"{value:.4g}"
    return "–" if value is None else str(value)


def _cell(value: Any, low: Any, high: Any, share: bool) -> str:
    text = brief(value, share)
    return text if low is None or pd.isna(low) else f"{text} [{brief(low, share)}, {brief(high, share)}]"


def _shares(table: pd.DataFrame, column: str, name: str) -> np.ndarray:
    """Return, row by row, whether a column holds a share or a difference of shares."""
    none, every = np.zeros(len(table), bool), np.ones(len(table), bool)
    if not is_numeric_dtype(table[column]):
        return none
    if name == PER_CLASS:
        return none if column in KEYS else every
    if column in COMPARED:
        if "quantity" in table:
            return np.array([_names_share(quantity) for quantity in table["quantity"]], bool)
        if "test" in table:
            return np.array([is_share_difference(str(test)) for test in table["test"]], bool)
        return every if column in DIFFERENCES or (column == "paper" and "cost" in table) else none
    return every if column in MORE_SHARES or _names_share(column) else none


def _names_share(name: object) -> bool:
    return bool(SHARE.search(str(name).replace("_", " ")))
