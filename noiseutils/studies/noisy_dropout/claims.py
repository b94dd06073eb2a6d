"""State the NoisyDropout paper's claims, each with its test.

Each is tested in the default reading, noise in the dropped neurons, and in that of Equation 2 beside it.
Robustness is tested on the images that a network gets right without the corruption; an error over all images,
which stands beside, also counts what the network gets wrong anyway.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from noiseutils.studies.noisy_dropout.contrasts import (
    best_class,
    best_level,
    between_levels,
    class_between_levels,
    class_change,
    class_level,
    cost_at,
    level_slope,
    lost_to,
    noise_cost,
    noise_cost_left_on,
    plain_cost,
)
from noiseutils.studies.noisy_dropout.grid import Cell
from noiseutils.studies.noisy_dropout.params import Params
from noiseutils.studies.params import data_of
from noiseutils.studies.registry import Cause, Claim, settings_of
from noiseutils.studies.results import reported_numbers, select

PROBABILITIES = (0.2, 0.25, 0.3)
READINGS = {"dropped": "", "all": ", Equation 2"}
FGSM_255, INPUT_NOISE = 2.0, 0.1  # the named sizes: the paper gives none
# of the top-5 error, from the lowest noise level to the highest, which is what the paper calls stable: a
# quarter of the 2 % that it prints without noise
STABLE_TOP5 = 0.005
# of the accuracy, likewise: the spread that the paper itself calls stable, 0.70 to 0.72
LEVEL_ACCURACY = 0.02
# section 4.1, of the classes that CIFAR-10 has: the class, at which p, and what the paper says of it
CLASSES: tuple[tuple[str, float, Literal["up", "down"], str], ...] = (
    ("bird", 0.2, "up", "is more robust to noise than the classes on average"),
    ("bird", 0.25, "up", "is more robust to noise than the classes on average"),
    ("bird", 0.3, "up", "is more robust to noise than the classes on average"),
    ("airplane", 0.3, "up", "is more robust to noise than the classes on average"),
)
# likewise, of classes that lose "more noticeably at higher noise levels"
SENSITIVE_CLASSES = (("automobile", 0.25), ("dog", 0.3))
# likewise, of high accuracy "even at high noise levels"
HIGH_CLASSES = (("bird", 0.2), ("bird", 0.25))


NoisyDropoutClaim = Claim[Params, Cell]


def settings(params: Params, cell: Cell) -> str:
    """Return how a cell was made: readings without 1/(1-p) are the paper's as well as those with it."""
    return settings_of(data_of(params).label, ("cifar10",), params.as_read)


def _printed(p: float) -> str:
    """Return the top-1 errors that the paper prints of one probability, without noise and with the worst."""
    rows = select(reported_numbers(__file__), p=p, quantity="top1_error")
    plain, worst = (select(rows, **where).value.item() for where in ({"level": 0}, {"over": "max"}))
    return f"{100 * plain:.2f} % without, up to {100 * worst:.2f} % with"


def _robustness_claims(p: float, reading: str, note: str) -> Iterator[NoisyDropoutClaim]:
    """Yield what the abstract claims of robustness, for one probability; the paper names none."""
    counted = reading == "dropped"
    end = "" if counted else f"-{reading}"
    over = "mean over the noise levels trained, minus ordinary dropout"
    right = "on images that are right without it"
    for name, size, words, corruption, where in (
        ("fgsm", f"FGSM {FGSM_255:g}/255", "attacks", "fgsm", FGSM_255 / 255),
        ("noisy-images", f"noise of σ = {INPUT_NOISE:g} on pixels in [0, 1]", "noise on images",
         "gaussian_noise", INPUT_NOISE),
    ):  # fmt: skip
        here = {"condition": corruption, "size": where}
        yield Claim(
            f"{name}-{p:g}{end}", "abstract",
            f"noise makes the network more robust to {words} at p = {p:g}{note}",
            f"error under {size} {right}, {over}", "down", lost_to(p, reading, **here), counted=counted,
            helps=True,
        )  # fmt: skip
        yield Claim(
            f"{name}-{p:g}-all-images{end}", "abstract",
            f"noise lowers the error over all images under {words} at p = {p:g}{note}",
            f"top-1 error under {size}, {over}", "down", noise_cost("top1_error", p, reading, **here),
            counted=False, helps=True,
        )  # fmt: skip


def _claims(reading: str, note: str) -> Iterator[NoisyDropoutClaim]:
    """Yield the paper's claims in one reading; `note` names the reading where it is not the default."""
    counted = reading == "dropped"
    end = "" if counted else f"-{reading}"
    over = "mean over the noise levels trained, minus ordinary dropout"
    for p in PROBABILITIES:
        yield Claim(
            f"error-{p:g}{end}", "4.2",
            f"noise raises the top-1 error at p = {p:g}{note} (printed: {_printed(p)})",
            f"top-1 error, {over}", "up", noise_cost("top1_error", p, reading), counted=counted,
        )  # fmt: skip
        yield Claim(
            f"error-{p:g}{end}-left-on", "beyond",
            f"noise raises the top-1 error at p = {p:g} where the layer stays on at evaluation{note}",
            f"top-1 error with the layer left on, {over}", "up", noise_cost_left_on(p, reading),
            counted=False,
        )  # fmt: skip
        yield Claim(
            f"level-{p:g}{end}", "4.3" if p == 0.25 else "4.2",
            f"the top-1 error grows with the noise level at p = {p:g}{note}",
            "slope of the top-1 error over the noise levels trained", "up", level_slope(p, reading),
            counted=counted,
        )  # fmt: skip
        yield Claim(
            f"top5-{p:g}{end}", "4.2",
            f"the top-5 error stays about the same as the noise level rises, p = {p:g}{note}",
            "top-5 error, highest noise level trained minus lowest", "within",
            between_levels("top5_error", p, reading), STABLE_TOP5, counted,
        )  # fmt: skip
        if p < 0.3:
            yield Claim(
                f"top5-rises-{p:g}{end}", "4.2",
                f"the top-5 error rises a little under noise at p = {p:g}{note}",
                f"top-5 error, {over}", "up", noise_cost("top5_error", p, reading), counted=counted,
            )  # fmt: skip
        if p != 0.25:
            yield Claim(
                f"stable-{p:g}{end}", "4.3",
                f"the accuracy stays about the same as the noise level rises, p = {p:g}{note}",
                "accuracy, highest noise level trained minus lowest", "within",
                between_levels("weighted_accuracy", p, reading), LEVEL_ACCURACY, counted,
            )  # fmt: skip
        yield from _robustness_claims(p, reading, note)
    yield Claim(
        f"steeper{end}", "4.2", f"noise costs more at p = 0.3 than at p = 0.2{note}",
        "top-1 error, noise minus ordinary dropout, p = 0.3 minus p = 0.2", "up",
        cost_at(0.3, 0.2, reading, of_noise=True), counted=counted,
    )  # fmt: skip
    yield Claim(
        f"steeper-0.25{end}", "4.2", f"noise costs more at p = 0.25 than at p = 0.2{note}",
        "top-1 error, noise minus ordinary dropout, p = 0.25 minus p = 0.2", "up",
        cost_at(0.25, 0.2, reading, of_noise=True), counted=counted,
    )  # fmt: skip
    if counted:  # ordinary dropout has no reading
        yield Claim(
            "plain-lower-rates", "4.3", "without noise, the lower dropout rate has the smaller error",
            "top-1 error of ordinary dropout, p = 0.3 minus p = 0.2", "up",
            plain_cost("top1_error", 0.3, 0.2),
        )  # fmt: skip
    yield Claim(
        f"lower-rates{end}", "4.1", f"with noise, the lower dropout rate has the smaller error{note}",
        "top-1 error, mean over the noise levels trained, p = 0.3 minus p = 0.2", "up",
        cost_at(0.3, 0.2, reading, of_noise=False), counted=counted,
    )  # fmt: skip
    for name, p, claimed, says in CLASSES:
        yield Claim(
            f"class-{name}-{p:g}{end}", "4.1", f"{name} {says}, p = {p:g}{note}",
            "accuracy of the class, noise minus ordinary dropout, minus the mean of all classes", claimed,
            class_change(name, p, reading), counted=counted,
        )  # fmt: skip
    for name, p in SENSITIVE_CLASSES:
        yield Claim(
            f"class-{name}-{p:g}{end}", "4.1",
            f"{name} loses accuracy as the noise level rises, p = {p:g}{note}",
            "accuracy of the class, highest noise level trained minus lowest", "down",
            class_between_levels(name, p, reading), counted=counted,
        )  # fmt: skip
    for name, p in HIGH_CLASSES:
        yield Claim(
            f"high-{name}-{p:g}{end}", "4.1",
            f"{name} has a high accuracy even at high noise levels, p = {p:g}{note}",
            "accuracy of the class minus the mean of all classes, at the highest noise level trained", "up",
            class_level(name, p, reading), counted=counted,
        )  # fmt: skip
    yield Claim(
        f"precision{end}", "5.3", f"noise lowers the average precision over classes{note}",
        f"weighted precision, {over}, p = 0.25", "down", noise_cost("weighted_precision", 0.25, reading),
        counted=counted,
    )  # fmt: skip
    yield Claim(
        f"some-class{end}", "5.3", f"some class gains from noise{note}",
        "accuracy of the class that gains most (chosen by the other seeds), noise minus ordinary dropout, "
        "p = 0.25", "up", best_class(0.25, reading), counted=counted,
    )  # fmt: skip
    yield Claim(
        f"some-class-loses{end}", "5.3", f"some class loses by noise{note}",
        "accuracy of the class that loses most (chosen by the other seeds), noise minus ordinary dropout, "
        "p = 0.25", "down", best_class(0.25, reading, gains=False), counted=counted,
    )  # fmt: skip
    yield Claim(
        f"best-level{end}", "5.2", f"a well chosen noise level improves the accuracy, p = 0.25{note}",
        "top-1 error at the best level (chosen by the other seeds), minus ordinary dropout, p = 0.25", "down",
        best_level(0.25, reading), counted=counted, helps=True,
    )  # fmt: skip
    yield Claim(
        f"calibration{end}", "beyond", f"noise calibrates the network better{note}",
        f"expected calibration error, {over}, p = 0.25", "down",
        noise_cost("calibration_error", 0.25, reading), counted=False,
    )  # fmt: skip


CLAIMS = tuple(claim for reading, note in READINGS.items() for claim in _claims(reading, note))

MAIN = ("error-0.25", "top5-0.25", "best-level", "fgsm-0.2", "fgsm-0.25", "noisy-images-0.25")
CAUSES = (
    Cause(
        "noise on every neuron, as Equation 2 has it, not in the dropped ones", "error-0.25", "error-0.25-all"
    ),
)
