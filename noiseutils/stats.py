"""Seeds to claims: means with t intervals, paired differences, Holm's correction, verdicts.

Methods are compared on equal seeds, so differences are paired: what a seed does to both cancels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean over n values with its t interval; low and high are nan for a single value."""

    mean: float
    low: float
    high: float
    n: int

    def format(self, digits: int = 2, scale: float = 1.0) -> str:
        """Format as `74.10 [73.52, 74.68] n=6`; without an interval for n = 1."""
        if self.n == 0:
            return "none"
        bounds = ""
        if self.n > 1:
            bounds = f" [{self.low * scale:.{digits}f}, {self.high * scale:.{digits}f}]"
        return f"{self.mean * scale:.{digits}f}{bounds} n={self.n}"

    def row(self, name: str) -> dict[str, float]:
        """Return the columns of a table about one mean: `name`, low, high and n."""
        return {name: self.mean, "low": self.low, "high": self.high, "n": self.n}

    def columns(self, name: str) -> dict[str, float]:
        """Return the columns of a table about several means: `name`, `<name>_low` and `<name>_high`."""
        return {name: self.mean, f"{name}_low": self.low, f"{name}_high": self.high}


@dataclass(frozen=True)
class Paired:
    """The mean of differences over equal seeds, its t interval and the p value of the paired t test."""

    difference: Interval
    p: float


def mean_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """Compute mean and t interval: mean ± t(n - 1) * s / sqrt(n), s the sample standard deviation.

    values: one a seed; an empty one gives nan with n = 0.
    """
    data = np.asarray(values, dtype=float)
    n = len(data)
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, 0)
    mean = float(data.mean())
    if n == 1:
        return Interval(mean, math.nan, math.nan, 1)
    half = float(stats.t.ppf((1 + confidence) / 2, n - 1) * data.std(ddof=1) / math.sqrt(n))
    return Interval(mean, mean - half, mean + half, n)


def bootstrap_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """Compute mean and percentile bootstrap interval over images or other single things, not over seeds.

    9,999 resamples, always the same ones   (Efron & Tibshirani 1993, 13.3). One value or none: as in
    `mean_interval`.
    """
    data = np.asarray(values, dtype=float)
    if len(data) < 2:
        return mean_interval(values)
    random = np.random.Generator(np.random.PCG64(0))
    found = stats.bootstrap(
        (data,), np.mean, confidence_level=confidence, method="percentile", rng=random
    ).confidence_interval
    return Interval(float(data.mean()), float(found.low), float(found.high), len(data))


def paired(treated: Sequence[float], control: Sequence[float], confidence: float = CONFIDENCE) -> Paired:
    """Test treated - control, seed by seed, with `scipy.stats.ttest_rel`'s p (nan for fewer than two seeds).

    treated, control: the same seeds in the same order; raises ValueError when their lengths differ.
    Differences that are all equal have no spread to test against: p is then 1 for zero, 0 otherwise.
    """
    a, b = np.asarray(treated, dtype=float), np.asarray(control, dtype=float)
    if len(a) != len(b):
        raise ValueError(f"paired values need the same seeds, got {len(a)} and {len(b)} of them")
    differences = a - b
    interval = mean_interval(differences.tolist(), confidence)
    if len(a) < 2:
        return Paired(interval, math.nan)
    if np.ptp(differences) == 0:
        return Paired(interval, 1.0 if differences[0] == 0 else 0.0)
    return Paired(interval, float(stats.ttest_rel(a, b).pvalue))


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct for several comparisons by Holm's step-down rule   (Holm 1979); nan stays nan, uncounted."""
    adjusted = [math.nan] * len(p_values)
    order = sorted((p, i) for i, p in enumerate(p_values) if not math.isnan(p))
    worst = 0.0
    for rank, (p, i) in enumerate(order):
        worst = max(worst, min(1.0, p * (len(order) - rank)))
        adjusted[i] = worst
    return adjusted


def mcnemar(first: Sequence[bool], second: Sequence[bool]) -> tuple[int, int, float]:
    """Count the images that only the first, only the second network gets right, and test by the exact p.

    The exact two-sided McNemar test: a binomial test of the images on which they differ. Raises ValueError
    when the lengths differ.
    """
    a, b = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    if len(a) != len(b):
        raise ValueError(f"McNemar's test needs equal images, got {len(a)} and {len(b)} of them")
    only_first, only_second = int((a & ~b).sum()), int((b & ~a).sum())
    differ = only_first + only_second
    return only_first, only_second, float(stats.binomtest(only_first, differ).pvalue) if differ else 1.0


def value_verdict(
    reported: float, ours: Interval, rounding: float, *, comparable: bool, bound: object = None
) -> str:
    """Compare a reported number with ours, by the interval alone.

    rounding: half a unit of the last digit that the paper prints.   comparable: whether ours comes from the
    paper's kind of data; without that no verdict is due.   bound: "below" or "above" when the paper gives a
    limit and not a value: then one side of the interval has to respect it.
    """
    if ours.n == 0:
        return "not run"
    if not comparable:
        return "other data: no verdict"
    if ours.n == 1:
        return "one seed: no verdict"
    if bound in ("below", "above"):
        held = ours.low < reported if bound == "below" else ours.high > reported
        return "agrees" if held else f"ours is not {bound}"
    if ours.low - rounding <= reported <= ours.high + rounding:
        return "agrees"
    return "ours is higher" if ours.mean > reported else "ours is lower"


def claim_verdict(difference: Interval, p: float, *, claimed: str, alpha: float = 0.05) -> str:
    """Judge whether a claimed direction of a paired difference held.

    claimed: "up", "down", or "none": that there is no difference, which a test can refute and never prove.
    p: of the paired test, corrected where several were made.
    """
    if difference.n == 0:
        return "not run"
    if difference.n == 1:
        return "one seed: no verdict"
    if claimed == "none":
        return "a difference shown" if p < alpha else "no difference shown"
    if not p < alpha:
        return "not shown"
    went = "up" if difference.mean > 0 else "down"
    return "held" if went == claimed else "the opposite"
