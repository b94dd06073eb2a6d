"""State the training-data paper's claims, each with its test.

The paper prints no table: sections 3 and 4 and Figures 4 to 7 claim directions, and likeness. Observations
that it calls true for all architectures are tested on the mean over the profile's, one number a seed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from noiseutils.studies.params import data_of
from noiseutils.studies.registry import Cause, Claim, Contrast, settings_of
from noiseutils.studies.training_data_variation.changes import READINGS, Found
from noiseutils.studies.training_data_variation.contrasts import (
    ABOUT_ONE_PERCENT,
    LEARNED_STRENGTH,
    NONE,
    RECALIBRATED,
    At,
    accuracies_alike,
    at_its_own,
    change_beyond,
    change_fall,
    change_gain,
    changes_alike,
    gain,
    inception_best,
    matched,
    most_robust,
    over_architectures,
    peak,
    shown_as_clean,
    where_gained,
)
from noiseutils.studies.training_data_variation.grid import COPY, Cell
from noiseutils.studies.training_data_variation.params import Params

TrainingDataClaim = Claim[Params, Cell]

ESTIMATED_AGAIN = "BatchNorm statistics estimated again"
SAME = (
    0.01  # of accuracy: a point is the least that can be read off the paper's axes, which reach from 0 to 1
)
ALIKE_ACCURACY = 0.02  # of accuracy, between any two architectures
SLIGHT_GAIN = 0.5  # of the change needed without noise: "slightly" is less than half as much again
UNMOVED_GAIN = 0.1  # of the same: "no effect" is less than a tenth
SIMILAR_CHANGE = 0.25  # of the architectures' mean change, between any two


def _noise(sigma: float) -> str:
    """Return a strength of noise in words, in the paper's unit."""
    return f"noise of σ = {sigma:g} (pixels in [−1, 1])"


def settings(params: Params, cell: Cell) -> str:
    """Return how a cell was made; a noisy copy is the paper's as well as fresh noise."""
    return settings_of(data_of(params).label, ("cifar10",), params.as_read)


def _accuracy_claims() -> Iterator[TrainingDataClaim]:
    """Yield the claims about noise in training and accuracy: section 3, Figure 4."""
    on = "accuracy, mean over architectures"
    for sigma in (0.1, 0.5, 1.0, 5.0):
        yield from _twins(
            partial(matched, sigma=sigma),
            f"best-{sigma:g}", "3, Fig. 4", f"on {_noise(sigma)}, training on the same noise is best",
            f"{on}, minus the best other training that was run, none among them (chosen by the other seeds)",
            "up", of_collapse=sigma == 5, helps=True,
        )  # fmt: skip
        yield from _twins(
            partial(peak, sigma=sigma),
            f"peak-{sigma:g}", "3, Fig. 4",
            f"a network trained on {_noise(sigma)} is at its best on that noise",
            f"{on}, on noise {sigma:g} minus on the best other test noise (chosen by the other seeds)", "up",
            of_collapse=sigma == 5,
        )  # fmt: skip
    yield Claim(
        "as-none-trained", "3, Fig. 4", f"training on {_noise(0.01)} is as training on none",
        f"{on} and the test noises run, minus none", "within", _gain(("noise", 0.01), levels=None), SAME,
    )  # fmt: skip
    yield Claim(
        "as-none-shown", "3, Fig. 4", f"images with {_noise(0.01)} are as those without",
        f"{on} and trainings up to {LEARNED_STRENGTH:g}, minus clean images", "within",
        over_architectures(partial(shown_as_clean, sigma=0.01)), SAME,
    )  # fmt: skip
    for sigma in (0.1, 0.5, 1.0):
        yield from _twins(
            _part(("noise", sigma), levels=(sigma,)),
            f"raises-{sigma:g}", "3, Fig. 4",
            f"training on {_noise(sigma)} raises the accuracy on that noise",
            f"{on}, minus training on none", "up", helps=True,
        )  # fmt: skip
    for sigma in (0.01, 0.05, 0.1):
        yield Claim(
            f"clean-{sigma:g}", "3, Fig. 4",
            f"training on {_noise(sigma)} does not change the accuracy on clean images",
            f"{on}, minus training on none, clean images", "within", _gain(("noise", sigma)), SAME,
            counted=sigma == 0.1,
        )  # fmt: skip
    yield Claim(
        "drops-0.1", "3, Fig. 4",
        f"from training on {_noise(0.1)} on, the accuracy drops, the test noise rising with it",
        f"{on}, trained and tested on noise 0.1 minus trained and tested without", "down",
        over_architectures(partial(at_its_own, sigma=0.1)), counted=False,
    )  # fmt: skip
    for sigma, base in ((0.1, NONE), (1.0, ("noise", 0.1))):
        yield from _twins(
            _part(("noise", sigma), base, levels=None),
            f"overall-{sigma:g}", "3, Fig. 4",
            f"training on {_noise(sigma)} lowers the accuracy averaged over all test noises"
            + " more than σ = 0.1 does" * (sigma == 1),
            f"{on} and the test noises run, minus training on {base[1] or 'none'}", "down",
            counted=sigma == 0.1,
        )  # fmt: skip
    for sigma in (1.0, 5.0):
        yield from _twins(
            _part(("noise", sigma)),
            f"lower-{sigma:g}", "3, Fig. 5", f"training on {_noise(sigma)} lowers the accuracy significantly",
            f"{on}, clean images, minus training on none", "down", of_collapse=True,
        )  # fmt: skip
    costs = "more noise in training than in use costs less than less noise does"
    yield Claim(
        "at-least", "3, Fig. 4", costs, f"{on}, test noise 0.1, trained on 1 minus trained on 0.01", "up",
        _gain(("noise", 1.0), ("noise", 0.01), levels=(0.1,)),
    )  # fmt: skip
    yield Claim(
        "at-least-0.5", "3, Fig. 4", f"{costs}: twice as much against a fifth",
        f"{on}, test noise 0.5, trained on 1 minus trained on 0.1", "up",
        _gain(("noise", 1.0), ("noise", 0.1), levels=(0.5,)), counted=False,
    )  # fmt: skip
    copy = f"training on one fixed copy with {_noise(0.1)}"
    yield Claim(
        "raises-0.1-copy", "3, Fig. 4", f"{copy} raises the accuracy on that noise",
        f"{on}, minus training on none", "up", _gain((COPY, 0.1), levels=(0.1,)), counted=False, helps=True,
    )  # fmt: skip
    yield Claim(
        "clean-0.1-copy", "3, Fig. 4", f"{copy} does not change the accuracy on clean images",
        f"{on}, minus training on none, clean images", "within", _gain((COPY, 0.1)), SAME, counted=False,
    )  # fmt: skip


def _blur_claims() -> Iterator[TrainingDataClaim]:
    """Yield the claims about blur in training and accuracy: section 3, Figure 6."""
    on = "accuracy, mean over architectures"
    yield from _twins(
        _part(("blur", 0.5), shown="blur"),
        "blur-clean-0.5", "3, Fig. 6",
        "training on blur of up to σ = 0.5 pixels leaves the accuracy unchanged",
        f"{on}, clean images, trained on 0.5 minus none", "within", margin=SAME,
    )  # fmt: skip
    yield Claim(
        "blur-overall-0.5", "3, Fig. 6",
        "training on blur of up to σ = 0.5 pixels leaves the accuracy on blurred images unchanged",
        f"{on}, test blur 0.5, trained on 0.5 minus none", "within",
        _gain(("blur", 0.5), shown="blur", levels=(0.5,)), SAME, counted=False,
    )  # fmt: skip
    for sigma in (1.0, 5.0):
        yield from _twins(
            _part(("blur", sigma), ("blur", 0.5), shown="blur"),
            f"blur-drops-{sigma:g}", "3, Fig. 6",
            "with more blur in training than σ = 0.5 pixels the accuracy drops",
            f"{on}, clean images, trained on {sigma:g} minus 0.5", "down", of_collapse=sigma == 5,
        )  # fmt: skip


def _architecture_claims() -> Iterator[TrainingDataClaim]:
    """Yield the claims about the three modules. That Inception is best and that all are alike are both the
    paper's, and contradict each other.
    """
    for kind, figure in (("noise", 4), ("blur", 6)):
        yield Claim(
            f"alike-{kind}", f"3, Fig. {figure}", f"the architectures behave alike in accuracy under {kind}",
            f"accuracy, mean over trainings and test strengths up to {LEARNED_STRENGTH:g}, of the two "
            "architectures that are least alike", "within", accuracies_alike(kind, ALIKE_ACCURACY),
            ALIKE_ACCURACY,
        )  # fmt: skip
    for kind, figure in (("noise", 5), ("blur", 7)):
        yield Claim(
            f"change-alike-{kind}", f"3, Fig. {figure}",
            f"all architectures need a similar change, trained on {kind}",
            f"smallest adversarial change, mean over trainings up to {LEARNED_STRENGTH:g}, of the two "
            "architectures that are least alike, as a share of the mean of all", "within",
            changes_alike(kind, SIMILAR_CHANGE), SIMILAR_CHANGE,
        )  # fmt: skip
    best = "minus the best other architecture (chosen by the other seeds)"
    yield Claim(
        "inception", "3, Fig. 6", "the Inception models perform best under blur",
        f"accuracy, mean over blur trainings and test strengths up to {LEARNED_STRENGTH:g}, Inception {best}",
        "up", inception_best("blur"),
    )  # fmt: skip
    yield Claim(
        "inception-clean", "3, Fig. 6", "the Inception models perform best without any corruption",
        f"clean accuracy without corruption, Inception {best}", "up", inception_best("blur", clean=True),
        counted=False,
    )  # fmt: skip
    yield Claim(
        "modules", "4", "residual, Inception and ResNeXt modules perform alike",
        "clean accuracy without corruption, of the two architectures that are least alike", "within",
        accuracies_alike("noise", ALIKE_ACCURACY, clean=True), ALIKE_ACCURACY,
    )  # fmt: skip


def _change_claims(reading: str) -> Iterator[TrainingDataClaim]:
    """Yield the claims about the smallest adversarial change in one reading: section 3, Figures 5 and 7."""
    counted = reading == "correct"
    end, note = ("", "") if counted else (f"-{reading}", f": {READINGS[reading]}")
    size = "smallest adversarial change in 8-bit values, mean over architectures"
    noise, blur = "3, Fig. 5", "3, Fig. 7"
    yield Claim(
        f"change-rises-0.1{end}", noise,
        f"training on {_noise(0.1)} raises the smallest adversarial change{note}",
        f"{size}, minus training on none", "up", _change(("noise", 0.1), NONE, reading), counted=counted,
        helps=True,
    )  # fmt: skip
    for sigma, fails in ((1.0, False), (5.0, True)):
        yield Claim(
            f"change-falls-{sigma:g}{end}", noise,
            f"training on {_noise(sigma)} lowers the smallest adversarial change again{note}",
            f"{size}, minus the largest of the weaker noises that were run (chosen by the other seeds)",
            "down", over_architectures(partial(change_fall, sigma=sigma, reading=reading), points=False),
            counted=counted, of_collapse=fails,
        )  # fmt: skip
        yield Claim(
            f"change-falls-{sigma:g}-from-0.1{end}", noise,
            f"training on {_noise(sigma)} gives a smaller adversarial change than σ = 0.1 does{note}",
            f"{size}, minus training on 0.1", "down",
            _change(("noise", sigma), ("noise", 0.1), reading), counted=False, of_collapse=fails,
        )  # fmt: skip
    yield Claim(
        f"blur-change-0.5{end}", blur,
        f"training on blur of up to σ = 0.5 pixels does not move the smallest adversarial change{note}",
        "smallest adversarial change, trained on 0.5 minus none, as a share of the latter", "within",
        _change(("blur", 0.5), NONE, reading, relative=True), UNMOVED_GAIN, counted,
    )  # fmt: skip
    for sigma, fails in ((1.0, False), (5.0, True)):
        yield Claim(
            f"blur-change-falls-{sigma:g}{end}", blur,
            f"training on blur of σ = {sigma:g} pixels lowers the smallest adversarial change{note}",
            f"{size}, minus training on none", "down", _change(("blur", sigma), NONE, reading),
            counted=counted, of_collapse=fails,
        )  # fmt: skip


def _further_change_claims() -> Iterator[TrainingDataClaim]:
    """Yield the claims about the size of the smallest adversarial change, and of a noisy copy."""
    slightly = over_architectures(
        partial(change_beyond, at=("noise", 0.1), base=NONE, bound=SLIGHT_GAIN), False
    )
    yield Claim(
        "change-slightly", "3, Fig. 5",
        f"{_noise(0.1)} makes networks only slightly more robust: less than half as much again",
        "smallest adversarial change, trained on 0.1 minus none, as a share of the latter, minus "
        f"{SLIGHT_GAIN:g}",
        "down", where_gained(slightly, SLIGHT_GAIN),
    )  # fmt: skip
    yield Claim(
        "one-percent", "3", "a change of about 1 % of the range misleads every network",
        "smallest adversarial change of the most robust network in percent of the range, minus "
        f"{ABOUT_ONE_PERCENT:g}", "down", most_robust,
    )  # fmt: skip
    yield Claim(
        "change-rises-0.1-copy", "3, Fig. 5",
        f"training on one fixed copy with {_noise(0.1)} raises the smallest adversarial change",
        "smallest adversarial change in 8-bit values, mean over architectures, minus training on none", "up",
        _change((COPY, 0.1), NONE, "correct"), counted=False, helps=True,
    )  # fmt: skip


def _part(
    at: At, base: At = NONE, shown: str = "noise", levels: Sequence[float] | None = (0.0,)
) -> Callable[..., Contrast | None]:
    return partial(gain, at=at, base=base, shown=shown, levels=levels)


def _gain(at: At, base: At = NONE, **more: Any) -> Callable[[Found], Contrast | None]:
    return over_architectures(_part(at, base, **more))


def _twins(part: Callable[..., Contrast | None], *words: Any, **more: Any) -> Iterator[TrainingDataClaim]:
    """Yield a claim of networks as trained, and beside it the same with BatchNorm statistics estimated again.

    part: contrast of accuracy of one architecture; takes `statistics`.   words, more: of the `Claim`, without
    its contrast.
    """
    claim = Claim(*words, contrast=over_architectures(part), **more)
    yield claim
    yield replace(
        claim,
        name=f"{claim.name}-{RECALIBRATED}",
        text=f"{claim.text}, with {ESTIMATED_AGAIN}",
        contrast=over_architectures(partial(part, statistics=RECALIBRATED)),
        counted=False,
    )


def _change(at: At, base: At, reading: str, relative: bool = False) -> Callable[[Found], Contrast | None]:
    part = partial(change_gain, at=at, base=base, reading=reading, relative=relative)
    return over_architectures(part, points=False)


CLAIMS = (
    *_accuracy_claims(),
    *_blur_claims(),
    *_architecture_claims(),
    *(claim for reading in READINGS for claim in _change_claims(reading)),
    *_further_change_claims(),
)

MAIN = ("best-0.1", "best-1", "overall-0.1", "blur-clean-0.5", "change-rises-0.1", "modules")
CAUSES = (
    Cause(
        "an image that is wrong already counts as a change of 0", "change-rises-0.1", "change-rises-0.1-zero"
    ),
    Cause("one noisy copy of each image, not fresh noise", "clean-0.1", "clean-0.1-copy"),
    *(
        Cause(f"{ESTIMATED_AGAIN} on clean images", claim.name, f"{claim.name}-{RECALIBRATED}")
        for claim in CLAIMS
        if claim.counted and f"{claim.name}-{RECALIBRATED}" in {other.name for other in CLAIMS}
    ),
)
