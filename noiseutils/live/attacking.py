"""Change one image by some amount and classify the changed image: the attack lab without its view."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

from noiseutils.corruptions import gaussian_blur
from noiseutils.data import Images, to_float
from noiseutils.errors import UserError, one_of
from noiseutils.evaluation.attacks import fgsm_of, input_gradient
from noiseutils.evaluation.minimal_change import minimal_change
from noiseutils.models.modes import eval_mode
from noiseutils.rng import generator

TESTED_SIZES = 48  # at which each network is tested for an error
HALVINGS = 6  # halvings of the interval in which errors begin
PGD_STEPS = 20

Change = Callable[[Tensor], Tensor]  # (n,) sizes -> (n, C, H, W) changed images


@dataclass(frozen=True)
class Attack:
    """Describe a change of an image that the lab offers.   unit: of its size.   usual, most: slider sizes.

    prepare: network, image (1, C, H, W), class (1,) -> a change of any size.
    """

    title: str
    symbol: str
    unit: str
    usual: float
    most: float
    prepare: Callable[[nn.Module, Tensor, Tensor], Change]


def _fgsm(model: nn.Module, x: Tensor, y: Tensor) -> Change:
    direction = input_gradient(model, x, y, nn.functional.cross_entropy).sign()
    return lambda sizes: torch.cat([fgsm_of(x, direction, float(size) / 255) for size in sizes])


def _pgd(model: nn.Module, x: Tensor, y: Tensor) -> Change:
    def change(sizes: Tensor) -> Tensor:
        """Run `attacks.pgd` for all sizes in one batch, as a slider has to be answered at once."""
        delta = sizes.to(x).view(-1, 1, 1, 1) / 255
        lower, upper = (x - delta).clamp_(min=0), (x + delta).clamp_(max=1)
        moved, labels = x.expand(len(sizes), *x.shape[1:]), y.expand(len(sizes))
        for _ in range(PGD_STEPS):
            gradient = input_gradient(model, moved, labels, nn.functional.cross_entropy)
            moved = (moved + 2.5 * delta / PGD_STEPS * gradient.sign()).clamp(lower, upper)
        return moved

    return change


def _minimal(model: nn.Module, x: Tensor, y: Tensor) -> Change:
    found = minimal_change(model, x, y, keep=True).images
    assert found is not None
    change = found.to(x.device) - x
    return lambda sizes: (x + sizes.to(x).view(-1, 1, 1, 1) / 100 * change).clamp(0, 1)


def _noise(model: nn.Module, x: Tensor, y: Tensor) -> Change:
    z = torch.empty_like(x).normal_(generator=generator(0, "attack lab", x.device))
    return lambda sizes: x + sizes.to(x).view(-1, 1, 1, 1) / 255 * z


def _blur(model: nn.Module, x: Tensor, y: Tensor) -> Change:
    return lambda sizes: torch.cat([gaussian_blur(x, float(size)) if size > 0 else x for size in sizes])


SIZE_UNIT = "255ths of the pixel range"
ATTACKS = {
    "fgsm": Attack("FGSM, one step along the sign of the gradient", "δ", SIZE_UNIT, 16.0, 128.0, _fgsm),
    "pgd": Attack(f"PGD, {PGD_STEPS} steps", "δ", SIZE_UNIT, 16.0, 128.0, _pgd),
    "minimal_change": Attack(
        "minimal change: a share of the smallest that is found",
        "share",
        "percent of the minimal change",
        100.0,
        200.0,
        _minimal,
    ),
    "gaussian_noise": Attack("Gaussian noise, one draw", "σ", SIZE_UNIT, 32.0, 255.0, _noise),
    "gaussian_blur": Attack("Gaussian blur", "σ", "pixels across", 1.0, 8.0, _blur),
}


@dataclass(frozen=True)
class Answer:
    """Hold one network's answer to a changed image.

    image, change: (C, H, W), the change not cut.   before, after: (K,) probabilities of the classes.
    flips: the smallest size that misleads, 0 if the unchanged image is classified wrongly, inf if none up to
    `most` does.
    mean_change: mean magnitude over pixels and channels, in 255ths.
    curve: (size, probability of the right class) from no change to `most`.
    """

    image: Tensor
    change: Tensor
    before: Tensor
    after: Tensor
    flips: float
    mean_change: float
    curve: list[tuple[float, float]]


class Attacker:
    """Attack some networks, image by image, and remember the changes and the sizes that mislead.

    networks: name -> network of pixels in [0, 1]; UserError if there is none.   images: those of `image`.
    classes: names of the classes.
    """

    def __init__(self, networks: Mapping[str, nn.Module], images: Images, classes: Sequence[str]) -> None:
        if not networks:
            raise UserError("there is no network to attack: none could be trained, or none was given")
        self.networks, self.images, self.classes = dict(networks), images, classes
        self._change, self._flip = cache(self._prepare), cache(self._find_flip)

    def image(self, index: int) -> tuple[Tensor, Tensor]:
        """Return an image, (1, C, H, W) in [0, 1], and its class, (1,)."""
        one = self.images.subset(torch.tensor([index], device=self.images.labels.device))
        return to_float(one.pixels), one.labels

    def answers(self, image: int, attack: str, size: float, against: str | None = None) -> dict[str, Answer]:
        """Return each network's answer to an image changed by `size`.

        against: the network that the change is made against; None: each gets its own. Raises UserError for an
        attack that is not in `ATTACKS`, and if the attack's library is not installed.
        """
        if attack not in ATTACKS:
            raise one_of("attack", attack, ATTACKS)
        x, _ = self.image(image)
        found = {}
        for name, model in self.networks.items():
            maker = against or name
            with eval_mode(model), eval_mode(self.networks[maker]), torch.no_grad():
                changed = self._change(maker, attack, image)(torch.tensor([size]))
                before, after = model(torch.cat([x, changed])).softmax(1).cpu()
                flips, curve = self._flip(name, maker, attack, image)
            change = (changed - x)[0].cpu()
            mean = 255 * float(change.abs().mean())
            found[name] = Answer(changed[0].cpu(), change, before, after, flips, mean, curve)
        return found

    def _prepare(self, maker: str, attack: str, image: int) -> Change:
        return ATTACKS[attack].prepare(self.networks[maker], *self.image(image))

    def _find_flip(self, name: str, maker: str, attack: str, image: int) -> tuple[float, list]:
        """Find the smallest of `SIZES` sizes at which the network errs, and refine that size by halving.

        Returns the size, and (size, probability of the right class) of all sizes.
        """
        change, network, (_, y) = self._change(maker, attack, image), self.networks[name], self.image(image)
        sizes = torch.linspace(0, ATTACKS[attack].most, TESTED_SIZES + 1)
        probabilities = network(change(sizes)).softmax(1)
        errs = (probabilities.argmax(1) != y).tolist()
        curve = list(zip(sizes.tolist(), probabilities[:, y.item()].tolist(), strict=True))
        if errs[0] or not any(errs):
            return (0.0 if errs[0] else torch.inf), curve
        first = errs.index(True)
        low, high = sizes[first - 1 : first + 1].tolist()
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            misled = network(change(torch.tensor([middle]))).argmax(1).item() != y.item()
            low, high = (low, middle) if misled else (middle, high)
        return high, curve
