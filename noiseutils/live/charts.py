"""Draw charts as HTML: curves and bars in SVG, in milliseconds.

Every chart needs no other file and comes with a text for readers who cannot see it. Colours are Okabe &
Ito's, and a line's dash repeats what its colour says.
"""

from __future__ import annotations

import html
import itertools
import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from matplotlib.ticker import MaxNLocator

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#555555")
DASHES = ("", "2 3", "9 3 2 3", "12 3", "5 2", "1 2", "6 4")  # SVG lengths of strokes and gaps
PLAIN_STYLE = 6  # the style of trainings without noise: grey, dashed
WIDTH, HEIGHT = 340, 200  # of a chart, in pixels
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 38, 34  # of its margins
LINE_POINTS = 240  # of a line: more cannot be told apart
HOVER_PLACES = 24  # places of a chart at which the pointer is told values


@dataclass(frozen=True)
class Line:
    """Describe a line of a chart: points (x, y), and a style, an index of `COLOURS` and `DASHES`."""

    label: str
    points: Sequence[tuple[float, float]]
    style: int = 0

    @property
    def colour(self) -> str:
        """Return the colour of the style."""
        return COLOURS[self.style % len(COLOURS)]

    @property
    def dash(self) -> str:
        """Return the dash of the style."""
        return DASHES[self.style % len(DASHES)]


@dataclass(frozen=True)
class Chart:
    """Describe a chart of curves over x.

    log: y logarithmic, as the title then says, without values that are not positive; unless none is positive.
    marks: (x, text) of vertical lines.   y_range: lowest and highest value; None: those of the points.
    width, height: in pixels.   legend: write the labels below.
    """

    title: str
    lines: Sequence[Line]
    x_label: str
    log: bool = False
    marks: Sequence[tuple[float, str]] = ()
    y_range: tuple[float, float] | None = None
    width: int = WIDTH
    height: int = HEIGHT
    legend: bool = True


class Layout(NamedTuple):
    """Hold where the parts of a chart are. place: x, y -> pixels. ticks: (pixel, text)."""

    title: str
    lines: list[Line]
    place: Callable[[float, float], tuple[float, float]]
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    marks: list[tuple[float, str]]


def arrange(chart: Chart) -> Layout | None:
    """Lay a chart out; return None if it has no point to show."""
    lines = [replace(li, points=[p for p in li.points if all(map(math.isfinite, p))]) for li in chart.lines]
    positive = [replace(li, points=[p for p in li.points if p[1] > 0]) for li in lines]
    log = chart.log and any(line.points for line in positive)
    lines = positive if log else lines
    points = [point for line in lines for point in line.points]
    if not points:
        return None
    xs, ys = [x for x, _ in points], list(chart.y_range or [y for _, y in points])
    ys = [math.log10(y) for y in ys if y > 0] if log else ys
    x_range, y_range = _padded(min(xs), max(xs), 0.0), _padded(min(ys), max(ys), 0.06)

    def place(x: float, y: float) -> tuple[float, float]:
        y = math.log10(y) if log else y
        across = (x - x_range[0]) / (x_range[1] - x_range[0])
        up = (y - y_range[0]) / (y_range[1] - y_range[0])
        right, bottom = chart.width - RIGHT, chart.height - BOTTOM
        return LEFT + across * (right - LEFT), bottom - up * (bottom - TOP)

    base = 10 ** y_range[0] if log else y_range[0]
    decades = _decades(*y_range) if log else []
    narrow = _ticks(10 ** y_range[0], 10 ** y_range[1]) if log else _ticks(*y_range)
    room = (chart.height - TOP - BOTTOM) / 13  # numbers above each other
    if len(decades) > room:
        powers = [y for y in decades if f"{y:e}".startswith("1.0")]
        decades = powers if len(powers) > 1 else decades[:: math.ceil(len(decades) / room)]
    y_values = decades if len(decades) > 1 else narrow
    return Layout(
        f"{chart.title} (log)" if log else chart.title,
        lines,
        place,
        [(place(x, base)[0], f"{x:g}") for x in _ticks(*x_range, count=4)],
        [(place(x_range[0], y)[1], f"{y:g}") for y in y_values],
        [(place(x, base)[0], text) for x, text in chart.marks if x_range[0] <= x <= x_range[1]],
    )


def line_chart(title: str, lines: Sequence[Line], x_label: str, **options) -> str:
    """Draw curves over x as SVG, whose text gives the last values; options as in `Chart`."""
    return draw(Chart(title, lines, x_label, **options))


def draw(chart: Chart) -> str:
    """Draw a chart as SVG, whose text gives the last values."""
    title, x_label = chart.title, chart.x_label
    size, found = (chart.width, chart.height), arrange(chart)
    if found is None:
        nothing = _text(chart.width / 2, chart.height / 2, "nothing yet", "middle")
        return _svg(title, f"{title}: nothing yet.", nothing, size)
    right, bottom = chart.width - RIGHT, chart.height - BOTTOM
    parts = []
    for y, text in found.y_ticks:
        parts.append(f'<path d="M{LEFT} {y:.1f}H{right}" stroke="#ddd"/>')
        parts.append(_text(LEFT - 5, y + 4, text, "end"))
    parts += [_text(x, bottom + 16, text) for x, text in found.x_ticks]
    parts.append(_text((LEFT + right) / 2, chart.height - 4, x_label))
    for x, text in found.marks:
        parts.append(f'<path d="M{x:.1f} {TOP - 4}V{bottom}" stroke="#bbb" stroke-dasharray="1 3"/>')
        parts.append(_text(x, TOP - 7, text, "end" if x > right - 30 else "middle", 9))
    keys = []
    for line in found.lines:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (found.place(*p) for p in thinned(line.points)))
        dash = f' stroke-dasharray="{line.dash}"' if line.dash else ""
        key = f'<path d="M0 4H24" stroke="{line.colour}" stroke-width="3"{dash}/>'
        dot = f'<circle cx="12" cy="4" r="3" fill="{line.colour}"/>'
        keys.append((line.label, dot if len(line.points) == 1 else key))
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{line.colour}" stroke-width="1.8"{dash}/>'
        )
        if len(line.points) == 1:
            x, y = found.place(*line.points[0])
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{line.colour}"/>')
    parts += _tips(found, x_label, right, bottom)
    ends = [f"{line.label} {line.points[-1][1]:.3g}" for line in found.lines if line.points]
    alt = f"{found.title}, last values: {'; '.join(ends)}."
    return _svg(found.title, alt, "".join(parts), size, _legend(keys) if chart.legend else "")


def _tips(found: Layout, x_label: str, right: float, bottom: float) -> list[str]:
    """Write the values at some x of a chart, each shown while the pointer is near that x."""
    every = sorted({x for line in found.lines for x, _ in line.points})
    xs = [every[round(i)] for i in np.linspace(0, len(every) - 1, min(HOVER_PLACES, len(every)))]
    at = [found.place(x, found.lines[0].points[0][1] if found.lines[0].points else 1.0)[0] for x in xs]
    edges = [LEFT, *((a + b) / 2 for a, b in itertools.pairwise(at)), right]
    parts = []
    for i, (x, across) in enumerate(zip(xs, at, strict=True)):
        texts = [f"{x_label} {x:g}"]
        for line in found.lines:
            if line.points and line.points[0][0] <= x <= line.points[-1][0]:
                texts.append(f"{line.label}: {_nearest(line.points, x):.3g}")
        left = across > (LEFT + right) / 2
        begun = across - 6 if left else across + 6
        anchor, room = ("end" if left else "start"), 6 + 5.6 * max(map(len, texts))
        lines = "".join(
            f'<tspan x="{begun:.0f}" dy="{13 if k else 0}">{html.escape(text)}</tspan>'
            for k, text in enumerate(texts)
        )
        parts.append(
            f'<g class="nu-at"><rect x="{edges[i]:.1f}" y="{TOP}" width="{edges[i + 1] - edges[i]:.1f}" '
            f'height="{bottom - TOP}" fill="none" pointer-events="all"/><g class="nu-tip">'
            f'<path d="M{across:.1f} {TOP}V{bottom}" stroke="#222"/>'
            f'<rect x="{begun - room if left else begun:.0f}" y="{TOP}" width="{room:.0f}" '
            f'height="{13 * len(texts) + 5}" fill="white" stroke="#bbb"/>'
            f'<text y="{TOP + 12}" text-anchor="{anchor}">{lines}</text></g></g>'
        )
    return parts


def _nearest(points: Sequence[tuple[float, float]], x: float) -> float:
    """Return the value of the point nearest to x.   points: in the order of their x."""
    i = bisect_left(points, (x,))
    return min(points[max(i - 1, 0) : i + 1], key=lambda point: abs(point[0] - x))[1]


def bar_chart(
    title: str,
    labels: Sequence[str],
    series: Sequence[tuple[str, Sequence[float]]],
    styles: Sequence[int] | None = None,
) -> str:
    """Draw horizontal bars of values in [0, 1], for each label one bar a series, as SVG.

    styles: an index of `COLOURS` for each series; None: in their order.
    """
    line, gap = 13, 6
    height = TOP + len(labels) * (line * len(series) + gap) + 8
    room, start = WIDTH - 90 - 44, 90
    looks = [
        f'fill="{COLOURS[style % len(COLOURS)]}"{_HATCH if j % 2 else ""}'
        for j, style in enumerate(styles or range(len(series)))
    ]
    parts, y = [], float(TOP)
    for i, label in enumerate(labels):
        parts.append(_text(start - 6, y + line * len(series) / 2 + 4, label[:14], "end"))
        for look, (name, values) in zip(looks, series, strict=True):
            value = min(max(float(values[i]), 0.0), 1.0) if math.isfinite(values[i]) else 0.0
            text = f"{100 * value:.0f} %" if math.isfinite(values[i]) else "–"
            parts.append(
                f'<rect x="{start}" y="{y + 1:.1f}" width="{max(value * room, 0.5):.1f}" height="{line - 2}" '
                f"{look}><title>{html.escape(f'{label}, {name}: {100 * values[i]:.1f} %')}</title></rect>"
            )
            parts.append(_text(start + value * room + 4, y + line - 3, text, "start", 10))
            y += line
        y += gap
    largest = [(name, int(np.argmax(np.nan_to_num(values))), values) for name, values in series]
    best = [f"{name}: {labels[k]} {100 * values[k]:.0f} %" for name, k, values in largest]
    keys = [
        (name, f'<rect width="16" height="8" {look}/>') for look, (name, _) in zip(looks, series, strict=True)
    ]
    alt = f"{title}, the largest: {'; '.join(best)}."
    return _svg(title, alt, "".join(parts), (WIDTH, height), _legend(keys))


_HATCH = ' fill-opacity="0.55" stroke="#333" stroke-width="0.8"'


def swatch(style: int) -> str:
    """Draw a short line in a style, as a key inside a text."""
    line = Line("", (), style)
    dash = f' stroke-dasharray="{line.dash}"' if line.dash else ""
    return _key(f'<path d="M0 4H24" stroke="{line.colour}" stroke-width="3"{dash}/>')


def _svg(title: str, alt: str, body: str, size: tuple[float, float], legend: str = "") -> str:
    """Write a chart as HTML: the SVG, as wide as its place, and the legend below."""
    width, height = size
    heading = f'<text x="8" y="15" font-weight="bold" text-anchor="start">{html.escape(title)}</text>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{html.escape(alt, quote=True)}" '
        f'viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}" fill="#222" '
        'style="width:100%;height:auto;background:white" font-family="sans-serif" font-size="11" '
        f'text-anchor="middle"><rect width="100%" height="100%" fill="white"/>{heading}{body}</svg>'
        f"{legend}"
    )


def _text(x: float, y: float, text: str, anchor: str = "middle", size: int = 11) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">{html.escape(text)}</text>'
    )


def _key(drawn: str) -> str:
    return f'<svg width="24" height="8" aria-hidden="true">{drawn}</svg>'


def _legend(keys: Sequence[tuple[str, str]]) -> str:
    """Write labels under the chart, each beside its key (SVG, 24 by 8), in as many rows as they need."""
    items = (
        f'<span style="display:inline-block;margin-right:10px">{_key(key)} {html.escape(label)}</span>'
        for label, key in keys
    )
    return f'<div style="font:11px/1.4 sans-serif">{"".join(items)}</div>'


def thinned(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """Return at most `POINTS` of the points, the first and the last among them."""
    if len(points) <= LINE_POINTS:
        return points
    return [points[round(i)] for i in np.linspace(0, len(points) - 1, LINE_POINTS)]


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
