"""Show the attack lab: drag the size of a perturbation, and see the answers of two networks to one image."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import ipywidgets as widgets
import numpy as np
import torch
from torch import nn

from noiseutils.data import Dataset, Images
from noiseutils.errors import UserError, one_of
from noiseutils.live.attacking import ATTACKS, Answer, Attack, Attacker
from noiseutils.live.charts import Line, bar_chart, line_chart
from noiseutils.live.pictures import beside, card, grid, image_rows, signed
from noiseutils.live.record import styles
from noiseutils.live.watching import shown_images
from noiseutils.widgets.training import TrainingLab
from noiseutils.widgets.view import (
    View,
    button,
    dropdown,
    problem,
    row,
    shows_errors,
    slider,
    table,
)

LIKELIEST_CLASSES = 5  # classes whose probabilities are shown
OWN = "each network for itself"


Networks = Mapping[str, nn.Module]


@dataclass(frozen=True)
class _Source:
    """Hold networks and images that belong together; make the networks when they are first needed."""

    networks: Networks | Callable[[], Networks]
    data: Dataset

    @cached_property
    def attacker(self) -> Attacker:
        """Return the networks and images, for attacks. Raises UserError if there is no network."""
        if not isinstance(self.data.test, Images):
            raise UserError(f"{self.data.label} is streamed: attacks take a set that is in memory")
        networks = self.networks() if callable(self.networks) else self.networks
        return Attacker(networks, self.data.test, self.data.classes)


class _Request(NamedTuple):
    """Hold the values of the controls."""

    source: _Source
    image: int
    attack: str
    size: float
    against: str | None


class AttackLab(View):
    """Show one test image, one kind of change, and each network's answer to the changed image.

    networks: name -> network of pixels in [0, 1], or a function that makes them when they are needed; in a
    live view the function is called in a thread, so that a notebook's next cells need not wait.
    data: the test images shown.   image: the first.   attack: a key of `live.attacking.ATTACKS`.
    size: of the change, in the attack's unit; None: the usual size.   lab: a training lab, whose networks may
    be taken over.   interactive: see `view.is_interactive`.
    Raises UserError for an unknown image or attack.
    """

    def __init__(
        self,
        networks: Networks | Callable[[], Networks],
        data: Dataset,
        *,
        image: int = 0,
        attack: str = "fgsm",
        size: float | None = None,
        lab: TrainingLab | None = None,
        interactive: bool | None = None,
    ) -> None:
        super().__init__(interactive)
        if attack not in ATTACKS:
            raise one_of("attack", attack, ATTACKS)
        if not 0 <= image < len(data.test):
            raise UserError(f"image {image} is not there; allowed: 0 to {len(data.test) - 1}")
        self._thread = ThreadPoolExecutor(1, "noiseutils-attack", lambda: torch.set_num_threads(1))
        self._queued = Future()
        self._make_controls(attack, image, lab)
        self._take(networks, data)
        self._make_slider(size)
        if self.interactive:
            self.shown.value = "<p>The networks are being made.</p>"
            self._send()
        else:
            self._show(self._request())

    # --- controls on the page

    def _make_controls(self, attack: str, image: int, lab: TrainingLab | None) -> None:
        self.image = widgets.BoundedIntText(description="image", value=image, min=0, max=max(image, 1))
        self.image.style.description_width, self.image.layout.width = "initial", "10em"
        self.attack = dropdown("attack", [(a.title, name) for name, a in ATTACKS.items()], attack)
        self.against = dropdown("made against", [OWN], OWN, "the network whose gradient the change follows")
        self.size = widgets.FloatSlider()
        self.sizes = widgets.HBox([self.size])
        self.previous = button("Previous", "the image before", lambda: self._step(-1), "←")
        self.next = button("Next", "the image after", lambda: self._step(1), "→")
        choice = row(self.attack, self.against)
        parts: list[widgets.Widget] = [row(self.image, self.previous, self.next), choice, self.sizes]
        if lab is not None:
            title, hint = "Take the training lab's networks", "copies, as they are now"
            self.take = button(title, hint, lambda: self._take_over(lab))
            parts.append(self.take)
        self.on_change(lambda: self._make_slider(None), self.attack)
        self.on_change(self._send, self.image, self.attack, self.against)
        self.box = self.laid_out(*parts, self.message, self.shown)

    def _make_slider(self, size: float | None) -> None:
        """Make a slider that fits the attack."""
        attack = ATTACKS[str(self.attack.value)]
        self.size.close()
        wanted = attack.usual if size is None else size
        self.size = slider(attack.symbol, wanted, low=0.0, most=attack.most, hint=attack.unit)
        self.on_change(self._send, self.size)
        self.sizes.children = [self.size]

    # --- reactions to the controls

    def _take(self, networks: Networks | Callable[[], Networks], data: Dataset) -> None:
        """Take other networks, for the next answer."""
        self.source = _Source(networks, data)
        with self.filling():
            self.image.max = len(data.test) - 1
            self.against.options, self.against.value = [OWN], OWN

    @shows_errors
    def _take_over(self, lab: TrainingLab) -> None:
        self._take(lab.session.networks(), lab.session.data)
        self.show_message(f"Networks taken after {lab.session.steps:,} steps.")
        self._send()

    def _step(self, by: int) -> None:
        self.image.value = (self.image.value + by) % len(self.source.data.test)

    def _request(self) -> _Request:
        against = None if self.against.value == OWN else self.against.value
        return _Request(self.source, self.image.value, str(self.attack.value), self.size.value, against)

    def _send(self) -> None:
        """Answer in the thread; a request that waits gives way to this one."""
        self._queued.cancel()
        self._queued = self._thread.submit(self._show, self._request())

    def _show(self, request: _Request) -> None:
        """Compute and draw; in a live view, in the thread."""
        try:
            attacker = request.source.attacker
            answers = attacker.answers(request.image, request.attack, request.size, request.against)
            pictures = self._pictures(attacker, request, answers)
        except Exception as error:
            pictures = problem(error)
        else:
            if request.source is self.source and len(self.against.options) == 1:
                self.against.options = [OWN, *attacker.networks]
        if request.source is self.source:  # else other networks have been taken meanwhile
            self.draw(pictures)

    # --- pictures

    def _pictures(self, attacker: Attacker, request: _Request, answers: Mapping[str, Answer]) -> str:
        attack, (x, y) = ATTACKS[request.attack], attacker.image(request.image)
        truth, scale = int(y), max(1, round(112 / x.shape[-1]))
        pictured = f"Test image {request.image}, {attacker.classes[truth]}"
        alt = f"{pictured}; {attack.title}, {attack.symbol} {request.size:g}."
        panels = [image_rows([("the image", shown_images(x))], alt, scale)]
        drawn = styles(answers)
        top = max(float(answer.change.abs().max()) for answer in answers.values())  # one scale for all
        for name, answer in answers.items():
            changed, change = (shown_images(v[None]) for v in (answer.image, answer.change))
            largest = f"the change, up to {255 * float(answer.change.abs().max()):.3g} / 255"
            rows = [(f"{name}: changed", changed), (largest, signed(change, top))]
            panels.append(image_rows(rows, alt, scale))
        mean = ", the mean over the channels" if x.shape[1] > 1 else ""
        scale_text = f"Changes on one scale{mean}: brown below zero, white zero, purple above."
        together = torch.stack([answer.after + answer.before for answer in answers.values()]).sum(0)
        likely = together.argsort(descending=True)[:LIKELIEST_CLASSES].tolist()
        series = [(name, [float(answer.after[k]) for k in likely]) for name, answer in answers.items()]
        names = [str(attacker.classes[k]) for k in likely]
        bars = bar_chart("probabilities, image changed", names, series, [drawn[name] for name in answers])
        against = f", made against {request.against}" if request.against else ""
        text = (
            f"{request.source.data.label}, test image {request.image}: {attacker.classes[truth]}. "
            f"{attack.title}{against}, {attack.symbol} = {request.size:.4g} ({attack.unit})."
        )
        cards = [
            card(f'{beside(panels)}<div class="nu-small">{scale_text}</div>', wide=True),
            card(self._curve(attack, request.size, answers)),
            card(bars),
            card(self._table(attacker, attack, truth, answers), wide=True),
        ]
        return f"<p>{html.escape(text)}</p>{grid(cards)}"

    def _curve(self, attack: Attack, size: float, answers: Mapping[str, Answer]) -> str:
        """Draw the probability of the right class over the size, and where the class changes."""
        drawn, lines = styles(answers), []
        for name, answer in answers.items():
            points = [(x, 100 * p) for x, p in answer.curve]
            lines.append(Line(name, points, drawn[name]))
            if 0 < answer.flips < math.inf:
                at = float(np.interp(answer.flips, [x for x, _ in points], [p for _, p in points]))
                lines.append(Line(f"{name} flips at {answer.flips:.3g}", [(answer.flips, at)], drawn[name]))
        marks = [(size, f"{attack.symbol} = {size:.4g}")]
        return line_chart("probability of the right class, %", lines, attack.symbol, marks=marks)

    def _table(self, attacker: Attacker, attack: Attack, truth: int, answers: Mapping[str, Answer]) -> str:
        """Write each network's class as a table, and the size from which on the class changes."""
        heads = ("network", "without a change", "changed", "flips at", "mean change (255ths)")
        rows = []
        for name, answer in answers.items():
            classes = [
                f"{attacker.classes[int(p.argmax())]} {100 * float(p.max()):.0f} %"
                + ("" if int(p.argmax()) == truth else " (wrong)")
                for p in (answer.before, answer.after)
            ]
            flips = (
                "wrong without a change"
                if answer.flips == 0
                else f"no flip up to {attack.most:g}"
                if math.isinf(answer.flips)
                else f"{attack.symbol} = {answer.flips:.3g}"
            )
            rows.append((name, *classes, flips, f"{answer.mean_change:.3g}"))
        return table(rows, heads)
