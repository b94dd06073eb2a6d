"""Draw pictures as HTML: curves and bars in SVG, small images as PNG. A redraw takes milliseconds.

Every picture needs no other file, is on white, and comes with a text for readers who cannot see the picture.
Colours are Okabe & Ito's, blue to orange where a sign is shown; dashes or labels repeat each distinction.
"""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.ticker import MaxNLocator
from PIL import Image

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#444444")
NEGATIVE, POSITIVE = (0, 114, 178), (213, 94, 0)  # blue and vermilion, white between them
WIDTH, HEIGHT = 340, 200  # of a chart, in pixels
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 26, 34  # of its margins
POINTS = 240  # of a line: more cannot be told apart


@dataclass(frozen=True)
class Line:
    """Describe a line of a chart: points (x, y), a colour's index in `COLOURS`, dashed or not."""

    label: str
    points: Sequence[tuple[float, float]]
    colour: int = 0
    dashed: bool = False


def line_chart(title: str, lines: Sequence[Line], x_label: str, log: bool = False) -> str:
    """Draw curves over x as SVG, whose text gives the last values.

    log: y logarithmic, as the title says, without values that are not positive; unless none is positive.
    """
    drawn = [replace(li, points=[p for p in li.points if all(map(math.isfinite, p))]) for li in lines]
    positive = [replace(li, points=[p for p in li.points if p[1] > 0]) for li in drawn]
    log = log and any(line.points for line in positive)
    if log:
        title, drawn = f"{title} (log)", positive
    points = [point for line in drawn for point in line.points]
    if not points:
        return _svg(title, f"{title}: nothing yet.", _text(WIDTH / 2, HEIGHT / 2, "nothing yet", "middle"))
    xs, ys = [x for x, _ in points], [math.log10(y) if log else y for _, y in points]
    x_range, y_range = _padded(min(xs), max(xs), 0.0), _padded(min(ys), max(ys), 0.06)

    def place(x: float, y: float) -> tuple[float, float]:
        y = math.log10(y) if log else y
        across = (x - x_range[0]) / (x_range[1] - x_range[0])
        up = (y - y_range[0]) / (y_range[1] - y_range[0])
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    parts = []
    decades = _decades(*y_range) if log else []
    narrow = _ticks(10 ** y_range[0], 10 ** y_range[1]) if log else _ticks(*y_range)
    for value in decades if len(decades) > 1 else narrow:
        y = place(x_range[0], value)[1]
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        parts.append(_text(LEFT - 5, y + 4, f"{value:g}", "end"))
    for tick in _ticks(*x_range, count=4):
        parts.append(_text(place(tick, 10 ** y_range[0] if log else y_range[0])[0], HEIGHT - 18, f"{tick:g}"))
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4, x_label))
    keys = []
    for line in drawn:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in _thinned(line.points)))
        dash = ' stroke-dasharray="5 4"' if line.dashed else ""
        colour = COLOURS[line.colour % len(COLOURS)]
        keys.append((line.label, f'<path d="M0 4H24" stroke="{colour}" stroke-width="3"{dash}/>'))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.8"{dash}/>')
        if len(line.points) == 1:
            x, y = place(*line.points[0])
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>')
    ends = [f"{line.label} {line.points[-1][1]:.3g}" for line in drawn if line.points]
    return _svg(title, f"{title}, last values: {'; '.join(ends)}.", "".join(parts), _legend(keys))


def bar_chart(title: str, labels: Sequence[str], series: Sequence[tuple[str, Sequence[float]]]) -> str:
    """Draw horizontal bars of values in [0, 1], for each label one bar a series, as SVG."""
    line, gap = 13, 6
    height = TOP + len(labels) * (line * len(series) + gap) + 8
    room, start = WIDTH - 90 - 44, 90
    parts, y = [], float(TOP)
    for i, label in enumerate(labels):
        parts.append(_text(start - 6, y + line * len(series) / 2 + 4, label[:14], "end"))
        for j, (_, values) in enumerate(series):
            value = min(max(float(values[i]), 0.0), 1.0) if math.isfinite(values[i]) else 0.0
            parts.append(
                f'<rect x="{start}" y="{y + 1:.1f}" width="{max(value * room, 0.5):.1f}" height="{line - 2}" '
                f'fill="{COLOURS[j]}"{_HATCH if j % 2 else ""}/>'
            )
            text = f"{100 * value:.0f} %" if math.isfinite(values[i]) else "–"
            parts.append(_text(start + value * room + 4, y + line - 3, text, "start", 10))
            y += line
        y += gap
    largest = [(name, int(np.argmax(np.nan_to_num(values))), values) for name, values in series]
    best = [f"{name}: {labels[k]} {100 * values[k]:.0f} %" for name, k, values in largest]
    keys = [
        (name, f'<rect width="16" height="8" fill="{COLOURS[j]}"{_HATCH if j % 2 else ""}/>')
        for j, (name, _) in enumerate(series)
    ]
    return _svg(title, f"{title}, the largest: {'; '.join(best)}.", "".join(parts), _legend(keys), height)


_UNDER = f"max-width:{WIDTH}px;font:11px/1.4 sans-serif;background:white;color:#222"
_HATCH = ' fill-opacity="0.55" stroke="#333" stroke-width="0.8"'


def image_rows(rows: Sequence[tuple[str, np.ndarray]], alt: str, scale: int = 3) -> str:
    """Draw rows of small images as one PNG each, a caption above: (n, H, W) or (n, H, W, 3) arrays.

    Arrays are uint8, or float in [0, 1]. A caption that ends in "±" has a signed row, zero white, blue below
    and orange above; the largest magnitude is then written behind the caption.
    """
    parts = []
    for caption, images in rows:
        if caption.endswith("±"):
            largest = float(np.abs(images).max()) if images.size else 0.0
            caption = f"{caption}{largest:.3g}"
            images = signed(images, largest)
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
    """Colour signed values (..., H, W), or the means over channels of (n, H, W, 3), as uint8."""
    flat = images.mean(-1) if images.ndim == 4 else images
    share = np.clip(flat / largest, -1, 1)[..., None] if largest > 0 else np.zeros((*flat.shape, 1))
    colour = np.where(share < 0, np.array(NEGATIVE), np.array(POSITIVE))
    return (255 + np.abs(share) * (colour - 255)).astype(np.uint8)


def png(images: np.ndarray, scale: int) -> bytes:
    """Encode (n, H, W) or (n, H, W, 3) images beside each other as PNG, a pixel `scale` pixels wide."""
    if images.dtype != np.uint8:
        images = (255 * np.clip(np.nan_to_num(images), 0, 1)).astype(np.uint8)
    large = images.repeat(scale, 1).repeat(scale, 2)
    gap = [(0, 0), (0, 0), (0, 2), *[(0, 0)] * (large.ndim - 3)]
    row = np.concatenate(list(np.pad(large, gap, constant_values=255)), axis=1)
    kept = io.BytesIO()
    Image.fromarray(row).save(kept, "PNG", compress_level=1)
    return kept.getvalue()


def beside(parts: Sequence[str]) -> str:
    """Lay pieces of HTML side by side, wrapping where there is no room."""
    inner = "".join(f'<div style="flex:0 1 auto">{part}</div>' for part in parts)
    return f'<div style="display:flex;flex-wrap:wrap;gap:8px;align-items:flex-start">{inner}</div>'


def _svg(title: str, alt: str, body: str, legend: str = "", height: float = HEIGHT) -> str:
    heading = f'<text x="{LEFT}" y="15" font-weight="bold" text-anchor="start">{html.escape(title)}</text>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{html.escape(alt, quote=True)}" '
        f'viewBox="0 0 {WIDTH} {height:g}" width="{WIDTH}" height="{height:g}" fill="#222" '
        'style="max-width:100%;height:auto;background:white" font-family="sans-serif" font-size="11" '
        f'text-anchor="middle"><rect width="100%" height="100%" fill="white"/>{heading}{body}</svg>'
        f"{legend}"
    )


def _text(x: float, y: float, text: str, anchor: str = "middle", size: int = 11) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">{html.escape(text)}</text>'
    )


def _legend(keys: Sequence[tuple[str, str]]) -> str:
    """Write labels under the chart, each beside its key (SVG, 24 by 8), in as many rows as they need."""
    items = (
        f'<span style="white-space:nowrap;margin-right:10px"><svg width="24" height="8" aria-hidden="true">'
        f"{key}</svg> {html.escape(label)}</span>"
        for label, key in keys
    )
    return f'<div style="{_UNDER}">{"".join(items)}</div>'


def _thinned(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    if len(points) <= POINTS:
        return points
    return [points[round(i)] for i in np.linspace(0, len(points) - 1, POINTS)]


def _padded(low: float, high: float, share: float) -> tuple[float, float]:
    room = high - low
    if room == 0:
        return (low - 0.5 * abs(low) - 0.01, high + 0.5 * abs(high) + 0.01)
    return low - share * room, high + share * room


def _decades(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times powers of ten with logarithms in a range; in a wide range, powers alone."""
    factors = (1, 2, 5) if high - low < 3 else (1,)
    powers = range(math.floor(low), math.floor(high) + 1)
    return [f * 10.0**p for p in powers for f in factors if low <= math.log10(f) + p <= high]


def _ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return about `count` round numbers in a range."""
    ticks = MaxNLocator(count, steps=(1, 2, 5, 10)).tick_values(low, high)
    return [tick for tick in ticks if low <= tick <= high]
