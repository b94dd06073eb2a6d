"""What every live view is: controls and pictures, and the same pictures as a page without a kernel."""

from __future__ import annotations

import functools
import html
import os
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import ipywidgets as widgets
from IPython.display import display, update_display

from noiseutils.book.page import WIDGET
from noiseutils.errors import UserError

# variables that servers set for the kernels of pages that answer: Jupyter's and Voila's
ANSWERING = ("JPY_SESSION_NAME", "VOILA_KERNEL_ID", "VOILA_REQUEST_URL")
STATIC = "noiseutils-static"  # how the ids of what stands in for a view begin


def answers(interactive: bool | None) -> bool:
    """Whether a page will answer: as told, or, of None, as the environment of this kernel says."""
    return any(name in os.environ for name in ANSWERING) if interactive is None else interactive


class View:
    """Shows `box` where a page answers, and `static()` where none does, or no longer.

    A saved notebook has both. While the box is there it hides the other, which `keep` renews.
    """

    def __init__(self, interactive: bool | None) -> None:
        self.interactive = answers(interactive)
        self.box: widgets.Widget = widgets.VBox()
        self.mark = f"{STATIC}-{uuid.uuid4().hex}"
        self._kept_under: str | None = None

    def static(self) -> str:
        """The view as it is, as HTML that needs no kernel and no network."""
        raise NotImplementedError

    def keep(self) -> None:
        """Write the view as it is now into the notebook that shows it; of several places, into the last."""
        if self._kept_under is not None:
            update_display({"text/html": self._page()}, raw=True, display_id=self._kept_under)

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
        # two outputs: to renew the page's own would build the controls anew, and take the focus from them
        display({WIDGET: bundle[WIDGET]}, raw=True)
        shown = display({"text/html": bundle["text/html"]}, raw=True, display_id=True)
        self._kept_under = getattr(shown, "display_id", None)


def hide_static(mark: str) -> widgets.HTML:
    """Hides what stands in for the view of this mark, as long as it is there itself."""
    return widgets.HTML(f"<style>#{mark} {{ display: none; }}</style>", layout={"display": "contents"})


def shows_errors(method: Callable[..., None]) -> Callable[..., None]:
    """For a view's method that a control calls: what goes wrong in it is said on the page, in `said`."""

    @functools.wraps(method)
    def called(self: Any, *arguments: Any) -> None:
        try:
            method(self, *arguments)
        except Exception as error:
            self.said.value = problem(error)

    return called


def button(
    text: str, hint: str, pressed: Callable[[], None], icon: str = "", style: str = ""
) -> widgets.Button:
    """A button that calls `pressed`."""
    made = widgets.Button(description=text, tooltip=hint, icon=icon, button_style=style)
    made.layout.width, made.layout.align_self = "auto", "flex-start"
    made.on_click(lambda _: pressed())
    return made


def chosen(control: widgets.Dropdown) -> str:
    """The value of a choice that has one."""
    return str(control.value)


def dropdown(label: str, options: Any, value: Any, hint: str = "") -> widgets.Dropdown:
    """A choice of one, its label beside it."""
    made = widgets.Dropdown(description=label, options=options, value=value, tooltip=hint)
    made.style.description_width = "7em"
    made.layout.width = "26em"
    return made


def slider(label: str, value: float, low: float, most: float, hint: str = "") -> widgets.FloatSlider:
    """Values from low to most, in 200 steps above zero; one beyond them widens the range."""
    made = widgets.FloatSlider(
        description=label,
        value=value,
        min=min(low, value),
        max=max(most, value),
        step=most / 200,
        readout_format=".3f",
        tooltip=hint,
    )
    made.style.description_width, made.layout.width = "9em", "30em"
    return made


def numbers(text: str, most: int = 4) -> tuple[int, ...]:
    """Whole numbers between commas. Raises UserError for anything else, and for more than `most`."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if wrong := [part for part in parts if not part.isdecimal()]:
        raise UserError(f"test images {wrong[0]!r}: write whole numbers with commas, such as 3, 14, 15")
    if len(parts) > most:
        raise UserError(f"test images: {len(parts)} of them; allowed: up to {most}")
    return tuple(map(int, parts))


def table(rows: Iterable[Iterable[object]], heads: Sequence[str] = ()) -> str:
    """Cells as an HTML table; without heads the first of each row is its heading. `Markup` stays as it is."""
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
    """A cell that is HTML already."""

    html: str


def problem(error: Exception) -> str:
    """What went wrong, for the page."""
    text = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    return f'<p role="alert" style="color:#a00000"><b>{html.escape(text)}</b></p>'


def broken(names: list[str]) -> str:
    """What is to be said of trainings whose loss broke."""
    if not names:
        return ""
    said = f"{', '.join(names)}: the loss is no longer finite, so this training has ended"
    return problem(UserError(said))
