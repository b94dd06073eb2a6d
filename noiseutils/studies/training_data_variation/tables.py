"""Tables of the training-data study; its claims stand in claims.py."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.stats import binomtest
from torch import nn

from noiseutils.evaluation.minimal_change import ATTACKS
from noiseutils.models.modules import MODULES
from noiseutils.stats import bootstrap_interval, mean_interval
from noiseutils.studies.results import Results, common_seeds
from noiseutils.studies.training_data_variation.attacks import AUTOATTACK
from noiseutils.studies.training_data_variation.grid import (
    Cell,
    common_levels,
    row_of,
    shown_as,
    shown_levels,
)
from noiseutils.studies.training_data_variation.params import Params

ONE_PERCENT = 2.55  # of the 8-bit range; the paper's text rounds it to 2.5
INCEPTION = {"one": "1×1", "three": "3×3", "five": "5×5, as two 3×3", "pool": "max-pool, then 1×1"}


def modules_table(channels: int = 256) -> pd.DataFrame:
    """List the convolutions of the three modules: path, kernel, maps in and out, groups and weights.

    groups: paths side by side.   weights: the paper gives their sums.
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


def matrix_table(results: Results[Params, Cell], trained: str, shown: str) -> pd.DataFrame:
    """Average the accuracy of networks trained on one kind, on images of a kind: a row a pair of strengths.

    Columns: architecture, sigma (trained on), level (shown), accuracy with its interval and n seeds, and
    calibration_error, as trained; accuracy_recalibrated where BatchNorm statistics were re-estimated.
    """
    rows, params = [], results.params
    row_cells = [cell for name in params.architectures for cell in row_of(params, name, trained)]
    for cell, level in itertools.product(row_cells, [0.0, *shown_levels(params, shown)]):
        where = shown_as(shown, level)
        accuracy = results.interval(cell, "accuracy", **where)
        again = results.interval(cell, "accuracy", **where, statistics="recalibrated")
        if accuracy.n:
            rows.append(
                {
                    "architecture": cell.architecture,
                    "sigma": cell.sigma,
                    "level": level,
                    **accuracy.row("accuracy"),
                    "calibration_error": results.interval(cell, "calibration_error", **where).mean,
                    "accuracy_recalibrated": again.mean,
                }
            )
    return pd.DataFrame(rows)


def change_sizes(
    results: Results[Params, Cell],
    cell: Cell,
    attack: str = "",
    quantity: str = "size",
    seed: int | None = None,
) -> dict[int, float]:
    """Return a quantity of the least changes by image: mean over the attacked networks, or of one seed's.

    attack: "" for the profile's. Images that a network gets wrong as they are, or that the attack failed on,
    are left out of its mean.
    """
    attack = attack or results.params.change_attack
    each: dict[int, list[float]] = {}
    for (c, s, question), answer in results.answers.items():
        if c == cell and question == attack and seed in (None, s):
            for image, (size, value) in enumerate(zip(answer["size"], answer[quantity], strict=True)):
                if size:
                    each.setdefault(image, []).append(float(value))
    return {image: float(np.mean(values)) for image, values in each.items()}


def failures(results: Results[Params, Cell], cell: Cell, attack: str = "") -> float:
    """Count the images that withstood an attack, a mean over networks; attack "": the profile's."""
    attack = attack or results.params.change_attack
    counts = [
        sum(s is None for s in a["size"])
        for (c, _, q), a in results.answers.items()
        if (c, q) == (cell, attack)
    ]
    return float(np.mean(counts)) if counts else math.nan


def change_table(results: Results[Params, Cell]) -> pd.DataFrame:
    """Average the least change of a pixel, in 8-bit values, a row a network: Figures 5 and 7 as numbers.

    Intervals are bootstrapped over images.   percent: of the 8-bit range.   n: images that were misled by a
    change.   wrong, failed: images without one, as the network errs on them anyway, or no change was found.
    networks: how many seeds.
    """
    rows = []
    for cell in results.cells:
        rows += _change_row(results, cell, results.params.change_attack)
    return pd.DataFrame(rows)


def attacks_table(results: Results[Params, Cell]) -> pd.DataFrame:
    """Compare the attacks on the same images, for networks trained on images as they are, seed 0.

    seconds: for all images, of one network; on a CPU other searches ran beside it, one a core.
    half: share of changes of which half would do.   rounded: share that still misleads when pixels are whole
    8-bit values.
    """
    first = {place: answer for place, answer in results.answers.items() if place[1] == 0}
    results, rows = replace(results, answers=first), []
    for architecture in results.params.architectures:
        for attack in ATTACKS:
            rows += _change_row(results, Cell(architecture, "none", 0.0), attack)
    return pd.DataFrame(rows)


def _change_row(results: Results[Params, Cell], cell: Cell, attack: str) -> list[dict[str, object]]:
    answers = [a for (c, _, q), a in results.answers.items() if c == cell and q == attack]
    if not answers:
        return []
    size, l2, linf = (
        bootstrap_interval(list(change_sizes(results, cell, attack, name).values()))
        for name in ("size", "l2", "linf")
    )
    shares = {
        name: float(np.mean(list(change_sizes(results, cell, attack, name).values()) or [math.nan]))
        for name in ("half", "rounded")
    }
    return [
        {
            **vars(cell),
            "attack": attack,
            **size.columns("size"),
            "percent": size.mean / ONE_PERCENT,
            **l2.columns("l2"),
            **linf.columns("linf"),
            "n": size.n,
            "wrong": float(np.mean([sum(s == 0 for s in a["size"]) for a in answers])),
            "failed": failures(results, cell, attack),
            **shares,
            "seconds": float(np.mean([a["seconds"] for a in answers])),
            "networks": len(answers),
        }
    ]


def autoattack_table(results: Results[Params, Cell]) -> pd.DataFrame:
    """List the accuracy under AutoAttack, a row a network and size in 255ths of the pixel range; 0: none.

    A row a network, as equal images in several networks are no independent ones; Wilson's interval over n
    images.
    """
    rows = []
    for (cell, seed, question), answer in results.answers.items():
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


def common_table(results: Results[Params, Cell]) -> pd.DataFrame:
    """Average the accuracy over the five severities of a common corruption, by what a network was trained on.

    shown: noise (sigma 0.04 to 0.10 on pixels in [0, 1]) or blur (0.4 to 1.0 pixels).
    """
    rows = []
    kinds = results.params.kinds if results.params.common else ()
    for shown, cell in itertools.product(kinds, results.cells):
        levels = [results.values(cell, "accuracy", **shown_as(shown, at)) for at in common_levels(shown)]
        seeds = common_seeds(levels)
        accuracy = mean_interval([float(np.mean([found[seed] for found in levels])) for seed in seeds])
        if accuracy.n:
            rows.append({"shown": shown, **vars(cell), **accuracy.row("accuracy")})
    return pd.DataFrame(rows)
