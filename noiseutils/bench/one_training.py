"""One short training in a process of its own, whose memory `memory` watches.

    python -m noiseutils.bench.one_training ours|plain

Both sides draw the same images, train on them once and classify the test images.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

from noiseutils.bench.epochs import embedded, run_of
from noiseutils.bench.plain import PlainLoop
from noiseutils.training.loop import train


def ours(model: str, width: float, batch_size: int, steps: int, test: int) -> None:
    """Through `train`, which evaluates after the epoch and at the end."""
    run = run_of(model, width=width, batch_size=batch_size, epochs=1)
    train(run, data=embedded(steps * batch_size, test), device="cpu")


def plain(model: str, width: float, batch_size: int, steps: int, test: int) -> None:
    """Through the plain loop and its workers; the allocator is as in any process."""
    loop = PlainLoop(embedded(steps * batch_size, test), model, batch_size, width=width)
    loop.epoch()
    loop.accuracy()


SIDES: dict[str, Callable[..., None]] = {"ours": ours, "plain": plain}


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser()
    parser.add_argument("side", choices=SIDES)
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--test", type=int, default=300)
    options = vars(parser.parse_args())
    SIDES[options.pop("side")](**options)


if __name__ == "__main__":
    main()
