"""Keep the memory that a training frees in the process, for the next step.

A training step frees its activations and then allocates the same sizes again. glibc returns large blocks to
the system, and each fresh page of a new block costs a page fault: 10,000 faults in a step of tinycnn, a
quarter of the step's time on two cores. Kept blocks cost no faults, but they split: the process of a large
network ends up with half as much memory again, so the largest blocks are returned. How much time that takes
depends on the page fault: resnet18 takes 3 % longer where a fault takes half a microsecond, and a third
longer on a virtual machine where a fault takes three.

GLIBC_TUNABLES, which glibc reads when a program starts, help more; where they are set, nothing is done here.
The processes of `noiseutils.sweeps.processes` get them. Measured on such a virtual machine, which was shared,
with one thread and batches of 128: processor time of a step in ms and peak memory in MB, medians of three or
four processes in turn.

    network, width       glibc as it is     kept here      tunables
    module_resnet, 0.25    443    865      273  1,084    215  1,168
    resnet20, 1            336    791      312    797    303    804
    mobilenet_v2, 0.5    1,125  1,595    1,686  1,429    735  2,138   large: its blocks go back

Other C libraries are left as they are.
"""

from __future__ import annotations

import ctypes
import functools
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager

# mallopt's parameters, from glibc's malloc.h
TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3
LARGEST_THRESHOLD = 32 << 20  # bytes; glibc takes no larger MMAP_THRESHOLD
LARGE_NETWORK = 512 << 20  # bytes that the layers put out in a step
KEEP = {MMAP_THRESHOLD: LARGEST_THRESHOLD, TRIM_THRESHOLD: 2**31 - 1, TOP_PAD: 64 << 20}
KEEP_SMALL = {**KEEP, MMAP_THRESHOLD: 4 << 20}
# where glibc's own adaptation ends once a process has freed blocks of 32 MB: the least it gives back unasked
ORDINARY = {MMAP_THRESHOLD: LARGEST_THRESHOLD, TRIM_THRESHOLD: 2 * LARGEST_THRESHOLD, TOP_PAD: 128 << 10}

_ordinary = False  # inside `ordinary_allocator`
_current: dict[int, int] | None = None


def keep_freed_memory(outputs: int = 0) -> None:
    """Keep what this process frees from now on; of a large network, blocks below 4 MB.

    outputs: bytes that the layers of the network put out in a step.
    """
    global _current
    wanted = KEEP if outputs < LARGE_NETWORK else KEEP_SMALL
    if wanted is not _current and not _ordinary:
        _current = wanted
        _set(wanted)


@contextmanager
def ordinary_allocator() -> Iterator[None]:
    """Give memory back inside the block as any other process does: for a fair comparison with one."""
    global _ordinary
    _ordinary = True  # a training inside the block must not change it
    _set(ORDINARY)
    try:
        yield
    finally:
        _ordinary = False
        if _current is not None:
            _set(_current)


def _set(values: dict[int, int]) -> None:
    libc = _glibc()
    if libc is not None:
        for parameter, value in values.items():
            libc.mallopt(parameter, value)


@functools.cache
def _glibc() -> ctypes.CDLL | None:
    """Return glibc, None for another C library or where its malloc was tuned at the start."""
    tuned = "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "")
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" and not tuned else None
