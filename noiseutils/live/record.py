"""Record the probes of a training lab, and draw curves, stds, feature maps and the noise itself.

A training has one style, colour and dash, in every chart and in the headline.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping

import numpy as np

from noiseutils.live.pictures import (
    PLAIN,
    POINTS,
    Line,
    beside,
    card,
    grid,
    image_rows,
    line_chart,
    signed,
    swatch,
)
from noiseutils.live.watching import NoisePicture, Probe

KEPT = 2 * POINTS  # points of a curve; at that many every other one goes
QUANTITIES = {
    "loss": "training loss, noise on",
    "accuracy": "training accuracy, noise on, %",
    "gradient_norm": "gradient norm, L2",
}
TEST = "test accuracy, noise off, %"
MARKED = 7  # epochs whose ends are marked
MAGNIFIED = 10  # times, in a second row of the noise
PLAIN_NAME = "no noise"


def styles(names: Mapping[str, object]) -> dict[str, int]:
    """Return the style of each training: grey for the one without noise, the others in their order."""
    noisy = [name for name in names if name != PLAIN_NAME]
    return {name: noisy.index(name) if name in noisy else PLAIN for name in names}


class Record:
    """Keep the probes of some trainings, by name: curves of bounded length, last probe and change."""

    def __init__(self) -> None:
        self.last: Mapping[str, Probe] = {}
        self._curves: dict[tuple[str, str], list[tuple[float, float]]] = {}
        self._setting = ""
        self._moving = False  # the setting changed at the last probe: a slider that is dragged is one change
        self._changed: tuple[int, dict[str, dict[str, float]]] | None = None  # step, and the stds before

    def add(self, probes: Mapping[str, Probe], setting: str = "") -> None:
        """Add a probe of each training.   setting: strength in words, for the trainings' last step."""
        moving = bool(self.last) and setting != self._setting
        if moving:
            before = {name: probe.stds for name, probe in self.last.items()}
            if self._moving and self._changed is not None:
                before = self._changed[1]
            self._changed = (next(iter(probes.values())).step, before)
        self._setting, self._moving = setting, moving
        self.last = {**self.last, **probes}
        for name, probe in probes.items():
            values = {quantity: getattr(probe, quantity) for quantity in QUANTITIES}
            for what, value in [*values.items(), *((f"std/{n}", v) for n, v in probe.stds.items())]:
                curve = self._curves.setdefault((name, what), [])
                if curve and curve[-1][0] == probe.step:
                    continue
                curve.append((probe.step, value))
                if len(curve) > KEPT:
                    del curve[1:-1:2]

    def board(self) -> str:
        """Return all pictures as one grid of HTML. Without a probe, charts say so."""
        drawn = styles(self.last)
        options = {"marks": self._marks()}
        tests = [
            Line(name, [(x, 100 * y) for x, y in probe.tests], drawn[name])
            for name, probe in self.last.items()
        ]
        charts = {
            what: line_chart(
                title,
                [Line(name, self._points(name, what), drawn[name]) for name in self.last],
                "step",
                log=what != "accuracy",
                **options,
            )
            for what, title in QUANTITIES.items()
        }
        return grid(
            [
                card(line_chart(TEST, tests, "step", **options)),
                card(charts["loss"]),
                self._noise(),
                self._maps(),
                card(charts["accuracy"]),
                card(self._stds(), f"activation std by layer, noise on{self._since()}", wide=True),
                card(charts["gradient_norm"]),
            ]
        )

    def _points(self, name: str, what: str) -> list[tuple[float, float]]:
        points = self._curves.get((name, what), [])
        return [(x, 100 * y) for x, y in points] if what == "accuracy" else points

    def _marks(self) -> list[tuple[float, str]]:
        """Return the ends of some epochs, at most `MARKED`."""
        probe = next(iter(self.last.values()), None)
        if probe is None:
            return []
        count = probe.step // probe.steps_per_epoch
        stride = next(s for s in (k * 10**p for p in range(9) for k in (1, 2, 5)) if count <= s * MARKED)
        ends = range(stride, count + 1, stride)
        return [(k * probe.steps_per_epoch, f"epoch {k}" if k == stride else str(k)) for k in ends]

    def _since(self) -> str:
        return f"; {self._setting} since step {self._changed[0]:,}" if self._changed else ""

    def _stds(self) -> str:
        """Draw one small chart a layer, all on one scale."""
        drawn = styles(self.last)
        layers = list(dict.fromkeys(layer for probe in self.last.values() for layer in probe.stds))
        every = [y for (_, what), points in self._curves.items() if what[:4] == "std/" for _, y in points]
        every = [y for y in every if math.isfinite(y) and y > 0]
        marks = [(float(self._changed[0]), "")] if self._changed else []
        charts = [
            line_chart(
                f"std of {layer}",
                [Line(name, self._points(name, f"std/{layer}"), drawn[name]) for name in self.last],
                "step",
                log=True,
                marks=marks,
                y_range=(min(every), max(every)) if every else None,
                width=230,
                height=165,
                legend=False,
            )
            for layer in layers
        ]
        columns = "display:grid;grid-template-columns:repeat(auto-fill,minmax(150px,1fr))"
        keys = " ".join(f"{swatch(drawn[name])} {html.escape(name)}" for name in self.last)
        return f'<div style="{columns}">{"".join(charts)}</div><div style="font:11px sans-serif">{keys}</div>'

    def _maps(self) -> str:
        parts = []
        for name, probe in self.last.items():
            scale = max(1, round(56 / probe.maps.shape[-1]))
            rows = [(f"{name}, image {image + 1}", maps) for image, maps in enumerate(probe.maps)]
            alt = f"{name}: feature maps, {probe.maps_of}, through a sigmoid, black 0, white 1"
            parts.append(image_rows(rows, alt, scale))
            if len(parts) == 1:
                shown = image_rows([("test images", probe.images)], "", max(1, 56 // probe.images.shape[1]))
                parts.insert(0, shown)
        of = next((f"of {probe.maps_of}" for probe in self.last.values()), "")
        return card(beside(parts), f"feature maps {of}, noise off (sigmoid: black 0, white 1)", wide=True)

    def _noise(self) -> str:
        noisy = any(probe.noisy for probe in self.last.values())
        for name, probe in self.last.items():
            if probe.noise is not None:
                source = "of this step" if probe.noise.own else "a draw like the step's"
                rows = _on_one_scale(probe.noise, f"Step {probe.step}.")
                return card(rows, f"the noise η of {name}, {source}")
        nothing = "No step with noise has been probed yet." if noisy or not self.last else "No noise."
        return card(f"<p>{nothing}</p>", "the noise η")

    def headline(self) -> str:
        """Describe the last probes in words, as HTML: test accuracies, and the layer whose std moved most."""
        if not self.last:
            return "<p>Nothing has been trained yet.</p>"
        drawn, ahead = styles(self.last), max(self.last.values(), key=lambda probe: probe.step)
        tested = [
            f'<span style="white-space:nowrap">{swatch(drawn[name])} {html.escape(name)} '
            f'<b style="font-size:17px">{_percent(probe.tests)}</b></span>'
            for name, probe in self.last.items()
        ]
        return (
            f"<div><b>Epoch {ahead.epoch}, step {ahead.step:,}</b> &ensp; test accuracy, noise off: "
            f"{' &ensp; '.join(tested)}{self._difference()}</div>"
            f"<div>{html.escape(self._moved())}</div>"
        )

    def _difference(self) -> str:
        first, *_ = self.last
        plain = self.last.get(PLAIN_NAME)
        if plain is None or first == PLAIN_NAME or not (plain.tests and self.last[first].tests):
            return ""
        points = 100 * (self.last[first].tests[-1][1] - plain.tests[-1][1])
        return f" &ensp; ({points:+.1f} points, one seed)"

    def _moved(self) -> str:
        """Name the layers whose std differs most from the training without noise, and since the change."""
        first = next(iter(self.last))
        said = []
        if PLAIN_NAME in self.last and first != PLAIN_NAME:
            said.append((f"std against {PLAIN_NAME}'s", self.last[PLAIN_NAME].stds))
        if self._changed is not None:
            step, before = self._changed
            said.append((f"std since {self._setting} at step {step:,}", before.get(first, {})))
        texts = []
        for words, base in said:
            now = self.last[first].stds
            ratios = {n: now[n] / base[n] for n in now if base.get(n, 0) > 0 and 0 < now[n] < math.inf}
            if ratios:
                layer = max(ratios, key=lambda name: abs(math.log(ratios[name])))
                texts.append(f"{words}: {layer} moved most, × {ratios[layer]:.2g}")
        return "; ".join(texts)


def _percent(tests: list[tuple[float, float]]) -> str:
    return f"{100 * tests[-1][1]:.1f} %" if tests else "not yet"


def _on_one_scale(picture: NoisePicture, alt: str) -> str:
    """Draw the values and their noise on one scale, and the noise once more, magnified by a fixed number."""
    before, noise = np.abs(picture.before), np.abs(picture.noise)
    top = 1.0 if picture.pixels else float(max(before.max(), noise.max()))
    scale = max(1, round(56 / picture.before.shape[2]))
    first = picture.before if picture.pixels else signed(picture.before, top)
    share = f", {100 * noise.max() / top:.2g} % of the scale" if top > 0 else ""
    rows = [(picture.what, first), (f"η: largest {noise.max():.3g}{share}", signed(picture.noise, top))]
    if MAGNIFIED * noise.max() <= top:
        rows.append((f"η × {MAGNIFIED}", signed(MAGNIFIED * picture.noise, top)))
    legend = f"One scale: brown −{top:.3g}, white 0, purple {top:.3g}."
    return image_rows(rows, f"{legend} {alt}", scale) + f'<div style="font-size:11px">{legend}</div>'
