"""Report whether robustness against FGSM survives stronger attacks, or gradients are masked.

FGSM follows one gradient once, and a network can pass FGSM with useless gradients instead of right answers:
logits scaled by 1000 saturate the softmax, and the gradient of cross-entropy is then exactly zero. The report
sets attacks without that weakness beside FGSM, and lists the signs of masking: a stronger attack that breaks
fewer images, noise or another network's images that break more, zero gradients, unbounded attacks that fail,
outputs that are probabilities.

All attacks are bounded in the maximum norm; those with a random start share it. Sources: Goodfellow et al.
2015 (FGSM); Madry et al. 2018 (PGD); Croce & Hein 2020 (AutoAttack and the DLR loss); Athalye, Carlini &
Wagner 2018 and Carlini et al. 2019 (the signs of masking).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from noiseutils.data import to_float
from noiseutils.errors import UserError
from noiseutils.evaluation import attacks
from noiseutils.evaluation.attacks import Criterion, pgd
from noiseutils.models.modes import eval_mode, frozen, full_float32
from noiseutils.rng import derived_seed, generator

ALPHA = 0.05  # level of the test that a broken order is more than chance
LOSS_GAP = 0.1  # accuracy lost to a better loss; sound networks lose a few points, broken defences far more
ZERO_SHARE = 0.01  # a network may have a few dead images without being masked
# A sum: the mean over a batch makes gradients smaller, and zeros out of the smallest.
CROSS_ENTROPY: Criterion = partial(F.cross_entropy, reduction="sum")
Networks = Sequence[tuple[str, nn.Module]]


def _check_sizes(name: str, sizes: Sequence[float]) -> None:
    if not len(sizes) or not all(0 < size <= 1 for size in sizes):
        raise UserError(f"{name} must be sizes in (0, 1], units of the pixel range, got {list(sizes)}")


@dataclass(frozen=True)
class Effort:
    """Set the strength of the attacks."""

    steps: tuple[int, int] = (20, 100)  # of the short and the long PGD, and in their names
    noise_draws: int = 3
    square_queries: int = 5000  # of AutoAttack's black-box part; fewer are not its standard version
    curve: tuple[float, ...] = tuple(level / 255 for level in (1, 2, 4, 8, 16, 32, 64, 128, 255))
    batch_size: int = 250  # images at once

    def __post_init__(self) -> None:
        _check_sizes("curve", self.curve)
        if not 1 <= self.steps[0] < self.steps[1]:
            raise UserError(f"steps must be a small and a larger number, like (20, 100), got {self.steps}")
        if min(self.noise_draws, self.square_queries, self.batch_size) < 1:
            raise UserError(f"noise_draws, square_queries and batch_size must be at least 1, got {self}")


@dataclass(frozen=True, eq=False)
class Target:
    """Hold the network and images under attack, on one device.

    x: (N, C, H, W) float32 in [0, 1], contiguous.   y: (N,).
    """

    model: nn.Module
    x: Tensor
    y: Tensor
    classes: int
    seed: int
    effort: Effort

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        size = self.effort.batch_size
        return zip(self.x.split(size), self.y.split(size), strict=True)

    def source(self, purpose: str) -> torch.Generator:
        """Return a new generator: the same purpose draws the same numbers for every network."""
        return generator(self.seed, f"attack_report/{purpose}", self.x.device)

    def correct(self, perturb: Callable[[Tensor, Tensor], Tensor] | None = None) -> Tensor:
        """Return (N,) bool on the CPU: true where the network is right, on clean or perturbed images."""
        pairs = ((x if perturb is None else perturb(x, y), y) for x, y in self.batches())
        return torch.cat([self.model(x).argmax(1) == y for x, y in pairs]).cpu()

    def under_pgd(self, delta: float, steps: int, criterion: Criterion = CROSS_ENTROPY, on=None) -> Tensor:
        """Return `correct` under PGD from a random start; on: the network whose gradients PGD follows."""
        start = self.source(f"start/{delta}")
        attack = partial(pgd, delta=delta, steps=steps, random_start=start, criterion=criterion)
        return self.correct(partial(attack, on or self.model))

    def under_autoattack(self, delta: float) -> tuple[Tensor, list[str]]:
        """Return `correct` under AutoAttack, and the warnings of the library."""
        seed = derived_seed(self.seed, f"attack_report/autoattack/{delta}")
        sizes = {"queries": self.effort.square_queries, "batch_size": self.effort.batch_size}
        found, warnings = attacks.autoattack(self.model, self.x, self.y, delta=delta, seed=seed, **sizes)
        return (found == self.y).cpu(), warnings


def attack_report(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    deltas: Sequence[float],
    surrogates: Networks = (),
    autoattack: bool = True,
    seed: int = 0,
    images_limit: int = 1000,
    effort: Effort = Effort(),
) -> dict[str, Any]:
    """Measure accuracy under attacks of growing strength, image by image, and the signs of gradient masking.

    model: takes pixels in [0, 1], normalisation inside.   images: (N, C, H, W), uint8 or float in [0, 1].
    labels: (N,).   deltas: attack sizes in (0, 1], units of the pixel range.   surrogates: (name, network) of
    networks whose PGD images are tried on `model`.   images_limit: take so many images at even distances,
    the same for every network.

    Returns JSON values. `correct` is one '0' or '1' an image, so that two networks can be compared on
    equal images. "clean"; "gradient", see `zero_gradients`; "deltas", a list of records, see `at_delta`;
    "curve", see `epsilon_curve`; "probabilities", true where those stand for logits; "signs", see
    `signs_of_masking`, empty if there are none; "skipped", attack -> reason; "settings". Attacks run in
    float32 without TF32, in eval mode, parameters frozen, and leave no trace in the networks or in torch's
    global generators.
    """
    _check_sizes("deltas", deltas)
    pixels, labels = _chosen(images, labels, images_limit)
    if len(dict(surrogates)) < len(surrogates):
        raise UserError(f"each surrogate needs a name of its own, got {[name for name, _ in surrogates]}")
    if autoattack:
        attacks.autoattack_library()  # raises if not installed, before anything is computed
    device = next((p.device for p in model.parameters()), images.device)
    with ExitStack() as stack, torch.no_grad():
        for network in (model, *dict(surrogates).values()):
            stack.enter_context(eval_mode(network))
            stack.enter_context(frozen(network))
        stack.enter_context(full_float32())
        stack.enter_context(torch.autocast(device.type, enabled=False))
        x, y = pixels.to(device), labels.to(device)
        target = Target(model, x, y, model(x[:1]).shape[1], seed, effort)
        if not 0 <= y.min() <= y.max() < target.classes:
            raise UserError(f"labels must lie in 0 … {target.classes - 1}, the network's classes")
        skipped = _skipped(target, autoattack)
        autoattack = "autoattack" not in skipped
        records = [at_delta(target, float(delta), surrogates, autoattack) for delta in deltas]
        short = f"pgd{effort.steps[0]}"
        report: dict[str, Any] = {
            "clean": _record(target.correct()),
            "gradient": zero_gradients(target),
            "deltas": records,
            "curve": epsilon_curve(target, {r["delta"]: r["attacks"][short]["accuracy"] for r in records}),
            "probabilities": attacks.are_probabilities(model(x[: effort.batch_size])),
            "skipped": skipped,
        }
    report["signs"] = signs_of_masking(report)
    effort_used = {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(effort).items()}
    report["settings"] = {"images": len(y), "classes": target.classes, "seed": seed, **effort_used}
    return report


def at_delta(target: Target, delta: float, surrogates: Networks, autoattack: bool) -> dict[str, Any]:
    """Return one record of "deltas".

    "noise": mean accuracy under uniform noise, and `correct` of each draw.   "attacks": by name.
    "transfer": by surrogate, the short PGD; below_white_box: the transfer breaks more images than PGD on the
    network itself.   "best": the share of images right when clean, under every draw and under all attacks,
    transfer included.   "order": holds if each attack of the chain FGSM, short PGD, long PGD, AutoAttack
    leaves no more images right than the attack before.   "warnings": of AutoAttack.
    """
    short, long = target.effort.steps
    source = target.source(f"noise/{delta}")
    draws = range(target.effort.noise_draws)
    noise = [target.correct(lambda x, _: attacks.uniform_noise(x, delta, source)) for _ in draws]
    found = {
        "fgsm": target.correct(partial(attacks.fgsm, target.model, delta=delta, criterion=CROSS_ENTROPY)),
        f"pgd{short}": (white_box := target.under_pgd(delta, short)),
        f"pgd{long}": target.under_pgd(delta, long),
    }
    if target.classes >= 3:
        found[f"pgd{long}_dlr"] = target.under_pgd(delta, long, attacks.dlr_loss)
    warnings: list[str] = []
    if autoattack:
        found["autoattack"], warnings = target.under_autoattack(delta)
    transfer = {name: target.under_pgd(delta, short, on=network) for name, network in surrogates}
    chain = [name for name in found if not name.endswith("_dlr")]
    order = [{"weaker": a, "stronger": b, **comparison(found[a], found[b])} for a, b in pairwise(chain)]
    broken = [pair for pair in order if pair["more_right"] > 0]
    against = {name: comparison(flags, white_box) for name, flags in transfer.items()}
    below = {name: compared["more_right"] > 0 for name, compared in against.items()}
    everything = torch.stack([target.correct(), *noise, *found.values(), *transfer.values()])
    return {
        "delta": delta,
        "noise": {
            "accuracy": torch.stack(noise).double().mean().item(),
            "draws": [_record(draw)["correct"] for draw in noise],
            "against_fgsm": comparison(noise[0], found["fgsm"]),
        },
        "attacks": {name: _record(flags) for name, flags in found.items()},
        "transfer": {
            name: {**_record(flags), "below_white_box": below[name], "against_white_box": against[name]}
            for name, flags in transfer.items()
        },
        "best": _record(everything.all(0)),
        "order": {"holds": not broken, "chain": chain, "broken": broken},
        "warnings": warnings,
    }


def zero_gradients(target: Target) -> dict[str, float]:
    """Return the shares of images with an input gradient of exactly 0, and of entries that are exactly 0."""
    gradients = (attacks.input_gradient(target.model, x, y, CROSS_ENTROPY) for x, y in target.batches())
    zero = torch.cat([(gradient == 0).flatten(1).cpu() for gradient in gradients])
    images, entries = zero.all(1).sum().item() / len(zero), zero.sum().item() / zero.numel()
    return {"zero_images": images, "zero_entries": entries}


def epsilon_curve(target: Target, known: Mapping[float, float]) -> dict[str, Any]:
    """Return accuracy under the short PGD over growing delta, up to the first 0; known: accuracies by delta.

    "reaches_zero_at" is the delta of the first 0, or None: within the whole pixel range every image can be
    changed into any other, so an attack that fails at that size is a poor attack. A network that predicts
    one class for every image never gets to 0.
    """
    steps, found = target.effort.steps[0], {}
    for delta in sorted(target.effort.curve):
        found[delta] = (
            known[delta] if delta in known else target.under_pgd(delta, steps).double().mean().item()
        )
        if found[delta] == 0:
            break
    curve = {"attack": f"pgd{steps}", "deltas": list(found), "accuracies": list(found.values())}
    return curve | {"reaches_zero_at": next((delta for delta in found if found[delta] == 0), None)}


def comparison(weaker: Tensor, stronger: Tensor) -> dict[str, float]:
    """Count how many more images are right under the stronger attack; p: one-sided exact McNemar test.

    weaker, stronger: (N,) bool, of the same images.
    """
    from scipy.stats import binomtest  # half a second to import

    survivors, victims = int((stronger & ~weaker).sum()), int((weaker & ~stronger).sum())
    both = survivors + victims
    p = float(binomtest(survivors, both, alternative="greater").pvalue) if both else 1.0
    return {"more_right": survivors - victims, "p": p}


def signs_of_masking(report: dict[str, Any]) -> list[dict[str, Any]]:
    """List the signs of masking: records of sign, delta and a sentence.

    Comparisons of attacks count when p < ALPHA, so that chance raises no alarm; comparisons without a
    test are in the records, as "order" and below_white_box.
    """
    signs = []

    def add(sign: str, delta: float | None, said: str) -> None:
        signs.append({"sign": sign, "delta": delta, "said": said})

    share, curve = report["gradient"]["zero_images"], report["curve"]
    if report["probabilities"]:
        add("probabilities", None, "the outputs are probabilities, which cross-entropy takes for logits")
    if share > ZERO_SHARE:
        add("zero_gradients", None, f"{share:.1%} of the images have an input gradient of exactly zero")
    if curve["reaches_zero_at"] is None:
        left, delta = curve["accuracies"][-1], curve["deltas"][-1]
        add("curve_above_zero", delta, f"{left:.1%} are still right under {curve['attack']}")
    for record in report["deltas"]:
        delta, chain = record["delta"], record["order"]["chain"]
        for pair in (pair for pair in record["order"]["broken"] if pair["p"] < ALPHA):
            more = f"{pair['more_right']} more images are right under {pair['stronger']}"
            add("order_broken", delta, f"{more} than under {pair['weaker']}")
        if record["noise"]["against_fgsm"]["p"] < ALPHA:
            add("noise_beats_fgsm", delta, "uniform noise breaks more images than fgsm")
        for name, found in record["transfer"].items():
            if found["against_white_box"]["p"] < ALPHA:
                add("transfer_beats_white_box", delta, f"images made on {name} break more than its own")
        left, long = {name: found["accuracy"] for name, found in record["attacks"].items()}, chain[2]
        for name in sorted(left.keys() & {f"{long}_dlr", "autoattack"}):
            if left[long] - left[name] > LOSS_GAP:
                said = f"{left[long]:.1%} are right under {long}, {left[name]:.1%} under {name}"
                add("cross_entropy_misleads", delta, said)
    return signs


def _record(flags: Tensor) -> dict[str, Any]:
    digits = "".join("1" if right else "0" for right in flags.tolist())
    return {"accuracy": flags.double().mean().item(), "correct": digits}


def _skipped(target: Target, autoattack: bool) -> dict[str, str]:
    least = {f"pgd{target.effort.steps[1]}_dlr": 3, "autoattack": 4}
    few = {name: classes for name, classes in least.items() if target.classes < classes}
    said = {name: f"needs at least {n} classes, the network has {target.classes}" for name, n in few.items()}
    return said if autoattack else said | {"autoattack": "not asked for"}


def _chosen(images: Tensor, labels: Tensor, limit: int) -> tuple[Tensor, Tensor]:
    if not len(images) or len(images) != len(labels) or limit < 1:
        got = f"{len(images)} images, {len(labels)} labels and images_limit {limit}"
        raise UserError(f"at least one image is needed, and a label for each, got {got}")
    # the first ones may all be of one class, where the stored order is sorted
    spread = torch.linspace(0, len(images) - 1, min(len(images), limit), dtype=torch.double).round().long()
    pixels, labels = images[spread.to(images.device)], labels[spread.to(labels.device)]
    pixels = (to_float(pixels) if pixels.dtype == torch.uint8 else pixels.float()).contiguous()
    if not 0 <= pixels.min() <= pixels.max() <= 1:
        raise UserError("images must be uint8, or float with pixels in [0, 1]")
    return pixels, labels.long()
