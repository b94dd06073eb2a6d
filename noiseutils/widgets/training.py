"""The training lab: choose a noise, watch two trainings side by side, move its strength while they run."""

from __future__ import annotations

import atexit
import html
import weakref
from typing import Any

import ipywidgets as widgets
import yaml

from noiseutils.config import EMBEDDED
from noiseutils.data import load
from noiseutils.errors import UserError
from noiseutils.live.record import Record
from noiseutils.live.session import Looks, Session
from noiseutils.models import MODELS
from noiseutils.provenance import CHECKOUT, outputs_root
from noiseutils.studies.common import data_of
from noiseutils.studies.live_lab import KINDS, NOTEBOOK, Params, choices, pair
from noiseutils.widgets.view import View, button, chosen, dropdown, hiding, problem, slider, table

PICTURES = ("curves", "stds", "maps", "noise")
RATES = (*(round(digit * 10.0**power, 4) for power in range(-4, 0) for digit in (1, 2, 5)), 1.0)
LOOKS = 30  # of a training that runs at once
SETS = (*EMBEDDED, "mnist", "fashion_mnist", "cifar10", "cifar100")

_open: weakref.WeakSet[TrainingLab] = weakref.WeakSet()


class TrainingLab(View):
    """Trains two networks from one seed, with noise and without, and shows them while they train.

    params: what its controls show at first.   interactive: whether a page answers; None: see `view.answers`.
    Without one, `params.steps` steps are taken at once, and `static()` shows the last.
    """

    def __init__(self, params: Params | None = None, *, interactive: bool | None = None) -> None:
        super().__init__(interactive)
        self.first = self.params = params or Params()
        self.session: Session | None = None
        self.record = Record()
        self._filling = False
        self._make_controls()
        self._reset(first=True)
        _open.add(self)

    # --- what a page shows

    def _make_controls(self) -> None:
        p = self.first
        sets = [*SETS, *([p.data] if p.data not in SETS else [])]
        wide, label = {"width": "26em"}, {"description_width": "7em"}
        self.data = widgets.Combobox(description="data", options=sets, value=p.data, ensure_option=False)
        self.data.layout, self.data.style = wide, label
        self.model = dropdown("network", list(MODELS), p.model)
        self.noise = dropdown("noise", [(kind.title, name) for name, kind in KINDS.items()], p.noise)
        self.noise.layout.width = "40em"  # titles name their paper
        self.after = widgets.SelectMultiple(
            description="after", rows=4, tooltip="where noise on activations goes"
        )
        self.after.layout, self.after.style = wide, label
        self.seed = widgets.BoundedIntText(description="seed", value=p.seed, min=0, max=2**31 - 1)
        self.seed.layout, self.seed.style = {"width": "14em"}, label
        self.compare = widgets.Checkbox(description="beside it the same without noise", value=p.compare)
        self.compare.indent = False
        rates = sorted({*RATES, p.learning_rate})
        self.rate = widgets.SelectionSlider(description="learning rate", options=rates, value=p.learning_rate)
        self.rate.layout = {"width": "30em"}
        self.rate.style.description_width = "9em"
        self.start = button("Start", "begin, or go on", self._start, "play", "success")
        self.pause = button("Pause", "stand still between two steps", self._pause, "pause")
        self.stop = button("Stop", "end this training", self._stop, "stop")
        self.reset = button("Reset", "as at the beginning", self._reset, "undo")
        self.copy = button("Copy as params.yaml", "the controls as a file for papermill", self._copy, "copy")
        self.said = widgets.HTML()  # what has happened
        self.status = widgets.HTML()  # numbers, renewed with the pictures
        self.text = widgets.Textarea(layout={"width": "100%", "height": "14em", "display": "none"})
        self.text.description = "params.yaml"
        self.shown = {name: widgets.HTML() for name in PICTURES}
        for control in (self.data, self.model, self.noise, self.after, self.seed, self.compare):
            control.observe(self._chosen, "value")
        self.rate.observe(self._moved, "value")
        buttons = widgets.HBox([self.start, self.pause, self.stop, self.reset, self.copy])
        buttons.layout.flex_flow = "row wrap"
        left = widgets.VBox([self.noise, self.after, self.compare])
        right = widgets.VBox([self.data, self.model, self.seed])
        choice = widgets.HBox([left, right], layout={"flex_flow": "row wrap"})
        self.strength = widgets.FloatSlider()
        self.sliders = widgets.HBox([self.strength, self.rate], layout={"flex_flow": "row wrap"})
        below = widgets.HBox([self.shown["stds"], self.shown["noise"], self.shown["maps"]])
        below.layout.flex_flow = "row wrap"
        told = [self.said, self.status, self.text]
        self.box = widgets.VBox([hiding(), choice, self.sliders, buttons, *told, self.shown["curves"], below])

    def _fill(self, params: Params) -> None:
        """The controls show these values; nothing is heard while they are set."""
        self._filling = True
        try:
            self.data.value, self.model.value, self.noise.value = params.data, params.model, params.noise
            self.seed.value, self.compare.value = params.seed, params.compare
            self.after.options = choices(params.model)
            self.after.value = tuple(name for name in params.after if name in self.after.options)
            kind = params.kind
            self.after.disabled = not kind.sites
            self.strength.close()
            # a new one: a slider on a page does not take another range over whole
            self.strength = slider(
                f"strength {kind.symbol}".strip(),
                params.strength,
                low=-kind.most if kind.symbol == "ε" else 0.0,  # ANL may go against the gradient
                most=kind.most,
                hint=kind.unit,
            )
            self.strength.disabled = not kind.symbol
            self.strength.observe(self._moved, "value")
            self.sliders.children = [self.strength, self.rate]
            self.rate.value = params.learning_rate
        finally:
            self._filling = False

    # --- what its controls do

    def _chosen(self, change: Any) -> None:
        """Another noise, network or data: it counts when a training is started."""
        if self._filling:
            return
        noise, model = chosen(self.noise), chosen(self.model)
        other = noise != self.params.noise
        strength = KINDS[noise].usual if other else self.strength.value
        after = () if model != self.params.model else self.after.value
        try:
            self.params = self._told(strength=strength, after=after)
        except UserError as error:
            self.said.value = problem(error)
            return
        self._fill(self.params)
        going = self.session is not None and self.session.running
        later = "What you chose counts when you press Stop and then Start." if going else ""
        kind = self.params.kind
        self._say(" ".join(filter(None, [later, f"{kind.symbol}: {kind.unit}." if kind.unit else ""])))

    def _told(self, **changes: Any) -> Params:
        """The controls as parameters. Raises UserError for a value that is not allowed."""
        values = {
            "data": self.data.value,
            "model": self.model.value,
            "noise": self.noise.value,
            "after": tuple(self.after.value),
            "compare": self.compare.value,
            "seed": self.seed.value,
            "strength": float(self.strength.value),
            "learning_rate": float(self.rate.value),
        }
        if values["model"] != self.first.model:
            values["width"] = 1.0
        return Params.read({**dict(self.first), **values, **changes}, "the lab's controls")

    def _moved(self, change: Any) -> None:
        """A slider: it counts from the next step on."""
        if self._filling:
            return
        self.params = self._told()
        if self.session is None or not self.session.running:
            return
        values = {"strength": self.params.strength, "learning_rate": self.params.learning_rate}
        if self.params.noise != self._trained.noise:
            values.pop("strength")  # it is another noise's
        self._trained = self._trained.replace(**values)
        try:
            self.session.tune(pair(self._trained))
        except UserError as error:
            self.said.value = problem(error)

    def _start(self) -> None:
        if self.session is not None and self.session.running:
            self.session.start()
            self._say("Training goes on.")
            return
        try:
            self._begin()
        except UserError as error:
            self.said.value = problem(error)
            return
        assert self.session is not None
        for lab in list(_open):
            if lab is not self:
                lab.close()  # two cores carry one of them
        self.session.start()
        self._say(f"Training {' beside '.join(pair(self._trained))}, {self._trained.model}, {self._label}.")

    def _begin(self) -> None:
        self.params = self._trained = self._told() if self.interactive else self.params
        runs = pair(self._trained)
        data = load(data_of(self._trained))
        self._label = f"{data.label}, embedded" if data.label in EMBEDDED else data.label
        self.record = Record()
        self.session = Session(runs, data, self._draw)

    def _pause(self) -> None:
        if self.session is not None and self.session.running:
            self.session.pause()
            self._say("Paused between two steps: Start goes on.")
            self.keep()

    def _stop(self) -> None:
        if self.session is not None and self.session.running:
            self.session.stop()
            self._say(f"Stopped after {self.session.steps:,} steps: Start begins anew.")

    def _reset(self, first: bool = False) -> None:
        """Everything as at the beginning; without a page, the whole training."""
        if self.session is not None:
            self.session.stop()
        self.params = self.first
        self._fill(self.first)
        self.text.layout.display = "none"
        self._begin()
        assert self.session is not None
        if self.interactive:
            self.session.run(steps=2, every=1)  # so that there is something to see before the start
            self._say("Press Start.")
        else:
            steps = self.params.steps
            self.session.run(steps, every=max(1, steps // LOOKS))
        if not first:
            self.keep()

    def _copy(self) -> None:
        """The controls as YAML, in a box to copy from and in a file."""
        try:
            values = self._told().replace(profile="mine").model_dump(mode="json")
        except UserError as error:
            self.said.value = problem(error)
            return
        path = outputs_root() / "live_lab" / "params.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        text = "# The live lab's controls, as they stood.\n"
        text += yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
        path.write_text(text, encoding="utf-8")
        self.text.value, self.text.layout.display = text, ""
        near = path.relative_to(CHECKOUT) if path.is_relative_to(CHECKOUT) else path
        self._say(
            f"Written to {near}. From the project's folder: papermill notebooks/{NOTEBOOK}.ipynb mine.ipynb "
            f"-f {near} -p interactive False --cwd notebooks; or noiseutils run live_lab --profile {near}"
        )

    def _say(self, text: str) -> None:
        self.said.value = f'<p role="status">{html.escape(text)}</p>'

    def close(self) -> None:
        """End the training, if one runs."""
        if self.session is not None:
            self.session.stop()

    # --- what its thread shows

    def _draw(self, looks: Looks) -> None:
        """In the training's thread: the pictures of a look; of none, the end."""
        session = self.session
        if looks:
            self.record.add(looks)
        if session is None or not (self.interactive or not looks):
            return
        for name, picture in self.record.pictures().items():
            self.shown[name].value = picture
        share = 100 * session.drawing / session.seconds if session.seconds else 0.0
        kind = self._trained.kind
        strength = f"{kind.symbol} = {self._trained.strength:.4g}, " if kind.symbol else ""
        told = f"{strength}learning rate {self._trained.learning_rate:.4g}; drawing takes {share:.0f} %"
        self.status.value = f'<p style="margin:2px 0">{self.record.status()}<br>{html.escape(told)}</p>'
        if looks:
            return
        if session.error is not None:
            self.said.value = problem(session.error)
        elif session.state == "finished" and self.interactive:
            self._say(f"Finished: {self._trained.epochs} epochs.")
        self.keep()

    def static(self) -> str:
        """The last frame: what was trained, its numbers and its pictures."""
        p, kind = self._trained, self._trained.kind
        told = {
            "noise": kind.title,
            **({"strength": f"{kind.symbol} = {p.strength:g} ({kind.unit})"} if kind.symbol else {}),
            **({"after": ", ".join(next(iter(pair(p).values())).after)} if kind.sites else {}),
            "network": p.model if p.width == 1 else f"{p.model}, width {p.width:g}",
            "data": self._label,
            "learning rate": p.learning_rate,
            "seed": p.seed,
        }
        pictures = self.record.pictures()
        return (
            f"{table(told.items())}<p>{self.record.status()}</p>{pictures['curves']}"
            f"<div style='display:flex;flex-wrap:wrap;gap:12px'>"
            f"{''.join(f'<div>{pictures[name]}</div>' for name in ('stds', 'noise', 'maps'))}</div>"
        )


@atexit.register
def _end() -> None:
    for lab in list(_open):
        lab.close()
