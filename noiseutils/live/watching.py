"""Probe a training between two of its steps, without changing it or taking one of its random draws.

Hooks that exist for one step alone observe the inside of that step. They copy their values, as ReLUs
overwrite their inputs in training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from noiseutils.config import Run
from noiseutils.corruptions import corrupt
from noiseutils.evaluation.attacks import fgsm
from noiseutils.evaluation.inspection import convolutions, maps_of
from noiseutils.models.modes import eval_mode
from noiseutils.rng import generator
from noiseutils.training.classifier import Classifier
from noiseutils.training.state import TrainState

SHOWN_LAYERS = 6  # layers whose stds are shown
SAMPLED_IMAGES = 8  # images of a batch, of which the one with the loudest noise is shown
SHOWN_CHANNELS = 8  # channels of a site's activations, and of the first convolution


@dataclass(frozen=True)
class NoisePicture:
    """Hold the noise and the values it is added to, as rows of small images of one size.

    what: name of the first row.   before, noise: (n, H, W) or (n, H, W, 3) float32.   pixels: the first
    row is images in [0, 1].   own: the noise is the step's, and not one more draw for the picture.
    """

    what: str
    before: np.ndarray
    noise: np.ndarray
    pixels: bool = False
    own: bool = False


@dataclass(frozen=True)
class Probe:
    """Hold the values read from one training.

    loss, accuracy, gradient_norm: means over the epoch's steps since the probe before, noise included.
    tests: (step, accuracy on the test images, noise off) after each epoch.
    images: (n, H, W) or (n, H, W, 3), test images whose maps are shown.
    stds: module -> std of its output in the last step, noise included.
    maps: (images, channels, H, W) in [0, 1], a convolution's output through a sigmoid, noise off.
    maps_of: its name.   sites: where noise on activations goes, by name.
    noise: None without noise, or before it was seen.   noisy: the run has noise.
    """

    step: int
    epoch: int
    loss: float
    accuracy: float
    gradient_norm: float
    tests: list[tuple[float, float]]
    images: np.ndarray
    stds: dict[str, float]
    maps: np.ndarray
    maps_of: str
    noise: NoisePicture | None
    noisy: bool
    sites: tuple[str, ...]
    steps_per_epoch: int


class Watcher:
    """Probe one training: `prepare` before a step, `probe` after the step.

    images: (n, C, H, W) in [0, 1], whose feature maps are shown.   layers: names of modules of the bare
    network whose stds are shown.   maps_of: the convolution whose maps are shown; "" is the first.
    """

    def __init__(self, state: TrainState, images: Tensor, layers: Sequence[str], maps_of: str = "") -> None:
        self.state, self.images, self.layers = state, images.to(state.device), layers
        self.maps_of = maps_of
        self._site = state.handle.sites[0] if state.handle else ""
        self._epoch, self._step, self._totals = 0, 0, torch.zeros(3).double()  # as probed last
        self._hooks = ExitStack()
        self._stds: dict[str, Tensor] = {}
        # activations at the site, before and with the noise, and the noise
        self._seen: dict[str, Tensor] = {}

    def prepare(self) -> None:
        """Register hooks for the next step, before and behind the noise of the first site among them."""
        self.forget()
        handle, modules = self.state.handle, dict(self.state.model.named_modules())
        for name in self.layers:
            self._hook(
                modules[f"net.{name}"], lambda x, name=name: self._stds.update({name: x.float().std()})
            )
        if handle is not None and self._site in modules:  # the input is no module
            self._hook(modules[self._site], lambda x: self._keep("h", x), prepend=True)
            self._hook(modules[self._site], lambda x: self._keep("h + η", x))
            site = handle.site(self._site)
            site.on_noise = lambda noise: self._keep("η", noise)
            self._hooks.callback(setattr, site, "on_noise", None)

    def probe(self) -> Probe:
        """Read the last step and the network as it is now."""
        self.forget()
        state, run = self.state, self.state.run
        loss, accuracy, norm = self._means()
        layer = self.maps_of or convolutions(state.model)[0]
        return Probe(
            step=state.step,
            epoch=state.epoch,
            loss=loss,
            accuracy=accuracy,
            gradient_norm=norm,
            tests=tests_of(state),
            images=shown_images(self.images),
            stds={name: float(std) for name, std in self._stds.items()},
            maps=maps_of(state.model, layer, self.images)[:, :SHOWN_CHANNELS].float().cpu().numpy(),
            maps_of=layer.removeprefix("net."),
            noise=self._site_noise() or image_noise(state, self.images) or weight_noise(state),
            noisy=any((run.noise, run.corruption, run.adversarial_training, run.parameter_noise)),
            sites=tuple(s.removeprefix("net.") for s in state.handle.sites) if state.handle else (),
            steps_per_epoch=state.steps_per_epoch,
        )

    def forget(self) -> None:
        """Remove the hooks."""
        self._hooks.close()

    def _hook(self, module: nn.Module, observe: Callable[[Tensor], None], prepend: bool = False) -> None:
        """Observe a module's outputs in training mode, until `forget`."""

        def hook(module: nn.Module, inputs: object, output: Tensor) -> None:
            if module.training:
                observe(output.detach())

        # it keeps no tensor that it is given, so that noise may still be added to the tensor in place
        setattr(hook, "copies", True)  # noqa: B010  functions have no such attribute by type
        self._hooks.callback(module.register_forward_hook(hook, prepend=prepend).remove)

    def _keep(self, name: str, x: Tensor) -> None:
        self._seen[name] = x[:SAMPLED_IMAGES].float().clone()

    def _means(self) -> tuple[float, float, float]:
        """Return mean loss, accuracy and gradient norm over the epoch's steps since the last probe."""
        state = self.state
        begun = (state.epoch - 1) * state.steps_per_epoch  # steps before this epoch
        if self._epoch != state.epoch:
            self._epoch, self._step, self._totals = state.epoch, begun, torch.zeros(3).double()
        images, images_before = (
            min((step - begun) * state.run.batch_size, len(state.images)) for step in (state.step, self._step)
        )
        totals, steps = state.metrics.totals().cpu().clone(), state.step - self._step
        loss, correct, norm = (totals - self._totals).tolist()
        self._step, self._totals = state.step, totals
        return loss / (images - images_before), correct / (images - images_before), norm / steps

    def _site_noise(self) -> NoisePicture | None:
        """Return the noise of the last step at the first site, on the image where the noise is loudest."""
        if not {"h", "h + η"} <= self._seen.keys():
            return None
        h = self._seen["h"]
        noise = self._seen.get("η", self._seen["h + η"] - h)
        loudest = int(noise.flatten(1).abs().amax(1).argmax())  # some images may have got none
        before, after = (squares(x[loudest])[:SHOWN_CHANNELS].numpy() for x in (h, noise))
        return NoisePicture(
            f"h, the activations after {self._site.removeprefix('net.')}", before, after, own=True
        )


def image_noise(state: TrainState, images: Tensor) -> NoisePicture | None:
    """Change `images` as the run changes training images; return None if the run does not."""
    run = state.run
    if run.corruption is not None:
        changed = corrupt(images, run.corruption, generator(state.step, "picture", images.device))
    elif run.adversarial_training is not None:
        with eval_mode(state.model), torch.no_grad():
            labels = state.model(images).argmax(1)
            changed = fgsm(state.model, images, labels, delta=run.adversarial_training.delta)
    else:
        return None
    return NoisePicture("images", shown_images(images), shown_images(changed - images), pixels=True)


def weight_noise(state: TrainState) -> NoisePicture | None:
    """Return the first convolution's filters, and a draw of the noise on parameters; None without noise."""
    filters = (
        state.model.get_parameter(f"{convolutions(state.model)[0]}.weight")
        .detach()[:SHOWN_CHANNELS]
        .float()
        .cpu()
    )
    draw = state.parameter_noise.example(filters, generator(state.step, "picture"))
    if draw is None:
        return None
    rows = [x.mean(1).numpy() for x in (filters, draw)]
    return NoisePicture("filters of the first convolution", rows[0], rows[1])


def tests_of(state: TrainState) -> list[tuple[float, float]]:
    """Return (step, accuracy on the test images) of each epoch that was tested."""
    rows = [row for row in state.rows if "test_accuracy" in row]
    return [(row["epoch"] * state.steps_per_epoch, row["test_accuracy"]) for row in rows]


def shown_images(images: Tensor) -> np.ndarray:
    """Reshape (n, C, H, W) to (n, H, W) for one channel, else to (n, H, W, 3)."""
    return (images[:, 0] if images.shape[1] == 1 else images[:, :3].movedim(1, -1)).cpu().numpy()


def squares(h: Tensor) -> Tensor:
    """Return one image's activations as (C, H, W); a dense layer's (F,) as one image, padded to a square."""
    if h.dim() == 3:
        return h.cpu()
    flat = h.flatten().cpu()
    side = int(np.ceil(np.sqrt(len(flat))))
    return torch.nn.functional.pad(flat, (0, side * side - len(flat))).view(1, side, side)


def layers_of(model: Classifier, run: Run) -> list[str]:
    """Name up to `LAYERS` modules of the bare network, from first to last, whose stds are shown.

    The modules are of the types that the run's noise on activations follows; without such noise they are
    BatchNorms or, in a network without BatchNorms, ReLUs.
    """
    modules = dict(model.net.named_modules())
    kinds = tuple({type(m) for n, m in modules.items() if n in run.after or type(m).__name__ in run.after})
    if not kinds:
        norms = [m for m in modules.values() if isinstance(m, nn.BatchNorm2d)]
        kinds = (nn.BatchNorm2d,) if norms else (nn.ReLU,)
    names = [n for n, m in modules.items() if isinstance(m, kinds)]
    if len(names) <= SHOWN_LAYERS:
        return names
    return [names[round(i)] for i in np.linspace(0, len(names) - 1, SHOWN_LAYERS)]
