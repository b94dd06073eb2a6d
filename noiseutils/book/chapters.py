"""Turn notebooks into chapters of the book: figures from files, tables in boxes, links, verdicts on top."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

from noiseutils.book.drawings import Drawing, drawing_html, image_html, read_drawings
from noiseutils.book.mathml import typeset
from noiseutils.book.notebooks import WIDGET
from noiseutils.book.tables import in_boxes

FOLDED_TAGS = {  # tag of a cell -> the line that opens it
    "parameters": "Parameters and their defaults",
    "injected-parameters": "Parameters of this rendering",
}


class Page(NamedTuple):
    """Where a notebook stands in the book: its docname, and what its headings are called in links."""

    docname: str
    anchors: frozenset[str]


def page_of(nb: Mapping[str, Any], docname: str) -> Page:
    """Return the place of a notebook."""
    texts = ("".join(cell["source"]) for cell in nb["cells"] if cell["cell_type"] == "markdown")
    headings = (heading for text in texts for heading in re.findall(r"^#{1,6} +(.+)$", text, re.M))
    anchors = (re.sub("[*`]", "", heading).strip().replace(" ", "-") for heading in headings)
    return Page(docname, frozenset(f"#{anchor}" for anchor in anchors))


def chapter(
    nb: dict[str, Any],
    docname: str,
    pages: Mapping[str, Page],
    box: str = "",
    figures: Path | None = None,
    keep: Callable[[str, bytes], str] | None = None,
) -> dict[str, Any]:
    """Return a notebook as MyST-NB is to show it; the given one is changed.

    docname: of its page.   pages: by the stem of a notebook, for links.   box: Markdown below the title.
    figures: the folder of a study's figures, in which its images are looked up.   keep: stores a file under a
    name for the site, and returns its URL from the page; needed for images.
    """
    drawings = read_drawings(figures)[0] if figures else []
    by_content = {_digest(drawing.png.read_bytes()): drawing for drawing in drawings}
    nb["metadata"] = {
        name: nb["metadata"][name] for name in ("kernelspec", "language_info") if name in nb["metadata"]
    }
    for number, cell in enumerate(nb["cells"]):
        cell["source"] = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            cell["source"] = _fences(_relinked(cell["source"], docname, pages))
            cell.pop("attachments", None)
            continue
        tags = cell["metadata"].get("tags", [])
        cell["metadata"] = {}
        if folded := next((FOLDED_TAGS[tag] for tag in tags if tag in FOLDED_TAGS), ""):
            cell["metadata"] = {"tags": ["hide-input"], "mystnb": {"code_prompt_show": folded}}
        outputs = [output for output in cell["outputs"] if output.get("data", {}).keys() != {WIDGET}]
        cell["outputs"] = [_output(output, by_content, keep, f"{number:02}") for output in outputs]
    if box:
        _put_below_the_title(nb, box)
    return nb


def link_of(docname: str, target: str) -> str:
    """Return the relative address from one page to another, without the suffix."""
    return os.path.relpath(target, os.path.dirname(docname) or ".")


def _relinked(text: str, docname: str, pages: Mapping[str, Page]) -> str:
    """Point links between notebooks at their pages; a link to a file that the book lacks becomes text.

    A heading that the page lacks is left out: a rendering may be older than the notebook that names it.
    """

    def linked(found: re.Match[str]) -> str:
        words, target, fragment = found["words"], unquote(found["target"]), found["fragment"] or ""
        if re.match(r"[a-z]+:", target):
            return found[0]
        stem = target.rpartition("/")[2].removesuffix(".ipynb")
        if target.endswith(".ipynb") and stem in pages:
            page = pages[stem]
            there = fragment if unquote(fragment) in page.anchors else ""
            return f"[{words}]({link_of(docname, page.docname)}.ipynb{there})"
        return words

    outside = r"(?P<code>```.*?```|`[^`\n]*`)"
    link = r"(?<!!)\[(?P<words>[^\]]*)\]\((?P<target>[^)#\s]+)(?P<fragment>#[^)\s]*)?\)"
    return re.sub(rf"{outside}|{link}", lambda m: m[0] if m["code"] else linked(m), text, flags=re.S)


def _fences(text: str) -> str:
    """Name the language of code blocks that name none: it is plain text, not Python."""
    parts = re.split(r"^(```)([^\n`]*)\n", text, flags=re.M)
    opening = True
    for at in range(1, len(parts), 3):
        if opening and not parts[at + 1].strip():
            parts[at + 1] = "text"
        opening = not opening
        parts[at + 1] += "\n"
    return "".join(parts)


def _output(
    output: dict[str, Any],
    by_content: Mapping[str, Drawing],
    keep: Callable[[str, bytes], str] | None,
    name: str,
) -> dict[str, Any]:
    data = output.get("data", {})
    if "text/html" in data:
        text = "".join(data["text/html"])
        return _html(in_boxes(typeset(text)))
    png = data.get("image/png")
    if png and keep:
        content = base64.b64decode("".join(png))
        told = output.get("metadata", {}).get("image/png", {})
        alt, width = str(told.get("alt") or "Figure"), told.get("width")
        drawing = by_content.get(_digest(content))
        if drawing is None:
            return _html(image_html(keep(f"cell-{name}.png", content), alt, None))
        for file in filter(None, (drawing.png, drawing.svg)):
            url = keep(file.name, file.read_bytes())
        folder = url.rpartition("/")[0]
        return _html(drawing_html(drawing, alt, folder, int(width) if width else None))
    if output["output_type"] in ("display_data", "execute_result"):
        output["data"] = {"text/plain": "".join(data.get("text/plain", ""))}
    return output


def _html(text: str) -> dict[str, Any]:
    return {"output_type": "display_data", "data": {"text/html": text}, "metadata": {}}


def _put_below_the_title(nb: dict[str, Any], box: str) -> None:
    for cell in nb["cells"]:
        if cell["cell_type"] == "markdown" and (title := re.search(r"^# .+$", cell["source"], re.M)):
            end = title.end()
            cell["source"] = f"{cell['source'][:end]}\n\n{box}\n\n{cell['source'][end:].lstrip()}"
            return


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def dumps(nb: Mapping[str, Any]) -> str:
    """Return a notebook as text, always the same for the same content."""
    return json.dumps(nb, ensure_ascii=False, indent=1, sort_keys=True)
