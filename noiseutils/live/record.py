"""Record the probes of a training lab, and draw curves, stds, feature maps and the noise itself."""

from __future__ import annotations

import html
from collections.abc import Mapping

from noiseutils.live.pictures import POINTS, Line, beside, image_rows, line_chart
from noiseutils.live.watching import Probe

KEPT = 2 * POINTS  # points of a curve; at that many every other one goes
QUANTITIES = {"loss": "training loss", "accuracy": "accuracy", "gradient_norm": "gradient norm (L2)"}


class Record:
    """Keep the probes of one or two trainings, by name: curves of bounded length, and the last probe."""

    def __init__(self) -> None:
        self.last: Mapping[str, Probe] = {}
        self._curves: dict[tuple[str, str], list[tuple[float, float]]] = {}

    def add(self, probes: Mapping[str, Probe]) -> None:
        """Add a probe of each training."""
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

    def pictures(self) -> dict[str, str]:
        """Return HTML by name: curves, stds, maps, noise. Without a probe, charts say so."""
        return {
            "curves": beside([self._curve("loss"), self._accuracy(), self._curve("gradient_norm")]),
            "stds": self._stds(),
            "maps": self._maps(),
            "noise": self._noise(),
        }

    def _points(self, name: str, what: str) -> list[tuple[float, float]]:
        return self._curves.get((name, what), [])

    def _curve(self, what: str) -> str:
        lines = [Line(name, self._points(name, what), i, bool(i)) for i, name in enumerate(self.last)]
        return line_chart(QUANTITIES[what], lines, "step", log=True)

    def _accuracy(self) -> str:
        """Draw accuracy on training batches with noise, and on test images without, after each epoch."""
        lines = []
        for i, (name, probe) in enumerate(self.last.items()):
            lines.append(Line(f"{name}, training", self._points(name, "accuracy"), i, True))
            lines.append(Line(f"{name}, test", probe.tests, i))
        return line_chart("accuracy, of 1", lines, "step")

    def _stds(self) -> str:
        lines = []
        for i, (name, probe) in enumerate(self.last.items()):
            for j, layer in enumerate(probe.stds):
                lines.append(Line(f"{layer}, {name}", self._points(name, f"std/{layer}"), j, bool(i)))
        return line_chart("activation std by layer, noise included", lines, "step", log=True)

    def _maps(self) -> str:
        rows = []
        for name, probe in self.last.items():
            if not rows:
                rows.append(("test images", probe.images))
            for image in range(len(probe.maps)):
                rows.append((f"{name}: feature maps of image {image + 1}", probe.maps[image]))
        return image_rows(rows, "First convolution's output through a sigmoid, black 0, white 1.", scale=2)

    def _noise(self) -> str:
        for name, probe in self.last.items():
            picture = probe.noise
            if picture is None:
                continue
            source = "of the step" if picture.own else "a draw like the step's"
            signed = not picture.pixels
            first = (f"{name}: {picture.what}{', ±' if signed else ''}", picture.before)
            scale = max(1, round(56 / picture.before.shape[2]))
            rows = [first, (f"η, the noise ({source}), ±", picture.noise)]
            return image_rows(rows, f"Step {probe.step}; white zero, blue below, orange above.", scale)
        noisy = any(probe.noisy for probe in self.last.values())
        return (
            "<p>No step with noise has been probed yet.</p>" if noisy or not self.last else "<p>No noise.</p>"
        )

    def status(self) -> str:
        """Describe the last probes in words, as HTML."""
        lines = [
            f"{name}: step {probe.step:,}, epoch {probe.epoch}, loss {probe.loss:.3f}, "
            f"accuracy {100 * probe.accuracy:.1f} %"
            for name, probe in self.last.items()
        ]
        return "<br>".join(map(html.escape, lines))
