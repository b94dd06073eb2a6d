"""The claim registry: what each paper claims, how that is tested, and the verdicts that results give.

A claim is tested by one number a seed, its contrast, which is claimed to be above zero, below zero, or within
a margin of zero. It is counted once, at the cells that it names; other readings stand beside, uncounted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Literal

import numpy as np
import pandas as pd

from noiseutils.data.spec import EMBEDDED
from noiseutils.stats import (
    MIN_SEEDS,
    SETTINGS,
    Interval,
    Paired,
    against_margin,
    claim_verdict,
    holm,
    one_sample,
    pocock_level,
    undecided,
)
from noiseutils.studies.readable import claimed_in_points, is_share_difference
from noiseutils.studies.results import C, P, Results
from noiseutils.training.loop import Result

COPIES = {"cifar10-jpeg": "cifar10"}  # a lossy copy -> the set that it is a copy of
CHANCE = 1.5  # times chance: a network below that accuracy has not learned, and supports no claim
AT_CHANCE = "at chance: no verdict"
NO_GAP = "no gap to close: no verdict"
AS_COUNTED = "the counted claim's own numbers: no verdict"
GAP_UNKNOWN = "too few seeds without noise: no verdict"
OWN = ": the paper's own setting"


@dataclass(frozen=True)
class Contrast(Generic[C]):
    """The numbers that a claim is tested by: one a seed, and the cells whose results they come from.

    void: why these results allow no verdict, such as a regulariser where there is no gap to close.
    remark: what else a reader needs to know of the networks, such as how much they have learned.
    chosen_of: of how many contrasts this one was chosen as the most telling against "all are alike"; its p is
    multiplied by that.
    """

    by_seed: Mapping[int, float]
    cells: tuple[C, ...]
    void: str = ""
    remark: str = ""
    chosen_of: int = 1


@dataclass(frozen=True)
class Claim(Generic[P, C]):
    """One claim of a paper, and its test.

    name: short, unique in its study.   section: where the paper says it.   text: the claim in our words.
    test: the contrast in words, with its unit.   claimed: of the contrast's mean.   contrast: computed from
    results; None where the profile does not have its cells.   margin: of "within", in the contrast's unit,
    stated before results were seen.   counted: False for a reading or control that stands beside a claim.
    of_collapse: the claim is about networks that fail, so that accuracy at chance does not void it.
    helps: the claim says that the paper's noise makes a network better, or its gap smaller, than the same
    training without that noise.
    setting_said: the paper says all that the claim's setting needs; where it does not, such as at which layer
    it measured, results count as of another setting, so that the claim can be held, not replicated.
    """

    name: str
    section: str
    text: str
    test: str
    claimed: Literal["up", "down", "within"]
    contrast: Callable[[Results[P, C]], Contrast[C] | None]
    margin: float = math.inf
    counted: bool = True
    of_collapse: bool = False
    helps: bool = False
    setting_said: bool = True

    @property
    def expectation(self) -> str:
        """Return what is claimed, for a table."""
        return f"within ±{self.margin:g}" if self.claimed == "within" else self.claimed


@dataclass(frozen=True)
class Cause:
    """Name what a verdict may depend on: a claim, and its twin with one thing changed.

    text: what is changed.   claim, twin: names of claims; the twin stands beside, uncounted.
    """

    text: str
    claim: str
    twin: str


Settings = Callable[[P, C], str]  # a cell of a profile -> how it was made, a key of SETTINGS


def where_a_gap(found: Contrast[C] | None, gap: Interval) -> Contrast[C] | None:
    """Return a regulariser's contrast, void where there is nothing for it to do.

    gap: of the networks without it, test minus training loss or error; its interval has to be above 0, of as
    many seeds as a verdict takes.
    """
    if found is None or (gap.n >= MIN_SEEDS and gap.low > 0):
        return found
    return replace(found, void=NO_GAP if gap.n >= MIN_SEEDS else GAP_UNKNOWN)


def settings_of(label: str, paper: Iterable[str], as_read: bool) -> str:
    """Return how results were made, a key of `stats.SETTINGS`.

    label: of the images.   paper: labels of the paper's own sets.   as_read: whether everything else that
    shapes the result is the paper's, as read here.
    """
    if label in EMBEDDED:
        return "embedded"
    paper = tuple(paper)
    if not as_read or (label not in paper and COPIES.get(label) not in paper):
        return "other"
    return "paper" if label in paper else "copy"


def difference(
    results: Results[P, C], cell: C | None, other: C | None, quantity: str, **where: Any
) -> Contrast[C] | None:
    """Return a quantity of one cell minus that of another, over equal seeds; see `Results.values`."""
    if cell is None or other is None:
        return None
    return minus(
        results.values(cell, quantity, **where), results.values(other, quantity, **where), (cell, other)
    )


def minus(treated: Mapping[int, float], control: Mapping[int, float], cells: Iterable[C]) -> Contrast[C]:
    """Return values by seed minus others, over the seeds that both have."""
    common = {seed: treated[seed] - control[seed] for seed in treated if seed in control}
    return Contrast(common, tuple(cells))


def judge(
    claims: Sequence[Claim[P, C]], results: Results[P, C], settings: Settings[P, C], looks: int = 1
) -> pd.DataFrame:
    """Return a row a claim: its test, what was found, and the verdict.

    Holm's correction is over the counted claims of one table, figure or section of the paper, and apart from
    them over what stands beside; a twin with the very numbers of a counted claim is not judged again. looks:
    how often the results were looked at, see `stats.pocock_level`. Columns: name, section, claim, test,
    claimed; difference with its t interval, n seeds; p_holm, verdict; images, epochs and width of the
    networks behind it, the number of images that they were trained on, and a remark; settings (a key of
    `stats.SETTINGS`); diverged runs; cells: how many kinds of training are compared; looks; counted.
    """
    found = _without_copies(claims, [claim.contrast(results) for claim in claims])
    tests = [one_sample(list(contrast.by_seed.values()) if contrast else []) for contrast in found]
    p_values = [_p_value(*each) for each in zip(claims, found, tests, strict=True)]
    corrected = _corrected(claims, p_values)
    rows = []
    for claim, contrast, test, p in zip(claims, found, tests, corrected, strict=True):
        cells = contrast.cells if contrast else ()
        made = made_with(results, cells)
        worst = _made_at_worst(claim, [settings(results.params, cell) for cell in cells])
        rows.append(
            {
                "name": claim.name,
                "section": claim.section,
                "claim": claim.text,
                "test": claim.test,
                "claimed": claim.expectation,
                **test.difference.row("difference"),
                "p_holm": p,
                "verdict": _verdict(claim, contrast, results, test.difference, p, worst, looks),
                **made,
                "remark": contrast.remark if contrast else "",
                "settings": worst,
                "cells": len(set(cells)),
                "looks": looks,
                "counted": claim.counted,
            }
        )
    return pd.DataFrame(rows)


def _corrected(claims: Sequence[Claim], p_values: Sequence[float]) -> list[float]:
    """Return p values after Holm's correction, each within its family: counted or not, and its section."""
    families: dict[tuple[bool, str], list[int]] = {}
    for i, claim in enumerate(claims):
        families.setdefault((claim.counted, claim.section), []).append(i)
    corrected = [math.nan] * len(claims)
    for members in families.values():
        for i, p in zip(members, holm([p_values[i] for i in members]), strict=True):
            corrected[i] = p
    return corrected


def _without_copies(
    claims: Sequence[Claim[P, C]], found: Sequence[Contrast[C] | None]
) -> list[Contrast[C] | None]:
    """Make contrasts void that stand beside a counted claim of the same runs and numbers."""
    tests = [
        (contrast.cells, contrast.by_seed, claim.claimed, claim.margin)
        if contrast and not contrast.void
        else None
        for claim, contrast in zip(claims, found, strict=True)
    ]
    counted = [test for claim, test in zip(claims, tests, strict=True) if claim.counted and test]
    return [
        replace(contrast, void=AS_COUNTED)
        if contrast is not None and contrast.by_seed and not claim.counted and test in counted
        else contrast
        for claim, contrast, test in zip(claims, found, tests, strict=True)
    ]


def _made_at_worst(claim: Claim, settings: Sequence[str]) -> str:
    """Return how the results behind a claim were made, the furthest from the paper; empty without cells.

    No setting is the paper's where the paper does not say all of it.
    """
    worst = max(settings, key=list(SETTINGS).index, default="")
    return "other" if not claim.setting_said and worst in ("paper", "copy") else worst


def _p_value(claim: Claim, contrast: Contrast | None, test: Paired) -> float:
    """Return the p value of a claim's own test, uncorrected; nan where there is nothing to test."""
    if contrast is None or contrast.void:
        return math.nan
    if claim.claimed == "within":
        return min(1.0, contrast.chosen_of * against_margin(list(contrast.by_seed.values()), claim.margin))
    return test.p


def _verdict(
    claim: Claim[P, C],
    contrast: Contrast[C] | None,
    results: Results[P, C],
    found: Interval,
    p: float,
    settings: str,
    looks: int,
) -> str:
    no_verdict = undecided(found.n, settings)
    lost = contrast is not None and found.n and any(at_chance(results, cell) for cell in contrast.cells)
    if lost and settings != "embedded" and not claim.of_collapse:  # more seeds would not help
        return AT_CHANCE
    if no_verdict or contrast is None:
        return no_verdict
    if contrast.void:
        return contrast.void
    level = pocock_level(looks)
    return claim_verdict(found.mean, p, claimed=claim.claimed, margin=claim.margin, alpha=level)


def made_with(results: Results[P, C], cells: Iterable[C]) -> dict[str, Any]:
    """Return images, their number, epochs and width of some cells' networks, and how many runs diverged."""
    cells = tuple(dict.fromkeys(cells))
    found = [result for cell in cells for result in results.of_cell(cell)]
    runs = [result.run for result in found]
    return {
        "images": listed(run.data.label for run in runs),
        "train": " and ".join(dict.fromkeys(f"{trained_on(result):,}" for result in found)),
        "epochs": listed(run.epochs for run in runs),
        "width": listed(f"{run.model.width:g}" for run in runs),
        "diverged": sum(results.diverged(cell) for cell in cells),
    }


def made_of(row: Mapping[Any, Any]) -> str:
    """Return the networks behind a verdict: images and how many were trained on, epochs, width, a remark."""
    made = f"{row['images']}, {row['train']} images, {row['epochs']} epochs, width {row['width']}"
    remark = row.get("remark")  # rendered tables of earlier versions have none
    return f"{made}; {remark}" if isinstance(remark, str) and remark else made


def trained_on(result: Result) -> int:
    """Return how many images a network was trained on: those that were held out are not among them."""
    return result.info["data"]["train"] - result.run.validation_size


def listed(values: Iterable[object]) -> str:
    """Return different values, in their order, as one text."""
    return ", ".join(str(value) for value in dict.fromkeys(values))


def at_chance(results: Results[P, C], cell: C) -> bool:
    """Tell whether the networks of a cell have learned nothing: clean accuracy below 1.5 times chance."""
    found = [result for result in results.of_cell(cell) if result.status == "finished"]
    accuracies = [
        1 - record["top1_error"]
        for result in found
        for record in result.metrics.get("conditions", ())
        if record["condition"] == "clean" and record["statistics"] == "trained"
    ]
    classes = {len(result.info["data"].get("classes", ())) for result in found} - {0}
    return bool(accuracies and classes) and float(np.mean(accuracies)) < CHANCE / min(classes)


def for_readers(verdicts: pd.DataFrame) -> pd.DataFrame:
    """Return a table of verdicts for a page: counted claims first, then what stands beside them.

    networks: those behind a verdict, as `made_of` has it; the paper's own setting is named.
    """
    ordered = verdicts.sort_values("counted", ascending=False, kind="stable")
    networks = [
        f"{made_of(row)}{OWN * (row['settings'] == 'paper')}" if row["n"] else ""
        for row in ordered.to_dict("records")
    ]
    claimed = [
        claimed_in_points(str(text)) if is_share_difference(str(test)) else text
        for text, test in zip(ordered.claimed, ordered.test, strict=True)
    ]
    made = ["name", "images", "train", "epochs", "width", "remark", "diverged", "settings"]
    made += ["cells", "looks", "counted"]
    shown = ordered.drop(columns=made, errors="ignore")  # tables of earlier versions lack some
    return shown.assign(claimed=claimed, networks=networks, counted=np.where(ordered.counted, "yes", "no"))
