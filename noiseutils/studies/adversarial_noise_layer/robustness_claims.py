"""State the ANL paper's claims of robustness (Table 4), each with its test.

It contradicts itself on adversarial training: the abstract calls ANL and CANL more robust, the contributions
and Table 4's second observation comparable. Both are here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from noiseutils.studies.adversarial_noise_layer.contrasts import (
    AUTOATTACK_255,
    NONE,
    PAPERS_AT,
    AnlClaim,
    than,
    under_autoattack,
)
from noiseutils.studies.adversarial_noise_layer.grid import METHODS
from noiseutils.studies.adversarial_noise_layer.printed import Direction, note, printed
from noiseutils.studies.registry import Claim

# of the accuracy under FGSM, and of the share that FGSM turns wrong: the paper's own ANL is 4.7 points above
# AT in accuracy, and called comparable
ALIKE = 0.05
LARGER, SMALLER = 0.05, 0.01  # Table 4's two values of epsilon
PRINTED_DELTAS = (2.0, 4.0, 6.0, 8.0)  # of Table 4, in 255ths
AT = {"method": "at", "epsilon": PAPERS_AT}


def _in_table_4(
    rival: Mapping[str, Any],
    method: str,
    claimed: Direction,
    names: tuple[str, str],
    *,
    deltas: tuple[float, ...] = PRINTED_DELTAS,
    margin: float = math.inf,
) -> str:
    """Return the accuracies that Table 4 prints for a rival, and for noise with the larger epsilon."""
    control, treated = (
        printed("table4", name, models=["vgg16"], epsilon=epsilon, deltas=deltas)
        for name, epsilon in ((rival["method"], rival.get("epsilon")), (method, LARGER))
    )
    means = "δ" if len(deltas) > 1 else ""
    return note(control, treated, claimed, names=names, margin=margin, means=means)


def _under_fgsm(
    name: str,
    section: str,
    text: str,
    own: str,
    versus: str,
    one: Mapping[str, Any],
    other: Mapping[str, Any],
    *,
    part: str = "table4",
    margin: float = math.inf,
    counted: bool = True,
    helps: bool = False,
) -> Iterator[AnlClaim]:
    """Yield a claim on the error under FGSM of the images that are right without it, and its twin on all.

    own: the paper's numbers, accuracies over all images.   versus: the two sides in words.   margin: of a
    claim that they are alike.

    A network that is better without an attack has fewer errors under one, too, if it loses the same share:
    that is no robustness. The twin, uncounted, is what the paper prints.
    """
    claimed = "down" if margin == math.inf else "within"
    sides = f"{versus}, mean over FGSM sizes"
    yield Claim(
        name, section, f"{text}{own}", f"error under FGSM on images that are right without it, {sides}",
        claimed, than(one, other, "turned", part=part), margin, counted, helps=helps,
    )  # fmt: skip
    yield Claim(
        f"{name}-all-images", section, f"{text}, over all images", f"top-1 error under FGSM, {sides}",
        claimed, than(one, other, "fgsm", part=part), margin, counted=False, helps=helps,
    )  # fmt: skip


def _against_at(part: str, at: float, reading: str) -> Iterator[AnlClaim]:
    """Yield what Table 4 claims against adversarial training; counted in the reading without a name."""
    hard = AT | {"epsilon": at}
    end = reading and f"-{part}" * (part != "table4") + f"-{at * 255:g}" * (at != PAPERS_AT)
    for method in ("anl", "canl"):
        name, noisy = METHODS[method], {"method": method}
        names = ("with AT", f"with {name}")
        own = _in_table_4(hard, method, "down", names, deltas=(0.0,))  # none for AT of another size
        yield Claim(
            f"at-clean-{method}{end}", "Table 4", f"{name} is better than AT on clean images{reading}{own}",
            f"top-1 error, {name} minus AT{reading}", "down", than(noisy, hard, part=part),
            counted=not reading,
        )  # fmt: skip
        yield from _under_fgsm(
            f"at-fgsm-{method}{end}", "abstract", f"{name} is more robust to FGSM than AT{reading}",
            _in_table_4(hard, method, "down", names), f"{name} minus AT{reading}", noisy, hard, part=part,
            counted=not reading,
        )  # fmt: skip


def robustness_claims() -> Iterator[AnlClaim]:
    """Yield Table 4's claims: the counted ones, then other readings of adversarial training and schedule."""
    yield from _against_at("table4", PAPERS_AT, "")
    for method in ("anl", "canl"):
        name, noisy = METHODS[method], {"method": method}
        weaker = noisy | {"epsilon": SMALLER}
        yield from _under_fgsm(
            f"at-alike-{method}", "Table 4", f"{name} and AT are about as robust to FGSM",
            _in_table_4(AT, method, "within", ("with AT", f"with {name}"), margin=ALIKE),
            f"{name} minus AT", noisy, AT, margin=ALIKE,
        )  # fmt: skip
        yield from _under_fgsm(
            f"fgsm-{method}", "conclusion", f"{name} makes the network more robust to FGSM",
            _in_table_4(NONE, method, "down", ("without", "with")),
            f"{name} minus no noise", noisy, NONE, helps=True,
        )  # fmt: skip
        yield from _under_fgsm(
            f"larger-{method}", "Table 4", f"a larger ε of {name} is more robust to FGSM",
            _in_table_4(weaker, method, "down", (f"with ε = {SMALLER:g}", f"with ε = {LARGER:g}")),
            f"ε = {LARGER:g} minus ε = {SMALLER:g}", noisy, weaker,
        )  # fmt: skip
        yield Claim(
            f"autoattack-{method}", "beyond", f"{name} is more robust to AutoAttack than AT",
            f"accuracy under AutoAttack {AUTOATTACK_255:g}/255, {name} minus AT", "up",
            under_autoattack(method), counted=False,
        )  # fmt: skip
    for delta in (2.0, 4.0):
        yield from _against_at("table4", delta / 255, f", AT at {delta:g}/255")
    yield from _against_at("phases", PAPERS_AT, ", in two phases")
