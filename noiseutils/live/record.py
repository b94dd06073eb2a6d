"""Record the probes of a training lab, and draw curves, stds, feature maps and the noise itself.

A training has one style, colour and dash, in every chart and in the headline.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from noiseutils.live.charts import LINE_POINTS, PLAIN_STYLE, Chart, Line, draw, swatch
from noiseutils.live.pictures import beside, card, grid, image_rows, signed
from noiseutils.live.watching import NoisePicture, Probe

KEPT_POINTS = 2 * LINE_POINTS  # points of a curve; at that many every other one goes
QUANTITIES = {
    "loss": "training loss, noise on",
    "accuracy": "training accuracy, noise on, %",
    "gradient_norm": "gradient norm, L2",
}
TEST_TITLE = "test accuracy, noise off, %"
MARKED_EPOCHS = 7  # epochs whose ends are marked
MAGNIFICATION = 10  # times, in a second row of the noise
PLAIN_NAME = "no noise"
FRAMES, FRAME_BYTES = 120, 2**25  # of the recording; beyond either every other frame goes

Probes = Mapping[str, Probe]
Rows = list[tuple[str, np.ndarray]]


class Frame(NamedTuple):
    """Hold one frame of the recording: the probes, of less precision, and the headline as plain text."""

    step: int
    text: str
    probes: Probes

    @property
    def size(self) -> int:
        """Return the bytes of the images."""
        images = [
            (p.images, p.maps, *((p.noise.before, p.noise.noise) if p.noise else ()))
            for p in self.probes.values()
        ]
        return sum(image.nbytes for one in images for image in one)


def styles(names: Mapping[str, object]) -> dict[str, int]:
    """Return the style of each training: grey for the one without noise, the others in their order."""
    noisy = [name for name in names if name != PLAIN_NAME]
    return {name: noisy.index(name) if name in noisy else PLAIN_STYLE for name in names}


class Record:
    """Keep the probes of some trainings, by name: curves of bounded length, last probe and change."""

    def __init__(self) -> None:
        self.last: Probes = {}
        self.frames: list[Frame] = []
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
                if len(curve) > KEPT_POINTS:
                    del curve[1:-1:2]
        self._keep_frame()

    def _keep_frame(self) -> None:
        step = max(probe.step for probe in self.last.values())
        self.frames.append(Frame(step, self.text(), {n: _small(probe) for n, probe in self.last.items()}))
        if len(self.frames) > FRAMES or sum(frame.size for frame in self.frames) > FRAME_BYTES:
            del self.frames[1:-1:2]

    def text(self) -> str:
        """Describe the last probes in one line."""
        ahead = max(self.last.values(), key=lambda probe: probe.step)
        tested = ", ".join(f"{name} {_percent(probe.tests)}" for name, probe in self.last.items())
        begun = f"{self._setting}, " if self._setting else ""
        return f"{begun}epoch {ahead.epoch}, step {ahead.step:,}. Test accuracy, noise off: {tested}"

    def board(self) -> str:
        """Return all pictures as one grid of HTML. Without a probe, charts say so."""
        test, loss, accuracy, norm = (card(draw(chart)) for chart in self.charts(self.last))
        maps = [image_rows(rows, about, _scale(rows)) for about, rows in self.map_rows(self.last)]
        title, rows, legend = self.noise_rows(self.last)
        noise = image_rows(rows, legend, _scale(rows)) + f'<div style="font-size:11px">{legend}</div>'
        of = next((f"of {probe.maps_of}" for probe in self.last.values()), "")
        return grid(
            [
                test,
                loss,
                card(noise, title),
                card(
                    "".join(maps[:1]) + beside(maps[1:]),
                    f"feature maps {of}, noise off (sigmoid: black 0, white 1)",
                    wide=True,
                ),
                accuracy,
                card(self._stds(), f"activation std by layer, noise on{self._since()}", wide=True),
                norm,
            ]
        )

    def charts(self, probes: Probes, until: float = math.inf) -> list[Chart]:
        """Return the charts of test accuracy, loss, training accuracy and gradient norm, up to a step."""
        drawn, marks = styles(probes), self._marks(probes)
        tests = [
            Line(name, [(x, 100 * y) for x, y in probe.tests if x <= until], drawn[name])
            for name, probe in probes.items()
        ]
        charts = [Chart(TEST_TITLE, tests, "step", marks=marks)]
        for what, title in QUANTITIES.items():
            lines = [Line(name, self._points(name, what, until), drawn[name]) for name in probes]
            charts.append(Chart(title, lines, "step", log=what != "accuracy", marks=marks))
        return charts

    def std_charts(self, probes: Probes, until: float = math.inf) -> list[Chart]:
        """Return one small chart a layer, all on one scale."""
        drawn = styles(probes)
        layers = list(dict.fromkeys(layer for probe in probes.values() for layer in probe.stds))
        every = [y for (_, what), points in self._curves.items() if what[:4] == "std/" for _, y in points]
        every = [y for y in every if math.isfinite(y) and y > 0]
        marks = [(float(self._changed[0]), "")] if self._changed else []
        return [
            Chart(
                f"std of {layer}",
                [Line(name, self._points(name, f"std/{layer}", until), drawn[name]) for name in probes],
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

    def map_rows(self, probes: Probes) -> list[tuple[str, Rows]]:
        """Return the test images, and each training's feature maps, with a text for each."""
        parts: list[tuple[str, Rows]] = []
        for name, probe in probes.items():
            if not parts:
                parts.append(("", [("test images", probe.images)]))
            about = f"{name}: feature maps, {probe.maps_of}, through a sigmoid, black 0, white 1"
            parts.append((about, [(f"{name}, image {i + 1}", maps) for i, maps in enumerate(probe.maps)]))
        return parts

    def noise_rows(self, probes: Probes) -> tuple[str, Rows, str]:
        """Return title, rows and legend of the noise of the first training that has one."""
        for name, probe in probes.items():
            if probe.noise is not None:
                source = "of this step" if probe.noise.own else "a draw like the step's"
                rows, legend = _on_one_scale(probe.noise)
                return f"the noise η of {name}, {source}", rows, legend
        noisy = any(probe.noisy for probe in probes.values())
        nothing = "No step with noise has been probed yet." if noisy or not probes else "No noise."
        return "the noise η", [], nothing

    def _points(self, name: str, what: str, until: float = math.inf) -> list[tuple[float, float]]:
        factor = 100 if what == "accuracy" else 1
        return [(x, factor * y) for x, y in self._curves.get((name, what), []) if x <= until]

    def _marks(self, probes: Probes) -> list[tuple[float, str]]:
        """Return the ends of some epochs, at most `MARKED`."""
        probe = next(iter(probes.values()), None)
        if probe is None:
            return []
        count = probe.step // probe.steps_per_epoch
        stride = next(
            s for s in (k * 10**p for p in range(9) for k in (1, 2, 5)) if count <= s * MARKED_EPOCHS
        )
        ends = range(stride, count + 1, stride)
        return [(k * probe.steps_per_epoch, f"epoch {k}" if k == stride else str(k)) for k in ends]

    def _since(self) -> str:
        return f"; {self._setting} since step {self._changed[0]:,}" if self._changed else ""

    def _stds(self) -> str:
        drawn, charts = styles(self.last), "".join(map(draw, self.std_charts(self.last)))
        columns = "display:grid;grid-template-columns:repeat(auto-fill,minmax(150px,1fr))"
        keys = " ".join(f"{swatch(drawn[name])} {html.escape(name)}" for name in self.last)
        return f'<div style="{columns}">{charts}</div><div style="font:11px sans-serif">{keys}</div>'

    def headline(self) -> str:
        """Describe the last probes in words, as HTML: test accuracies, and the layer whose std moved most."""
        if not self.last:
            return "<p>Nothing has been trained yet.</p>"
        drawn, ahead = styles(self.last), max(self.last.values(), key=lambda probe: probe.step)
        tested = [
            f'<span style="white-space:nowrap">{swatch(drawn[name])} {html.escape(name)} '
            f"{_large(_percent(probe.tests)) if probe.tests else 'after its first epoch'}</span>"
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
        words = f"{first} {points:+.1f} points" if len(self.last) > 2 else f"{points:+.1f} points"
        return f" &ensp; ({html.escape(words)}, one seed)"

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


def _large(text: str) -> str:
    return f'<b style="font-size:17px">{text}</b>'


def _percent(tests: list[tuple[float, float]]) -> str:
    return f"{100 * tests[-1][1]:.1f} %" if tests else "not yet"


def _on_one_scale(picture: NoisePicture) -> tuple[Rows, str]:
    """Colour values and their noise on one scale, and the noise once more, magnified by a fixed number."""
    values, noise = picture.before.astype(float), picture.noise.astype(float)
    largest = float(np.abs(noise).max())
    top = 1.0 if picture.pixels else max(float(np.abs(values).max()), largest)
    share = f", {100 * largest / top:.2g} % of the scale" if top > 0 else ""
    first = values if picture.pixels else signed(values, top)
    rows = [(picture.what, first), (f"η: largest {largest:.3g}{share}", signed(noise, top))]
    if MAGNIFICATION * largest <= top:
        rows.append((f"η × {MAGNIFICATION}", signed(MAGNIFICATION * noise, top)))
    return rows, f"One scale: brown −{top:.3g}, white 0, purple {top:.3g}."


def _scale(rows: Rows) -> int:
    """Return by how much to enlarge rows of small images."""
    return max(1, round(56 / rows[0][1].shape[2])) if rows else 1


def _small(probe: Probe) -> Probe:
    """Store images in a quarter or half of their bytes, as a recording has many."""
    noise = probe.noise and replace(
        probe.noise,
        before=probe.noise.before.astype(np.float16),
        noise=probe.noise.noise.astype(np.float16),
    )
    maps, images = ((255 * np.nan_to_num(x)).astype(np.uint8) for x in (probe.maps, probe.images))
    return replace(probe, maps=maps, images=images, noise=noise)
