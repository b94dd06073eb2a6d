"""Show a view alive, as controls and pictures, or as the same pictures on a page without a kernel."""

from __future__ import annotations

import functools
import html
import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ipywidgets as widgets
from IPython.display import display, update_display

from noiseutils.book.page import WIDGET
from noiseutils.errors import UserError
from noiseutils.provenance import project_root

# variables that Jupyter and Voila set for the kernels behind a page
ANSWERING = ("JPY_SESSION_NAME", "VOILA_KERNEL_ID", "VOILA_REQUEST_URL")
STATIC = "noiseutils-static"  # prefix of the ids of static pictures


def is_interactive(interactive: bool | None) -> bool:
    """Tell if a page handles the controls: as given, or for None as this kernel's environment says."""
    return any(name in os.environ for name in ANSWERING) if interactive is None else interactive


class View:
    """Show `box` where a page handles its controls, and `static()` elsewhere.

    A saved notebook has both. While the box lives, the box hides the static pictures, which `keep` renews.
    """

    def __init__(self, interactive: bool | None) -> None:
        self.interactive = is_interactive(interactive)
        self.box: widgets.Widget = widgets.VBox()
        self.mark = f"{STATIC}-{uuid.uuid4().hex}"
        self.message = widgets.HTML()  # the last event, or error
        self.shown = widgets.HTML()  # pictures
        self._kept_under: str | None = None
        self._filling = False

    def static(self) -> str:
        """Return the view as HTML that needs no kernel and no network."""
        return self.shown.value

    def draw(self, pictures: str) -> None:
        """Show other pictures, and keep them in the notebook."""
        self.shown.value = pictures
        self.keep()

    def keep(self) -> None:
        """Write the present pictures into the notebook, at the last place that shows the view."""
        if self._kept_under is not None:
            update_display({"text/html": self._page()}, raw=True, display_id=self._kept_under)

    def show_message(self, text: str) -> None:
        """Show an event on the page."""
        self.message.value = f'<p role="status">{html.escape(text)}</p>'

    def on_change(self, react: Callable[[], object], *controls: widgets.Widget) -> None:
        """Call `react` when the value of a control changes, but not while the view is `filling` controls."""
        for control in controls:
            control.observe(lambda change: self._filling or react(), "value")

    @contextmanager
    def filling(self) -> Iterator[None]:
        """Set controls inside the block without reacting to the changes."""
        self._filling = True
        try:
            yield
        finally:
            self._filling = False

    def _page(self) -> str:
        return f'<div id="{self.mark}">{self.static()}</div>'

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        alive = (self.box._repr_mimebundle_() or {}) if self.interactive else {}
        found = {WIDGET: alive[WIDGET]} if WIDGET in alive else {}
        return {**found, "text/html": self._page(), "text/plain": type(self).__name__}

    def _ipython_display_(self) -> None:
        bundle = self._repr_mimebundle_()
        if WIDGET not in bundle:
            display(bundle, raw=True)
            return
        # two outputs: renewing a single one would build the controls anew, and take their focus
        display({WIDGET: bundle[WIDGET]}, raw=True)
        shown = display({"text/html": bundle["text/html"]}, raw=True, display_id=True)
        self._kept_under = getattr(shown, "display_id", None)


def hide_static(mark: str) -> widgets.HTML:
    """Return a widget that hides the static pictures of a mark, as long as the widget lives."""
    return widgets.HTML(f"<style>#{mark} {{ display: none; }}</style>", layout={"display": "contents"})


def shows_errors(method: Callable[..., None]) -> Callable[..., None]:
    """Wrap a view's method that a control calls: errors are shown on the page, in `message`."""

    @functools.wraps(method)
    def called(self: Any, *arguments: Any) -> None:
        try:
            method(self, *arguments)
        except Exception as error:
            self.message.value = problem(error)

    return called


def button(
    text: str, hint: str, pressed: Callable[[], None], icon: str = "", style: str = ""
) -> widgets.Button:
    """Make a button that calls `pressed`."""
    control = widgets.Button(description=text, tooltip=hint, icon=icon, button_style=style)
    control.layout.width, control.layout.align_self = "auto", "flex-start"
    control.on_click(lambda _: pressed())
    return control


def row(*controls: widgets.Widget) -> widgets.HBox:
    """Lay controls side by side, wrapping where there is no room."""
    return widgets.HBox(controls, layout={"flex_flow": "row wrap"})


def dropdown(label: str, options: Any, value: Any, hint: str = "") -> widgets.Dropdown:
    """Make a dropdown with its label beside it."""
    control = widgets.Dropdown(description=label, options=options, value=value, tooltip=hint)
    control.style.description_width = "7em"
    control.layout.width = "26em"
    return control


def slider(label: str, value: float, low: float, most: float, hint: str = "") -> widgets.FloatSlider:
    """Make a slider from low to most, in 200 steps above zero; a value beyond widens the range."""
    control = widgets.FloatSlider(
        description=label,
        value=value,
        min=min(low, value),
        max=max(most, value),
        step=most / 200,
        readout_format=".3f",
        tooltip=hint,
    )
    control.style.description_width, control.layout.width = "9em", "30em"
    return control


def numbers(text: str, most: int = 4) -> tuple[int, ...]:
    """Read whole numbers between commas. Raises UserError for other text, and for more than `most`."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if wrong := [part for part in parts if not part.isdecimal()]:
        raise UserError(f"test images {wrong[0]!r}: write whole numbers with commas, such as 3, 14, 15")
    if len(parts) > most:
        raise UserError(f"test images: {len(parts)} of them; allowed: up to {most}")
    return tuple(map(int, parts))


def table(rows: Iterable[Iterable[object]], heads: Sequence[str] = ()) -> str:
    """Write cells as an HTML table, without heads the first of a row as its heading; `Markup` unescaped."""
    style = 'style="text-align:left;padding:2px 10px 2px 0"'

    def cell(value: object, tag: str, scope: str = "") -> str:
        text = value.html if isinstance(value, Markup) else html.escape(str(value))
        return f"<{tag}{scope} {style}>{text}</{tag}>"

    head = "".join(cell(text, "th", ' scope="col"') for text in heads)
    body = []
    for row in rows:
        first, *others = row
        begun = cell(first, "td") if heads else cell(first, "th", ' scope="row"')
        body.append(f"<tr>{begun}{''.join(cell(value, 'td') for value in others)}</tr>")
    top = f"<thead><tr>{head}</tr></thead>" if heads else ""
    return f'<div style="overflow-x:auto"><table>{top}<tbody>{"".join(body)}</tbody></table></div>'


@dataclass(frozen=True)
class Markup:
    """Hold a cell that is HTML already."""

    html: str


def near(path: Path) -> str:
    """Return a path as seen from the project's folder, if the path lies there."""
    root = project_root()
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


def problem(error: Exception) -> str:
    """Write an error for the page."""
    text = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    return f'<p role="alert" style="color:#a00000"><b>{html.escape(text)}</b></p>'


def broken(names: list[str]) -> str:
    """Write an error for trainings whose loss is no longer finite; nothing without names."""
    if not names:
        return ""
    text = f"{', '.join(names)}: the loss is no longer finite, so this training has ended"
    return problem(UserError(text))
