"""Save what the training lab shows as a picture (PNG) or as a recording (GIF), drawn by Pillow alone."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from functools import cache
from itertools import cycle, pairwise
from pathlib import Path

import matplotlib as mpl
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from noiseutils.errors import UserError
from noiseutils.live.charts import BOTTOM, LEFT, RIGHT, TOP, Chart, arrange, thinned
from noiseutils.live.pictures import image_strip
from noiseutils.live.record import Frame, Record, Rows

SIZE, MARGIN = 1420, 10  # of a picture in pixels: its width, and what is left free
GIF_FRAMES = 60  # at most
FRAME_MILLISECONDS = 150  # a frame of a GIF is shown
GREY = "#666666"


def picture_of(record: Record, frame: Frame | None = None) -> Image.Image:
    """Draw a frame, None: the last: headline, curves up to its step, stds, the noise, feature maps.

    Raises UserError where nothing has been recorded.
    """
    if not record.frames:
        raise UserError("nothing has been trained yet: there is no picture to save")
    frame = frame or record.frames[-1]
    charts, stds = record.charts(frame.probes, frame.step), record.std_charts(frame.probes, frame.step)
    maps = [rows for _, rows in record.map_rows(frame.probes)]
    title, noise, legend = record.noise_rows(frame.probes)
    image = Image.new("RGB", (SIZE, 1200), "white")
    draw = ImageDraw.Draw(image)
    draw.text((MARGIN, 8), frame.text, "black", _font(16))
    y = 36
    for i, chart in enumerate(charts):
        _draw_chart(image, chart, (MARGIN + i * 350, y))
    y += charts[0].height + 24
    for i, chart in enumerate(stds):
        _draw_chart(image, chart, (MARGIN + i * 232, y))
    y += (stds[0].height if stds else 0) + 10
    columns = [_draw_rows(image, [(legend, _nothing()), *noise], (MARGIN, y + 18))]
    draw.text((MARGIN, y), title, "black", _font(12))
    across = MARGIN + 470
    for rows in maps:
        columns.append(_draw_rows(image, rows, (across, y)))
        across += max(columns[-1][0] - across + 12, 130)
    return image.crop((0, 0, max(SIZE, across), max(bottom for _, bottom in columns) + MARGIN))


def png_of(record: Record) -> bytes:
    """Return the last frame as PNG."""
    kept = io.BytesIO()
    picture_of(record).save(kept, "PNG")
    return kept.getvalue()


def gif_of(record: Record) -> bytes:
    """Return at most `GIF_FRAMES` frames as an animated GIF, which runs for ever."""
    frames = list(record.frames)
    chosen = sorted({round(i) for i in np.linspace(0, len(frames) - 1, min(GIF_FRAMES, len(frames)))})
    pictures = [picture_of(record, frames[i]) for i in chosen] or [picture_of(record)]
    size = (max(p.width for p in pictures), max(p.height for p in pictures))
    whole = []
    for picture in pictures:
        ground = Image.new("RGB", size, "white")
        ground.paste(picture)
        whole.append(ground.quantize(64, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE))
    kept = io.BytesIO()
    whole[0].save(kept, "GIF", save_all=True, append_images=whole[1:], duration=FRAME_MILLISECONDS, loop=0)
    return kept.getvalue()


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """Return the font that matplotlib brings along, as Pillow's own has no Greek."""
    return ImageFont.truetype(Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)


def _nothing() -> np.ndarray:
    return np.zeros((0, 0, 0), np.uint8)


def _draw_rows(image: Image.Image, rows: Rows, at: tuple[int, int]) -> tuple[int, int]:
    """Draw rows of small images below each other; return where they end, right and below."""
    draw, (left, y), right = ImageDraw.Draw(image), at, at[0]
    for caption, images in rows:
        draw.text((left, y), caption, "black", _font(11))
        y += 15
        if images.size:
            strip = Image.fromarray(image_strip(images, max(1, round(56 / images.shape[2]))))
            image.paste(strip.convert("RGB"), (left, y))
            y, right = y + strip.height + 4, max(right, left + strip.width)
    return right, y


def _draw_chart(image: Image.Image, chart: Chart, at: tuple[int, int]) -> None:
    """Draw a chart as `charts.draw` does, with its legend below."""
    draw, (left, top) = ImageDraw.Draw(image), at
    found = arrange(chart)
    draw.text((left + 8, top + 4), found.title if found else chart.title, "black", _font(11))
    if found is None:
        draw.text((left + chart.width / 2, top + chart.height / 2), "nothing yet", GREY, _font(11))
        return
    right, bottom = left + chart.width - RIGHT, top + chart.height - BOTTOM
    for y, text in found.y_ticks:
        draw.line([(left + LEFT, top + y), (right, top + y)], "#dddddd")
        draw.text((left + LEFT - 5, top + y), text, "black", _font(10), anchor="rm")
    for x, text in found.x_ticks:
        draw.text((left + x, bottom + 10), text, "black", _font(10), anchor="mm")
    draw.text(((left + LEFT + right) / 2, bottom + 24), chart.x_label, "black", _font(10), anchor="mm")
    for x, text in found.marks:
        draw.line([(left + x, top + TOP), (left + x, bottom)], "#cccccc")
        draw.text((left + x, top + TOP - 10), text, GREY, _font(9), anchor="mm")
    across = left + 8
    for line in found.lines:
        points = [(left + x, top + y) for x, y in (found.place(*point) for point in thinned(line.points))]
        _draw_line(draw, points, line.colour, line.dash)
        if len(points) == 1:
            (x, y), r = points[0], 3
            draw.ellipse((x - r, y - r, x + r, y + r), line.colour)
        if chart.legend:
            y = top + chart.height + 8
            _draw_line(draw, [(across, y), (across + 24, y)], line.colour, line.dash)
            draw.text((across + 28, y), line.label, "black", _font(10), anchor="lm")
            across += 40 + round(_font(10).getlength(line.label))


def _draw_line(
    draw: ImageDraw.ImageDraw, points: Sequence[tuple[float, float]], colour: str, dash: str
) -> None:
    """Draw a line through points in pixels.   dash: lengths of strokes and gaps, as in SVG."""
    if not dash:
        draw.line(list(points), colour, 2)
        return
    lengths = cycle(map(float, dash.split()))
    left, drawn = next(lengths), True
    for (x0, y0), (x1, y1) in pairwise(points):
        length, gone = math.hypot(x1 - x0, y1 - y0), 0.0
        while gone < length:
            whole = gone + left <= length
            end = gone + left if whole else length
            if drawn:
                a, b = gone / length, end / length
                ends = [(x0 + s * (x1 - x0), y0 + s * (y1 - y0)) for s in (a, b)]
                draw.line(ends, colour, 2)
            left, gone = left - (end - gone), end
            if whole:
                left, drawn = next(lengths), not drawn
