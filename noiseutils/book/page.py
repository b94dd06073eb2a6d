"""A notebook as one HTML page that needs no network.

No script, font or style comes from elsewhere, figures are embedded, equations are MathML, which browsers draw
by themselves.
"""

from __future__ import annotations

import base64
import html
import mimetypes
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from noiseutils.book.extras import notebooks_extra
from noiseutils.book.mathml import MATH_STYLE, mathml, typeset
from noiseutils.book.notebooks import read_notebook, title_of
from noiseutils.errors import UserError

WIDGET = "application/vnd.jupyter.widget-view+json"


def to_html(notebook: Path, source: Path | None = None) -> str:
    """The page of a notebook; images that its markdown names are looked for beside `source`, and embedded.

    source: where the notebook came from, when it lies elsewhere now.
    Raises UserError for an equation in a markdown cell that cannot become MathML.
    """
    source = source or notebook
    with notebooks_extra():
        import nbformat
        from bs4 import BeautifulSoup
    title = title_of(read_notebook(notebook)) or source.stem
    nb = nbformat.read(notebook, as_version=4)
    nb.metadata.pop("widgets", None)  # their scripts would come from a CDN; each view has a static form
    for cell in nb.cells:
        if "outputs" in cell:
            cell.outputs = [output for output in cell.outputs if output.get("data", {}).keys() != {WIDGET}]
    nb.metadata["title"] = title
    exporter = _exporter(source.name)
    dark = exporter.environment.loader.get_source(exporter.environment, "static/theme-dark.css")[0]
    resources = {"metadata": {"name": source.stem}, "dark_css": dark}
    soup = BeautifulSoup(exporter.from_notebook_node(nb, resources)[0], "html.parser")
    for tag in soup(["script", "link"]):
        tag.decompose()
    for image in soup("img"):
        place = source.parent / unquote(str(image.get("src", "")))
        if not re.match(r"[a-z]+:", str(image.get("src"))) and place.is_file():
            kind = mimetypes.guess_type(place)[0] or "image/png"
            image["src"] = f"data:{kind};base64,{base64.b64encode(place.read_bytes()).decode()}"
    return str(soup)


def _exporter(name: str) -> Any:
    """nbconvert's lab page without its scripts, with MathML and alternative texts."""
    with notebooks_extra():
        from jinja2 import DictLoader, pass_context
        from nbconvert.exporters.html import HTMLExporter
        from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
        from traitlets.config import Config

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

    return OfflineExporter(
        extra_loaders=[DictLoader({"offline.html.j2": PAGE})],
        template_file="offline.html.j2",
        filters={"typeset": typeset},
        config=Config({"NbConvertBase": {"display_data_priority": SHOWN}}),
    )


SHOWN = ["text/html", "text/markdown", "image/svg+xml", "text/latex", "image/png", "image/jpeg", "text/plain"]

PAGE = (
    r"""{% extends 'index.html.j2' %}
{% block html_head_js %}{% endblock %}
{% block html_head_js_mathjax %}{% endblock %}
{% block html_head_js_mermaidjs %}{% endblock %}
{% block html_head_css %}
<style media="screen and (prefers-color-scheme: dark)">{{ resources.dark_css }}</style>
<style>
:root { color-scheme: light dark; }
main { max-width: 68rem; margin: 0 auto; }
.jp-RenderedHTMLCommon table { display: block; width: fit-content; max-width: 100%; overflow-x: auto; }
.jp-OutputArea-output, .jp-InputArea-editor { overflow-x: auto; }
.jp-RenderedImage img { max-width: 100%; height: auto; background: white; }
.jp-RenderedHTMLCommon summary { cursor: pointer; font-weight: 600; }
"""
    + MATH_STYLE
    + r"""@media (max-width: 760px) { .jp-InputPrompt, .jp-OutputPrompt { display: none; } }
</style>
{% endblock %}
{% macro figure(output, cell, type, source) %}
{%- set alt = output | get_metadata('alt', type) or 'Figure of cell [%s]' % cell.execution_count %}
<div class="jp-RenderedImage jp-OutputArea-output"><img alt="{{ alt | escape_html }}"
{%- for side in ('width', 'height') if output | get_metadata(side, type) %}
 {{ side }}="{{ output | get_metadata(side, type) }}"
{%- endfor %} src="data:{{ type }};base64,{{ source | replace('\n', '') }}"></div>
{% endmacro %}
{% block data_png scoped %}{{ figure(output, cell, 'image/png', output.data['image/png']) }}{% endblock %}
{% block data_jpg scoped %}{{ figure(output, cell, 'image/jpeg', output.data['image/jpeg']) }}{% endblock %}
{% block data_svg scoped -%}
{{ figure(output, cell, 'image/svg+xml', output.data['image/svg+xml'] | text_base64) }}
{%- endblock %}
{% block data_html scoped -%}
<div class="jp-RenderedHTMLCommon jp-RenderedHTML jp-OutputArea-output">
{{ output.data['text/html'] | typeset }}
</div>
{%- endblock %}
{% block data_latex scoped -%}
<div class="jp-RenderedHTMLCommon jp-OutputArea-output">{{ output.data['text/latex'] | e | typeset }}</div>
{%- endblock %}
"""
)
