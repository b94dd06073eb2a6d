"""Tables of the training-data study; its claims stand in claims.py."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from torch import nn

from noiseutils.evaluation.minimal_change import ATTACKS
from noiseutils.models.modules import MODULES
from noiseutils.stats import bootstrap_interval, mean_interval
from noiseutils.studies.autoattacked import AUTOATTACK
from noiseutils.studies.results import Record, Results, common_seeds
from noiseutils.studies.training_data_variation.changes import (
    ONE_PERCENT,
    READINGS,
    common_sizes,
    compared,
    mean,
    sizes_of,
)
from noiseutils.studies.training_data_variation.grid import (
    COPY,
    Cell,
    common_levels,
    row_of,
    shown_as,
    shown_levels,
)
from noiseutils.studies.training_data_variation.params import Params

NORMS = ("size", "l2", "linf")
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


def change_table(results: Results[Params, Cell]) -> pd.DataFrame:
    """Average the smallest change of a pixel, in 8-bit values, a row a reading and network: Figures 5 and 7.

    size: mean over n seeds with its t interval, of means over images.   percent: of the 8-bit range.
    reading: a key of `changes.READINGS`.   images: averaged over, a mean over seeds; for "correct" those that
    all networks of the architecture and kind get right, networks at chance aside, which have no size.
    wrong, failed: images without a change, as the network errs on them anyway, or withstood.
    half: share of changes of which half would do.   rounded: share that still misleads in whole 8-bit values.
    """
    rows, kinds = [], [*results.params.kinds, *([COPY] if results.params.copy_sigmas else [])]
    for reading, kind, architecture in itertools.product(READINGS, kinds, results.params.architectures):
        row = row_of(results.params, architecture, kind)
        by_cell = row_sizes(results, row, reading)
        for cell in row:
            answers = [a for a in answers_of(results, cell).values() if reading in readings_in(a)]
            if answers:
                seeds = by_cell.get(cell, {})
                size = mean_interval([mean(sizes.values()) for sizes in seeds.values()])
                rows.append(
                    {
                        "reading": reading,
                        "kind": kind,
                        "architecture": architecture,
                        "sigma": cell.sigma,
                        **size.row("size"),
                        "percent": size.mean / ONE_PERCENT,
                        "images": mean(map(len, seeds.values())) if seeds else 0.0,
                        **counts_of(answers),
                    }
                )
    return pd.DataFrame(rows)


def row_sizes(
    results: Results[Params, Cell], row: Sequence[Cell], reading: str
) -> dict[Cell, dict[int, dict[int, float]]]:
    """Return the smallest changes of a row by cell, seed and image: what its figure and table average.

    For "correct" on the images common to the row's networks; networks at chance have none.
    """
    cells = compared(results, row) if reading == "correct" else row
    if reading == "correct":
        each = common_sizes(results, cells, reading)
        return {c: {s: by[c] for s, by in each.items() if by[c]} for c in cells}
    return {
        c: {s: sizes for s in answers_of(results, c) if (sizes := sizes_of(results, c, s, reading))}
        for c in cells
    }


def answers_of(results: Results[Params, Cell], cell: Cell, attack: str = "") -> dict[int, Record]:
    """Return what an attack answered about a cell, by seed; attack "": the profile's."""
    attack = attack or results.params.change_attack
    return {s: answer for (c, s, q), answer in results.answers.items() if (c, q) == (cell, attack)}


def readings_in(answer: Record) -> list[str]:
    """Return the readings that an answer allows: older ones did not attack predicted classes."""
    return [name for name in READINGS if name != "predicted" or "predicted_size" in answer]


def counts_of(answers: Sequence[Record]) -> dict[str, float]:
    """Return means over networks: images wrong and withstood, shares of halved and rounded changes."""
    shares = {}
    for name in ("half", "rounded"):
        flags = [f for a in answers for size, f in zip(a["size"], a[name], strict=True) if size]
        shares[name] = mean(flags) if flags else math.nan
    wrong = mean(sum(size == 0 for size in a["size"]) for a in answers)
    failed = mean(sum(size is None for size in a["size"]) for a in answers)
    return {"wrong": wrong, "failed": failed, **shares}


def attacks_table(results: Results[Params, Cell]) -> pd.DataFrame:
    """Compare the attacks on the same images, for networks trained on images as they are, seed 0.

    size in 8-bit values, l2 and linf of pixels in [0, 1], bootstrapped over the n images that the network
    gets right and every attack misled.   seconds: for all images; on a CPU others ran beside it, one a core.
      half, rounded, wrong, failed: as in `change_table`.
    """
    rows = []
    for architecture in results.params.architectures:
        cell = Cell(architecture, "none", 0.0)
        found = {a: answers_of(results, cell, a)[0] for a in ATTACKS if 0 in answers_of(results, cell, a)}
        each = zip(*(answer["size"] for answer in found.values()), strict=True)
        images = [i for i, sizes in enumerate(each) if all(sizes)]
        for attack, answer in found.items():
            norms = [bootstrap_interval([answer[q][i] for i in images]).columns(q) for q in NORMS]
            rows.append(
                {
                    "architecture": architecture,
                    "attack": attack,
                    **{name: value for norm in norms for name, value in norm.items()},
                    "n": len(images),
                    **counts_of([answer]),
                    "seconds": answer["seconds"],
                }
            )
    return pd.DataFrame(rows)


def autoattack_table(results: Results[Params, Cell]) -> pd.DataFrame:
    """List the accuracy under AutoAttack, a row a network and size in 255ths of the pixel range; 0: none.

    A row a network, as equal images in several networks are no independent ones; Wilson's interval over n
    images.
    """
    from scipy.stats import binomtest  # half a second to import

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
