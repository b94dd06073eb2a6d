"""Show the training lab: choose a noise, watch trainings with and without it, move its strength meanwhile."""

from __future__ import annotations

import atexit
import weakref
from typing import Any

import ipywidgets as widgets

from noiseutils.data import Dataset, load
from noiseutils.errors import UserError
from noiseutils.live.record import Record
from noiseutils.live.session import Probes, Session
from noiseutils.studies.lab_noises import KINDS
from noiseutils.studies.live_lab import Params, facts
from noiseutils.studies.output import origin
from noiseutils.studies.params import data_of
from noiseutils.widgets.training_comparison import TrainingComparison
from noiseutils.widgets.training_controls import TrainingControls
from noiseutils.widgets.training_files import TrainingFiles
from noiseutils.widgets.training_words import headline, setting, waiting
from noiseutils.widgets.view import (
    View,
    button,
    full_screen,
    numbers,
    problem,
    row,
    shows_errors,
    table,
)

ENDING_NOTE = "The current step is long; the training ends after this step."
PROBES_AT_ONCE = 30  # of a training that runs at once
# values that need a new training, where strength, learning rate and what is shown count at once
FIXED_FIELDS = ("data", "model", "width", "noise", "after", "seed", "compare", "beside")

_open: weakref.WeakSet[TrainingLab] = weakref.WeakSet()


class TrainingLab(View):
    """Train two networks from one seed, with noise and without, and show them while they train.

    params: first values of the controls.   interactive: see `view.is_interactive`; if False, `params.steps`
    steps are taken at once, and `static()` shows the last.
    """

    def __init__(self, params: Params | None = None, *, interactive: bool | None = None) -> None:
        super().__init__(interactive)
        self.first = self.params = params or Params()
        self.controls = TrainingControls(self.first)
        self.files = TrainingFiles(self, lambda: self.record, self._take_over)
        self.comparison = TrainingComparison(self, lambda: self.params, self._compare_with)
        self._make_buttons()
        self._end_others()
        self._show_first()
        _open.add(self)

    # --- controls on the page

    def _make_buttons(self) -> None:
        controls = self.controls
        self.start = button("Start", "begin or continue", self._start, "▶", "success")
        self.pause = button("Pause", "pause between two steps", self._pause, "❚❚")
        self.stop = button("Stop", "end this training", self._stop, "■")
        self.reset = button("Reset", "end this training, and restore the first values", self._reset, "↺")
        self.usual = button("Defaults", "the noise's usual strength, the first learning rate", self._usual)
        self.more = widgets.ToggleButton(description="More settings", tooltip="data, network, seed, pictures")
        self.more.layout.width = "auto"
        self.waiting = widgets.HTML()  # what the next training will have
        self.status = widgets.HTML()  # numbers, renewed with the pictures
        self.board = widgets.HTML()
        self.on_change(self._choice_changed, *controls.choice)
        self.on_change(self._sliders_changed, controls.rate)
        self.on_change(self._shown_changed, controls.images, controls.maps_of)
        self.on_change(self._pause_changed, controls.pause_after)
        self.on_change(self._more_changed, self.more)
        self._lay_out()

    def _lay_out(self) -> None:
        """Put the controls into a bar that stays, with the headline, above the settings and the pictures."""
        controls = self.controls
        buttons = (self.start, self.pause, self.stop, self.reset, self.usual, self.more, full_screen())
        runs = row(*buttons, controls.strength_place)
        choice = row(controls.noise, controls.after, widgets.VBox([controls.rate, controls.compare]))
        bar = widgets.VBox([choice, runs, self.waiting, self.message, self.status])
        bar.add_class("nu-bar")
        runs.add_class("nu-runs")
        choice.add_class("nu-choice")
        shown = row(controls.images, controls.maps_of, controls.pause_after)
        files = row(*self.comparison.buttons, *self.files.buttons)
        self.settings = widgets.VBox(
            [row(controls.data, controls.model, controls.seed), shown, files, self.files.text]
        )
        self.settings.layout.display = "none"
        self.box = self.laid_out(bar, self.settings, self.board)

    def _more_changed(self) -> None:
        self.settings.layout.display = "" if self.more.value else "none"

    def _fill(self, params: Params) -> None:
        """Show these values in the controls, without reacting to the changes."""
        with self.filling():
            if self.controls.fill(params):
                self.on_change(self._sliders_changed, self.controls.strength)
        self._show_waiting()

    # --- reactions to the controls

    @shows_errors
    def _choice_changed(self) -> None:
        """Take over another noise, network or data, for the next training that is started."""
        noise, trained = str(self.controls.noise.value), self.session.pending
        changes: dict[str, Any] = {}
        if noise != self.params.noise:
            back = self.running and noise == trained.noise
            changes["strength"] = trained.strength if back else KINDS[noise].usual
        if self.controls.model.value != self.params.model:
            changes["after"] = ()
        self.params = self._read_controls(**changes)
        self._fill(self.params)
        self.show_message("" if self.waits else "Press Start." if not self.running else "")

    def _read_controls(self, **changes: Any) -> Params:
        """Read the controls as parameters. Raises UserError for a value that is not allowed."""
        return self.controls.read(self.first, self.params, **changes)

    def _take_over(self) -> Params:
        """Take the controls over, and return their parameters. Raises UserError as `_read_controls` does."""
        self.params = self._read_controls()
        return self.params

    @shows_errors
    def _sliders_changed(self) -> None:
        """Apply the sliders from the next step on; the strength of a noise to come when that noise starts."""
        values = self.controls.tuned
        self.params = self.params.replace(**values)
        if self.running:
            if self.params.noise != self.session.pending.noise:
                values.pop("strength")  # of another noise than the one in training
            self.session.tune(self.session.pending.replace(**values))
        self._show_waiting()

    @shows_errors
    def _shown_changed(self) -> None:
        """Show the maps of other test images, or of another convolution, in the next picture."""
        shown = numbers(self.controls.images.value)
        self.session.show(shown, str(self.controls.maps_of.value or ""))
        self.params = self.params.replace(shown=shown)
        layer = self.controls.maps_of.value or self.controls.maps_of.options[0][0]
        self.show_message(
            f"Feature maps of {layer}, test images {self.controls.images.value or 'chosen by the lab'}."
        )
        self._show_waiting()

    @shows_errors
    def _pause_changed(self) -> None:
        """Let the training pause after an epoch."""
        self.session.pause_after = epoch = self.controls.pause_after.value
        trained = self.running and self.session.epochs_trained
        if epoch and trained and epoch <= trained:
            self.session.pause_after = 0
            raise UserError(f"pause after epoch {epoch}: {trained} have been trained; allowed: more, or 0")
        self.show_message(f"Pauses after epoch {epoch}." if epoch else "Does not pause by itself.")

    @shows_errors
    def _usual(self) -> None:
        """Set strength and learning rate to their defaults, while it trains or before."""
        with self.filling():
            first = self.first.noise == self.params.noise
            self.controls.strength.value = self.first.strength if first else self.params.kind.usual
            self.controls.rate.value = self.first.learning_rate
        self._sliders_changed()

    def _compare_with(self, beside: tuple[str, ...]) -> None:
        self.params = self._read_controls(beside=beside)
        self._show_waiting()

    @property
    def running(self) -> bool:
        """Tell if there is a training, paused or not."""
        return self.session.running

    @property
    def waits(self) -> bool:
        """Tell if the controls are set to another training than the one that runs."""
        now, trained = self.params, self.session.pending
        names = [name for name in FIXED_FIELDS if name != "after" or now.kind.sites]
        return self.running and any(getattr(now, name) != getattr(trained, name) for name in names)

    def _show_waiting(self) -> None:
        """Say what the controls are set to where that is not what is in training."""
        waits = hasattr(self, "session") and self.waits
        self.start.description = "▶ Restart" if waits else "▶ Start"
        kind = self.params.kind
        same = not waits or self.session.pending.noise == self.params.noise
        self.controls.strength.description = f"strength {kind.symbol}".strip() + (
            "" if same else ", next training"
        )
        self.files.offer(self.params)
        self.waiting.value = waiting(self.params, self.session.pending) if waits else ""

    @shows_errors
    def _start(self) -> None:
        if self.running and not self.waits:
            self.show_message(ENDING_NOTE if self.session.stopping else "Training continues.")
            self.session.start()
            return
        params = self._read_controls()
        data = load(data_of(params))  # what cannot be loaded leaves the training that runs alone
        if self.running and not self.session.stop():
            self.show_message(ENDING_NOTE)
            return
        self.params = params
        self._new_session(params, data)
        self._end_others()
        label = origin(self.session.data.label)
        self.show_message(f"Training {' and '.join(self.session.runs)}, {self.params.model}, {label}.")
        self.session.start()  # from here on its thread speaks, too
        self._show_waiting()

    def _new_session(self, params: Params, data: Dataset) -> None:
        """Make a session of these parameters with its own record, as an old session may still be drawing."""
        record = Record()
        session = Session(params, data, lambda probes: self._draw(session, record, probes))
        session.show(params.shown, str(self.controls.maps_of.value or ""))
        session.pause_after = self.controls.pause_after.value
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
                else ENDING_NOTE
            )
            self._show_waiting()

    @shows_errors
    def _reset(self) -> None:
        if not self.session.stop():
            self.show_message(ENDING_NOTE)
            return
        self._show_first()
        self.keep()

    def _show_first(self) -> None:
        """Begin anew: take two steps to have pictures; without a page take all steps."""
        self.params = self.first
        self.controls.forget()
        self._fill(self.first)
        self.files.hide()
        with self.filling():
            self.controls.pause_after.value = 0
        self._new_session(self.first, load(data_of(self.first)))
        if self.interactive:
            self.session.run(steps=2, every=1)
            self.show_message("Press Start.")
        else:
            self.session.run(self.first.steps, every=max(1, self.first.steps // PROBES_AT_ONCE))

    def close(self) -> None:
        """End the training, if there is one."""
        self.session.stop()

    # --- pictures, drawn in the training's thread

    def _draw(self, session: Session, record: Record, probes: Probes) -> None:
        """Draw the pictures of probes, in the training's thread; without a probe, the end."""
        if probes:
            record.add(probes, setting(session.params))
        if session is not self.session or not (self.interactive or not probes):
            return
        self.board.value = record.board()
        self.status.value = headline(session, record)
        if probes:
            if session.paused_after:
                self.show_message(f"Paused after epoch {session.paused_after}. Start continues.")
                session.paused_after = 0
                self.keep()
            return
        if session.error is not None:
            self.message.value = problem(session.error)
        elif session.state == "finished" and self.interactive and not session.diverged:
            self.show_message(f"Finished: {session.params.epochs} epochs.")
        self.keep()

    def static(self) -> str:
        """Return the last frame: parameters, numbers and pictures."""
        session = self.session
        said = table(facts(session.params, origin(session.data.label)).items())
        return f"{said}{headline(session, self.record)}{self.record.board()}"


@atexit.register
def _end() -> None:
    for lab in list(_open):
        lab.close()
