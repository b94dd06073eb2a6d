"""Show the training lab: choose a noise, watch two trainings side by side, move the strength meanwhile."""

from __future__ import annotations

import atexit
import html
import shlex
import weakref
from typing import Any

import ipywidgets as widgets
import yaml

from noiseutils.config import EMBEDDED
from noiseutils.data import load
from noiseutils.live.record import Record
from noiseutils.live.session import Probes, Session
from noiseutils.models import MODELS
from noiseutils.provenance import outputs_root
from noiseutils.studies.live_lab import KINDS, STUDY, Params, choices, facts
from noiseutils.studies.output import origin
from noiseutils.studies.params import data_of
from noiseutils.widgets.view import (
    View,
    broken,
    button,
    dropdown,
    hide_static,
    near,
    numbers,
    problem,
    row,
    shows_errors,
    slider,
    table,
)

RATES = (*(round(digit * 10.0**power, 4) for power in range(-4, 0) for digit in (1, 2, 5)), 1.0)
ENDING = "The current step is long; the training ends after this step."
PROBES = 30  # of a training that runs at once
SETS = (*EMBEDDED, "mnist", "fashion_mnist", "cifar10", "cifar100")

_open: weakref.WeakSet[TrainingLab] = weakref.WeakSet()


class TrainingLab(View):
    """Train two networks from one seed, with noise and without, and show them while they train.

    params: first values of the controls.   interactive: see `view.is_interactive`; if False, `params.steps`
    steps are taken at once, and `static()` shows the last.
    """

    def __init__(self, params: Params | None = None, *, interactive: bool | None = None) -> None:
        super().__init__(interactive)
        self.first = self.params = params or Params()
        self._filled: Params | None = None  # values that the controls were set to last
        self._make_controls()
        self._end_others()
        self._show_first()
        _open.add(self)

    # --- controls on the page

    def _make_controls(self) -> None:
        p = self.first
        sets = [*SETS, *([p.data] if p.data not in SETS else [])]
        rates = sorted({*RATES, p.learning_rate})
        wide: dict[str, Any] = {"layout": {"width": "26em"}, "style": {"description_width": "7em"}}
        self.data = widgets.Combobox(description="data", options=sets, value=p.data, **wide)
        self.model = dropdown("network", list(MODELS), p.model)
        self.noise = dropdown("noise", [(kind.title, name) for name, kind in KINDS.items()], p.noise)
        self.noise.layout.width = "40em"  # titles name their paper
        hint = "where noise on activations goes"
        self.after = widgets.SelectMultiple(description="after", rows=4, tooltip=hint, **wide)
        self.seed = widgets.BoundedIntText(description="seed", value=p.seed, max=2**31 - 1, **wide)
        self.seed.layout.width = "14em"
        hint = "such as 3, 14, 15; empty: two"
        self.images = widgets.Text(
            description="test images", placeholder=hint, continuous_update=False, **wide
        )
        self.compare = widgets.Checkbox(description="compare with no noise", value=p.compare, indent=False)
        self.rate = widgets.SelectionSlider(description="learning rate", options=rates, value=p.learning_rate)
        self.rate.style.description_width, self.rate.layout.width = "9em", "30em"
        self.strength = widgets.FloatSlider()
        self.sliders = row(self.strength, self.rate)
        self.start = button("Start", "begin or continue", self._start, "play", "success")
        self.pause = button("Pause", "pause between two steps", self._pause, "pause")
        self.stop = button("Stop", "end this training", self._stop, "stop")
        self.reset = button("Reset", "restore the first values", self._reset, "undo")
        self.copy = button(
            "Copy as params.yaml", "write the controls as a file for papermill", self._copy, "copy"
        )
        self.status = widgets.HTML()  # numbers, renewed with the pictures
        self.text = widgets.Textarea(layout={"width": "100%", "height": "14em", "display": "none"})
        self.text.description = "params.yaml"
        self.pictures = {name: widgets.HTML() for name in ("curves", "stds", "noise", "maps")}
        choice = (self.data, self.model, self.noise, self.after, self.seed, self.compare)
        self.on_change(self._choice_changed, *choice)
        self.on_change(self._sliders_changed, self.rate)
        self.on_change(self._images_changed, self.images)
        left = widgets.VBox([self.noise, self.after, self.compare])
        right = widgets.VBox([self.data, self.model, self.seed, self.images])
        buttons = row(self.start, self.pause, self.stop, self.reset, self.copy)
        curves, *others = self.pictures.values()
        parts = [row(left, right), self.sliders, buttons, self.message, self.status, self.text, curves]
        self.box = widgets.VBox([hide_static(self.mark), *parts, row(*others)])

    def _fill(self, params: Params) -> None:
        """Show these values in the controls, without reacting to the changes.

        Places and the strength's slider are made anew only for another network or noise: a control made anew
        loses the focus on a page, where a slider does not take over another range whole.
        """
        with self.filling():
            if self._filled is None or self._filled.model != params.model:
                known = choices(params.model)
                self.after.options = (*known, *(name for name in params.after if name not in known))
            if self._filled is None or self._filled.noise != params.noise:
                self._make_strength(params)
            self.data.value, self.model.value, self.noise.value = params.data, params.model, params.noise
            self.seed.value, self.compare.value = params.seed, params.compare
            self.images.value = ", ".join(map(str, params.shown))
            self.after.value, self.after.disabled = params.after, not params.kind.sites
            self.strength.value, self.rate.value = params.strength, params.learning_rate
            self._filled = params

    def _make_strength(self, params: Params) -> None:
        kind = params.kind
        self.strength.close()
        self.strength = slider(
            f"strength {kind.symbol}".strip(),
            params.strength,
            low=-kind.most if kind.symbol == "ε" else 0.0,  # ANL may go against the gradient
            most=kind.most,
            hint=kind.unit,
        )
        self.strength.disabled = not kind.symbol
        self.on_change(self._sliders_changed, self.strength)
        self.sliders.children = [self.strength, self.rate]

    # --- reactions to the controls

    @shows_errors
    def _choice_changed(self) -> None:
        """Take over another noise, network or data, for the next training that is started."""
        noise, trained = str(self.noise.value), self.session.pending
        changes: dict[str, Any] = {}
        if noise != self.params.noise:
            back = self.running and noise == trained.noise
            changes["strength"] = trained.strength if back else KINDS[noise].usual
        if self.model.value != self.params.model:
            changes["after"] = ()
        self.params = self._read_controls(**changes)
        self._fill(self.params)
        later = "Your choice takes effect when you press Stop and then Start. " if self.running else ""
        kind = self.params.kind
        self.show_message(later + (f"{kind.symbol}: {kind.unit}." if kind.unit else ""))

    def _read_controls(self, **changes: Any) -> Params:
        """Read the controls as parameters. Raises UserError for a value that is not allowed."""
        values = {
            "data": self.data.value,
            "model": self.model.value,
            "noise": self.noise.value,
            "after": tuple(self.after.value),
            "compare": self.compare.value,
            "seed": self.seed.value,
            "shown": numbers(self.images.value),
            "strength": float(self.strength.value),
            "learning_rate": float(self.rate.value),
        }
        if values["model"] != self.first.model:
            values["width"] = 1.0
        return Params.read({**dict(self.first), **values, **changes}, "the lab's controls")

    @shows_errors
    def _sliders_changed(self) -> None:
        """Apply the sliders from the next step on."""
        values = {"strength": float(self.strength.value), "learning_rate": float(self.rate.value)}
        self.params = self.params.replace(**values)
        if self.running:
            if self.params.noise != self.session.pending.noise:
                values.pop("strength")  # of another noise than the one in training
            self.session.tune(self.session.pending.replace(**values))

    @shows_errors
    def _images_changed(self) -> None:
        """Show the maps of other test images in the next picture."""
        shown = numbers(self.images.value)
        self.session.show(shown)
        self.params = self.params.replace(shown=shown)
        self.show_message(f"Feature maps of test images {self.images.value or 'chosen by the lab'}.")

    @property
    def running(self) -> bool:
        """Tell if there is a training, paused or not."""
        return self.session.running

    @shows_errors
    def _start(self) -> None:
        if self.running:
            self.session.start()
            self.show_message(ENDING if self.session.stopping else "Training continues.")
            return
        self.params = self._read_controls()
        self._new_session(self.params)
        self._end_others()
        self.session.start()
        label = origin(self.session.data.label)
        self.show_message(f"Training {' beside '.join(self.session.runs)}, {self.params.model}, {label}.")

    def _new_session(self, params: Params) -> None:
        """Make a session of these parameters with its own record, as an old session may still be drawing."""
        data, record = load(data_of(params)), Record()
        session = Session(params, data, lambda probes: self._draw(session, record, probes))
        self.session, self.record = session, record

    def _end_others(self) -> None:
        """End the trainings of other labs, as two cores carry one lab."""
        for lab in list(_open):
            if lab is not self and lab.running:
                lab.close()
                lab.show_message("Ended: another lab was opened or started. Start begins a new training.")

    @shows_errors
    def _pause(self) -> None:
        if self.running:
            self.session.pause()
            self.show_message("Paused between two steps. Start continues.")
            self.keep()

    @shows_errors
    def _stop(self) -> None:
        if self.running:
            ended = self.session.stop()
            self.show_message(
                f"Stopped after {self.session.steps:,} steps. Start begins a new training."
                if ended
                else ENDING
            )

    @shows_errors
    def _reset(self) -> None:
        if not self.session.stop():
            self.show_message(ENDING)
            return
        self._show_first()
        self.keep()

    def _show_first(self) -> None:
        """Begin anew: take two steps to have pictures; without a page take all steps."""
        self.params, self._filled = self.first, None
        self._fill(self.first)
        self.text.layout.display = "none"
        self._new_session(self.first)
        if self.interactive:
            self.session.run(steps=2, every=1)
            self.show_message("Press Start.")
        else:
            self.session.run(self.first.steps, every=max(1, self.first.steps // PROBES))

    @shows_errors
    def _copy(self) -> None:
        """Write the controls as YAML, in a box to copy from and in a file."""
        params = self._read_controls().replace(profile="mine", interactive=False)
        path = outputs_root() / "live_lab" / "params.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        text = "# The live lab's controls.\n"
        text += yaml.safe_dump(params.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
        path.write_text(text, encoding="utf-8")
        self.text.value, self.text.layout.display = text, ""
        file = shlex.quote(near(path))
        self.show_message(
            f"Written to {file}. From the project's folder: noiseutils run live_lab --profile {file}, or "
            f"papermill notebooks/{STUDY.notebook}.ipynb mine.ipynb --cwd notebooks -f {file}"
        )

    def close(self) -> None:
        """End the training, if there is one."""
        self.session.stop()

    # --- pictures, drawn in the training's thread

    def _draw(self, session: Session, record: Record, probes: Probes) -> None:
        """Draw the pictures of probes, in the training's thread; without a probe, the end."""
        if probes:
            record.add(probes)
        if session is not self.session or not (self.interactive or not probes):
            return
        for name, picture in record.pictures().items():
            self.pictures[name].value = picture
        share = 100 * session.drawing / session.seconds if session.seconds else 0.0
        p, kind = session.params, session.params.kind  # of the last step
        strength = f"{kind.symbol} = {p.strength:.4g}, " if kind.symbol else ""
        text = f"{strength}learning rate {p.learning_rate:.4g}; drawing takes {share:.0f} %"
        self.status.value = (
            f'<p style="margin:2px 0">{record.status()}<br>{html.escape(text)}</p>{broken(session.diverged)}'
        )
        if probes:
            return
        if session.error is not None:
            self.message.value = problem(session.error)
        elif session.state == "finished" and self.interactive and not session.diverged:
            self.show_message(f"Finished: {p.epochs} epochs.")
        self.keep()

    def static(self) -> str:
        """Return the last frame: parameters, numbers and pictures."""
        session, pictures = self.session, self.record.pictures()
        described = facts(session.params, origin(session.data.label))
        below = "".join(f"<div>{pictures[name]}</div>" for name in ("stds", "noise", "maps"))
        return (
            f"{table(described.items())}<p>{self.record.status()}</p>{broken(session.diverged)}"
            f"{pictures['curves']}<div style='display:flex;flex-wrap:wrap;gap:12px'>{below}</div>"
        )


@atexit.register
def _end() -> None:
    for lab in list(_open):
        lab.close()
