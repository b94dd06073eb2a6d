"""Made-up results of every study, whose numbers say what its tables, claims and figures must show."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import numpy as np
import pandas as pd
import torch

from noiseutils.config import Run
from noiseutils.evaluation.inspection import packed
from noiseutils.studies import STUDIES
from noiseutils.studies.adaptive_noise import figures as adaptive_figures
from noiseutils.studies.adaptive_noise.params import Params as AdaptiveParams
from noiseutils.studies.adversarial_noise_layer import attacks as anl_attacks
from noiseutils.studies.adversarial_noise_layer import comparisons as anl_comparisons
from noiseutils.studies.adversarial_noise_layer import figures as anl_figures
from noiseutils.studies.adversarial_noise_layer import grid as anl
from noiseutils.studies.adversarial_noise_layer import robustness as anl_robustness
from noiseutils.studies.adversarial_noise_layer.params import Params as AnlParams
from noiseutils.studies.autoattacked import AUTOATTACK
from noiseutils.studies.head_to_head import choice as head_choice
from noiseutils.studies.head_to_head import figures as head_figures
from noiseutils.studies.head_to_head import grid as head
from noiseutils.studies.head_to_head import methods as head_methods
from noiseutils.studies.head_to_head.params import Params as HeadToHeadParams
from noiseutils.studies.head_to_head.params import Setting
from noiseutils.studies.noisy_dropout import figures as dropout_figures
from noiseutils.studies.noisy_dropout import grid as dropout
from noiseutils.studies.noisy_dropout import network_figures as dropout_network_figures
from noiseutils.studies.noisy_dropout.params import Params as DropoutParams
from noiseutils.studies.output import Drawn
from noiseutils.studies.results import Results
from noiseutils.studies.training_data_variation import attacks as variation_attacks
from noiseutils.studies.training_data_variation import beyond
from noiseutils.studies.training_data_variation import figures as variation_figures
from noiseutils.studies.training_data_variation import grid as variation
from noiseutils.studies.training_data_variation.params import Params as VariationParams
from noiseutils.training.loop import Result

DROPOUT = DropoutParams(noise_levels=(0.5, 1.0), seeds=3, fgsm_255=(2.0,), input_noise=(0.1,))
ADAPTIVE = AdaptiveParams(
    data="shapes", models=("babycnn", "tinycnn"), optimizers=("momentum",), learning_rates=(0.1, 0.01),
    epochs=6, restart_epochs=2, min_epochs=2, seeds=3,
)  # fmt: skip
ANL = AnlParams(data=("cifar10",), seeds=3, figure4_models=("vgg16",), figure4_epsilons=(0.02, 0.1))
VARIATION = VariationParams(
    data="shapes", architectures=("resnet", "inception"), sigmas=(0.1, 1.0), change_images=12, change_seeds=3,
    attack_images=10, attack_255=(2.0,), seeds=3,
)  # fmt: skip
HEAD_TO_HEAD = HeadToHeadParams(
    data="cifar10", settings=(Setting(model="babycnn", images=100), Setting(model="vgg16")), seeds=6,
    attack_images=10,
)  # fmt: skip


FIGURES: dict[str, list[Callable[[Results], Iterator[Drawn]]]] = {
    "noisy_dropout": [
        dropout_figures.per_class, dropout_figures.errors, dropout_figures.weighted_accuracy,
        dropout_figures.readings, dropout_figures.robustness, dropout_network_figures.curves,
    ],
    "adaptive_noise": [
        adaptive_figures.training, adaptive_figures.accuracy_and_gap, adaptive_figures.rates,
        adaptive_figures.controls,
    ],
    "adversarial_noise_layer": [
        anl_figures.similarity, anl_figures.activation_std, anl_figures.feature_maps,
        anl_figures.error_over_epsilon, anl_robustness.robustness,
        *(partial(anl_comparisons.errors, part=part) for part in ("table2", "table3", "ablation")),
        lambda results: anl_robustness.attacks(results, anl_attacks.reports(results)),
    ],
    "training_data_variation": [
        variation_figures.accuracy, variation_figures.changes, beyond.matrices, beyond.common,
        beyond.autoattacked, beyond.calibration,
    ],
    "head_to_head": [
        head_figures.forest, head_figures.profile, head_figures.cost, head_figures.ranking,
        head_figures.choosing, head_figures.same_time,
    ],
}  # fmt: skip


def figures_of(results: Results) -> list[Drawn]:
    """Draw every figure that a study makes of its results."""
    return [drawn for draw in FIGURES[results.params.study] for drawn in draw(results)]


def result_of(run: Run, metrics: dict, history: dict, **data: object) -> Result:
    """Return a made-up training; data: what its record says of the images, beside their fingerprint."""
    info = {
        "parameters": 10,
        "device": "made up",
        "versions": {"commit": "abc"},
        "data": {"fingerprint": "f", "train": run.data.train_size or 50_000, **data},
    }
    return Result(run, "finished", metrics, pd.DataFrame(history), None, info)


def diverged(result: Result) -> Result:
    """Return the same training without an end."""
    return Result(result.run, "diverged", {}, result.history, None, result.info)


# --- noisy_dropout


def costly(cell: dropout.Cell, seed: int, condition: str) -> float:
    """Return a top-1 error: noise costs 3 points at p = 0.2 and 6 at p = 0.3; it helps under attack."""
    noise = (0.01 + seed / 1000) if cell.level == 0 else 0.0
    base = 0.25 + seed / 100 - noise
    if condition == "fgsm":
        return base + 0.3 - (0.1 if cell.level else 0)
    return base + (0.3 * (cell.p - 0.1) if cell.level else 0)


def dropout_results(
    params: DropoutParams = DROPOUT, error: Callable[..., float] = costly, classes: Iterable[str] = "abc"
) -> Results:
    """Return results of NoisyDropout whose top-1 errors are `error(cell, seed, condition)`."""
    study = STUDIES["noisy_dropout"]
    found = []
    for cell in study.cells(params):
        for seed in range(params.seeds):
            records = []
            for condition, size in (("clean", 0.0), ("fgsm", 2 / 255), ("gaussian_noise", 0.1)):
                top1 = error(cell, seed, condition)
                records.append(
                    {
                        "condition": condition,
                        "size": size,
                        "statistics": "trained",
                        "top1_error": top1,
                        "top5_error": top1 / 10,
                        "weighted_accuracy": 1 - top1,
                        "weighted_precision": 1 - top1,
                        "calibration_error": 0.1,
                        "per_class": dict.fromkeys(classes, 1 - top1),
                    }
                )
            history = {
                "epoch": [1, 2],
                "train_loss": [2.0, 1.0],
                "test_loss": [2.1, 1.1],
                "gradient_norm": [1.0, 1.0],
                "seconds": [1.0, 3.0],
                "activation_std.conv4": [0.5, 0.6 + seed / 10],
            }
            run = study.run_of(params, cell, seed)
            found.append(result_of(run, {"conditions": records}, history, classes=[*"acdefghij", "bird"]))
    return study.results(params, found)


# --- adaptive_noise


def adaptive_result(run: Run, accuracy: float, gap: float, sigma: float = 0.0) -> Result:
    """Return a training of six epochs, with noise in the third and the fifth."""
    history = {
        "epoch": np.arange(1, 7),
        "train_accuracy": accuracy + 0.05,
        "train_loss": 1.0,
        "validation_accuracy": accuracy,
        "validation_loss": 1.0 + gap,
        "test_accuracy": 0.99 - accuracy,  # the wrong way round: nothing may be chosen by it
        "test_loss": 1.0,
        "gradient_norm": 1.0,
        "update_norm": 1.0,
    }
    if sigma:
        gradient, weight = np.array([0, 0, sigma, 0, 2 * sigma, 0]), np.array([0, 0, 0, 0, sigma, 0])
        history |= {"gradient_noise": gradient, "weight_noise": weight, "cooldown": 0}
        history |= {"gradient_flag": gradient > 0, "weight_flag": weight > 0}
    return result_of(run, {}, history)


def adaptive_results(params: AdaptiveParams = ADAPTIVE, controls: bool = True) -> Results:
    """Return results: noise costs 3 points and halves the gap; rate 0.01 is best without, 0.1 with it."""
    study = STUDIES["adaptive_noise"]
    found = []
    for cell in study.cells(params):
        for seed in range(params.seeds):
            noisy = cell.kind != "none"
            best = cell.learning_rate == (0.1 if noisy else 0.01)
            accuracy = 0.6 - 0.03 * noisy + 0.02 * best + seed / 1000 * (1 + noisy)
            gap = (0.1 if noisy else 0.2) + seed / 1000 * (1 + noisy)
            run = study.run_of(params, cell, seed)
            found.append(adaptive_result(run, accuracy, gap, 0.01 if noisy else 0.0))
    if controls:
        for i, run in enumerate(study.follow_ups(study.results(params, found)).values()):
            found.append(adaptive_result(run, 0.5 + i / 1000, 0.3))
    return study.results(params, found)


# --- adversarial_noise_layer


def helpful(cell: anl.Cell, seed: int) -> float:
    """Return a top-1 error: noise along the gradient takes off two points, against it adds thirty."""
    gain = {"anl": -0.02, "canl": -0.015, "anl_negative": 0.3}.get(cell.method, 0.0)
    return 0.10 + seed / 100 + gain * (1 + seed / 50)


def anl_results(
    params: AnlParams = ANL, error: Callable[[anl.Cell, int], float] = helpful, reports: bool = False
) -> Results:
    """Return results of ANL whose top-1 errors are `error(cell, seed)`, with attack reports of seed 0."""
    study = STUDIES["adversarial_noise_layer"]
    found = {}
    for cell in study.cells(params):
        for seed in range(params.seeds):
            history = {
                "epoch": [1, 2],
                "activation_std.conv1": [0.5, 0.6],
                "activation_std.bn1": [1.0, 1.1 + seed / 10],
                "activation_std.layer1.0.bn1": [1.0, 1.2],
                "train_accuracy": [0.9, 0.997 + seed / 10_000],
                "test_accuracy": [0.4 + seed / 1000, 0.3],
                "train_loss": [0.9, 0.4],
                "test_loss": [0.9, 0.6 + seed / 1000],
            }
            run, metrics = study.run_of(params, cell, seed), _anl_metrics(params, cell, seed, error)
            found[run.key] = result_of(run, metrics, history, label=anl.label_of(params, cell))
    attacked = [cell for cell in study.cells(params) if reports and cell.part == "table4"]
    answers = {(cell, 0, anl_attacks.REPORT): attack_report() for cell in attacked}
    return study.results(params, found.values(), answers)


def _anl_metrics(params: AnlParams, cell: anl.Cell, seed: int, error: Callable) -> dict:
    sizes = [("clean", 0.0), *(("fgsm", delta / 255) for delta in params.fgsm_255)]
    conditions = [
        {"condition": c, "size": s, "statistics": kind, "top1_error": min(1.0, error(cell, seed) + 5 * s)}
        for kind in ("trained", "recalibrated")
        for c, s in sizes
    ]
    metrics: dict = {"conditions": conditions}
    if cell.part == "table1":
        metrics["gradient_similarity"] = {
            site: ((0.1 + 0.07 * i + seed / 100) * np.eye(10) + 0.01).tolist()
            for i, site in enumerate(anl.LENET_SITES)
        }
    if cell.part == "table2" and cell.model == "lenet5" and seed < params.feature_map_seeds:
        pixels = torch.zeros(3, 1, 4, 4, dtype=torch.uint8)
        pixels[..., 2:] = {"anl": 200, "anl_negative": 20}.get(cell.method, 100)
        metrics["feature_maps"] = {"images": packed(pixels), "maps": packed(pixels.repeat(1, 6, 1, 1))}
    return metrics


def attack_report() -> dict:
    """Return the report of a network under attacks of one size, 8/255."""
    names = [name for name in anl_attacks.ATTACKS if name not in ("noise", "best")]
    record = {
        "delta": 8 / 255,
        "noise": {"accuracy": 0.9},
        "attacks": {name: {"accuracy": 0.5} for name in names},
        "transfer": {},
        "best": {"accuracy": 0.3},
    }
    return {
        "clean": {"accuracy": 0.9},
        "settings": {"images": 9},
        "deltas": [record],
        "curve": {"deltas": [1 / 255, 2 / 255], "accuracies": [0.5, 0.0]},
    }


# --- training_data_variation


def accuracy_of(cell: variation.Cell, kind: str, level: float, seed: int) -> float:
    """Return an accuracy: highest where trained and shown agree; Inception a little better."""
    cell = cell.plain if variation.untouched(cell) else cell
    off = abs(level - cell.sigma) if kind in (cell.kind, "none") or cell.kind == "none" else 1.5
    better = cell.architecture == "inception"
    return 0.8 - 0.2 * min(off, 2) + 0.05 * better + seed / 1000 * (1 + cell.sigma + better)


def change_of(cell: variation.Cell, attack: str) -> dict:
    """Return smallest changes: noise doubles them, blur leaves them; one image is wrong, one withstands."""
    base = (np.linspace(0.5, 1.2, 10) * (2 if cell.kind == "noise" else 1)).tolist()
    ones = [0.4, None, *[1.0] * 10]
    flags = [False] * 11 + [True]
    return {
        "attack": attack, "size": [0.0, None, *base], "predicted_size": [0.4, None, *base], "l2": ones,
        "linf": ones, "half": flags, "rounded": flags, "seconds": 2.0,
    }  # fmt: skip


AS_TRAINED_AND_AGAIN = ("trained", "recalibrated")  # BatchNorm statistics


def variation_results(params: VariationParams = VARIATION) -> Results:
    """Return results of networks trained on noisy or blurred images, attacked as the profile asks.

    With BatchNorm statistics estimated again they err the more, the stronger their training's corruption.
    """
    study = STUDIES["training_data_variation"]
    found = {}
    for cell in study.cells(params):
        for seed in range(params.seeds):
            records = []
            for statistics, kind in itertools.product(AS_TRAINED_AND_AGAIN, ("none", *params.kinds)):
                for level in [0.0] if kind == "none" else variation.shown_levels(params, kind):
                    lower = 0.1 * (statistics != "trained")
                    records.append(
                        {
                            "condition": "clean" if kind == "none" else variation.KINDS[kind],
                            "size": variation.size_of(kind, level),
                            "statistics": statistics,
                            "top1_error": 1 - accuracy_of(cell, kind, level, seed) + lower * cell.sigma,
                            "calibration_error": 0.1,
                        }
                    )
            run = study.run_of(params, cell, seed)
            found.setdefault(run.key, result_of(run, {"conditions": records}, {"epoch": [1]}))
    answers = {}
    for cell, seed, question in variation_attacks.questions(params):
        if question == AUTOATTACK:
            answers[cell, seed, question] = {"clean": "1111111100", "correct": {"2": "1111000000"}}
        else:
            answers[cell, seed, question] = change_of(cell, question)
    return study.results(params, found.values(), answers)


# --- head_to_head


def head_to_head_error(cell: head.Cell, seed: int, condition: str) -> float:
    """Return a top-1 error: dropout takes off three points, LAT adds two, ANL takes off one, others nothing.

    The strongest strength that is tried is best on validation images, the weakest on test images.
    """
    gain = {"dropout": -0.03, "lat": 0.02, "anl": -0.01}.get(cell.method, 0.0)
    if cell.stage == "same_time":
        gain = 0.01
    extra = {"clean": 0.0, "training": -0.2, "gaussian_noise": 0.1, "gaussian_blur": 0.15, "fgsm": 0.3}
    luck = seed / 100 + np.random.default_rng([seed, *cell.method.encode()]).normal(0, 0.001)
    return 0.30 + luck + gain + extra[condition] + cell.strength / 1e4 * (cell.stage == "trial")


def head_to_head_results(params: HeadToHeadParams = HEAD_TO_HEAD, attacks: bool = True) -> Results:
    """Return results of head to head, all trainings and AutoAttack on the best of each kind."""
    study = STUDIES["head_to_head"]

    def made(cell: head.Cell, seed: int) -> Result:
        sizes = {"clean": 0.0, "gaussian_noise": params.noise, "gaussian_blur": params.blur}
        sizes |= {"fgsm": params.fgsm_255 / 255, "training": 0.0}
        records = [
            {
                "condition": condition,
                "size": size,
                "statistics": statistics,
                "top1_error": head_to_head_error(cell, seed, condition) - 0.05 * (statistics != "trained"),
                "calibration_error": 0.1 + seed / 100,
            }
            for statistics in ("trained", "recalibrated")
            for condition, size in sizes.items()
        ]
        tried = head_methods.METHODS[cell.method].tried(params.trials)
        place = tried.index(cell.strength) if tried else 0
        history = {
            "epoch": [1, 2, 3],
            "validation_accuracy": [0.9, 0.8, 0.5 + place / 100],
            "seconds": [9.0, 2.0 * head_methods.METHODS[cell.method].passes * (1 + seed / 50), 12.0],
        }
        return result_of(study.run_of(params, cell, seed), {"conditions": records}, history)

    found = [made(cell, seed) for cell in study.cells(params) for seed in range(params.trial_seeds)]
    first = study.results(params, found)
    found += [made(cell, seed) for cell, seed in study.follow_ups(first)]
    answers = {}
    for setting in params.settings if attacks else ():
        for cell in head_choice.best_of_kinds(first, setting.name).values():
            right = "1111000000" if cell.method == "none" else "1110000000"
            answers[cell, 0, AUTOATTACK] = {"clean": "1111111000", "correct": {"2": right}}
    return study.results(params, found, answers)
