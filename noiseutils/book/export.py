"""Export a notebook as one HTML file by nbconvert, without scripts: figures embedded, equations as MathML."""

from __future__ import annotations

import base64
import html
import mimetypes
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from noiseutils.book.extras import notebooks_extra
from noiseutils.book.mathml import mathml, typeset
from noiseutils.book.notebooks import WIDGET, read_notebook, title_of
from noiseutils.errors import UserError

STYLE = r"""<style>
main { max-width: 68rem; margin: 0 auto; }
.jp-RenderedHTMLCommon table { display: block; width: fit-content; max-width: 100%; overflow-x: auto; }
.jp-OutputArea-output, .jp-InputArea-editor { overflow-x: auto; }
.jp-RenderedHTMLCommon img { max-width: 100%; height: auto; }
.jp-RenderedHTMLCommon summary { cursor: pointer; font-weight: 600; }
.equation { display: block; overflow: auto hidden; padding: 0.3em 0; }
/* by name: Chromium finds no mathematical font by itself on Linux, and then stretches no bracket */
math { font: 1.1em "STIX Two Math", "Cambria Math", "Latin Modern Math", "DejaVu Math TeX Gyre", math; }
@media (max-width: 760px) { .jp-InputPrompt, .jp-OutputPrompt { display: none; } }
</style>"""


def to_html(notebook: Path, source: Path | None = None) -> str:
    """Return a notebook as a page that needs no network.

    source: where the notebook came from, when it lies elsewhere now; images that its Markdown names are
    looked for beside it, and embedded. Raises UserError for an equation in a Markdown cell that cannot become
    MathML.
    """
    source = source or notebook
    title = title_of(read_notebook(notebook)) or source.stem
    with notebooks_extra():
        import nbformat
        from bs4 import BeautifulSoup
    nb = nbformat.read(notebook, as_version=4)
    nb.metadata.pop("widgets", None)  # their scripts would come from a CDN; each view has a static form
    nb.metadata["title"] = title
    for cell in nb.cells:
        outputs = [output for output in cell.get("outputs", []) if output.get("data", {}).keys() != {WIDGET}]
        for output in outputs:
            if shown := _as_html(output, f"Figure of cell [{cell.execution_count}]"):
                output.data = {"text/html": shown}
        if "outputs" in cell:
            cell.outputs = outputs
    page = _exporter(source.name).from_notebook_node(nb, {"metadata": {"name": source.stem}})[0]
    soup = BeautifulSoup(page, "html.parser")
    for tag in soup(["script", "link"]):
        tag.decompose()
    for image in soup("img"):
        place = source.parent / unquote(str(image.get("src", "")))
        if not re.match(r"[a-z]+:", str(image.get("src"))) and place.is_file():
            image["src"] = _embedded(mimetypes.guess_type(place)[0] or "image/png", place.read_bytes())
    return str(soup).replace("</head>", f"{STYLE}</head>", 1)


def _as_html(output: Any, alt: str) -> str:
    """Return an output as HTML where nbconvert would leave TeX to a script, or a figure without its text."""
    data = output.get("data", {})
    if "text/html" in data:
        return typeset(data["text/html"])
    if "text/latex" in data:
        return typeset(html.escape(data["text/latex"]))
    kind = next((kind for kind in ("image/svg+xml", "image/png", "image/jpeg") if kind in data), None)
    if kind is None or "text/markdown" in data:
        return ""
    told = output.get("metadata", {}).get(kind, {})
    sides = "".join(
        f' {side}="{html.escape(str(told[side]))}"' for side in ("width", "height") if told.get(side)
    )
    content = data[kind].encode() if kind.endswith("xml") else base64.b64decode(data[kind])
    return f'<img alt="{html.escape(told.get("alt") or alt)}"{sides} src="{_embedded(kind, content)}">'


def _embedded(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _exporter(name: str) -> Any:
    """Return nbconvert's exporter with MathML for TeX."""
    with notebooks_extra():
        from jinja2 import pass_context
        from nbconvert.exporters.html import HTMLExporter
        from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

    class MathRenderer(IPythonRenderer):
        strict = True

        def math(self, tex: str, display: str) -> str:
            try:
                return mathml(tex, display)
            except ValueError as error:
                if self.strict:
                    raise UserError(f"{name}: equation {tex.strip()!r}: {error}") from None
                return f"<code>{html.escape(tex)}</code>"

        def inline_math(self, body: str) -> str:
            return self.math(body, "inline")

        def block_math(self, body: str) -> str:
            return self.math(body, "block")

        def latex_environment(self, name: str, body: str) -> str:
            return self.math(rf"\begin{{{name}}}{body}\end{{{name}}}", "block")

        def block_html(self, html: str) -> str:
            return typeset(super().block_html(html))  # may be half of a <details>: no parser may complete it

    class OfflineExporter(HTMLExporter):
        @pass_context
        def markdown2html(self, context: Any, source: str) -> str:
            cell = context.get("cell", {})
            renderer = MathRenderer(escape=False, attachments=cell.get("attachments", {}))
            renderer.strict = cell.get("cell_type") == "markdown"  # what a cell printed is shown as it can be
            return MarkdownWithMath(renderer=renderer).render(source)

    return OfflineExporter()
