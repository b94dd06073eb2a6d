"""Figures of the start page: images at hand, and two trainings side by side."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from noiseutils import plots
from noiseutils.config import Run
from noiseutils.data import Dataset
from noiseutils.studies.opened import CHANGED, notebook_names, passed_by_papermill
from noiseutils.studies.output import Drawn, OutputWriter
from noiseutils.studies.params import StudyParams
from noiseutils.sweeps.progress import Bar
from noiseutils.training.loop import Result, train

NOTEBOOK = "00_start_here"
PLACE = StudyParams(study="start_here", profile="quick")  # its folder under outputs/


def show_images(data: Dataset) -> None:
    """Show one training image of each class."""
    figure, axes = plots.canvas(1, data.num_classes, size=(10, 1.5))
    for index, (ax, name) in enumerate(zip(axes[0], data.classes, strict=True)):
        first = int((data.train.labels == index).nonzero()[0, 0])
        ax.imshow(data.train.pixels[first].permute(1, 2, 0).cpu().numpy().squeeze(), cmap="gray")
        ax.set(xticks=[], yticks=[])
        ax.set_title(name, fontsize=9)
        ax.grid(False)
    alt = f"One training image of each class: {', '.join(data.classes)}."
    OutputWriter(_place(), data.label).show([Drawn("images", figure, alt, ())])


def _place() -> StudyParams:
    """Return the start page's folder: another one where papermill passes parameters."""
    changed = any(passed_by_papermill(notebook_names()))
    return PLACE.replace(profile=CHANGED) if changed else PLACE


def train_each(runs: Mapping[str, Run], data: Dataset) -> dict[str, Result]:
    """Train networks one after the other, with a progress bar over the epochs of all; return name -> result.

    Each is `train(run, data=data)`, with one thread, as in the workers of a sweep.
    """
    threads, results = torch.get_num_threads(), {}
    torch.set_num_threads(1)
    try:
        with Bar(list(runs.values()), shown=True) as bar:
            for name, run in runs.items():
                results[name] = train(
                    run, data=data, on_epoch=lambda row, _, run=run: bar.on_event("epoch", run, row)
                )
                bar.on_event("done", run, None)
    finally:
        torch.set_num_threads(threads)
    return results


def show_curves(results: Mapping[str, Result]) -> None:
    """Show training and test loss, and test accuracy, over epochs for each training."""
    figure, axes = plots.canvas(1, 2, size=(10, 3.4))
    ways = zip((plots.GREY, plots.BLUE, plots.ORANGE), "os^", strict=True)
    for (name, result), (colour, marker) in zip(results.items(), ways, strict=False):
        history, options = result.history, {"color": colour, "marker": marker, "markersize": 4}
        axes[0, 0].plot(history.epoch, history.train_loss, "--", color=colour, label=f"{name}, train")
        axes[0, 0].plot(history.epoch, history.test_loss, label=f"{name}, test", **options)
        axes[0, 1].plot(history.epoch, 100 * history.test_accuracy, label=name, **options)
    for ax, name in ((axes[0, 0], "loss"), (axes[0, 1], "test accuracy (%)")):
        ax.set(xlabel="epoch", ylabel=name)
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.legend(fontsize=8)
    labels = sorted({result.info["data"]["label"] for result in results.values()})
    figure.suptitle(f"{', '.join(labels)}, one seed")
    OutputWriter(_place(), labels).show([Drawn("curves", figure, _ends(results), results.values())])


def _ends(results: Mapping[str, Result]) -> str:
    """Describe where the curves end, for readers who cannot see them."""
    ends = {name: result.history.iloc[-1] for name, result in results.items()}
    said = [
        f"{name}: training loss {end.train_loss:.2f}, test loss {end.test_loss:.2f}, "
        f"test accuracy {end.test_accuracy:.1%}"
        for name, end in ends.items()
    ]
    epochs = max(len(result.history) for result in results.values())
    return f"Loss and test accuracy over epochs; after {epochs}: {'; '.join(said)}."
