"""Draw the seconds per epoch of every network beside its roofline, from a benchmark's JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from noiseutils import plots
from noiseutils.bench.table import read
from noiseutils.errors import UserError


def draw(file: Path) -> list[Path]:
    """Write <stem>-models.png and .svg beside the JSON; return both paths."""
    found = read(file)
    if "models" not in found:
        raise UserError(f"{file}: holds no networks; measure them: noiseutils bench models --json FILE")
    figure = networks(found["models"], found["machine"])
    paths = [file.with_name(f"{file.stem}-models.{kind}") for kind in ("png", "svg")]
    for path in paths:
        # without the date, the same numbers give the same file
        figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)
    plots.pyplot.close(figure)
    return paths


def networks(models: dict[str, Any], machine: dict[str, Any]) -> Figure:
    """Draw a row a network, the quickest on top: roofline and measured seconds on a logarithmic axis.

    models, machine: as in the JSON.
    """
    rows = sorted(models["rows"], key=lambda row: row["roofline_seconds"], reverse=True)
    figure, axes = plots.canvas(size=(8, 1.6 + 0.3 * len(rows)))
    ax = axes[0, 0]
    places = range(len(rows))
    rooflines = [row["roofline_seconds"] for row in rows]
    measured = [row["seconds"] for row in rows]
    ax.hlines(places, rooflines, measured, color="#bbbbbb", linewidth=2)
    ax.plot(
        rooflines, places, "|", color=plots.VERMILION, markersize=11, markeredgewidth=2.5, label="roofline"
    )
    ax.plot(measured, places, "o", color=plots.BLUE, label="measured")
    for place, row in zip(places, rows, strict=True):
        batch = "" if row["batch"] == models["batch"] else f", batch {row['batch']}"
        text = f"{row['seconds']:.3g} s, {row['share']:.0%}{batch}"
        ax.annotate(
            text, (row["seconds"], place), (7, 0), textcoords="offset points", va="center", fontsize=8
        )
    plots.log_scale(ax, "x")
    ax.set_xlim(min(rooflines) / 1.5, max(measured) * 6)  # room for the text of the slowest
    ax.set_yticks(places, [row["model"] for row in rows])
    ax.grid(axis="x")
    ax.grid(axis="y", visible=False)
    ax.set(
        xlabel="seconds per epoch (log)",
        title=f"An epoch of {models['images']:,} images, batch {models['batch']}, scaled from a few steps\n"
        f"{machine['cpu']}, {machine['threads']} threads; roofline's share of the measured time",
    )
    ax.legend(loc="upper right")
    return figure
