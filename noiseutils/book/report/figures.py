"""Figures of a page: drawn from SVG where there is one, so that they are sharp at any size."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from PIL import Image

from noiseutils.book.render import paper_first
from noiseutils.studies.output import DPI

SMALL = 500_000  # bytes: an SVG up to here is shown, a larger one only if its PNG is larger still
SHOWN = 90  # CSS pixels an inch, as in the notebooks
DENSITY = 2  # pixels a CSS pixel that a PNG is shown with, at least, where its size is ours to choose


@dataclass(frozen=True)
class Figure:
    """A figure that a study wrote: its name, the width and height of its PNG, and the files there are."""

    name: str
    size: tuple[int, int]
    png: Path
    svg: Path | None

    @property
    def title(self) -> str:
        """The name for readers: `figure_07_errors_p25` is `Figure 7: errors p25`."""
        numbered = re.fullmatch(r"(figure|table)_0*(\d+)_?(.*)", self.name)
        if not numbered:
            return self.name.replace("_", " ").capitalize()
        kind, number, rest = numbered.groups()
        return f"{kind.capitalize()} {number}" + (f": {rest.replace('_', ' ')}" if rest else "")


def read_figures(folder: Path) -> tuple[list[Figure], list[str]]:
    """The whole figures in a folder, the paper's own first, and a sentence on each that is damaged."""
    figures, problems = [], []
    for png in sorted(folder.glob("*.png"), key=paper_first):
        size, svg = _size(png), png.with_suffix(".svg")
        whole = svg.is_file() and svg.read_bytes().rstrip().endswith(b"</svg>")
        if size:
            figures.append(Figure(png.stem, size, png, svg if whole else None))
        else:
            problems.append(f"figures/{png.name}: is damaged, or no PNG")
        if svg.is_file() and not whole:
            problems.append(f"figures/{svg.name}: is cut off")
    return figures, problems


def sharp(figure: Figure) -> Path:
    """The file to show: the SVG, unless it is large and larger than the PNG."""
    if figure.svg is None:
        return figure.png
    large = figure.svg.stat().st_size
    return figure.svg if large < SMALL or large <= figure.png.stat().st_size else figure.png


def figure_html(figure: Figure, alt: str, folder: str = "figures/", width: int | None = None) -> str:
    """A figure that links to its full size.   width: in CSS pixels, as the notebook has it."""
    shown = sharp(figure)
    width = width or round(figure.size[0] * SHOWN / DPI)
    if shown.suffix == ".png":
        width = min(width, figure.size[0] // DENSITY)
    return image_html(f"{folder}{shown.name}", alt, (width, round(width * figure.size[1] / figure.size[0])))


def image_html(path: str, alt: str, size: tuple[int, int] | None, style: str = "") -> str:
    """An image that links to itself, with its place held free until it is there.   style: of its own."""
    place = f' width="{size[0]}" height="{size[1]}"' if size else ""
    place += f' style="{html.escape(style)}"' if style else ""
    file = quote(path)
    image = f'<img src="{file}" alt="{html.escape(alt)}"{place} loading="lazy" decoding="async">'
    return f'<a class="figure" href="{file}">{image}</a>'


def embedded(source: str) -> tuple[bytes, str] | None:
    """The bytes and the suffix of an image in a data URI; None for another address."""
    found = re.match(r"data:image/(png|jpeg|svg\+xml);base64,", source)
    if not found:
        return None
    return base64.b64decode(source[found.end() :]), found[1].partition("+")[0]


def size_of(content: bytes, suffix: str) -> tuple[int, int] | None:
    """Width and height of an image in pixels; of an SVG as it says; None where that cannot be known."""
    if suffix == "svg":
        head = content[:2000].decode(errors="replace")
        sides = [re.search(rf'<svg[^>]*?\b{side}="([\d.]+)(pt|px)?"', head) for side in ("width", "height")]
        if not all(sides):
            return None
        return tuple(round(float(s[1]) * (4 / 3 if s[2] == "pt" else 1)) for s in sides if s)  # type: ignore
    try:
        with Image.open(io.BytesIO(content)) as image:
            return image.size
    except OSError:
        return None


def digest(content: bytes) -> str:
    """What figures are told apart by."""
    return hashlib.sha256(content).hexdigest()


def words_of(figure: Figure) -> str:
    """The words drawn in a figure, in their order: its titles, axes and legend, for who cannot see it.

    Matplotlib keeps each text as a comment beside its outlines.
    """
    if figure.svg is None:
        return ""
    texts = re.findall(r"<!-- (.+?) -->", figure.svg.read_text(encoding="utf-8"))
    words = dict.fromkeys(
        re.sub(r"\$|\\mathdefault|[{}]", "", text)
        for text in map(html.unescape, texts)
        if re.search(r"[A-Za-z]{2}", text.replace("mathdefault", ""))
    )
    return ", ".join(words)


def _size(png: Path) -> tuple[int, int] | None:
    try:
        with Image.open(png) as image:
            image.verify()
            return image.size
    except (OSError, SyntaxError):  # what Pillow raises for broken chunks of a PNG
        return None
