"""The tables of the ANL study: what its runs found, seed by seed made into means with intervals."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch

from noiseutils.bench import noise_steps
from noiseutils.stats import Paired, holm, mean_interval, paired
from noiseutils.studies.adversarial_noise_layer.grid import METHODS, Cell, Params
from noiseutils.studies.adversarial_noise_layer.outcome import Outcome, label_of
from noiseutils.studies.common import select, threads_of_a_run


def errors_table(outcome: Outcome, part: str) -> pd.DataFrame:
    """Top-1 error of every cell of a table: as trained, and with BatchNorm statistics re-estimated.

    Columns: data, model, method, epsilon; top1_error with its interval; recalibrated (its mean, nan for a
    network without BatchNorm); n seeds; diverged runs.
    """
    rows = []
    for cell in outcome.of(part):
        error = mean_interval(list(outcome.values(cell).values()))
        again = mean_interval(list(outcome.values(cell, statistics="recalibrated").values()))
        there = [r for (c, _), r in outcome.by_cell.items() if c == cell]
        rows.append(
            {
                "data": label_of(outcome.params, cell),
                "model": cell.model,
                "method": METHODS[cell.method],
                "epsilon": cell.epsilon,
                "top1_error": error.mean,
                "top1_error_low": error.low,
                "top1_error_high": error.high,
                "recalibrated": again.mean,
                "n": error.n,
                "diverged": sum(r.status == "diverged" for r in there),
            }
        )
    return pd.DataFrame(rows)


def against_baseline(outcome: Outcome, cell: Cell, **condition: Any) -> Paired | None:
    """Paired difference in top-1 error: a cell minus the training without noise in the same table."""
    plain = [c for c in outcome.of(cell.part, data=cell.data, model=cell.model) if c.method == "baseline"]
    return difference(outcome, cell, plain[0], **condition) if plain else None


def difference(outcome: Outcome, cell: Cell, control: Cell, **condition: Any) -> Paired:
    """Paired difference in top-1 error between two cells, over the seeds that both have."""
    treated, base = (outcome.values(c, **condition) for c in (cell, control))
    seeds = [seed for seed in treated if seed in base]
    return paired([treated[s] for s in seeds], [base[s] for s in seeds])


def significance_table(outcome: Outcome, part: str) -> pd.DataFrame:
    """Every kind of training minus the baseline, paired over seeds; Holm's correction over the table."""
    rows = []
    for cell in outcome.of(part):
        test = None if cell.method == "baseline" else against_baseline(outcome, cell)
        if test is None:
            continue
        d = test.difference
        rows.append(
            {
                "data": label_of(outcome.params, cell),
                "model": cell.model,
                "method": METHODS[cell.method],
                "epsilon": cell.epsilon,
                "difference": d.mean,
                "low": d.low,
                "high": d.high,
                "n": d.n,
                "p_value": test.p,
            }
        )
    table = pd.DataFrame(rows)
    return table.assign(p_holm=holm(table.p_value.tolist())) if rows else table


def similarities(outcome: Outcome) -> Iterator[tuple[int, str, np.ndarray]]:
    """Per seed and site, the (K, K) similarities of Table 1."""
    for (cell, seed), result in outcome.by_cell.items():
        if cell.part == "table1":
            for site, values in result.metrics.get("gradient_similarity", {}).items():
                yield seed, site, np.array(values, dtype=float)


def similarity_table(outcome: Outcome) -> pd.DataFrame:
    """How alike gradients are within a class and between classes, site by site (Table 1 at every site).

    same_class: mean over classes of the similarity of a class with itself; class_0 with itself, the paper's
    0.77; other_class: mean over pairs of different classes; greatest_other: the greatest of those, mean over
    seeds. separated: in how many of the seeds every class is more like itself than like any other.
    """
    rows: dict[str, list[dict[str, float]]] = {}
    for _, site, values in similarities(outcome):
        own = np.diag(values)
        others = values[~np.eye(len(values), dtype=bool)].reshape(len(values), -1)
        rows.setdefault(site, []).append(
            {
                "same_class": float(np.nanmean(own)),
                "class_0": float(own[0]),
                "other_class": float(np.nanmean(others)),
                "greatest_other": float(np.nanmax(others)),
                "separated": float((own > np.nanmax(others, axis=1)).all()),
            }
        )
    found = []
    for site, seeds in rows.items():
        same = mean_interval([row["same_class"] for row in seeds])
        first = mean_interval([row["class_0"] for row in seeds])
        found.append(
            {
                "site": site,
                "same_class": same.mean,
                "same_class_low": same.low,
                "same_class_high": same.high,
                "class_0": first.mean,
                "class_0_low": first.low,
                "class_0_high": first.high,
                "other_class": np.mean([row["other_class"] for row in seeds]),
                "greatest_other": np.mean([row["greatest_other"] for row in seeds]),
                "separated": f"{sum(row['separated'] for row in seeds):.0f} of {len(seeds)}",
                "n": same.n,
            }
        )
    return pd.DataFrame(found)


def class_0_table(outcome: Outcome) -> pd.DataFrame:
    """Table 1 as it is printed, a row a site: the similarity of class 0 with every class, mean over seeds."""
    rows: dict[str, list[np.ndarray]] = {}
    for _, site, values in similarities(outcome):
        rows.setdefault(site, []).append(values[0])
    return pd.DataFrame(
        [
            {"site": site}
            | {f"class {c}": v for c, v in enumerate(np.mean(seeds, axis=0))}
            | {"n": len(seeds)}
            for site, seeds in rows.items()
        ]
    )


def robustness_table(outcome: Outcome) -> pd.DataFrame:
    """Table 4: accuracy under FGSM, one row a network and attack size (in 255ths of the pixel range)."""
    rows = []
    for cell in outcome.of("table4"):
        for delta in (0.0, *outcome.params.fgsm_255):
            for statistics in ("trained", "recalibrated"):
                found = outcome.values(
                    cell, statistics=statistics, condition="fgsm" if delta else "clean", size=delta / 255
                )
                accuracy = mean_interval([1 - error for error in found.values()])
                if accuracy.n:
                    rows.append(
                        {
                            "method": METHODS[cell.method],
                            "epsilon": cell.epsilon,
                            "statistics": statistics,
                            "delta": delta,
                            "accuracy": accuracy.mean,
                            "low": accuracy.low,
                            "high": accuracy.high,
                            "n": accuracy.n,
                        }
                    )
    return pd.DataFrame(rows)


def histories(outcome: Outcome, part: str) -> pd.DataFrame:
    """Every epoch of every run of a table, with data, model, method, epsilon and seed in front."""
    frames = [
        result.history.assign(
            data=label_of(outcome.params, cell),
            model=cell.model,
            method=cell.method,
            epsilon=cell.epsilon,
            seed=seed,
        )
        for (cell, seed), result in outcome.by_cell.items()
        if cell.part == part
    ]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def activation_table(outcome: Outcome, part: str = "table2", model: str = "lenet5") -> pd.DataFrame:
    """Figure 2 in numbers: activation std of each layer after the first and last epoch, mean over seeds."""
    table = histories(outcome, part)
    table = select(table, model=model) if len(table) else table
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
    """The timing sentence as ratios: a step with each noise over the step without, here and now.

    paper: its seconds an epoch, 27.57 and 15.83 over 14.26. theory: forward, input gradients and weight
    gradients of a convolution cost alike, and ANL's round one takes the first two again: 5/3.
    """
    model = params.ablation_model or params.table4_model or "vgg16"
    with threads_of_a_run():
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
