"""Figures of the network, its layer and its training: Figures 1 and 2 of the NoisyDropout paper."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import NamedTuple

import torch
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from torch import Tensor, nn

from noiseutils import plots
from noiseutils.models.modes import eval_mode
from noiseutils.noise.sites import find_sites
from noiseutils.studies.noisy_dropout.figures import titled
from noiseutils.studies.noisy_dropout.grid import Cell, level_name, middle_of
from noiseutils.studies.noisy_dropout.params import Params
from noiseutils.studies.output import Drawn
from noiseutils.studies.results import Results, select
from noiseutils.training.classifier import build_classifier


class Step(NamedTuple):
    """A module of a network and its output for one image. shape: (C, H, W) of maps, or (K,)."""

    name: str
    module: nn.Module | None
    shape: tuple[int, ...]

    @property
    def text(self) -> str:
        """The step in words: name, kernel, shape."""
        kernel = getattr(self.module, "kernel_size", None)
        side = kernel[0] if isinstance(kernel, tuple) else kernel
        words = [self.name, f"{side}×{side}" if side else "", "×".join(map(str, self.shape))]
        return "\n".join(filter(None, words))


COLOURS = {nn.Conv2d: plots.BLUE, nn.MaxPool2d: plots.SKY, nn.Linear: plots.GREEN}
DRAWN = tuple(COLOURS)


def architecture(results: Results[Params, Cell]) -> Iterator[Drawn]:
    """Draw Figure 1: CIFAR10Net as it was built and trained, its shapes taken from a forward pass."""
    result = next((result for result in results.stored if "channels" in result.info["data"]), None)
    if result is None or result.run.model.name != "cifar10net":
        return
    data = result.info["data"]
    net = build_classifier(result.run, len(data["classes"]), data["channels"], data["image_size"]).net
    steps = forward_steps(net, (data["channels"], data["image_size"], data["image_size"]))
    figure, axes = plots.canvas(size=(11, 2.9))
    ax = axes[0, 0]
    _boxes(ax, steps, set(find_sites(net, result.run.after)))
    count = sum(parameter.numel() for parameter in net.parameters())
    ax.set_title(
        f"CIFAR10Net as built, width {result.run.model.width:g}, {count:,} parameters",
        fontsize=11,
    )
    alt = "CIFAR10Net from the image to the classes: a box a module, its height the side of its maps."
    yield Drawn("figure_01_architecture", figure, alt, ())


def forward_steps(net: nn.Module, shape: tuple[int, ...]) -> list[Step]:
    """Return the input and every module without parts, in the order of a forward pass of one image."""
    steps = [Step("image", None, shape)]

    def note(name: str, module: nn.Module, output: Tensor) -> None:
        steps.append(Step(name, module, tuple(output.shape[1:])))

    leaves = [(name, module) for name, module in net.named_modules() if not list(module.children())]
    hooks = [
        module.register_forward_hook(lambda m, _, output, name=name: note(name, m, output))
        for name, module in leaves
    ]
    with eval_mode(net), torch.no_grad():
        net(torch.zeros(1, *shape))
    for hook in hooks:
        hook.remove()
    return steps


def _boxes(ax: Axes, steps: list[Step], noisy: set[str]) -> None:
    """Draw a box for the image and every convolution, pool and dense layer; arrows where noise goes."""
    side = steps[0].shape[-1]
    widest = max(step.shape[0] for step in steps if len(step.shape) == 1)
    x = 0
    for step in steps:
        if step.name in noisy:  # between the box drawn last and the next
            ax.annotate(
                f"noise after\n{step.name}", (x - 0.5, 0.2 * side), (x - 0.5, 0.62 * side), ha="center",
                color=plots.VERMILION, fontsize=8.5,
                arrowprops={"arrowstyle": "-|>", "color": plots.VERMILION, "linewidth": 2},
            )  # fmt: skip
        if step.module is not None and not isinstance(step.module, DRAWN):
            continue
        dense = len(step.shape) == 1
        height = side * (step.shape[0] / widest) ** 0.5 if dense else step.shape[-1]
        colour = next((c for kind, c in COLOURS.items() if isinstance(step.module, kind)), plots.GREY)
        width = 0.25 if dense else 0.55
        ax.add_patch(Rectangle((x - width / 2, -height / 2), width, height, color=colour, alpha=0.85))
        ax.text(x, -0.56 * side, step.text, ha="center", va="top", fontsize=8.5)
        x += 1
    ax.set(xlim=(-0.7, x - 0.3), ylim=(-0.95 * side, 0.85 * side))
    ax.axis("off")


def layer(values: Mapping[str, Tensor], noise: Mapping[str, Tensor]) -> Iterator[Drawn]:
    """Draw Figure 2 in numbers: activations after each reading of the layer, and below them the noise alone.

    values: name -> (rows, columns) activations; the first is the input.   noise: the same of what was added,
    on a colour scale of its own, as it is far weaker than the activations.
    """
    figure, axes = plots.canvas(2, len(values), size=(11, 3.3), sharex=True, sharey=True)
    for row, shown, label in ((0, values, "activation"), (1, noise, "noise alone")):
        top = max(float(v.abs().max()) for v in shown.values())
        images = [
            _matrix(axes[row, list(values).index(name)], value, top, name if row == 0 else "")
            for name, value in shown.items()
        ]
        figure.colorbar(images[0], ax=axes[row].tolist(), shrink=0.9, label=label)
    for ax, name in zip(axes[1], values, strict=True):
        ax.set_visible(name in noise)
    figure.suptitle(
        "Above: activations, zeros dotted. Below: the noise in them, on a finer scale", fontsize=11
    )
    alt = "A batch of activations before and after each reading of the layer, and the noise alone."
    yield Drawn("figure_02_layer", figure, alt, ())


def _matrix(ax: Axes, value: Tensor, top: float, title: str):
    """Draw a matrix in colours from -top to top, a dot at every zero."""
    image = ax.imshow(value.numpy(), cmap="PuOr", vmin=-top, vmax=top)
    at = (value == 0).nonzero()
    ax.plot(at[:, 1], at[:, 0], ".", color=plots.GREY, markersize=3)
    ax.set(title=title, xticks=[], yticks=[])
    ax.grid(False)
    return image


def curves(results: Results[Params, Cell]) -> Iterator[Drawn]:
    """Draw training and test loss, gradient norm, and the std after the last noisy layer over epochs."""
    middle = middle_of(results.params)
    table = results.histories(p=middle, reading="dropped")
    if table.empty:
        return
    levels = sorted(table.level.unique())
    shown = [levels[0], *levels[-1:]] if len(levels) > 1 else levels
    figure, axes = plots.canvas(1, 3, size=(11, 3.3))
    colours = [plots.GREY, plots.BLUE]
    stds = [c for c in table.columns if c.startswith("activation_std.conv")] or [
        c for c in table.columns if c.startswith("activation_std.")
    ]
    for level, colour in zip(shown, colours, strict=False):
        draw = partial(plots.band, table=select(table, level=level), x="epoch", colour=colour)
        name = level_name(level)
        draw(axes[0, 0], value="train_loss", label=f"{name}, train", style=".--")
        draw(axes[0, 0], value="test_loss", label=f"{name}, test", style=".-")
        draw(axes[0, 1], value="gradient_norm", label=name, style=".-")
        draw(axes[0, 2], value=stds[-1], label=name, style=".-")
    axes[0, 0].set(title="loss", xlabel="epoch")
    axes[0, 1].set(title="gradient norm", xlabel="epoch")
    axes[0, 2].set(title=f"activation std, {stds[-1].removeprefix('activation_std.')}", xlabel="epoch")
    axes[0, 0].legend(fontsize=8)
    axes[0, 1].legend(fontsize=8)
    text = f"Training with noise in dropped neurons and without, p = {middle:g}"
    figure.suptitle(titled(results, text), fontsize=11)
    yield Drawn(
        "training_curves",
        figure,
        "Loss, gradient norm and activation std over epochs, with and without noise.",
        results.behind(select(table, level=tuple(shown))),
    )
