"""What a training lab has seen so far, and its pictures: curves, stds, feature maps, the noise itself."""

from __future__ import annotations

import html
from collections.abc import Mapping

from noiseutils.live.pictures import POINTS, Line, beside, image_rows, line_chart
from noiseutils.live.watching import Look

KEPT = 2 * POINTS  # points of a curve; at that many every other one goes
QUANTITIES = {"loss": "training loss", "accuracy": "accuracy", "gradient_norm": "gradient norm (L2)"}


class Record:
    """Looks at one or two trainings, by name, kept as curves of bounded length and as the last look."""

    def __init__(self) -> None:
        self.last: Mapping[str, Look] = {}
        self._curves: dict[tuple[str, str], list[tuple[float, float]]] = {}

    def add(self, looks: Mapping[str, Look]) -> None:
        """One more look at each training."""
        self.last = {**self.last, **looks}
        for name, look in looks.items():
            values = {quantity: getattr(look, quantity) for quantity in QUANTITIES}
            for what, value in [*values.items(), *((f"std/{n}", v) for n, v in look.stds.items())]:
                curve = self._curves.setdefault((name, what), [])
                if curve and curve[-1][0] == look.step:
                    continue
                curve.append((look.step, value))
                if len(curve) > KEPT:
                    del curve[1:-1:2]

    def pictures(self) -> dict[str, str]:
        """HTML by name: curves, stds, maps, noise. Of nothing seen, charts that say so."""
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
        """Of training batches with the noise in, and after each epoch of the test images without it."""
        lines = []
        for i, (name, look) in enumerate(self.last.items()):
            lines.append(Line(f"{name}, training", self._points(name, "accuracy"), i, True))
            lines.append(Line(f"{name}, test", look.tests, i))
        return line_chart("accuracy, of 1", lines, "step")

    def _stds(self) -> str:
        lines = []
        for i, (name, look) in enumerate(self.last.items()):
            for j, layer in enumerate(look.stds):
                lines.append(Line(f"{layer}, {name}", self._points(name, f"std/{layer}"), j, bool(i)))
        return line_chart("activation std by layer, noise included", lines, "step", log=True)

    def _maps(self) -> str:
        rows = []
        for name, look in self.last.items():
            if not rows:
                rows.append(("test images", look.images))
            for image in range(len(look.maps)):
                rows.append((f"{name}: feature maps of image {image + 1}", look.maps[image]))
        return image_rows(rows, "First convolution's output through a sigmoid, black 0, white 1.", scale=2)

    def _noise(self) -> str:
        for name, look in self.last.items():
            picture = look.noise
            if picture is None:
                continue
            how = "of the step" if picture.own else "a draw like the step's"
            signed = not picture.pixels
            first = (f"{name}: {picture.what}{', ±' if signed else ''}", picture.before)
            scale = max(1, round(56 / picture.before.shape[2]))
            rows = [first, (f"η, the noise ({how}), ±", picture.noise)]
            return image_rows(rows, f"Step {look.step}; white zero, blue below, orange above.", scale)
        noisy = any(look.noisy for look in self.last.values())
        return "<p>The noise has not been seen yet.</p>" if noisy or not self.last else "<p>No noise.</p>"

    def status(self) -> str:
        """The last look in words, as HTML."""
        said = [
            f"{name}: step {look.step:,}, epoch {look.epoch}, loss {look.loss:.3f}, "
            f"accuracy {100 * look.accuracy:.1f} %"
            for name, look in self.last.items()
        ]
        return "<br>".join(map(html.escape, said))
