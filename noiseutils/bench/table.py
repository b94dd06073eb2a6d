"""Render the README's tables from a benchmark's JSON."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noiseutils.errors import UserError
from noiseutils.files import Unusable, read_json
from noiseutils.markdown import markdown_table, write_between_marks

RATIO_DIGITS = 2  # of a ratio, which is compared with its goal as printed


@dataclass(frozen=True)
class Goal:
    """Bound a ratio; without a bound there is nothing to meet.   why: a few words on the bound."""

    at_least: float | None = None
    at_most: float | None = None
    why: str = ""

    def __str__(self) -> str:
        bounds = (("at least", self.at_least), ("at most", self.at_most))
        parts = [f"{word} {bound:g}" for word, bound in bounds if bound is not None]
        return "; ".join([*parts, *([self.why] if self.why else [])])

    def verdict(self, ratio: float) -> str:
        """Return yes or no, from the ratio as printed; empty where there is nothing to meet."""
        if self.at_least is None and self.at_most is None:
            return ""
        shown = round(ratio, RATIO_DIGITS)
        low = self.at_least is None or shown >= self.at_least
        high = self.at_most is None or shown <= self.at_most
        return "yes" if low and high else "no"


GOALS: dict[str, Goal] = {  # by the ratio's name; one that is not here has none
    "babycnn_epoch": Goal(at_least=6),
    "tinycnn_epoch": Goal(at_least=2.5),
    "cifar10net_rate": Goal(at_least=0.8),
    "tinycnn_rate": Goal(at_least=0.55),
    "augmentation": Goal(at_least=6),
    "blur": Goal(at_least=3),
    "vgg16_anl_step": Goal(at_most=1.7, why="the paper: 1.93; in theory 1.67"),
    "vgg16_canl_step": Goal(at_most=1.06, why="the paper: 1.11"),
    "vgg16_lat_step": Goal(at_most=1.06),
    "resnet20_anl_step": Goal(at_most=1.85),
    "resnet18_gaussian_gradients": Goal(at_most=1.03),
    "resnet18_gaussian_weights": Goal(at_most=1.03),
    "resnet18_uniform_gradients": Goal(at_most=1.03),
    "resnet18_uniform_weights": Goal(at_most=1.03),
    "resnet18_memory": Goal(at_most=0.8),
}


def render(file: Path) -> str:
    """Render the Markdown tables of a benchmark's JSON."""
    found = read(file)
    parts = [_machine(found["machine"]), _ratios(found["ratios"])]
    if "models" in found:
        parts.append(_models(found["models"]))
    return "\n\n".join(parts)


def read(file: Path) -> dict[str, Any]:
    """Read the JSON of `noiseutils bench --json`. Raises UserError if the file is another."""
    try:
        found = read_json(file)
        if found["ratios"] and not {"what", "above", "below"} <= found["ratios"][0].keys():
            raise KeyError("what")
        return {"machine": found["machine"], **found}
    except FileNotFoundError:
        raise UserError(f"{file}: No such file or directory") from None
    except Unusable as damage:
        raise UserError(str(damage)) from damage
    except (AttributeError, KeyError, TypeError) as error:
        raise UserError(f"{file}: not what `noiseutils bench --json` writes") from error


def rewrite(readme: Path, file: Path) -> None:
    """Put the tables of a benchmark's JSON between the marks of a README."""
    write_between_marks(readme, "bench", render(file))


def _machine(machine: dict[str, Any]) -> str:
    parts = [
        machine["cpu"],
        f"{machine['cores']} cores",
        f"{machine['threads']} threads",
        f"{machine['memory_gib']:g} GiB" if machine["memory_gib"] else "",
        machine["gpu"] or "no GPU",
        f"torch {machine['torch']}",
        f"commit {machine['commit']}" if machine["commit"] else "",
    ]
    return f"Measured on: {', '.join(part for part in parts if part)}."


def _ratios(ratios: list[dict[str, Any]]) -> str:
    rows = []
    for ratio in ratios:
        goal = GOALS.get(ratio["name"], Goal())
        rows.append(
            (ratio["what"], f"{ratio['ratio']:.{RATIO_DIGITS}f}", str(goal), goal.verdict(ratio["ratio"]))
        )
    return markdown_table(("what", "ratio", "goal", "met"), rows)


def _models(models: dict[str, Any]) -> str:
    peaks, images, usual = models["peaks"], models["images"], models["batch"]
    product, convolution = peaks["product"], peaks.get("convolution")
    rate = f"{peaks['rate'] / 1e9:.0f} Gop/s, the best rate seen"
    reached = f"{product['median'] / 1e9:.0f} Gop/s in a float32 matrix product"
    if convolution:
        reached += f", {convolution['median'] / 1e9:.0f} in a convolution"
    rows = []
    for row in models["rows"]:
        batch = "" if row["batch"] == usual else f" (batch {row['batch']})"
        rows.append(
            (
                f"{row['model']}{batch}",
                _three_digits(row["operations"] / 1e12),
                _three_digits(row["roofline_seconds"]),
                _three_digits(row["seconds"]),
                f"{row['share']:.0%}",
            )
        )
    head = ("network", "10¹² operations", "roofline, s", "measured, s", "share")
    return (
        f"An epoch of {images:,} images in batches of {usual}, scaled from a few steps. The roofline is the "
        f"least that this machine takes: counted operations at {rate} (medians: {reached}), or bytes that "
        f"must be moved at {peaks['bandwidth'] / 1e9:.0f} GB/s.\n\n" + markdown_table(head, rows)
    )


def _three_digits(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:#.3g}"
