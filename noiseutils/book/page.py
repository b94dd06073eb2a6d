"""A notebook as one HTML page that needs no network.

No script, font or style comes from elsewhere, figures are embedded, equations are MathML, which browsers draw
by themselves.
"""

from __future__ import annotations

import base64
import html
import json
import mimetypes
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

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
                return _mathml(tex, display)
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
            return _typeset(super().block_html(html))  # may be half of a <details>: no parser may complete it

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
        filters={"typeset": _typeset},
        config=Config({"NbConvertBase": {"display_data_priority": SHOWN}}),
    )


def _typeset(text: str) -> str:
    """HTML with $...$ and $$...$$ outside its tags and code as MathML; what is no equation stays."""

    def drawn(found: re.Match[str]) -> str:
        block, inline = found["block"], found["inline"]
        try:
            return _mathml(html.unescape(block or inline), "block" if block else "inline")
        except (TypeError, ValueError):  # TypeError: neither, a tag or code
            return found[0]

    inline = r"(?<![\\$\w])\$(?P<inline>[^\s$<](?:[^$<]*[^\s$<])?)\$(?![\d$])"
    skipped = r"<(pre|code|script|style|math)\b(?s:.)*?</\1>|<[^>]*>"
    return re.sub(rf"{skipped}|\$\$(?P<block>[^$<]+)\$\$|{inline}", drawn, text)


def _mathml(tex: str, display: str) -> str:
    """An equation as MathML; ValueError for one that latex2mathml would draw wrongly or not at all."""
    with notebooks_extra():
        from latex2mathml.converter import convert
    for pattern, plain in TEX:
        tex = re.sub(pattern, plain, tex)
    if unknown := set(re.findall(r"\\begin\{([^}]*)\}", tex)) - ENVIRONMENTS:
        raise ValueError(
            f"environment {min(unknown)} is not known; allowed: {', '.join(sorted(ENVIRONMENTS))}"
        )
    try:
        drawn = convert(tex, display=display)
    except (
        Exception
    ) as error:  # the library's errors have no common base, and broken TeX brings out others too
        raise ValueError(f"not valid TeX ({type(error).__name__})") from None
    if found := re.search(r">(\\[A-Za-z]+|&)<", drawn):
        raise ValueError(f"{found[1]} is not known, or not here")
    for wrong, right in MATHML:
        drawn = drawn.replace(wrong, right)
    return f'<span class="equation">{drawn}</span>' if display == "block" else drawn


def read_notebook(notebook: Path) -> dict[str, Any]:
    """A notebook's JSON, read without the Jupyter stack."""
    try:
        nb = json.loads(notebook.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{notebook}: cannot be read: {error.strerror}") from None
    except ValueError:
        raise UserError(f"{notebook}: is not a notebook, or is cut off: not valid JSON") from None
    if not isinstance(nb, dict) or nb.get("nbformat") != 4 or not {"cells", "metadata"} <= nb.keys():
        raise UserError(f"{notebook}: is not a notebook of format 4")
    return nb


def title_of(nb: dict[str, Any]) -> str | None:
    """The first heading of a notebook, without its markup; None where there is none."""
    texts = ("".join(cell["source"]) for cell in nb["cells"] if cell["cell_type"] == "markdown")
    found = next((m for text in texts if (m := re.search(r"^#{1,6} +(.+)$", text, re.M))), None)
    return re.sub(r"[*`$\\]", "", found[1]).strip() if found else None


@contextmanager
def notebooks_extra() -> Iterator[None]:
    """Around imports of the Jupyter stack: without it, an error that says how to get it."""
    # jsonschema checks IRIs with its help if it is there. No notebook has any, and it compiles 38 grammars as
    # it is imported: over a second, four fifths of what importing the stack takes
    hidden = "rfc3987_syntax" not in sys.modules
    if hidden:
        sys.modules["rfc3987_syntax"] = None  # pyright: ignore[reportArgumentType]
    try:
        yield
    except ImportError as error:
        raise UserError(
            f"rendering a notebook needs the notebooks extra: pip install 'noiseutils[notebooks]' ({error})"
        ) from None
    finally:
        if hidden:
            sys.modules.pop("rfc3987_syntax", None)


ENVIRONMENTS = {
    "align*",
    "array",
    "bmatrix",
    "cases",
    "equation",
    "equation*",
    "matrix",
    "pmatrix",
    "vmatrix",
}
TEX = (  # what latex2mathml does not read, as it reads it
    (r"\{(?:align|aligned|split)\}", "{align*}"),
    (r"\\arg\s*\\(min|max)", r"\\arg\1"),
    (r"(\\math(?:bb|bf|cal|rm)) +([A-Za-z])", r"\1{\2}"),
    (r"(?s)^(.*)\\tag\{([^}]*)\}(.*)$", r"\1\3\\qquad\\text{(\2)}"),
)
MATHML = (  # what it writes, as browsers draw it; the namespace is implied in HTML
    (' xmlns="http://www.w3.org/1998/Math/MathML"', ""),
    ("<mi>&#x0007E;</mi>", "<mo>&#x0223C;</mo>"),
    ("<mi>&#x000B1;</mi>", "<mo>&#x000B1;</mo>"),
    ('"negativethinmathspace"', '"-0.167em"'),
    (r"\%", "%"),
)
SHOWN = ["text/html", "text/markdown", "image/svg+xml", "text/latex", "image/png", "image/jpeg", "text/plain"]

MATH_STYLE = r""".equation { display: block; overflow: auto hidden; padding: 0.3em 0; }
/* by name: Chromium finds no mathematical font by itself on Linux, and then stretches no bracket */
math { font: 1.1em "STIX Two Math", "Cambria Math", "Latin Modern Math", "DejaVu Math TeX Gyre", math; }
mtd[columnalign=left] { text-align: -webkit-left; text-align: left; }
mtd[columnalign=right] { text-align: -webkit-right; text-align: right; }
mi[mathvariant|=bold] { font-weight: bold; }
mi[mathvariant=bold] { text-transform: none; }
"""

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
