"""Lay small images, as PNG, and charts out as HTML, on white. A redraw takes milliseconds.

Signed values have colours that no line of a chart has: brown below zero, purple above, as in the studies'
figures.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

NEGATIVE, POSITIVE = (127, 59, 8), (84, 39, 136)  # brown and purple, white between them

STYLE = """<style>
.nu-lab { container-type: inline-size; background: white; color: #222; }
.nu-grid { display: grid; grid-auto-flow: dense; gap: 10px;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 290px), 1fr)); }
.nu-card { min-width: 0; padding: 6px; border: 1px solid #ddd; border-radius: 6px; background: white; }
.nu-wide { grid-column: span 2; }
@container (max-width: 640px) { .nu-wide { grid-column: auto; } }
.nu-tip { visibility: hidden; pointer-events: none; }
.nu-at:hover .nu-tip { visibility: visible; }
</style>"""


def image_rows(rows: Sequence[tuple[str, np.ndarray]], alt: str, scale: int = 3) -> str:
    """Draw rows of small images as one PNG each, a caption above: (n, H, W) or (n, H, W, 3) arrays.

    Arrays are uint8, or float in [0, 1]; signed values become uint8 by `signed` first.
    """
    parts = []
    for caption, images in rows:
        encoded = base64.b64encode(png(images, scale)).decode()
        text = html.escape(f"{caption}. {alt}", quote=True)
        height, width = scale * images.shape[1], (scale * images.shape[2] + 2) * len(images)
        parts.append(
            f'<figure style="margin:2px 0"><figcaption style="font-size:12px">{html.escape(caption)}'
            f'</figcaption><img alt="{text}" width="{width}" height="{height}" '
            f'style="max-width:100%;height:auto;background:white" '
            f'src="data:image/png;base64,{encoded}"></figure>'
        )
    return "".join(parts)


def signed(images: np.ndarray, largest: float) -> np.ndarray:
    """Colour signed values (..., H, W), or the means over channels of (n, H, W, 3), as uint8.

    Zero is white, `largest` has the full colour, and so have values beyond.
    """
    flat = np.nan_to_num(images.mean(-1) if images.ndim == 4 else images)
    share = np.clip(flat / largest, -1, 1)[..., None] if largest > 0 else np.zeros((*flat.shape, 1))
    colour = np.where(share < 0, np.array(NEGATIVE), np.array(POSITIVE))
    return (255 + np.abs(share) * (colour - 255)).astype(np.uint8)


def image_strip(images: np.ndarray, scale: int) -> np.ndarray:
    """Lay (n, H, W) or (n, H, W, 3) images beside each other, uint8, a pixel `scale` pixels wide."""
    if images.dtype != np.uint8:
        images = (255 * np.clip(np.nan_to_num(images), 0, 1)).astype(np.uint8)
    large = images.repeat(scale, 1).repeat(scale, 2)
    gap = [(0, 0), (0, 0), (0, 2), *[(0, 0)] * (large.ndim - 3)]
    return np.concatenate(list(np.pad(large, gap, constant_values=255)), axis=1)


def png(images: np.ndarray, scale: int) -> bytes:
    """Encode the strip of images as PNG."""
    kept = io.BytesIO()
    Image.fromarray(image_strip(images, scale)).save(kept, "PNG", compress_level=1)
    return kept.getvalue()


def card(body: str, title: str = "", wide: bool = False) -> str:
    """Frame a piece of HTML for the grid, over two columns if it is wide."""
    heading = f'<div style="font-weight:bold;font-size:12px">{html.escape(title)}</div>' if title else ""
    return f'<div class="nu-card{" nu-wide" if wide else ""}">{heading}{body}</div>'


def grid(cards: Sequence[str]) -> str:
    """Lay cards out in as many columns as the width has room for."""
    return f'<div class="nu-grid">{"".join(cards)}</div>'


def beside(parts: Sequence[str]) -> str:
    """Lay pieces of HTML side by side, wrapping where there is no room."""
    return (
        '<div style="display:flex;flex-wrap:wrap;gap:10px;align-items:flex-start">'
        + "".join(
            f'<div style="flex:1 1 260px;min-width:0;max-width:fit-content">{part}</div>' for part in parts
        )
        + "</div>"
    )
