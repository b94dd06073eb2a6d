"""A picture and a recording of the training lab, as files that other programs open."""

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw
from test_record import noise, probe

from noiseutils.errors import UserError
from noiseutils.live.record import FRAMES, PLAIN_NAME, Record
from noiseutils.live.recording import GIF_FRAMES, _draw_line, gif_of, picture_of, png_of


def recorded(steps: int) -> Record:
    record = Record()
    for step in range(1, steps + 1):
        noisy = probe(step, float(step), noise=noise(0.02 * step))
        record.add({"noise": noisy, PLAIN_NAME: probe(step)}, "ε = 0.1")
    return record


def test_a_picture_has_the_last_frame_in_the_colours_of_the_page():
    image = np.asarray(Image.open(io.BytesIO(png_of(recorded(6)))).convert("RGB"))
    colours = {tuple(pixel) for pixel in image.reshape(-1, 3).tolist()}
    assert (0x00, 0x72, 0xB2) in colours
    assert (0x55, 0x55, 0x55) in colours


def test_a_recording_shows_the_curves_grow_frame_by_frame():
    record = recorded(8)
    found = Image.open(io.BytesIO(gif_of(record)))
    assert (found.format, found.n_frames) == ("GIF", 8)
    blue = [(np.asarray(picture_of(record, f)) == (0x00, 0x72, 0xB2)).all(-1).sum() for f in record.frames]
    assert blue[2] < blue[-1]
    assert record.frames[2].text.startswith(
        "ε = 0.1, epoch 2, step 3. Test accuracy, noise off: noise 75.0 %"
    )


def test_a_long_recording_stays_bounded_and_keeps_its_ends():
    record = recorded(3 * FRAMES)
    assert FRAMES / 2 <= len(record.frames) <= FRAMES
    assert (record.frames[0].step, record.frames[-1].step) == (1, 3 * FRAMES)
    few = recorded(GIF_FRAMES + 5)
    assert Image.open(io.BytesIO(gif_of(few))).n_frames <= GIF_FRAMES


def test_without_a_step_there_is_no_picture_to_save():
    with pytest.raises(UserError, match="nothing has been trained yet"):
        png_of(Record())
    with pytest.raises(UserError, match="nothing has been trained yet"):
        gif_of(Record())


def test_a_dashed_line_has_the_strokes_and_gaps_of_its_dash():
    image = Image.new("L", (100, 9), 255)
    _draw_line(ImageDraw.Draw(image), [(0, 4), (33.3, 4), (33.4, 4), (99, 4)], "black", "6 4")
    drawn = (np.asarray(image)[4] < 128).mean()
    assert 0.5 < drawn < 0.8
