"""The tables of the NoisyDropout study; what the paper said stands in claims.py."""

from __future__ import annotations

import pandas as pd
import torch

from noiseutils.bench import noisy_dropout_step
from noiseutils.data import load
from noiseutils.errors import UserError
from noiseutils.stats import holm, mean_interval
from noiseutils.studies.common import select, threads_of_a_run
from noiseutils.studies.noisy_dropout.claims import against_plain
from noiseutils.studies.noisy_dropout.grid import READINGS, Outcome, Params, cells, data_of

NAMED_IN_SECTION_4_1 = ("Airplane", "Bird", "Car", "Dog", "Fruit", "Rabbit", "Train", "Baby")
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR100_ONLY = ("baby", "rabbit", "train")  # of the names above, those that are classes of CIFAR-100


def dataset_std(params: Params) -> pd.DataFrame:
    """The standard deviations that a set of images has, pixels in [0, 1], beside the paper's number.

    Results can be shown where the images are not: the paper's number then stands alone, with a note.
    """
    paper = ("the paper's", params.base_std)
    try:
        data = load(data_of(params))
    except UserError as error:
        print(f"The images are not here, so their standard deviations are left out: {error}")
        return pd.DataFrame([paper], columns=["over", "std"])
    pixels = data.train.pixels.double() / 255
    rows = [("all pixels", float(pixels.std(correction=0)))]
    rows += [(f"channel {i}", std) for i, std in enumerate(data.std)] if data.channels > 1 else []
    rows.append(("mean over images", float(pixels.flatten(1).std(1).mean())))
    rows.append(("mean over images and channels", float(pixels.flatten(2).std(2).mean())))
    return pd.DataFrame([*rows, paper], columns=["over", "std"])


def class_names(outcome: Outcome) -> pd.DataFrame:
    """Which of the classes that the paper discusses CIFAR-10, CIFAR-100 and the data at hand have."""
    synonyms = {"car": "automobile"}
    here = {name for result in outcome.results for name in result.info["data"]["classes"]}
    rows = []
    for name in NAMED_IN_SECTION_4_1:
        wanted = synonyms.get(name.lower(), name.lower())
        rows.append(
            {
                "named": name,
                "in CIFAR-10": "yes" if wanted in CIFAR10 else "no",
                "in CIFAR-100": "yes" if wanted in CIFAR100_ONLY else "no",
                "in the data here": "yes" if wanted in here else "no",
            }
        )
    return pd.DataFrame(rows)


def grid_table(outcome: Outcome, quantities: tuple[str, ...] = ("top1_error", "top5_error")) -> pd.DataFrame:
    """Clean errors of every cell with t intervals: Figures 6-11 as numbers.

    Columns: p, level, std, reading, then per quantity its mean, low, high; n seeds; diverged runs.
    """
    rows = []
    for cell in sorted(cells(outcome.params), key=lambda c: (READINGS.index(c.reading), c.p, c.level)):
        there = [r for (c, _), r in outcome.by_cell.items() if c == cell]
        row: dict[str, object] = {
            "p": cell.p,
            "level": cell.level,
            "std": cell.level * outcome.params.base_std,
            "reading": cell.reading,
        }
        for quantity in quantities:
            interval = mean_interval(list(outcome.values(cell, quantity).values()))
            row |= {
                quantity: interval.mean,
                f"{quantity}_low": interval.low,
                f"{quantity}_high": interval.high,
            }
        row |= {
            "n": len(outcome.values(cell, quantities[0])),
            "diverged": sum(r.status == "diverged" for r in there),
        }
        rows.append(row)
    return pd.DataFrame(rows)


def per_class_table(outcome: Outcome, p: float) -> pd.DataFrame:
    """Accuracy per class, level and seed for one dropout probability (Figures 3-5): tidy."""
    kept = select(outcome.frame, p=p, condition="clean", statistics="trained", reading="dropped")
    rows = [
        {"p": p, "level": row["level"], "seed": row["seed"], "class": name, "accuracy": accuracy}
        for row in kept.to_dict("records")
        for name, accuracy in row["per_class"].items()
    ]
    return pd.DataFrame(rows, columns=["p", "level", "seed", "class", "accuracy"])


def per_class_summary(outcome: Outcome) -> pd.DataFrame:
    """Mean accuracy per class, one row a probability and level, one column a class."""
    tables = [per_class_table(outcome, p) for p in sorted(outcome.params.probabilities)]
    table = pd.concat(tables, ignore_index=True)
    classes = list(dict.fromkeys(table["class"]))
    wide = table.pivot_table(index=["p", "level"], columns="class", values="accuracy")[classes]
    seeds = table.groupby(["p", "level"]).seed.nunique()
    return wide.assign(n=seeds).reset_index()


def significance_table(outcome: Outcome, quantity: str = "top1_error") -> pd.DataFrame:
    """The test that the paper asks for (section 5.3): noise minus ordinary dropout, paired over seeds.

    p_value: paired t test; p_holm: Holm's correction over all cells of the table.
    """
    rows = []
    for cell in sorted(cells(outcome.params), key=lambda c: (READINGS.index(c.reading), c.p, c.level)):
        if cell == outcome.plain(cell.p):
            continue
        test = against_plain(outcome, [cell], quantity)
        d = test.difference
        rows.append(
            {
                "reading": cell.reading,
                "p": cell.p,
                "level": cell.level,
                "difference": d.mean,
                "low": d.low,
                "high": d.high,
                "n": d.n,
                "p_value": test.p,
            }
        )
    table = pd.DataFrame(rows)
    table["p_holm"] = holm(table.p_value.tolist())
    return table


def robustness_table(outcome: Outcome) -> pd.DataFrame:
    """The mild adversarial test that the paper announces (3.3): top-1 error under FGSM and input noise.

    One row a condition, size, p, level; trained and, for networks with BatchNorm, re-estimated statistics.
    """
    f = outcome.frame
    keys = ["condition", "size", "statistics", "reading", "p", "level"]
    rows = []
    for place, group in f.groupby(keys):
        assert isinstance(place, tuple)  # a list of names gives tuples
        interval = mean_interval(group.top1_error.tolist())
        calibration = group.calibration_error.mean()
        rows.append(
            dict(zip(keys, place, strict=True))
            | {
                "top1_error": interval.mean,
                "low": interval.low,
                "high": interval.high,
                "n": interval.n,
                "calibration_error": calibration,
            }
        )
    return pd.DataFrame(rows)


def cost_table(outcome: Outcome) -> pd.DataFrame:
    """Resource efficiency (3.3): parameters, and the median seconds of an epoch, as the runs were timed.

    One row a cell and device; n epochs. Runs that shared a machine slow each other down: for the cost of
    noise itself see `step_overhead`.
    """
    rows = [
        {
            "reading": cell.reading,
            "p": cell.p,
            "level": cell.level,
            "device": result.info["device"],
            "parameters": result.info["parameters"],
            "seconds": seconds,
        }
        for (cell, _), result in outcome.by_cell.items()
        for seconds in result.history.seconds
    ]
    places = ["reading", "p", "level", "device", "parameters"]
    grouped = pd.DataFrame(rows, columns=[*places, "seconds"]).groupby(places, sort=False).seconds
    return grouped.agg(seconds_per_epoch="median", n="count").reset_index()


def activation_table(outcome: Outcome) -> pd.DataFrame:
    """Activation std of every layer after training with ordinary dropout, beside the loudest noise's std."""
    loudest = max(outcome.params.noise_levels) * outcome.params.base_std
    table = select(histories(outcome), level=0, reading="dropped")
    last = select(table, epoch=table.epoch.max())
    rows = []
    for column in (c for c in last.columns if c.startswith("activation_std.")):
        interval = mean_interval(last[column].tolist())
        rows.append({"layer": column.removeprefix("activation_std."), "std": interval.mean, "n": interval.n})
    return pd.DataFrame(rows).assign(loudest_noise=loudest, share=lambda t: loudest / t["std"])


def step_overhead(params: Params) -> pd.DataFrame:
    """What NoisyDropout adds to a training step over torch's own dropout, measured here and now."""
    with threads_of_a_run():
        ratio = noisy_dropout_step(width=params.width)
        threads = torch.get_num_threads()
    return pd.DataFrame(
        [
            {
                "NoisyDropout / nn.Dropout": ratio.ratio,
                "NoisyDropout (ms)": ratio.slow_seconds * 1000,
                "nn.Dropout (ms)": ratio.fast_seconds * 1000,
                "rounds": len(ratio.above.values),
                "threads": threads,
            }
        ]
    )


def histories(outcome: Outcome) -> pd.DataFrame:
    """Every epoch of every run: the stored histories with p, level, reading and seed in front."""
    frames = [
        result.history.assign(p=cell.p, level=cell.level, reading=cell.reading, seed=seed)
        for (cell, seed), result in outcome.by_cell.items()
    ]
    return pd.concat(frames, ignore_index=True)
