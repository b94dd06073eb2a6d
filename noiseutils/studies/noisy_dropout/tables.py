"""Tables of the NoisyDropout study; what the paper reports stands in reported.py."""

from __future__ import annotations

import itertools

import pandas as pd
import torch

from noiseutils.bench import noisy_dropout_step
from noiseutils.data import load
from noiseutils.errors import UserError
from noiseutils.stats import holm, mean_interval, one_sample
from noiseutils.studies.noisy_dropout.contrasts import by_class, class_changes, noisy_cells
from noiseutils.studies.noisy_dropout.grid import READINGS, Cell, level_name
from noiseutils.studies.noisy_dropout.params import Params
from noiseutils.studies.params import data_of
from noiseutils.studies.results import Results, select
from noiseutils.sweeps.jobs import one_thread

NAMED_IN_SECTION_4_1 = ("Airplane", "Bird", "Car", "Dog", "Fruit", "Rabbit", "Train", "Baby")
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR100_ONLY = ("baby", "rabbit", "train")  # of the names above, those that are classes of CIFAR-100


def dataset_std(params: Params) -> pd.DataFrame:
    """Compute the standard deviations of a set of images, pixels in [0, 1], beside the paper's number.

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


def class_names(results: Results[Params, Cell]) -> pd.DataFrame:
    """Tell which of the classes that the paper discusses CIFAR-10, CIFAR-100 and the data at hand have."""
    here = {name for result in results.stored for name in result.info["data"]["classes"]}
    sets = {"in CIFAR-10": CIFAR10, "in CIFAR-100": CIFAR100_ONLY, "in the data here": here}
    rows = []
    for name in NAMED_IN_SECTION_4_1:
        wanted = "automobile" if name == "Car" else name.lower()
        rows.append({"named": name} | {s: "yes" if wanted in found else "no" for s, found in sets.items()})
    return pd.DataFrame(rows)


def grid_table(
    results: Results[Params, Cell], quantities: tuple[str, ...] = ("top1_error", "top5_error")
) -> pd.DataFrame:
    """Average the clean errors of every cell, with t intervals: Figures 6-11 as numbers.

    Columns: p, level, std, reading, then per quantity its mean, low, high; n seeds; diverged runs.
    """
    rows = []
    for cell in _in_order(results):
        row: dict[str, object] = {"p": cell.p, "level": cell.level}
        row |= {"std": cell.level * results.params.base_std, "reading": cell.reading}
        for quantity in quantities:
            row |= results.interval(cell, quantity).columns(quantity)
        row |= {"n": results.interval(cell, quantities[0]).n, "diverged": results.diverged(cell)}
        rows.append(row)
    return pd.DataFrame(rows)


def _in_order(results: Results[Params, Cell]) -> list[Cell]:
    return sorted(results.cells, key=lambda c: (READINGS.index(c.reading), c.p, c.level))


def per_class_summary(results: Results[Params, Cell]) -> pd.DataFrame:
    """Average the accuracy per class, one row a cell, one column a class; n seeds."""
    rows = []
    for cell in _in_order(results):
        accuracies = by_class(results, cell)
        row: dict[str, object] = {"reading": cell.reading, "p": cell.p, "level": cell.level}
        row |= pd.DataFrame(list(accuracies.values())).mean().to_dict()
        rows.append(row | {"n": len(accuracies)})
    table = pd.DataFrame(rows)
    return table.reindex(columns=[*table.columns.drop("n"), "n"])


def per_class_tests(results: Results[Params, Cell]) -> pd.DataFrame:
    """Test for each class what noise changes in its accuracy, averaged over the levels, paired over seeds.

    One row a class, reading and p.   levels: of the noise.   p_value: t test; p_holm: Holm's correction over
    the whole table.
    """
    rows = []
    for reading, p in itertools.product(results.params.readings, sorted(results.params.probabilities)):
        changes = class_changes(results, p, reading)
        levels = " ".join(level_name(cell.level) for cell in noisy_cells(results, p, reading))
        for name in next(iter(changes.values()), {}):
            test = one_sample([by[name] for by in changes.values()])
            row = {"class": name, "reading": reading, "p": p, "levels": levels}
            rows.append(row | test.difference.row("difference") | {"p_value": test.p})
    table = pd.DataFrame(rows)
    return table.assign(p_holm=holm(table.p_value.tolist())) if rows else table


def significance_table(results: Results[Params, Cell], quantity: str = "top1_error") -> pd.DataFrame:
    """Test noise against ordinary dropout, paired over seeds: the test that the paper asks for (5.3).

    Ordinary dropout scales what it keeps, also where it is compared with noise of an unscaled reading.
    p_value: paired t test; p_holm: Holm's correction over all cells of the table.
    """
    rows = []
    for cell in _in_order(results):
        if cell != cell.plain:
            test = results.paired(cell, cell.plain, quantity)
            row = {"reading": cell.reading, "p": cell.p, "level": cell.level}
            rows.append({**row, **test.difference.row("difference"), "p_value": test.p})
    table = pd.DataFrame(rows)
    table["p_holm"] = holm(table.p_value.tolist())
    return table


def robustness_table(results: Results[Params, Cell]) -> pd.DataFrame:
    """Average the top-1 error under FGSM and input noise: the mild adversarial test of section 3.3.

    One row a condition, size, p, level; trained and, for networks with BatchNorm, re-estimated statistics.
    """
    keys = ["condition", "size", "statistics", "reading", "p", "level"]
    rows = []
    for place, group in results.frame.groupby(keys):
        assert isinstance(place, tuple)  # a list of names gives tuples
        row = dict(zip(keys, place, strict=True)) | mean_interval(group.top1_error.tolist()).row("top1_error")
        rows.append(row | {"calibration_error": group.calibration_error.mean()})
    return pd.DataFrame(rows)


def cost_table(results: Results[Params, Cell]) -> pd.DataFrame:
    """Count the parameters and take the median seconds of an epoch, as the runs were timed (3.3).

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
        for (cell, _), result in results.by_cell.items()
        for seconds in result.history.seconds
    ]
    places = ["reading", "p", "level", "device", "parameters"]
    grouped = pd.DataFrame(rows, columns=[*places, "seconds"]).groupby(places, sort=False).seconds
    return grouped.agg(seconds_per_epoch="median", n="count").reset_index()


def activation_table(results: Results[Params, Cell]) -> pd.DataFrame:
    """Set the activation std of every layer after training with ordinary dropout beside the loudest noise."""
    loudest = max(results.params.noise_levels) * results.params.base_std
    table = results.histories(level=0, reading="dropped")
    last = select(table, epoch=table.epoch.max())
    rows = []
    for column in (c for c in last.columns if c.startswith("activation_std.")):
        interval = mean_interval(last[column].tolist())
        rows.append({"layer": column.removeprefix("activation_std."), "std": interval.mean, "n": interval.n})
    return pd.DataFrame(rows).assign(loudest_noise=loudest, share=lambda t: loudest / t["std"])


def step_overhead(params: Params) -> pd.DataFrame:
    """Measure, here and now, what NoisyDropout adds to a training step over torch's own dropout."""
    with one_thread():
        ratio = noisy_dropout_step(width=params.width)
        threads = torch.get_num_threads()
    row = {
        "NoisyDropout / nn.Dropout": ratio.ratio,
        "NoisyDropout (ms)": ratio.slow_seconds * 1000,
        "nn.Dropout (ms)": ratio.fast_seconds * 1000,
        "rounds": len(ratio.above.values),
        "threads": threads,
    }
    return pd.DataFrame([row])
