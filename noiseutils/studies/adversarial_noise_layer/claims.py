"""State the ANL paper's claims, each with its test.

Where the paper's own comparison changes the learning-rate schedule together with the noise (Table 3), the one
with an equal schedule is counted and the paper's stands beside it, uncounted. Behind a claim stand the
numbers that the paper prints for it, where a table has both sides. Table 4's claims are in
`robustness_claims`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from noiseutils.studies.adversarial_noise_layer.contrasts import (
    BEST_EPSILON,
    NEARLY,
    NONE,
    SITES,
    AnlClaim,
    best_epoch,
    better,
    harms_more,
    larger_network,
    named_epsilon,
    over_networks,
    same_class,
    sharper,
    than,
    with_width,
)
from noiseutils.studies.adversarial_noise_layer.grid import METHODS
from noiseutils.studies.adversarial_noise_layer.printed import (
    Direction,
    cosines,
    costs,
    networks,
    note,
    printed,
)
from noiseutils.studies.adversarial_noise_layer.robustness_claims import robustness_claims
from noiseutils.studies.registry import Cause, Claim

# Table 3's CANL is above ANL by up to 0.17 points on CIFAR-10, and ANL's least gain over no noise is 0.78
CLOSE = 0.005  # of the top-1 error
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


def _sides(rival: str, method: str) -> tuple[str, str]:
    """Return how the printed numbers of a rival and of a kind of training are named."""
    if rival.startswith("baseline"):
        return "without", "with"
    return f"with {METHODS[rival].partition(',')[0]}", f"with {METHODS[method]}"


def _in_table(
    table: str,
    method: str,
    rival: str,
    claimed: Direction,
    models: Sequence[str],
    *,
    data: str = "cifar10",
    margin: float = math.inf,
    means: str = "",
) -> str:
    """Return what a table prints for a kind of training and its rival; see `printed.note`.

    Of a rival with the same switch of the rate, which the paper does not have, the paper's own.
    """
    kinds = (rival.removesuffix("_switch"), method)
    control, treated = (printed(table, kind, models=models, data=data) for kind in kinds)
    return note(control, treated, claimed, names=_sides(rival, method), margin=margin, means=means)


def _table_1() -> Iterator[AnlClaim]:
    """Yield Table 1's claim: counted once, over the layers where the noise goes, as the paper names none."""
    text = "gradients of one class are more alike than those of others"
    test = "cosine of loss gradients, same class minus other classes"
    yield Claim(
        "similarity", "Table 1", f"{text}{cosines()}", f"{test}, mean of conv1 and conv2", "up",
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
            own = _in_table("table2", method, rival, claimed, [model], data=data)
            yield Claim(
                f"{method}-{rival}-{network}", "Table 2", f"{text}, {named}{own}",
                f"top-1 error, {METHODS[method]} minus {METHODS[rival]}", claimed,
                (than if method == "gaussian" else better)({"method": method}, {"method": rival}, **where),
                counted=counted, helps=rival == "baseline" and method in ("anl", "canl"),
            )  # fmt: skip
    own = _in_table("table2", "anl_negative", "baseline", "up", [model], data=data)
    yield Claim(
        f"negative-{network}", "Table 2", f"a negative ε raises the error, {named}{own}",
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
        "negative-resnet", "Table 2",
        f"a negative ε harms residual networks more{costs('resnet20', 'vgg16')}",
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
            own = _in_table("table3", method, rival, "down", ["vgg16"])
            for end, remark in (("_switch", ""), ("", ", as the paper compares")):
                yield Claim(
                    f"{method}-{rival}" + "-paper" * (not end), "Table 3",
                    f"{METHODS[method]} is better than {METHODS[rival]}, vgg16{remark}{own}",
                    f"top-1 error, {METHODS[method]} minus {METHODS[rival + end]}", "down",
                    better({"method": method}, {"method": rival + end}, part="table3", model="vgg16"),
                    counted=bool(end), helps=bool(end) and rival == "baseline",
                )  # fmt: skip
        text = f"{METHODS[method]} improves networks of various architectures"
        yield _over_networks(f"networks-{method}", text, method, "baseline_switch", "down", helps=True)
        own = _in_table("table3", method, "baseline", "down", ["mobilenet"])
        yield Claim(
            f"mobilenet-{method}", "Table 3", f"{METHODS[method]} improves MobileNet{own}",
            f"top-1 error, {METHODS[method]} minus no noise with the same switch", "down",
            better({"method": method}, {"method": "baseline_switch"}, part="table3", model="mobilenet"),
            helps=True,
        )  # fmt: skip
    text = "over networks of various architectures, ANL has the best result"
    yield _over_networks("networks-anl-dropout", f"{text}, before dropout", "anl", "dropout_switch", "down")
    yield _over_networks("networks-canl-anl", f"{text}, before CANL", "canl", "anl", "up")
    own = _in_table("table3", "dropout", "baseline", "up", ["mobilenet"])
    yield Claim(
        "mobilenet-dropout", "Table 3", f"dropout slightly reduces MobileNet's accuracy{own}",
        "top-1 error, dropout 0.5 minus no noise", "up",
        than({"method": "dropout"}, NONE, part="table3", model="mobilenet"),
    )  # fmt: skip
    pair = better({"method": "canl"}, {"method": "anl"}, part="table3", model="vgg16")
    test = "top-1 error, CANL minus ANL"
    own = _in_table("table3", "canl", "anl", "within", ["vgg16"], margin=CLOSE)
    text = f"CANL is very close to ANL, vgg16{own}"
    yield Claim("canl-close", "Table 3", text, test, "within", pair, CLOSE)
    own = _in_table("table3", "canl", "anl", "up", ["vgg16"])
    yield Claim("anl-best", "Table 3", f"ANL has the best result, before CANL, vgg16{own}", test, "up", pair)


def _over_networks(
    name: str, text: str, method: str, rival: str, claimed: Direction, helps: bool = False
) -> AnlClaim:
    """Return Table 3's claim about the mean over networks of a kind of training minus a rival."""
    models = networks("table3")
    own = _in_table("table3", method, rival, claimed, models, means=f"{len(models)} networks")
    other = "no noise with the same switch" if rival == "baseline_switch" else METHODS[rival]
    return Claim(
        name, "Table 3", f"{text}{own}",
        f"top-1 error, {METHODS[method]} minus {other}, mean over the networks", claimed,
        over_networks(method, rival), helps=helps,
    )  # fmt: skip


def _choices() -> Iterator[AnlClaim]:
    own = _in_table("ablation", "anl", "anl_unscaled", "down", ["vgg16"])
    yield Claim(
        "scaling", "Eq. 4", f"noise scaled by s(h) lowers the error{own}",
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


def _claims() -> Iterator[AnlClaim]:
    yield from _table_1()
    for row in TABLE_2:
        yield from _table_2(*row)
    yield from _negative_epsilon()
    yield from _figure_3()
    yield from _table_3()
    yield from _choices()
    yield from robustness_claims()
    own = _in_table("imagenet", "canl", "baseline", "down", ["alexnet"], data="imagenet")
    yield Claim(
        "imagenet", "ImageNet", f"CANL significantly lowers AlexNet's error on ImageNet{own}",
        "top-1 error, CANL minus no noise", "down", better({"method": "canl"}, NONE, part="imagenet"),
        helps=True,
    )  # fmt: skip


CLAIMS: tuple[AnlClaim, ...] = tuple(
    replace(claim, contrast=with_width(claim.contrast)) for claim in _claims()
)

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
