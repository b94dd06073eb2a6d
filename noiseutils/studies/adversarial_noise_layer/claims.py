"""What the ANL paper claims, and how each claim is tested.

Where the paper's own comparison changes the learning-rate schedule together with the noise (Table 3), the one
with an equal schedule is counted and the paper's stands beside it, uncounted. It contradicts itself on
adversarial training: the abstract calls ANL and CANL more robust, the contributions and Table 4's second
observation comparable. Both are here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

from noiseutils.studies.adversarial_noise_layer.contrasts import (
    AUTOATTACK_255,
    BEST_EPSILON,
    NEARLY,
    PAPERS_AT,
    SITES,
    best_epoch,
    better,
    harms_more,
    larger_network,
    named_epsilon,
    over_networks,
    same_class,
    sharper,
    than,
    under_autoattack,
    with_width,
)
from noiseutils.studies.adversarial_noise_layer.grid import METHODS, Cell
from noiseutils.studies.adversarial_noise_layer.params import Params
from noiseutils.studies.registry import Cause, Claim

# Table 3's CANL is above ANL by up to 0.17 points on CIFAR-10, and ANL's least gain over no noise is 0.78
CLOSE = 0.005  # of the top-1 error
ALIKE = 0.05  # of the accuracy under FGSM: the paper's own ANL is 4.7 points above AT, and called comparable
LITTLE = 0.1  # of the sharpness, relative: a tenth is hardly seen
IN_FIGURE_4 = ("mobilenet_v2", "vgg16")
ON_EPSILON = "The choice of the hyper-parameter"  # the paper's text beside that figure
# Table 2's rows: network, images, counted. The residual networks stand beside.
TABLE_2 = (
    ("lenet5", "fashion_mnist", True),
    ("vgg16", "cifar10", True),
    ("resnet20", "cifar10", False),
    ("resnet56", "cifar10", False),
    ("resnet20", "cifar100", False),
    ("resnet56", "cifar100", False),
)

AnlClaim = Claim[Params, Cell]


Direction = Literal["up", "down"]
NONE = {"method": "baseline"}


def _table_1() -> Iterator[AnlClaim]:
    """Yield Table 1's claim: counted once, over the layers where the noise goes, as the paper names none."""
    text = "gradients of one class are more alike than those of others"
    test = "cosine of loss gradients, same class minus other classes"
    yield Claim(
        "similarity", "Table 1", text, f"{test}, mean of conv1 and conv2", "up",
        same_class(*SITES), setting_said=False,
    )  # fmt: skip
    for site in SITES:
        yield Claim(
            f"similarity-{site}", "Table 1", f"{text}, at {site}", test, "up", same_class(site),
            counted=False, setting_said=False,
        )  # fmt: skip


def _table_2(model: str, data: str, counted: bool) -> Iterator[AnlClaim]:
    """Yield Table 2's claims about one network; LAT was not run on LeNet-5."""
    rows: list[tuple[str, str, Direction, str]] = [
        ("gaussian", "baseline", "up", "Gaussian noise slightly reduces the accuracy"),
        ("lat", "baseline", "down", "LAT lowers the error"),
        ("anl", "baseline", "down", "ANL lowers the error"),
        ("canl", "baseline", "down", "CANL lowers the error"),
        ("anl", "gaussian", "down", "ANL is better than Gaussian noise"),
        ("anl", "lat", "down", "ANL is better than LAT"),
        ("canl", "anl", "up", "CANL is slightly inferior to ANL"),
        ("canl", "lat", "down", "CANL is better than LAT"),
    ]
    where = {"part": "table2", "model": model, "data": data}
    network = f"{model}-{data}" if data == "cifar100" else model
    named = f"{model} on CIFAR-100" if data == "cifar100" else model
    for method, rival, claimed, text in rows:
        if model != "lenet5" or "lat" not in (method, rival):
            yield Claim(
                f"{method}-{rival}-{network}", "Table 2", f"{text}, {named}",
                f"top-1 error, {METHODS[method]} minus {METHODS[rival]}", claimed,
                (than if method == "gaussian" else better)({"method": method}, {"method": rival}, **where),
                counted=counted, helps=rival == "baseline" and method in ("anl", "canl"),
            )  # fmt: skip
    yield Claim(
        f"negative-{network}", "Table 2", f"a negative ε raises the error, {named}",
        "top-1 error, negative ε minus no noise", "up", than({"method": "anl_negative"}, NONE, **where),
        counted=counted, of_collapse=True,
    )  # fmt: skip


def _negative_epsilon() -> Iterator[AnlClaim]:
    yield Claim(
        "negative-training", "Table 2",
        "with a negative ε, VGG-16 reaches 99.6 % in training after few epochs",
        "training accuracy of the best epoch before the learning rate first drops, minus 0.9955", "up",
        best_epoch("train_accuracy", 0.9955, at_first_rate=True), of_collapse=True,
    )  # fmt: skip
    yield Claim(
        "negative-test", "Table 2", "with a negative ε, VGG-16 never exceeds 45.69 % on test images",
        "test accuracy of the best epoch minus 0.4569", "down", best_epoch("test_accuracy", 0.4569),
        of_collapse=True,
    )  # fmt: skip
    yield Claim(
        "negative-resnet", "Table 2", "a negative ε harms residual networks more",
        "top-1 error, negative ε minus no noise, ResNet-20 minus VGG-16", "up",
        harms_more("resnet20", "vgg16"), of_collapse=True,
    )  # fmt: skip


def _figure_3() -> Iterator[AnlClaim]:
    test = "sharpness of the feature maps over that without noise, minus 1"
    for method, text in (("anl", "ANL"), ("canl", "CANL")):
        said = f"{text} gives sharper feature maps"
        yield Claim(f"sharper-{method}", "Figure 3", said, test, "up", sharper(method))
    yield Claim(
        "blurred", "Figure 3", "a negative ε blurs the feature maps", test, "down",
        sharper("anl_negative"), of_collapse=True,
    )  # fmt: skip
    text = "Gaussian noise makes little difference to the feature maps"
    yield Claim("gaussian-maps", "Figure 3", text, test, "within", sharper("gaussian"), LITTLE)


def _table_3() -> Iterator[AnlClaim]:
    """Yield Table 3's claims; those against a rival with an equal switch of the rate are counted."""
    for method in ("anl", "canl"):
        for rival in ("baseline", "dropout"):
            for end, note in (("_switch", ""), ("", ", as the paper compares")):
                yield Claim(
                    f"{method}-{rival}" + "-paper" * (not end), "Table 3",
                    f"{METHODS[method]} is better than {METHODS[rival]}, vgg16{note}",
                    f"top-1 error, {METHODS[method]} minus {METHODS[rival + end]}", "down",
                    better({"method": method}, {"method": rival + end}, part="table3", model="vgg16"),
                    counted=bool(end), helps=bool(end) and rival == "baseline",
                )  # fmt: skip
        yield Claim(
            f"networks-{method}", "Table 3", f"{METHODS[method]} improves networks of various architectures",
            f"top-1 error, {METHODS[method]} minus no noise with the same switch, mean over the networks",
            "down", over_networks(method), helps=True,
        )  # fmt: skip
        yield Claim(
            f"mobilenet-{method}", "Table 3", f"{METHODS[method]} improves MobileNet",
            f"top-1 error, {METHODS[method]} minus no noise with the same switch", "down",
            better({"method": method}, {"method": "baseline_switch"}, part="table3", model="mobilenet"),
            helps=True,
        )  # fmt: skip
    yield Claim(
        "mobilenet-dropout", "Table 3", "dropout slightly reduces MobileNet's accuracy",
        "top-1 error, dropout 0.5 minus no noise", "up",
        than({"method": "dropout"}, NONE, part="table3", model="mobilenet"),
    )  # fmt: skip
    pair = better({"method": "canl"}, {"method": "anl"}, part="table3", model="vgg16")
    test = "top-1 error, CANL minus ANL"
    yield Claim("canl-close", "Table 3", "CANL is very close to ANL, vgg16", test, "within", pair, CLOSE)
    yield Claim("anl-best", "Table 3", "ANL has the best result, before CANL, vgg16", test, "up", pair)


def _choices() -> Iterator[AnlClaim]:
    yield Claim(
        "scaling", "Eq. 4", "noise scaled by s(h) lowers the error",
        "top-1 error, ANL minus ANL without s(h)", "down",
        better({"method": "anl"}, {"method": "anl_unscaled"}, part="ablation"),
    )  # fmt: skip
    for model, epsilon in BEST_EPSILON.items():
        about, other = ("about ", "other ε but its neighbours") if model in NEARLY else ("", "other ε")
        yield Claim(
            f"epsilon-{model}", "Figure 4" if model in IN_FIGURE_4 else ON_EPSILON,
            f"{about}{epsilon:g} is the best ε for {model}",
            f"top-1 error at ε = {epsilon:g} minus that at the best {other} (chosen by the other seeds)",
            "down", named_epsilon(model),
        )  # fmt: skip
    yield Claim(
        "larger-network", ON_EPSILON, "a network with more parameters takes a larger ε",
        "slope of the top-1 error over ε, mobilenet_v2 minus vgg16", "up", larger_network,
    )  # fmt: skip


def _against_at(part: str, at: float, note: str) -> Iterator[AnlClaim]:
    """Yield what Table 4 claims against adversarial training, in one reading; counted where note is empty."""
    hard, counted = {"method": "at", "epsilon": at}, not note
    end = note and f"-{part}" * (part != "table4") + f"-{at * 255:g}" * (at != PAPERS_AT)
    over = f"mean over FGSM sizes{note}"
    for method in ("anl", "canl"):
        name, noisy = METHODS[method], {"method": method}
        yield Claim(
            f"at-clean-{method}{end}", "Table 4", f"{name} is better than AT on clean images{note}",
            f"top-1 error, {name} minus AT{note}", "down", than(noisy, hard, part=part), counted=counted,
        )  # fmt: skip
        yield Claim(
            f"at-fgsm-{method}{end}", "abstract", f"{name} is more robust to FGSM than AT{note}",
            f"top-1 error, {name} minus AT, {over}", "down", than(noisy, hard, "fgsm", part=part),
            counted=counted,
        )  # fmt: skip


def _robustness() -> Iterator[AnlClaim]:
    yield from _against_at("table4", PAPERS_AT, "")
    over = "mean over FGSM sizes"
    for method in ("anl", "canl"):
        name, noisy = METHODS[method], {"method": method}
        hard = {"method": "at", "epsilon": PAPERS_AT}
        yield Claim(
            f"at-alike-{method}", "Table 4", f"{name} and AT are about as robust to FGSM",
            f"top-1 error, {name} minus AT, {over}", "within",
            than(noisy, hard, "fgsm", part="table4"), ALIKE,
        )  # fmt: skip
        yield Claim(
            f"fgsm-{method}", "conclusion", f"{name} makes the network more robust to FGSM",
            f"top-1 error, {name} minus no noise, {over}", "down", than(noisy, NONE, "fgsm", part="table4"),
            helps=True,
        )  # fmt: skip
        yield Claim(
            f"larger-{method}", "Table 4", f"a larger ε of {name} is more robust to FGSM",
            f"top-1 error, ε = 0.05 minus ε = 0.01, {over}", "down",
            than(noisy, noisy | {"epsilon": 0.01}, "fgsm", part="table4"),
        )  # fmt: skip
        yield Claim(
            f"autoattack-{method}", "beyond", f"{name} is more robust to AutoAttack than AT",
            f"accuracy under AutoAttack {AUTOATTACK_255:g}/255, {name} minus AT", "up",
            under_autoattack(method), counted=False,
        )  # fmt: skip
    for delta in (2.0, 4.0):
        yield from _against_at("table4", delta / 255, f", AT at {delta:g}/255")
    yield from _against_at("phases", PAPERS_AT, ", in two phases")


CLAIMS_AS_TESTED: tuple[AnlClaim, ...] = (
    *_table_1(),
    *(claim for row in TABLE_2 for claim in _table_2(*row)),
    *_negative_epsilon(),
    *_figure_3(),
    *_table_3(),
    *_choices(),
    *_robustness(),
    Claim(
        "imagenet", "ImageNet", "CANL significantly lowers AlexNet's error on ImageNet",
        "top-1 error, CANL minus no noise", "down", better({"method": "canl"}, NONE, part="imagenet"),
        helps=True,
    ),
)  # fmt: skip

CLAIMS = tuple(replace(claim, contrast=with_width(claim.contrast)) for claim in CLAIMS_AS_TESTED)

MAIN = (
    "similarity",
    "anl-gaussian-vgg16",
    "anl-baseline-lenet5",
    "anl-baseline",
    "at-clean-anl",
    "at-fgsm-anl",
)
CAUSES = tuple(
    Cause("a learning rate that switches with the noise, as in the paper", name, f"{name}-paper")
    for name in ("anl-baseline", "canl-baseline")
)
