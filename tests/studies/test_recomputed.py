"""Verdicts on committed results, computed again from the stored files with pandas and scipy alone."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from noiseutils.studies import evidence

REFERENCE = Path(__file__).parents[2] / "outputs" / "reference"
Tested = tuple[pd.Series, str, float]  # by seed; what is claimed of the mean; the margin
LEVEL = {1: 0.05, 2: 0.0294, 3: 0.0221}  # Pocock 1977, two-sided, by how often the results were looked at


def records(folder: str) -> pd.DataFrame:
    """Return a row a run and condition of the test images."""
    rows = []
    for path in sorted((REFERENCE / folder / "runs").glob("*/run.json")):
        run = json.loads(path.read_text())["run"]
        metrics = json.loads((path.parent / "metrics.json").read_text())
        noise, corruption = run["noise"] or {}, run.get("corruption") or {}
        rows += [
            {
                "seed": run["seed"],
                "model": run["model"]["name"],
                **{f"noise_{name}": value for name, value in noise.items()},
                **{f"trained_{name}": value for name, value in corruption.items()},
                **{f"class_{name}": value for name, value in (record["per_class"] or {}).items()},
                "sharpness": sharpness(metrics.get("feature_maps")),
                **record,
            }
            for record in metrics["conditions"]
        ]
    return pd.DataFrame(rows)


def sharpness(stored: dict | None) -> float:
    """Return the mean length of the maps' gradient, in shares of their range a pixel; nan without maps."""
    if stored is None:
        return np.nan
    raw = base64.b64decode(stored["maps"]["bytes"])
    maps = np.frombuffer(raw, np.uint8).reshape(stored["maps"]["shape"]) / 255
    return float(np.sqrt(np.diff(maps, axis=2)[..., :-1] ** 2 + np.diff(maps, axis=3)[:, :, :-1] ** 2).mean())


def by_seed(rows: pd.DataFrame, column: str) -> pd.Series:
    return pd.Series({seed: own[column].mean() for seed, own in rows.groupby("seed")})


def p_value(values: pd.Series, claimed: str, margin: float) -> float:
    """Return the p of a t test; inside a margin of two one-sided ones, outside of one against the bound."""
    if claimed != "within":
        return float(stats.ttest_1samp(values, 0).pvalue)
    if abs(values.mean()) > margin:
        return float(stats.ttest_1samp(np.sign(values.mean()) * values, margin).pvalue)
    sides = [stats.ttest_1samp(values, -margin, alternative="greater").pvalue]
    sides += [stats.ttest_1samp(values, margin, alternative="less").pvalue]
    return float(max(sides))


def holm(p_values: list[float]) -> np.ndarray:
    order, count = np.argsort(p_values), len(p_values)
    steps = np.array(p_values)[order] * (count - np.arange(count))
    return np.minimum(1, np.maximum.accumulate(steps))[np.argsort(order)]


def verdict(values: pd.Series, claimed: str, margin: float, p: float, level: float) -> str:
    if p >= level:
        return "not shown"
    if claimed == "within":
        return "held" if abs(values.mean()) < margin else "the opposite"
    return "held" if (values.mean() > 0) == (claimed == "up") else "the opposite"


def interval(values: pd.Series) -> tuple[float, float]:
    return stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))


@dataclass
class AtRate:
    """The stored records of one drop probability: no noise, the lowest level, the highest."""

    plain: pd.DataFrame
    low: pd.DataFrame
    high: pd.DataFrame

    @classmethod
    def of(cls, rows: pd.DataFrame, p: float) -> AtRate:
        rows = rows.loc[rows.noise_p == p]
        levels = sorted(rows.noise_std.unique())
        assert levels == pytest.approx([0, 0.05 * 0.1595, 0.5 * 0.1595])
        return cls(*(rows.loc[rows.noise_std == level] for level in levels))

    def change(self, column: str) -> pd.Series:
        """Return what noise changes, mean over its two levels."""
        return (clean(self.low, column) + clean(self.high, column)) / 2 - clean(self.plain, column)

    def rise(self, column: str) -> pd.Series:
        """Return what the highest level changes against the lowest."""
        return clean(self.high, column) - clean(self.low, column)

    def lost(self, condition: str, size: float) -> pd.Series:
        """Return what noise changes in the share of rightly classified images that a corruption costs."""
        low, high, plain = (
            (clean(each, "top1_error", condition, size) - clean(each, "top1_error"))
            / (1 - clean(each, "top1_error"))
            for each in (self.low, self.high, self.plain)
        )
        return (low + high) / 2 - plain

    def classes(self) -> pd.DataFrame:
        """Return what noise changes in the accuracy of each class."""
        names = [name for name in self.plain.columns if name.startswith("class_")]
        return pd.DataFrame({name.removeprefix("class_"): self.change(name) for name in names})

    def at_highest(self, name: str) -> pd.Series:
        """Return a class's accuracy at the highest level minus the mean of all classes there."""
        names = [column for column in self.high.columns if column.startswith("class_")]
        found = pd.DataFrame({column: clean(self.high, column) for column in names})
        return pd.Series(found[f"class_{name}"] - found.mean(axis=1))


def clean(each: pd.DataFrame, column: str, condition: str = "clean", size: float = 0.0) -> pd.Series:
    return by_seed(each.loc[(each.condition == condition) & np.isclose(each["size"], size)], column)


def most(classes: pd.DataFrame, sign: int) -> pd.Series:
    """Return by seed the change of the class that changes most for the mean of the other seeds."""
    others = {seed: (sign * classes.drop(index=seed).mean()).idxmax() for seed in classes.index}
    return pd.Series({seed: classes.loc[seed, name] for seed, name in others.items()})


def noisy_dropout() -> dict[str, dict[str, Tested]]:
    """Return every claim of the paper, by section: noise in dropped neurons against dropout."""
    rows = records("noisy_dropout/cifar10-jpeg-rates")
    at = {p: AtRate.of(rows, p) for p in (0.2, 0.25, 0.3)}
    gains = {p: at[p].classes() for p in at}
    error = {p: at[p].change("top1_error") for p in at}
    plain = {p: clean(at[p].plain, "top1_error") for p in at}

    def gain(name: str, p: float) -> pd.Series:
        return pd.Series(gains[p][name] - gains[p].mean(axis=1))

    slope = {p: at[p].rise("top1_error") / (0.5 - 0.05) for p in at}
    stays = {f"top5-{p}": (at[p].rise("top5_error"), "within", 0.005) for p in at}
    return {
        "4.1": {
            **{f"class-bird-{p}": (gain("bird", p), "up", 0) for p in at},
            "class-airplane-0.3": (gain("airplane", 0.3), "up", 0),
            "class-automobile-0.25": (at[0.25].rise("class_automobile"), "down", 0),
            "class-dog-0.3": (at[0.3].rise("class_dog"), "down", 0),
            **{f"high-bird-{p}": (at[p].at_highest("bird"), "up", 0) for p in (0.2, 0.25)},
            "lower-rates": (plain[0.3] + error[0.3] - plain[0.2] - error[0.2], "up", 0),
        },
        "4.2": {
            **{f"error-{p}": (error[p], "up", 0) for p in at},
            **{f"level-{p}": (slope[p], "up", 0) for p in (0.2, 0.3)},
            **stays,
            **{f"top5-rises-{p}": (at[p].change("top5_error"), "up", 0) for p in (0.2, 0.25)},
            "steeper": (error[0.3] - error[0.2], "up", 0),
            "steeper-0.25": (error[0.25] - error[0.2], "up", 0),
        },
        "4.3": {
            "level-0.25": (slope[0.25], "up", 0),
            **{f"stable-{p}": (-at[p].rise("top1_error"), "within", 0.02) for p in (0.2, 0.3)},
            "plain-lower-rates": (plain[0.3] - plain[0.2], "up", 0),
        },
        "abstract": {
            **{f"fgsm-{p}": (at[p].lost("fgsm", 2 / 255), "down", 0) for p in at},
            **{f"noisy-images-{p}": (at[p].lost("gaussian_noise", 0.1), "down", 0) for p in at},
        },
        "5.2": {"best-level": (best(at[0.25].low, at[0.25].high, at[0.25].plain), "down", 0)},
        "5.3": {
            "precision": (at[0.25].change("weighted_precision"), "down", 0),
            "some-class": (most(gains[0.25], 1), "up", 0),
            "some-class-loses": (most(gains[0.25], -1), "down", 0),
        },
    }


def best(low: pd.DataFrame, high: pd.DataFrame, plain: pd.DataFrame) -> pd.Series:
    """Return by seed the error of the level that is best for the other seeds, minus that of no noise."""
    errors = pd.DataFrame(
        {i: by_seed(each.loc[each.condition == "clean"], "top1_error") for i, each in enumerate((low, high))}
    )
    chosen = {seed: errors.loc[seed, errors.drop(index=seed).mean().idxmin()] for seed in errors.index}
    return pd.Series(chosen) - by_seed(plain.loc[plain.condition == "clean"], "top1_error")


def anl_on_lenet5() -> dict[str, dict[str, Tested]]:
    """Return every claim that was judged, by table and figure."""
    rows = records("adversarial_noise_layer/fashion-mnist-subset")
    kind, negative = rows.noise_kind.fillna("none"), rows.noise_epsilon < 0
    own = {name: rows.loc[(kind == name) & ~negative] for name in kind.unique()}
    own["negative"] = rows.loc[negative]
    error = {name: by_seed(each, "top1_error") for name, each in own.items()}
    sharp = {name: by_seed(each, "sharpness").dropna() for name, each in own.items()}
    change = {name: values / sharp["none"] - 1 for name, values in sharp.items()}
    anl, canl, gaussian = (error[f"{n}_noise"] for n in ("adversarial", "class_adversarial", "gaussian"))
    return {
        "Table 2": {
            "gaussian-baseline-lenet5": (gaussian - error["none"], "up", 0),
            "anl-baseline-lenet5": (anl - error["none"], "down", 0),
            "canl-baseline-lenet5": (canl - error["none"], "down", 0),
            "anl-gaussian-lenet5": (anl - gaussian, "down", 0),
            "canl-anl-lenet5": (canl - anl, "up", 0),
            "negative-lenet5": (error["negative"] - error["none"], "up", 0),
        },
        "Figure 3": {
            "sharper-anl": (change["adversarial_noise"], "up", 0),
            "sharper-canl": (change["class_adversarial_noise"], "up", 0),
            "blurred": (change["negative"], "down", 0),
            "gaussian-maps": (change["gaussian_noise"], "within", 0.1),
        },
    }


FAMILIES = {"noisy_dropout": noisy_dropout, "adversarial_noise_layer": anl_on_lenet5}
SETS = {"noisy_dropout": "cifar10-jpeg-rates", "adversarial_noise_layer": "fashion-mnist-subset"}
LOOKS = {"noisy_dropout": 3, "adversarial_noise_layer": 2}


@pytest.mark.parametrize("study", FAMILIES)
def test_verdicts_are_those_of_a_few_independent_lines(study):
    found = evidence.evidence([study]).set_index("name")
    sections = FAMILIES[study]()
    judged = found.loc[(found.profile == SETS[study]) & found.counted & found.verdict.isin(evidence.JUDGED)]
    assert set(judged.index) == {name for family in sections.values() for name in family}, (
        "families are whole"
    )
    for section, family in sections.items():
        corrected = holm([p_value(*claim) for claim in family.values()])
        for (name, (values, claimed, margin)), p in zip(family.items(), corrected, strict=True):
            row = judged.loc[name]
            assert row.section == section
            assert row.n == len(values)
            assert [row.difference, row.low, row.high] == pytest.approx([values.mean(), *interval(values)])
            assert row.p_holm == pytest.approx(p)
            assert row.verdict == verdict(values, claimed, margin, p, LEVEL[LOOKS[study]])


def test_effects_of_training_on_corrupted_images_are_those_of_a_few_independent_lines():
    """The paper's noise is on pixels in [-1, 1], the stored one on pixels in [0, 1]: half of it."""
    rows = records("training_data_variation/cifar10-jpeg-overnight")
    rows = rows.loc[rows.statistics == "trained"]
    key = rows.trained_kind.fillna("none") + rows.trained_sigma.map(
        lambda sigma: f" {sigma:g}" if sigma > 0 else ""
    )

    def accuracy(trained: str, condition: str, size: float) -> pd.Series:
        """Return the mean over the architectures by seed."""
        shown = rows.loc[(key == trained) & (rows.condition == condition) & np.isclose(rows["size"], size)]
        return 1 - shown.pivot(index="seed", columns="model", values="top1_error").dropna().mean(axis=1)

    noise, blur = "gaussian_noise", "gaussian_blur"
    weak, strong, blurred = f"{noise} 0.05", f"{noise} 0.5", f"{blur} 0.5"
    found = evidence.evidence(["training_data_variation"]).set_index("name")
    for name, values in {
        "raises-0.1": accuracy(weak, noise, 0.05) - accuracy("none", noise, 0.05),
        "clean-0.1": accuracy(weak, "clean", 0) - accuracy("none", "clean", 0),
        "blur-clean-0.5": accuracy(blurred, "clean", 0) - accuracy("none", "clean", 0),
        "blur-overall-0.5": accuracy(blurred, blur, 0.5) - accuracy("none", blur, 0.5),
        "at-least-0.5": accuracy(strong, noise, 0.25) - accuracy(weak, noise, 0.25),
    }.items():
        row, values = found.loc[name], values.dropna()
        assert row.n == len(values)
        assert [row.difference, row.low, row.high] == pytest.approx([values.mean(), *interval(values)])
