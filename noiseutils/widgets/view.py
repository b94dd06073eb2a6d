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

from noiseutils.book.notebooks import WIDGET
from noiseutils.errors import UserError
from noiseutils.live.pictures import STYLE
from noiseutils.provenance import project_root

# variables that Jupyter and Voila set for the kernels behind a page
FRONTEND_VARIABLES = ("JPY_SESSION_NAME", "VOILA_KERNEL_ID", "VOILA_REQUEST_URL")
STATIC_PREFIX = "noiseutils-static"  # prefix of the ids of static pictures

# The bar stays in sight: JupyterLab's outputs would scroll by themselves, and so keep the bar from that. On a
# phone the bar would cover all, and only its buttons stay.
TOOLBAR = """
:is(.jp-OutputArea, .jp-OutputArea-child, .jp-OutputArea-output, .jp-Cell-outputWrapper, .jp-Cell):has(
  .nu-bar) { overflow: visible !important; }
.nu-lab { overflow: visible; }
.nu-lab:fullscreen { overflow: auto; padding: 8px; }
.nu-lab .widget-html-content, .nu-lab p { line-height: 1.4; margin: 2px 0; }
.nu-lab .widget-label { padding-right: 4px; }
.nu-lab .widget-html { margin-top: 0; margin-bottom: 0; }
.nu-runs { align-items: center; }
.nu-runs > *, .nu-runs button { align-self: center; margin-top: 2px; margin-bottom: 2px; }
.nu-bar, .nu-runs { position: sticky; top: 0; z-index: 5; background: white; }
.nu-bar { border-bottom: 1px solid #bbb; overflow: visible; }
.nu-choice > * { min-width: 0; flex: 1 1 280px; }
.nu-lab .widget-box, .nu-lab .widget-inline-hbox, .nu-lab select { max-width: 100%; min-width: 0; }
.nu-small { font-size: 11px; color: #444; }
.nu-waiting { padding: 2px 6px; border-left: 4px solid #E69F00; background: #fff7e0; }
@container (max-width: 640px) {
  .nu-bar { display: contents; }
  .nu-lab .widget-inline-hbox { width: 100%; flex-wrap: wrap; height: auto; }
}
"""
# noUiSlider's handles have a role and no name: each gets the text of its slider's label, now and later
NAME_HANDLES = (
    "const root = this.closest('.nu-lab'); const name = () => { "
    "for (const one of root.querySelectorAll('.widget-slider')) { "
    "const label = one.querySelector('.widget-label'), handle = one.querySelector('.noUi-handle'); "
    "if (label && handle && handle.getAttribute('aria-label') !== label.textContent) "
    "handle.setAttribute('aria-label', label.textContent); } }; "
    "name(); new MutationObserver(name).observe(root, {childList: true, subtree: true, characterData: true});"
)


def is_interactive(interactive: bool | None) -> bool:
    """Tell if a page handles the controls: as given, or for None as this kernel's environment says."""
    return any(name in os.environ for name in FRONTEND_VARIABLES) if interactive is None else interactive


class View:
    """Show `box` where a page handles its controls, and `static()` elsewhere.

    A saved notebook has both. While the box lives, the box hides the static pictures, which `keep` renews.
    """

    def __init__(self, interactive: bool | None) -> None:
        self.interactive = is_interactive(interactive)
        self.box: widgets.Widget = widgets.VBox()
        self.mark = f"{STATIC_PREFIX}-{uuid.uuid4().hex}"
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
        self.message.value = f'<p role="status">{html.escape(text)}</p>' if text else ""

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

    def laid_out(self, *parts: widgets.Widget) -> widgets.VBox:
        """Lay parts of a view out below each other, with the styles of the page."""
        box = widgets.VBox([page_style(self.mark), *parts])
        box.add_class("nu-lab")
        return box

    def _page(self) -> str:
        return f'{STYLE}<div id="{self.mark}" class="nu-lab">{self.static()}</div>'

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


def page_style(mark: str) -> widgets.HTML:
    """Return a widget with the styles of the views, and with names for their sliders' handles.

    It hides the static pictures of a mark, as long as the widget lives.
    """
    value = (
        f'{STYLE}<style onload="{html.escape(NAME_HANDLES)}">{TOOLBAR} #{mark} {{ display: none; }}</style>'
    )
    return widgets.HTML(value, layout={"display": "contents"})


def full_screen() -> widgets.HTML:
    """Return a button of the page that shows its view on the whole screen, or no longer."""
    script = (
        "document.fullscreenElement ? document.exitFullscreen() : this.closest('.nu-lab').requestFullscreen()"
    )
    return widgets.HTML(_page_button("Full screen", script))


def copy_button(text: str, copied: str) -> str:
    """Write a button of the page that copies a text to the clipboard, and says so."""
    script = (
        "const said = this.nextElementSibling; navigator.clipboard "
        "? navigator.clipboard.writeText(this.dataset.text).then("
        "() => said.textContent = ' Copied.', error => said.textContent = ' Not copied: ' + error.message) "
        ": said.textContent = ' This page may not write to the clipboard: save the file instead.'"
    )
    return _page_button(text, script, f' data-text="{html.escape(copied)}"') + '<span role="status"></span>'


def _page_button(text: str, script: str, more: str = "") -> str:
    look = 'class="jupyter-widgets jupyter-button widget-button" style="width:auto"'
    return f'<button type="button" {look}{more} onclick="{html.escape(script)}">{html.escape(text)}</button>'


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
    text: str, hint: str, pressed: Callable[[], None], sign: str = "", style: str = ""
) -> widgets.Button:
    """Make a button that calls `pressed`.   sign: a character, as icons would come from another server."""
    control = widgets.Button(description=f"{sign} {text}".strip(), tooltip=hint, button_style=style)
    control.layout.width, control.layout.align_self = "auto", "flex-start"
    control.on_click(lambda _: pressed())
    return control


def row(*controls: widgets.Widget) -> widgets.HBox:
    """Lay controls side by side, wrapping where there is no room."""
    return widgets.HBox(controls, layout={"flex_flow": "row wrap"})


def dropdown(label: str, options: Any, value: Any, hint: str = "") -> widgets.Dropdown:
    """Make a dropdown with its label beside it."""
    control = widgets.Dropdown(description=label, options=options, value=value, tooltip=hint)
    control.style.description_width = "initial"
    control.layout.width = "auto"
    return control


def slider(label: str, value: float, low: float, most: float, hint: str = "") -> widgets.FloatSlider:
    """Make a slider from low to most, in 200 steps above zero; a value beyond widens the range."""
    control = widgets.FloatSlider(
        description=label,
        value=value,
        min=min(low, value),
        max=max(most, value),
        step=most / 200,
        readout_format=".4",
        tooltip=hint,
    )
    control.style.description_width = "initial"
    return control


def value_of(slider: widgets.FloatSlider) -> float:
    """Return a slider's value without the rounding errors of its steps: 0.1, not 0.10000000000000009."""
    return float(f"{slider.value:.10g}")


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
