"""Files of the training lab: its pictures and its recording, and its controls as parameters for papermill."""

from __future__ import annotations

import base64
import html
import shlex
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import ipywidgets as widgets
import yaml

from noiseutils.live.record import Record
from noiseutils.live.recording import gif_of, png_of
from noiseutils.provenance import outputs_root
from noiseutils.studies.live_lab import STUDY, Params
from noiseutils.widgets.view import View, button, copy_button, near, problem, shows_errors

MIME = {"png": "image/png", "gif": "image/gif"}


class TrainingFiles:
    """Buttons that write files under outputs/live_lab, and a box with the parameters that were written.

    view: shows what happened.   recorded: returns the pictures so far.   read: returns the controls as
    parameters; a UserError is shown.
    """

    def __init__(self, view: View, recorded: Callable[[], Record], read: Callable[[], Params]) -> None:
        self._view, self._recorded, self._read, self.message = view, recorded, read, view.message
        self.picture = button("Save picture", "as PNG", lambda: self._save_images("png"))
        self.recording = button("Save recording", "as GIF", lambda: self._save_images("gif"))
        self.save = button("Save params.yaml", "write the controls as a file for papermill", self._save)
        self.copy = widgets.HTML()  # a button of the page, as a kernel has no clipboard
        self.buttons = (self.picture, self.recording, self.copy, self.save)
        self.text = widgets.Textarea(layout={"width": "100%", "height": "14em", "display": "none"})
        self.text.description = "params.yaml"
        self._saver = ThreadPoolExecutor(1, "noiseutils-save")

    def offer(self, params: Params) -> None:
        """Have parameters ready for the page's clipboard."""
        self.copy.value = copy_button("Copy as params.yaml", as_yaml(params))

    def hide(self) -> None:
        """Put the box with the written parameters away."""
        self.text.layout.display = "none"

    @shows_errors
    def _save_images(self, kind: str) -> None:
        """Write what was recorded as a picture or a GIF, in a thread, and offer to download it."""
        record, path = self._recorded(), outputs_root() / "live_lab" / f"training_lab.{kind}"
        self._view.show_message(f"Writing {path.name}.")

        def save() -> None:
            try:
                data = (png_of if kind == "png" else gif_of)(record)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            except Exception as error:
                self.message.value = problem(error)
                return
            source = f"data:{MIME[kind]};base64,{base64.b64encode(data).decode()}"
            where = html.escape(near(path))
            link = f'<a download="{html.escape(path.name)}" href="{source}">Download</a>'
            self.message.value = f'<p role="status">Written to {where}. {link}</p>'

        self._saver.submit(save)

    @shows_errors
    def _save(self) -> None:
        """Write the controls as YAML, into a file and a box."""
        text = as_yaml(self._read())
        path = outputs_root() / "live_lab" / "params.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        self.text.value, self.text.layout.display = text, ""
        file = shlex.quote(near(path))
        self._view.show_message(
            f"Written to {file}. From the project's folder: noiseutils run live_lab --profile {file}, or "
            f"papermill notebooks/{STUDY.notebook}.ipynb mine.ipynb --cwd notebooks -f {file}"
        )


def as_yaml(params: Params) -> str:
    """Return the lab's parameters as a file for papermill."""
    kept = params.replace(profile="mine", interactive=False)
    values = yaml.safe_dump(kept.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    return f"# The live lab's controls.\n{values}"
