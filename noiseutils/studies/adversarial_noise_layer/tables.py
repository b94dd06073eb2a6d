"""Tables of the ANL study: means over seeds, with their intervals."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import torch

from noiseutils.bench import noise_steps
from noiseutils.stats import holm, mean_interval
from noiseutils.studies.adversarial_noise_layer.grid import METHODS, Cell, described
from noiseutils.studies.adversarial_noise_layer.params import Params
from noiseutils.studies.results import Results, select
from noiseutils.studies.timing import one_thread


def errors_table(results: Results[Params, Cell], part: str) -> pd.DataFrame:
    """Average the top-1 error of every cell of a table: as trained, and with re-estimated statistics.

    Columns: data, model, method, epsilon; top1_error with its interval; recalibrated (its mean, nan for a
    network without BatchNorm); n seeds; diverged runs.
    """
    rows = []
    for cell in results.of(part=part):
        error = results.interval(cell, "top1_error")
        again = results.interval(cell, "top1_error", statistics="recalibrated")
        row = described(results.params, cell) | error.columns("top1_error") | {"recalibrated": again.mean}
        rows.append(row | {"n": error.n, "diverged": results.diverged(cell)})
    return pd.DataFrame(rows)


def baseline_of(results: Results[Params, Cell], cell: Cell) -> Cell | None:
    """Return the training without noise in the same table as a cell."""
    return next(iter(results.of(part=cell.part, data=cell.data, model=cell.model, method="baseline")), None)


def significance_table(results: Results[Params, Cell], part: str) -> pd.DataFrame:
    """Test every kind of training against the baseline, paired over seeds, with Holm's correction."""
    rows = []
    for cell in results.of(part=part):
        baseline = baseline_of(results, cell)
        if baseline is not None and cell != baseline:
            test = results.paired(cell, baseline, "top1_error")
            row = described(results.params, cell) | test.difference.row("difference")
            rows.append(row | {"p_value": test.p})
    table = pd.DataFrame(rows)
    return table.assign(p_holm=holm(table.p_value.tolist())) if rows else table


def similarities(results: Results[Params, Cell]) -> pd.DataFrame:
    """List the mean cosines of loss gradients of two images: a row a seed and site of Table 1's LeNet-5.

    same_class: mean over classes; class_0: of class 0 alone, and `with_class`: of class 0 with each class.
    other_class, greatest_other: over pairs of different classes.   separated: whether every class is more
    like itself than like any other.
    """
    rows = []
    for (cell, seed), result in results.by_cell.items():
        found = result.metrics.get("gradient_similarity", {}) if cell.part == "table1" else {}
        for site, matrix in found.items():
            values = np.array(matrix, dtype=float)
            own, others = np.diag(values), values[~np.eye(len(values), dtype=bool)].reshape(len(values), -1)
            rows.append(
                {
                    **vars(cell),
                    "seed": seed,
                    "site": site,
                    "same_class": float(np.nanmean(own)),
                    "class_0": float(own[0]),
                    "with_class": values[0],
                    "other_class": float(np.nanmean(others)),
                    "greatest_other": float(np.nanmax(others)),
                    "separated": bool((own > np.nanmax(others, axis=1)).all()),
                }
            )
    return pd.DataFrame(rows, columns=None if rows else ["seed", "site", "with_class"])


def similarity_table(results: Results[Params, Cell]) -> pd.DataFrame:
    """Average the cosines of loss gradients within and between classes, a row a site: Table 1.

    separated: in how many of the seeds every class is more like itself than like any other.
    """
    rows = []
    for site, seeds in similarities(results).groupby("site", sort=False):
        same = mean_interval(seeds.same_class.tolist())
        row = {"site": site} | same.columns("same_class")
        row |= mean_interval(seeds.class_0.tolist()).columns("class_0")
        row |= {name: np.mean(seeds[name]) for name in ("other_class", "greatest_other")}
        rows.append(row | {"separated": f"{seeds.separated.sum()} of {len(seeds)}", "n": same.n})
    return pd.DataFrame(rows)


def class_0_table(results: Results[Params, Cell]) -> pd.DataFrame:
    """Average the similarity of class 0 with every class, a row a site: Table 1 as it is printed."""
    rows = []
    for site, seeds in similarities(results).groupby("site", sort=False):
        means = np.mean(np.stack(seeds.with_class.tolist()), axis=0)
        rows.append({"site": site} | {f"class {c}": v for c, v in enumerate(means)} | {"n": len(seeds)})
    return pd.DataFrame(rows)


def robustness_table(results: Results[Params, Cell]) -> pd.DataFrame:
    """Average the accuracy under FGSM, a row a network and attack size in 255ths: Table 4."""
    rows = []
    sizes = (0.0, *results.params.fgsm_255)
    for cell, delta, statistics in itertools.product(
        results.of(part="table4"), sizes, ("trained", "recalibrated")
    ):
        condition = "fgsm" if delta else "clean"
        found = results.values(
            cell, "top1_error", statistics=statistics, condition=condition, size=delta / 255
        )
        accuracy = mean_interval([1 - error for error in found.values()])
        if accuracy.n:
            row = {"method": METHODS[cell.method], "epsilon": cell.epsilon}
            rows.append(row | {"statistics": statistics, "delta": delta} | accuracy.row("accuracy"))
    return pd.DataFrame(rows)


def activation_table(
    results: Results[Params, Cell], part: str = "table2", model: str = "lenet5"
) -> pd.DataFrame:
    """Average the activation std of each layer after the first and last epoch: Figure 2 in numbers."""
    table = results.histories(part=part, model=model)
    if table.empty:
        return pd.DataFrame(columns=["method", "layer", "first_epoch", "last_epoch", "n"])
    columns = [
        c
        for c in table.columns
        if c.startswith("activation_std.") and bool(table[c].notna().to_numpy().any())
    ]
    rows = []
    for method, group in table.groupby("method", sort=False):
        for column in columns:
            first = select(group, epoch=group.epoch.min())
            last = select(group, epoch=group.epoch.max())
            rows.append(
                {
                    "method": METHODS[str(method)],
                    "layer": column.removeprefix("activation_std."),
                    "first_epoch": first[column].mean(),
                    "last_epoch": last[column].mean(),
                    "n": last.seed.nunique(),
                }
            )
    return pd.DataFrame(rows)


def timing_table(params: Params) -> pd.DataFrame:
    """Measure the timing sentence as ratios: a step with each noise over the step without, here and now.

    paper: its seconds an epoch, 27.57 and 15.83 over 14.26. theory: forward, input gradients and weight
    gradients of a convolution cost alike, and ANL's round one takes the first two again: 5/3.
    """
    model = params.ablation_model or params.table4_model or "vgg16"
    with one_thread():
        ratios = noise_steps(model, width=params.width, batch_size=params.timing_batch)
        threads = torch.get_num_threads()
    paper = {"anl": 27.57 / 14.26, "canl": 15.83 / 14.26}
    theory = {"anl": 5 / 3}
    return pd.DataFrame(
        {
            "model": f"{model}, width {params.width:g}",
            "noise": METHODS[name],
            "ratio": ratio.ratio,
            "paper": paper.get(name, math.nan),
            "theory": theory.get(name, 1.0),
            "with_noise_ms": ratio.slow_seconds * 1000,
            "without_ms": ratio.fast_seconds * 1000,
            "batch": params.timing_batch,
            "rounds": len(ratio.above.values),
            "threads": threads,
        }
        for name, ratio in ratios.items()
    )
