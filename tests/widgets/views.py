"""Share parameters, data and checks between the tests of the views."""

import re
import time

from torch import nn

from noiseutils.data import load
from noiseutils.studies import live_lab
from noiseutils.studies.live_lab import Params, pair
from noiseutils.training.classifier import build_classifier

PARAMS = Params(train_size=160, test_size=40, epochs=300, steps=4)
DATA = load(live_lab.plain_run(PARAMS).data)


def wait(true, seconds: float = 60) -> None:
    """Wait until `true()` is true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def pictures(page: str) -> int:
    return len(re.findall(r"<svg[^>]*role=\"img\"|<img ", page))


def alone(page: str) -> None:
    """Check that the page fetches and runs nothing, and that every picture has its text."""
    assert "<script" not in page
    assert not re.findall(r"(?:src|href)=\"(?!data:)", page)
    for tag in re.findall(r"<img [^>]*>", page):
        assert re.search(r'alt="[^"]+"', tag)
    for tag in re.findall(r"<svg[^>]*role=\"img\"[^>]*>", page):
        assert re.search(r'aria-label="[^"]+"', tag)


def networks(count: int = 2) -> dict[str, nn.Module]:
    """Return untrained networks."""
    runs = list(pair(PARAMS).values())[:count]
    return {f"net {i}": build_classifier(run, 10, 1, 28).eval() for i, run in enumerate(runs)}
