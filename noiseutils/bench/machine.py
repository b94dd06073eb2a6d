"""Describe the machine of a benchmark, and measure the most that the machine computes and moves."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import noiseutils
from noiseutils.bench.ratios import Side, seconds
from noiseutils.provenance import commit

SAMPLE_OPERATIONS = 3e10  # of one sample of a rate on CPU: a tenth of a second, long against a pause
MATRIX_SIDES = {"cpu": (1024, 2048, 4096), "cuda": (4096, 8192, 16384)}  # sides of square matrices
# (images, channels in, channels out, kernel, pixels a side); oneDNN does some of them faster than any product
CONVOLUTIONS = ((128, 64, 128, 5, 4), (32, 512, 512, 1, 32), (128, 128, 128, 3, 16), (128, 256, 256, 3, 8))
COPIED_BYTES = 256 << 20  # bytes: far more than any cache holds


def description() -> dict[str, Any]:
    """Return the machine and the software, as JSON holds them."""
    return {
        "cpu": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gib": memory_gib(),
        "cache_mib": (cache_bytes() or 0) / 2**20 or None,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "noiseutils": noiseutils.__version__,
        "commit": commit(),
    }


def processor() -> str:
    """Return the processor's model name where the system names one."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def memory_gib() -> float | None:
    """Return the main memory; None where the system does not name its size."""
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, OSError, ValueError):
        return None


def cache_bytes() -> int | None:
    """Return the size of the last cache before memory; None where the system does not name one."""
    try:
        text = Path("/sys/devices/system/cpu/cpu0/cache/index3/size").read_text().strip()
    except OSError:
        return None
    return int(text.removesuffix("K")) * 1024 if text.endswith("K") else None


def rates(device: str = "cpu", dtype: torch.dtype = torch.float32) -> dict[str, Callable[[], float]]:
    """Return ways to reach the machine's peak, each a call that returns operations a second.

    Square matrix products through `torch.mm`; on CPU, float32, convolutions as well: these run in
    oneDNN, whose rate on some processors is three times that of the products, which may run in MKL.
    """
    ways = {f"product {n}": _product(n, device, dtype) for n in MATRIX_SIDES[device]}
    if device == "cpu":
        ways |= {
            f"convolution {k}x{k}, {a} to {b}, {side} pixels": _convolution(n, a, b, k, side)
            for n, a, b, k, side in CONVOLUTIONS
        }
    return ways


def bandwidth(device: str = "cpu", size: int = COPIED_BYTES) -> Callable[[], float]:
    """Return a call that copies `size` bytes and returns bytes read and written a second."""
    source = torch.ones(size // 4, device=device)
    target = torch.empty_like(source)
    return lambda: 2 * size / seconds(lambda: _finished(target.copy_(source)))


def best(sides: dict[str, Side], kind: str) -> Side:
    """Return the side of the highest median among those whose name begins with `kind`."""
    return max((side for name, side in sides.items() if name.startswith(kind)), key=lambda side: side.median)


def peaks(sides: dict[str, Side]) -> dict[str, Any]:
    """Return the peaks that `rates` (and `bandwidth`, as "copy") reached, as JSON holds them.

    product and convolution: the best median over sizes, operations a second; None where not measured.
    rate: the fastest single sample of either, and bandwidth that of the copy. A roofline is computed from
    these, so that no pause of the machine lets a network beat the roofline.
    """
    found: dict[str, Any] = {"unit": "operations/s, bytes/s"}
    for kind in ("product", "convolution"):
        if any(name.startswith(kind) for name in sides):
            side = best(sides, kind)
            found[kind] = {"name": side.name, "median": side.median, "fastest": max(side.values)}
    found["rate"] = max(entry["fastest"] for entry in found.values() if isinstance(entry, dict))
    if "copy" in sides:
        found["copy"] = {"median": sides["copy"].median, "fastest": max(sides["copy"].values)}
        found["bandwidth"] = found["copy"]["fastest"]
    return found


def _product(n: int, device: str, dtype: torch.dtype) -> Callable[[], float]:
    a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(a)
    return _rate(lambda: torch.mm(a, b, out=out), 2 * n**3, device)


def _convolution(images: int, before: int, after: int, kernel: int, side: int) -> Callable[[], float]:
    x = torch.randn(images, before, side, side).to(memory_format=torch.channels_last)
    weight = torch.randn(after, before, kernel, kernel).to(memory_format=torch.channels_last)
    operations = 2 * images * side**2 * after * before * kernel**2

    def once() -> Tensor:
        with torch.no_grad():
            return F.conv2d(x, weight, padding=kernel // 2)

    return _rate(once, operations, "cpu")


def _rate(work: Callable[[], Tensor], operations: int, device: str) -> Callable[[], float]:
    times = max(1, round((SAMPLE_OPERATIONS if device == "cpu" else 1000 * SAMPLE_OPERATIONS) / operations))

    def sample() -> float:
        def all_of_them() -> None:
            for _ in range(times):
                out = work()
            _finished(out)

        return times * operations / seconds(all_of_them)

    return sample


def _finished(tensor: Tensor) -> None:
    if tensor.device.type == "cuda":
        torch.cuda.synchronize()
