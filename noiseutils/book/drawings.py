"""Put figures into the book, as SVG where an SVG file exists, so that figures are sharp at any size."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from PIL import Image

from noiseutils.studies.output import DPI

SMALL_BYTES = 500_000  # bytes: an SVG up to here is shown, a larger one only if its PNG is larger still
PIXELS_PER_INCH = 90  # CSS pixels an inch, as in the notebooks


@dataclass(frozen=True)
class Drawing:
    """A figure that a study wrote: its name, the width and height of its PNG, and the files there are."""

    name: str
    size: tuple[int, int]
    png: Path
    svg: Path | None

    @property
    def title(self) -> str:
        """Return the name for readers: `figure_07_errors_p25` is `Figure 7: errors p25`."""
        numbered = re.fullmatch(r"(figure|table)_0*(\d+)_?(.*)", self.name)
        if not numbered:
            return self.name.replace("_", " ").capitalize()
        kind, number, rest = numbered.groups()
        return f"{kind.capitalize()} {number}" + (f": {rest.replace('_', ' ')}" if rest else "")

    @property
    def sharp(self) -> Path:
        """Return the file to show: the SVG, unless it is large and larger than the PNG."""
        if self.svg is None:
            return self.png
        size = self.svg.stat().st_size
        return self.svg if size < SMALL_BYTES or size <= self.png.stat().st_size else self.png


def read_drawings(folder: Path) -> tuple[list[Drawing], list[str]]:
    """Return the whole figures in a folder, the paper's own first, and a sentence on each damaged one."""
    drawings, problems = [], []
    for png in sorted(
        folder.glob("*.png"), key=lambda path: (not path.name.startswith("figure_"), path.name)
    ):
        size, svg = _size(png) if png.is_file() else None, png.with_suffix(".svg")
        whole = svg.is_file() and svg.read_bytes().rstrip().endswith(b"</svg>")
        if size:
            drawings.append(Drawing(png.stem, size, png, svg if whole else None))
        else:
            problems.append(f"figures/{png.name}: is damaged, or no PNG")
        if svg.is_file() and not whole:
            problems.append(f"figures/{svg.name}: is cut off")
    return drawings, problems


def drawing_html(drawing: Drawing, alt: str, folder: str, width: int | None = None) -> str:
    """Return a figure that opens in full size.   folder: URL of its files.   width: in CSS pixels."""
    width = width or round(drawing.size[0] * PIXELS_PER_INCH / DPI)
    height = round(width * drawing.size[1] / drawing.size[0])
    return image_html(f"{folder}/{drawing.sharp.name}", alt, (width, height))


def image_html(url: str, alt: str, size: tuple[int, int] | None) -> str:
    """Return an image that links to itself, with its place held free until it is there."""
    place = f' width="{size[0]}" height="{size[1]}"' if size else ""
    file, said = quote(url), html.escape(alt)
    image = f'<img src="{file}" alt="{said}"{place} loading="lazy" decoding="async">'
    return f'<a class="drawing" href="{file}">{image}</a>'


def words_of(drawing: Drawing) -> str:
    """Return the words drawn in a figure, in their order, for readers who cannot see it.

    Matplotlib keeps each text as a comment beside its outlines.
    """
    if drawing.svg is None:
        return ""
    texts = re.findall(r"<!-- (.+?) -->", drawing.svg.read_text(encoding="utf-8"))
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
