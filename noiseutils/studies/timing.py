"""The condition under which a notebook measures the cost of a training step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Give torch one thread inside the block, as each of several runs side by side on CPU has.

    With more of them the step of a narrow network is waiting above all: on two cores that others use, too,
    two threads take ten times as long over one as one thread does.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
