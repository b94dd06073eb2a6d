"""Read notebook files without the Jupyter packages, and remove this machine's paths from notebooks."""

from __future__ import annotations

import html
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from noiseutils.config import Data
from noiseutils.errors import UserError
from noiseutils.files import Unusable, read_json
from noiseutils.provenance import data_root, project_root

LARGEST_NOTEBOOK = 1 << 30  # bytes, with all its figures
MARKUP = ("text/html", "text/markdown", "image/svg+xml")  # kinds of output in which a text must be escaped
WIDGET = "application/vnd.jupyter.widget-view+json"


def read_notebook(notebook: Path) -> dict[str, Any]:
    """A notebook's JSON, read without the Jupyter stack."""
    try:
        nb = read_json(notebook, largest=LARGEST_NOTEBOOK)
    except FileNotFoundError:
        raise UserError(f"{notebook}: cannot be read: it is not there") from None
    except Unusable as damage:
        why = str(damage).removeprefix(f"{notebook} ")
        raise UserError(f"{notebook}: is not a notebook, or is cut off: it {why}") from None
    if not isinstance(nb, dict) or nb.get("nbformat") != 4 or not {"cells", "metadata"} <= nb.keys():
        raise UserError(f"{notebook}: is not a notebook of format 4")
    if not isinstance(nb["metadata"], dict) or not isinstance(nb["metadata"].get("papermill", {}), dict):
        raise UserError(f"{notebook}: its metadata is not a notebook's")
    if not isinstance(nb["cells"], list) or not all(map(_is_cell, nb["cells"])):
        raise UserError(f"{notebook}: its cells are not a notebook's")
    return nb


def _is_cell(cell: object) -> bool:
    return isinstance(cell, dict) and isinstance(cell.get("source"), (str, list)) and "cell_type" in cell


def title_of(nb: dict[str, Any]) -> str | None:
    """The first heading of a notebook, without its markup; None where there is none."""
    texts = ("".join(cell["source"]) for cell in nb["cells"] if cell["cell_type"] == "markdown")
    found = next((m for text in texts if (m := re.search(r"^#{1,6} +(.+)$", text, re.M))), None)
    return re.sub(r"[*`$\\]", "", found[1]).strip() if found else None


def placeless(text: str | None) -> str | None:
    """Data as typed, without the folder: a name is its identity, where it lay is nobody's business."""
    if text is None or (data := Data.parse(text)).root is None:
        return text
    if data.name == "folder":
        return f"./{data.label}"
    return f"{data.name}:./{data.label}" + (f":{data.label}" if data.label != data.name else "")


def private_paths(outputs: Path, parameters: Mapping[str, Any] | None = None) -> dict[str, str]:
    """Paths of this machine and what stands for them on a page, longer ones first.

    parameters: of a notebook; those that name data in a folder are among the paths.
    """
    said = {str(outputs): "outputs", str(data_root()): "data", str(project_root()): ".", sys.prefix: "python"}
    said[tempfile.gettempdir()] = "tmp"
    for value in (parameters or {}).values():
        for text in _strings(value):
            try:
                data = Data.parse(text)
            except UserError:
                continue
            if data.root is not None:
                said[text] = placeless(text) or ""
                said[os.path.expanduser(data.root)] = f"./{data.label}"
    if len(Path.home().parts) > 1:
        said[str(Path.home())] = "~"
    return longer_first(said)


def longer_first(said: Mapping[str, str]) -> dict[str, str]:
    """Paths and what is said instead, no path before one that it is a part of."""
    return dict(sorted(said.items(), key=lambda item: -len(item[0])))


def _strings(value: object) -> Iterator[str]:
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, str) and "/" in item:
            yield item


def pathless_notebook(nb: Any, private: Mapping[str, str], markup: bool = False) -> Any:
    """A notebook, or a part, without this machine's paths.   markup: its texts are HTML or Markdown."""
    if isinstance(nb, str):
        escaped = {html.escape(path): html.escape(said) for path, said in private.items()} if markup else {}
        return pathless(nb, longer_first({**private, **escaped}))
    if isinstance(nb, list):
        return [pathless_notebook(part, private, markup) for part in nb]
    if isinstance(nb, dict):
        markup = markup or nb.get("cell_type") == "markdown"
        return {
            name: pathless_notebook(part, private, markup or str(name) in MARKUP) for name, part in nb.items()
        }
    return nb


def pathless(text: str, private: Mapping[str, str]) -> str:
    """A text without this machine's paths.   private: what to say instead of each."""
    for path, said in private.items():
        text = re.sub(rf"(?<![\w/.]){re.escape(path)}(?![\w-])", lambda _, said=said: said, text)
    return text
