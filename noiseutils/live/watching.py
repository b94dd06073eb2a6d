"""Probe a training between two of its steps, without changing it or taking one of its random draws.

Hooks that exist for one step alone observe the inside of that step. They copy their values, as ReLUs
overwrite their inputs in training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from noiseutils.config import NoisyDropout, Run
from noiseutils.corruptions import corrupt
from noiseutils.evaluation.attacks import fgsm
from noiseutils.models.modes import eval_mode
from noiseutils.noise.dropout import NoisyDropoutSite
from noiseutils.noise.parameters import ParameterNoise
from noiseutils.rng import generator
from noiseutils.training.classifier import Classifier
from noiseutils.training.parameter_noise import NoParameterNoise
from noiseutils.training.state import TrainState

LAYERS = 6  # layers whose stds are shown
SAMPLES = 8  # images of a batch, of which the one with the loudest noise is shown
CHANNELS = 8  # channels of a site's activations, and of the first convolution


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
    maps: (images, channels, H, W) in [0, 1], the first convolution's output through a sigmoid, noise off.
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
    noise: NoisePicture | None
    noisy: bool


@dataclass
class Watcher:
    """Probe one training: `prepare` before a step, `probe` after the step.

    images: (n, C, H, W) in [0, 1], whose feature maps are shown.   layers: names of modules of the bare
    network whose stds are shown.
    """

    images: Tensor
    layers: Sequence[str]
    _sums: tuple[int, int, Tensor] = field(default_factory=lambda: (0, 0, torch.zeros(3).double()))
    _hooks: ExitStack | None = None
    _stds: dict[str, Tensor] = field(default_factory=dict)
    _site: dict[str, Tensor] = field(default_factory=dict)
    _where: str = ""

    def prepare(self, state: TrainState) -> None:
        """Register hooks for the next step, before and behind the noise of the first site among them."""
        self.forget()
        stack = self._hooks = ExitStack()
        modules = dict(state.model.net.named_modules())
        for name in self.layers:
            hook = modules[name].register_forward_hook(self._std_of(name))
            stack.callback(hook.remove)
        if state.handle is not None:
            site = dict(state.model.named_modules()).get(state.handle.sites[0])
            if site is not None and site is not state.model:
                self._where = state.handle.sites[0].removeprefix("net.")
                for first in (True, False):
                    hook = site.register_forward_hook(self._copy("h" if first else "h + η"), prepend=first)
                    stack.callback(hook.remove)
                maker = state.handle.site(state.handle.sites[0])
                if isinstance(maker, NoisyDropoutSite):  # the site also drops and scales, which is no noise
                    maker.listener = self._listener(maker.spec)
                    stack.callback(setattr, maker, "listener", None)

    def probe(self, state: TrainState, shown: Run) -> Probe:
        """Read the last step and the network as it is now.   shown: the run, with its noise."""
        self.forget()
        loss, correct, norm, images, steps = self._since(state)
        return Probe(
            step=state.step,
            epoch=state.epoch,
            loss=loss / max(images, 1),
            accuracy=correct / max(images, 1),
            gradient_norm=norm / max(steps, 1),
            tests=tests_of(state),
            images=shown_images(self.images),
            stds={name: float(std) for name, std in self._stds.items()},
            maps=first_maps(state.model, self.images),
            noise=self._noise(state, shown),
            noisy=any((shown.noise, shown.corruption, shown.adversarial_training, shown.parameter_noise)),
        )

    def forget(self) -> None:
        """Remove the hooks."""
        if self._hooks is not None:
            self._hooks.close()
            self._hooks = None

    def _std_of(self, name: str):
        def hook(module: nn.Module, inputs: object, output: Tensor) -> None:
            if module.training:
                self._stds[name] = output.detach().float().std()

        return copying(hook)

    def _copy(self, name: str):
        def hook(module: nn.Module, inputs: object, output: Tensor) -> None:
            if module.training:
                self._site[name] = output.detach()[:SAMPLES].float().clone()

        return copying(hook)

    def _listener(self, spec: NoisyDropout):
        def listener(keep: Tensor, z: Tensor) -> None:
            noise = spec.std * (z if spec.where == "all" else z * ~keep)
            self._site["η"] = noise[:SAMPLES].float().clone()

        return listener

    def _since(self, state: TrainState) -> tuple[float, float, float, int, int]:
        """Return sums of loss, hits and gradient norms since the last probe, and their images and steps."""
        epoch, step, before = self._sums
        now = state.metrics.totals().cpu().clone()
        size, length = state.run.batch_size, steps_of(state)
        in_epoch = state.step - (state.epoch - 1) * length
        if epoch != state.epoch:
            step, before = state.step - in_epoch, torch.zeros(3).double()
        steps = state.step - step
        whole = len(state.data.train) if in_epoch == length else in_epoch * size
        images = whole - (step - (state.epoch - 1) * length) * size
        self._sums = (state.epoch, state.step, now)
        return (*(now - before).tolist(), images, steps)

    def _noise(self, state: TrainState, run: Run) -> NoisePicture | None:
        if {"h", "h + η"} <= self._site.keys():
            h, noisy = self._site["h"], self._site["h + η"]
            noise = self._site.get("η", noisy - h)
            loudest = int(noise.flatten(1).abs().amax(1).argmax())  # some images may have got none
            before, after = (squares(x[loudest])[:CHANNELS].numpy() for x in (h, noise))
            return NoisePicture(f"h, the activations after {self._where}", before, after, own=True)
        return image_noise(state, run, self.images) or weight_noise(state, run)


def copying(hook: Callable[..., None]) -> Callable[..., None]:
    """Mark a hook that keeps no tensor it is given, so that noise may be added to the tensor in place."""
    setattr(hook, "copies", True)  # noqa: B010  functions have no such attribute by type
    return hook


def image_noise(state: TrainState, run: Run, images: Tensor) -> NoisePicture | None:
    """Change `images` as a run changes training images; return None if the run does not."""
    if run.corruption is not None:
        source = generator(state.step, "picture", images.device)
        changed = corrupt(images, run.corruption, source)
    elif run.adversarial_training is not None:
        labels = predicted(state.model, images)
        with eval_mode(state.model):
            changed = fgsm(state.model, images, labels, delta=run.adversarial_training.delta)
    else:
        return None
    rows = [shown_images(x) for x in (images, changed - images)]
    return NoisePicture("images", rows[0], rows[1], pixels=True)


def weight_noise(state: TrainState, run: Run) -> NoisePicture | None:
    """Return the first convolution's filters, and a draw of the noise on parameters; None without noise."""
    noise = state.parameter_noise
    if isinstance(noise, NoParameterNoise) or run.parameter_noise is None:
        return None
    level = max(noise.action.gradient, noise.action.weight)
    if level == 0:
        return None
    filters = first_convolution(state.model).weight.detach()[:CHANNELS].float().cpu()
    draw = level * draw_like(filters, noise, state.step)
    rows = [x.mean(1).numpy() for x in (filters, draw)]
    return NoisePicture("filters of the first convolution", rows[0], rows[1])


def draw_like(x: Tensor, parameter_noise: ParameterNoise, seed: int) -> Tensor:
    """Draw noise of std 1 in the distribution of a training's noise, from a generator of its own."""
    source, draw = generator(seed, "picture"), torch.empty_like(x)
    if parameter_noise.width is None:
        return draw.normal_(generator=source)
    return draw.uniform_(-parameter_noise.width, parameter_noise.width, generator=source)


def tests_of(state: TrainState) -> list[tuple[float, float]]:
    """Return (step, accuracy on the test images) of each epoch that was tested."""
    rows = [row for row in state.rows if "test_accuracy" in row]
    return [(row["epoch"] * steps_of(state), row["test_accuracy"]) for row in rows]


def steps_of(state: TrainState) -> int:
    """Return the steps of an epoch."""
    return -(-len(state.data.train) // state.run.batch_size)


def shown_images(images: Tensor) -> np.ndarray:
    """Reshape (n, C, H, W) to (n, H, W) for one channel, else to (n, H, W, 3)."""
    return (images[:, 0] if images.shape[1] == 1 else images[:, :3].movedim(1, -1)).cpu().numpy()


def predicted(model: Classifier, images: Tensor) -> Tensor:
    """Classify images, in eval mode."""
    with eval_mode(model), torch.no_grad():
        return model(images).argmax(1)


def first_convolution(model: nn.Module) -> nn.Conv2d:
    """Return the convolution that is nearest to the images."""
    return next(module for module in model.modules() if isinstance(module, nn.Conv2d))


def first_maps(model: Classifier, images: Tensor) -> np.ndarray:
    """Return the first convolution's (n, channels, H, W) through a sigmoid   (You et al., Figure 3)."""
    kept: list[Tensor] = []
    with ExitStack() as stack:
        hook = first_convolution(model).register_forward_hook(
            lambda module, inputs, output: kept.append(output[:, :CHANNELS].float().sigmoid())
        )
        stack.callback(hook.remove)
        stack.enter_context(eval_mode(model))
        stack.enter_context(torch.no_grad())
        model(images)
    return kept[0].cpu().numpy()


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
    if len(names) <= LAYERS:
        return names
    return [names[round(i)] for i in np.linspace(0, len(names) - 1, LAYERS)]
