"""Seeds to claims: means with t intervals, paired differences, equivalence, Holm's correction, verdicts.

Methods are compared on equal seeds, so differences are paired: what a seed does to both cancels.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.95
ROUNDING = 1e-12  # relative: differences as alike as this are equal
MIN_SEEDS = 6  # for a verdict: with five a sign test cannot go below p = 0.0625
DRAWN_SEEDS = 4  # for an interval in a figure: with fewer the seeds themselves are drawn
# How results were made, best first: only the paper's own data at the paper's own setting can replicate it.
SETTINGS = {
    "paper": "the paper's images and setting",
    "copy": "a lossy copy of the paper's images, at its setting",
    "other": "real images, at another setting or of another set",
    "embedded": "images that the package brings along",
}
# Verdicts on a number that a paper prints; anything else says why there is none.
NUMBER_JUDGED = (
    "agrees",
    "ours is higher",
    "ours is lower",
    "ours is not above",
    "ours is not below",
    "not shown",
)


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
    from scipy import stats  # half a second to import

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
    from scipy import stats  # half a second to import

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
    from scipy import stats  # half a second to import

    a, b = np.asarray(treated, dtype=float), np.asarray(control, dtype=float)
    if len(a) != len(b):
        raise ValueError(f"paired values need the same seeds, got {len(a)} and {len(b)} of them")
    differences = a - b
    interval = mean_interval(differences.tolist(), confidence)
    if len(a) < 2:
        return Paired(interval, math.nan)
    if np.ptp(differences) <= ROUNDING * np.abs(differences).max():
        return Paired(interval, 1.0 if differences[0] == 0 else 0.0)
    return Paired(interval, float(stats.ttest_rel(a, b).pvalue))


def one_sample(values: Sequence[float], confidence: float = CONFIDENCE) -> Paired:
    """Test the mean of differences against zero, with `scipy.stats.ttest_1samp`'s p; see `paired`."""
    return paired(values, [0.0] * len(values), confidence)


def equivalence(values: Sequence[float], margin: float) -> float:
    """Return p of two one-sided t tests that the mean lies within ± margin   (Schuirmann 1987).

    values: one difference a seed; fewer than two give nan.   margin: positive, stated beforehand; raises
    ValueError otherwise.
    """
    from scipy import stats  # half a second to import

    if not margin > 0:
        raise ValueError(f"an equivalence test needs a margin above 0, got {margin}")
    data = np.asarray(values, dtype=float)
    if len(data) < 2:
        return math.nan
    if np.ptp(data) <= ROUNDING * np.abs(data).max():
        return 0.0 if abs(data[0]) < margin * (1 - ROUNDING) else 1.0
    error = float(data.std(ddof=1)) / math.sqrt(len(data))
    nearest = (margin - abs(float(data.mean()))) / error  # the larger p is that of the nearer bound
    return float(stats.t.sf(nearest, len(data) - 1))


def against_margin(values: Sequence[float], margin: float) -> float:
    """Return p of what the mean points to: within ± margin by `equivalence`, or beyond the margin.

    values, margin: as in `equivalence`.   Beyond: a two-sided t test of the nearer bound. Within and beyond
    cannot both be false, so a decision at p < alpha is wrong in at most that share of cases.
    """
    p, mean = equivalence(values, margin), abs(float(np.mean(values))) if len(values) else math.nan
    if abs(mean - margin) <= ROUNDING * margin:
        return 1.0
    return 2 * (1 - p) if mean > margin else p


def prediction_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """Compute the interval of one further training: mean ± t(n - 1) * s * sqrt(1 + 1/n).

    values: one a seed; fewer than two give no interval, as in `mean_interval`.
    """
    mean = mean_interval(values, confidence)
    half = math.sqrt(mean.n + 1) * (mean.high - mean.mean)  # that of the mean has s / sqrt(n)
    return Interval(mean.mean, mean.mean - half, mean.mean + half, mean.n)


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Return the slope of the least-squares line through points; nan for fewer than two places."""
    at, values = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    at, values = at - at.mean(), values - values.mean()  # equal values have a slope of exactly zero
    return float(at @ values / (at @ at)) if np.ptp(at) > 0 else math.nan


@functools.cache
def pocock_level(looks: int, alpha: float = 0.05) -> float:
    """Return the nominal level of each of several equally spaced looks at growing results   (Pocock 1977).

    Testing at this level after every look keeps the chance of a false finding at alpha: 0.0294 for two.
    Raises ValueError for fewer than one look.
    """
    from scipy import optimize, stats  # half a second to import

    if looks < 1:
        raise ValueError(f"results are looked at once or more often, got {looks} looks")
    if looks == 1:
        return alpha
    each = np.arange(1, looks + 1)
    correlation = np.sqrt(np.minimum.outer(each, each) / np.maximum.outer(each, each))
    normal = stats.multivariate_normal(cov=correlation, seed=0)  # pyright: ignore[reportArgumentType]

    def excess(bound: float) -> float:
        limit = np.full(looks, bound)
        return 1 - float(normal.cdf(limit, lower_limit=-limit)) - alpha

    return float(2 * stats.norm.sf(optimize.brentq(excess, 1.5, 4.0, xtol=1e-6)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct for several comparisons by Holm's step-down rule   (Holm 1979); nan stays nan, uncounted."""
    adjusted = [math.nan] * len(p_values)
    order = sorted((p, i) for i, p in enumerate(p_values) if not math.isnan(p))
    worst = 0.0
    for rank, (p, i) in enumerate(order):
        worst = max(worst, min(1.0, p * (len(order) - rank)))
        adjusted[i] = worst
    return adjusted


def ranks(values: Sequence[Sequence[float]]) -> np.ndarray:
    """Rank the methods within each block, 1 for the smallest value; equal values share their mean rank.

    values: (blocks, methods).   Returns (blocks, methods) float64.
    """
    from scipy import stats  # half a second to import

    return stats.rankdata(np.asarray(values, dtype=float), axis=1)


def friedman(values: Sequence[Sequence[float]]) -> float:
    """Return p of the Friedman test that all methods have equal ranks   (Friedman 1937).

    values: (blocks, methods), such as one row a seed. Fewer than two blocks or three methods give nan.
    """
    from scipy import stats  # half a second to import

    data = np.asarray(values, dtype=float)
    if data.ndim != 2 or data.shape[0] < 2 or data.shape[1] < 3:
        return math.nan
    return float(stats.friedmanchisquare(*data.T).pvalue)


def nemenyi_distance(methods: int, blocks: int, alpha: float = 0.05) -> float:
    """Return by how much two mean ranks must differ to be told apart   (Nemenyi 1963; Demšar 2006, 3.2.2).

    CD = q sqrt(k (k + 1) / (6 N)), q the studentised range's quantile over sqrt(2), of k methods on N blocks.
    """
    from scipy import stats  # half a second to import

    quantile = float(stats.studentized_range.ppf(1 - alpha, methods, np.inf)) / math.sqrt(2)
    return quantile * math.sqrt(methods * (methods + 1) / (6 * blocks))


def mcnemar(first: Sequence[bool], second: Sequence[bool]) -> tuple[int, int, float]:
    """Count the images that only the first, only the second network gets right, and test by the exact p.

    The exact two-sided McNemar test: a binomial test of the images on which they differ. Raises ValueError
    when the lengths differ.
    """
    from scipy import stats  # half a second to import

    a, b = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    if len(a) != len(b):
        raise ValueError(f"McNemar's test needs equal images, got {len(a)} and {len(b)} of them")
    only_first, only_second = int((a & ~b).sum()), int((b & ~a).sum())
    differ = only_first + only_second
    return only_first, only_second, float(stats.binomtest(only_first, differ).pvalue) if differ else 1.0


def reported_verdict(
    reported: float, ours: Sequence[float], rounding: float, *, settings: str, bound: object = None
) -> str:
    """Judge a reported number of one training by a prediction interval for one training of ours.

    ours: one value a seed.   rounding: half a unit of the last digit that the paper prints.   settings: how
    ours was made, a key of `SETTINGS`.   bound: "below" or "above" when the paper gives a limit and not a
    value: then the whole t interval of the mean has to respect it, and to break it.
    """
    n = len(ours)
    if no_verdict := undecided(n, settings):
        return no_verdict
    if settings == "other":
        return "other settings: no verdict"
    if bound in ("below", "above"):
        mean = mean_interval(ours)
        held = mean.high < reported if bound == "below" else mean.low > reported
        broken = mean.low > reported if bound == "below" else mean.high < reported
        return "agrees" if held else f"ours is not {bound}" if broken else "not shown"
    one = prediction_interval(ours)
    if one.low - rounding <= reported <= one.high + rounding:
        return "agrees"
    return "ours is higher" if one.mean > reported else "ours is lower"


def claim_verdict(
    mean: float, p: float, *, claimed: str, margin: float = math.inf, alpha: float = 0.05
) -> str:
    """Judge whether what is claimed of a mean difference held.

    claimed: "up", "down", or "within" ± margin.   p: corrected where several claims were tested: of the
    two-sided t test for a direction, of `against_margin` for a margin.   alpha: smaller where seeds were
    added after a look at the results, see `pocock_level`.
    """
    if not p < alpha:
        return "not shown"
    as_claimed = abs(mean) < margin if claimed == "within" else (mean > 0) == (claimed == "up")
    return "held" if as_claimed else "the opposite"


def undecided(n: int, settings: str) -> str:
    """Return why n seeds at some settings allow no verdict; empty where one is due."""
    if n == 0:
        return "not run"
    if settings == "embedded":
        return "embedded images: no verdict"
    return "" if n >= MIN_SEEDS else "too few seeds"
