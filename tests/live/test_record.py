"""What the training lab draws of its probes."""

import base64
import io
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from noiseutils.live.charts import COLOURS, PLAIN_STYLE
from noiseutils.live.record import PLAIN_NAME, Record, styles
from noiseutils.live.watching import NoisePicture, Probe


def probe(step: int = 10, std: float = 1.0, tests=((5, 0.5), (10, 0.75)), noise=None) -> Probe:
    return Probe(
        step=step,
        epoch=2,
        loss=0.5,
        accuracy=0.9,
        gradient_norm=1.0,
        tests=list(tests),
        images=np.zeros((1, 4, 4)),
        stds={"relu1": 1.0, "relu2": std},
        maps=np.zeros((1, 2, 4, 4)),
        maps_of="conv1",
        noise=noise,
        noisy=noise is not None,
        sites=("relu1",),
        steps_per_epoch=5,
    )


def noise(size: float) -> NoisePicture:
    return NoisePicture(
        "h, the activations after relu1", np.ones((1, 2, 2)), np.full((1, 2, 2), size), own=True
    )


def rows_of(board: str) -> dict[str, np.ndarray]:
    found = re.findall(r"<figcaption[^>]*>([^<]*)</figcaption><img[^>]*base64,([^\"]+)", board)
    return {name: np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))) for name, data in found}


def drawn(size: float) -> dict[str, np.ndarray]:
    record = Record()
    record.add({"noise": probe(noise=noise(size))})
    return {name.split(":")[0]: row[0, 0].astype(int) for name, row in rows_of(record.board()).items()}


def test_noise_and_activations_are_on_one_scale_and_louder_noise_never_looks_fainter():
    same, louder, faint = drawn(1.0), drawn(5.0), drawn(0.05)
    assert (same["η"] == same["h, the activations after relu1"]).all()
    assert (louder["h, the activations after relu1"] > same["h, the activations after relu1"]).any()
    assert (faint["η"] > 240).all()
    assert (faint["η × 10"] < faint["η"]).any(), "magnified by a number that is written and does not change"
    assert "η × 10" not in same


def test_a_training_has_one_colour_and_dash_in_every_chart():
    record = Record()
    record.add({"noise": probe(), PLAIN_NAME: probe()})
    lines = re.findall(
        r'<polyline[^>]*stroke="(#\w+)"[^>]*?(?:stroke-dasharray="([^"]*)")?/>', record.board()
    )
    assert {colour for colour, _ in lines} == {COLOURS[0], COLOURS[PLAIN_STYLE]}
    assert len({dash for colour, dash in lines if colour == COLOURS[0]}) == 1
    assert len({dash for colour, dash in lines if colour == COLOURS[PLAIN_STYLE]}) == 1
    assert styles({PLAIN_NAME: 1, "a": 2, "b": 3}) == {PLAIN_NAME: PLAIN_STYLE, "a": 0, "b": 1}


def test_accuracies_say_of_what_and_in_percent():
    record = Record()
    record.add({"noise": probe(), PLAIN_NAME: probe(tests=((5, 0.25), (10, 0.8)))})
    board = record.board()
    assert "training accuracy, noise on, %, last values: noise 90; no noise 90." in board
    assert "test accuracy, noise off, %, last values: noise 75; no noise 80." in board
    assert "75.0 %" in record.headline()
    assert "-5.0 points, one seed" in record.headline()


def test_the_headline_names_the_layer_that_moved_most_and_a_drag_is_one_change():
    record = Record()
    record.add({"noise": probe(10), PLAIN_NAME: probe(10)}, "ε = 0.1")
    record.add({"noise": probe(11, 2.0), PLAIN_NAME: probe(11)}, "ε = 0.2")
    record.add({"noise": probe(12, 3.0), PLAIN_NAME: probe(12)}, "ε = 0.3")
    record.add({"noise": probe(13, 4.0), PLAIN_NAME: probe(13, 2.0)}, "ε = 0.3")
    said = record.headline()
    assert "against no noise's: relu2 moved most, × 2;" in said.replace("&#x27;", "'")
    assert "std since ε = 0.3 at step 12: relu2 moved most, × 4" in said


@pytest.mark.parametrize("epochs", [1, 3, 40, 1000])
def test_epochs_are_marked_and_never_too_many(epochs):
    record = Record()
    record.add({"noise": probe(5 * epochs)})
    marks = record._marks(record.last)
    assert 1 <= len(marks) <= 7
    assert marks[0][0] == 5 * int(marks[0][1].removeprefix("epoch "))


def test_layers_stds_share_one_scale():
    record = Record()
    record.add({"noise": probe(1, 100.0)})
    record.add({"noise": probe(2, 100.0)})
    found = re.findall(r'aria-label="std of (\w+).*?</svg>', record.board(), re.S)
    assert found == ["relu1", "relu2"]
    for chart in re.findall(r'<svg[^>]*aria-label="std of.*?</svg>', record.board(), re.S):
        assert {">1<", ">100<"} <= set(re.findall(r">[\d.]+<", chart))


def test_values_that_are_not_finite_are_drawn_as_nothing():
    record = Record()
    broken = replace(probe(noise=noise(np.nan)), loss=np.nan, stds={"relu1": np.nan}, gradient_norm=np.inf)
    record.add({"noise": broken})
    assert "nothing yet" in record.board()
    assert record.headline()
