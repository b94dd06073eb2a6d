"""The tables of the training-data study; its claims stand in claims.py."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.stats import binomtest
from torch import nn

from noiseutils.evaluation.minimal_change import ATTACKS
from noiseutils.models.modules import MODULES
from noiseutils.stats import Interval, bootstrap_interval, mean_interval
from noiseutils.studies.training_data_variation.attacks import AUTOATTACK
from noiseutils.studies.training_data_variation.grid import (
    COMMON,
    Cell,
    cells,
    row_of,
    shown_levels,
)
from noiseutils.studies.training_data_variation.outcome import Outcome

ONE_PERCENT = 2.55  # of the 8-bit range; the paper's text rounds it to 2.5
INCEPTION = {"one": "1×1", "three": "3×3", "five": "5×5, as two 3×3", "pool": "max-pool, then 1×1"}


def modules_table(channels: int = 256) -> pd.DataFrame:
    """The convolutions of the three modules in their order: path, kernel, maps in and out, paths side by
    side (groups) and weights; the paper gives their sums.
    """
    rows = []
    for name, make in MODULES.items():
        for place, module in make(channels).named_modules():
            if not isinstance(module, nn.Conv2d):
                continue
            path = INCEPTION.get(place.split(".")[1], "")
            rows.append(
                {
                    "module": name,
                    "path": path,
                    "kernel": "×".join(map(str, module.kernel_size)),
                    "maps_in": module.in_channels,
                    "maps_out": module.out_channels,
                    "groups": module.groups,
                    "weights": module.weight.numel(),
                }
            )
    return pd.DataFrame(rows)


def matrix_table(outcome: Outcome, trained: str, shown: str) -> pd.DataFrame:
    """Accuracy of networks trained on one kind of corruption, on images of a kind: a row a pair of strengths.

    Columns: architecture, sigma (trained on), level (shown), accuracy with its interval and n seeds, and
    calibration_error, as trained; accuracy_recalibrated where BatchNorm statistics were re-estimated.
    """
    rows = []
    for architecture in outcome.params.architectures:
        for cell in row_of(outcome.params, architecture, trained):
            for level in [0.0, *shown_levels(outcome.params, shown)]:
                accuracy = mean_interval(list(outcome.values(cell, shown, level).values()))
                if not accuracy.n:
                    continue
                again = outcome.values(cell, shown, level, statistics="recalibrated")
                error = outcome.values(cell, shown, level, "calibration_error")
                rows.append(
                    {
                        "architecture": architecture,
                        "sigma": cell.sigma,
                        "level": level,
                        "accuracy": accuracy.mean,
                        "low": accuracy.low,
                        "high": accuracy.high,
                        "n": accuracy.n,
                        "calibration_error": mean_interval(list(error.values())).mean,
                        "accuracy_recalibrated": mean_interval(list(again.values())).mean,
                    }
                )
    return pd.DataFrame(rows)


def change_sizes(
    outcome: Outcome, cell: Cell, attack: str = "", quantity: str = "size", seed: int | None = None
) -> dict[int, float]:
    """Of the images that mislead after a change, by image: mean over the attacked networks, or of one seed's.

    attack: "" for the profile's. Images that a network gets wrong as they are, or that the attack failed on,
    are left out of its mean.
    """
    attack = attack or outcome.params.change_attack
    each: dict[int, list[float]] = {}
    for (c, s, question), answer in outcome.found.items():
        if c == cell and question == attack and seed in (None, s):
            for image, (size, value) in enumerate(zip(answer["size"], answer[quantity], strict=True)):
                if size:
                    each.setdefault(image, []).append(float(value))
    return {image: float(np.mean(values)) for image, values in each.items()}


def failures(outcome: Outcome, cell: Cell, attack: str = "") -> float:
    """Images for which the attack found no change, a mean over networks; attack "": the profile's."""
    attack = attack or outcome.params.change_attack
    counts = [
        sum(s is None for s in a["size"])
        for (c, _, q), a in outcome.found.items()
        if (c, q) == (cell, attack)
    ]
    return float(np.mean(counts)) if counts else math.nan


def change_table(outcome: Outcome) -> pd.DataFrame:
    """Figures 5 and 7 as numbers: the least mean change of a pixel, in 8-bit values, a row a network.

    Intervals are bootstrapped over images.   percent: of the 8-bit range.   n: images that were misled by a
    change.   wrong, failed: images without one, as the network errs on them anyway, or no change was found.
    networks: how many seeds.
    """
    rows = []
    for cell in cells(outcome.params):
        rows += _change_row(outcome, cell, outcome.params.change_attack)
    return pd.DataFrame(rows)


def attacks_table(outcome: Outcome) -> pd.DataFrame:
    """The attacks beside each other on the same images, for networks trained on images as they are, seed 0.

    seconds: for all images, of one network; on a CPU other searches ran beside it, one a core.
    half: share of changes of which half would do.   rounded: share that still misleads when pixels are whole
    8-bit values.
    """
    first = {place: answer for place, answer in outcome.found.items() if place[1] == 0}
    outcome, rows = replace(outcome, found=first), []
    for architecture in outcome.params.architectures:
        for attack in ATTACKS:
            rows += _change_row(outcome, Cell(architecture, "none", 0.0), attack)
    return pd.DataFrame(rows)


def _change_row(outcome: Outcome, cell: Cell, attack: str) -> list[dict[str, object]]:
    answers = [a for (c, _, q), a in outcome.found.items() if c == cell and q == attack]
    if not answers:
        return []
    intervals = {
        name: bootstrap_interval(list(change_sizes(outcome, cell, attack, name).values()))
        for name in ("size", "l2", "linf")
    }
    size = intervals["size"]
    shares = {
        name: float(np.mean(list(change_sizes(outcome, cell, attack, name).values()) or [math.nan]))
        for name in ("half", "rounded")
    }
    return [
        {
            **vars(cell),
            "attack": attack,
            **_bounds("size", size),
            "percent": size.mean / ONE_PERCENT,
            **_bounds("l2", intervals["l2"]),
            **_bounds("linf", intervals["linf"]),
            "n": size.n,
            "wrong": float(np.mean([sum(s == 0 for s in a["size"]) for a in answers])),
            "failed": failures(outcome, cell, attack),
            **shares,
            "seconds": float(np.mean([a["seconds"] for a in answers])),
            "networks": len(answers),
        }
    ]


def _bounds(name: str, interval: Interval) -> dict[str, float]:
    return {name: interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}


def autoattack_table(outcome: Outcome) -> pd.DataFrame:
    """Accuracy under AutoAttack, a row a network and size in 255ths of the pixel range; 0: not attacked.

    A row a network, as equal images in several networks are no independent ones; Wilson's interval over n
    images.
    """
    rows = []
    for (cell, seed, question), answer in outcome.found.items():
        if question != AUTOATTACK:
            continue
        for size in ("0", *answer["correct"]):
            right = answer["clean"] if size == "0" else answer["correct"][size]
            interval = binomtest(right.count("1"), len(right)).proportion_ci(method="wilson")
            rows.append(
                {
                    **vars(cell),
                    "seed": seed,
                    "delta_255": float(size),
                    "accuracy": right.count("1") / len(right),
                    "low": float(interval.low),
                    "high": float(interval.high),
                    "n": len(right),
                }
            )
    return pd.DataFrame(rows)


def common_table(outcome: Outcome) -> pd.DataFrame:
    """Mean accuracy over the five severities of a common corruption, by what a network was trained on.

    shown: noise (sigma 0.04 to 0.10 on pixels in [0, 1]) or blur (0.4 to 1.0 pixels).
    """
    rows = []
    for shown, cell in _places(outcome) if outcome.params.common else ():
        seeds = [outcome.values(cell, shown, level) for level in common_levels(shown)]
        whole = set.intersection(*map(set, seeds))
        accuracy = mean_interval([float(np.mean([found[seed] for found in seeds])) for seed in sorted(whole)])
        if accuracy.n:
            rows.append(
                {
                    "shown": shown,
                    **vars(cell),
                    "accuracy": accuracy.mean,
                    "low": accuracy.low,
                    "high": accuracy.high,
                    "n": accuracy.n,
                }
            )
    return pd.DataFrame(rows)


def common_levels(kind: str) -> Sequence[float]:
    """The severities of a common corruption, as sigma."""
    return [2 * level if kind == "noise" else level for level in COMMON[kind]]


def _places(outcome: Outcome) -> Iterator[tuple[str, Cell]]:
    for shown in outcome.params.kinds:
        for cell in cells(outcome.params):
            yield shown, cell
