"""What was measured on this machine, once, and is remembered: answers to "which way is faster here?".

`measured.json` in $NOISEUTILS_CACHE, else ~/.cache/noiseutils. An answer belongs to a machine (processor,
cores, GPU), a version of torch and a question; any of them another, and it is measured again.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

log = logging.getLogger(__name__)


def cache_file() -> Path:
    """Where measurements are kept."""
    given = os.environ.get("NOISEUTILS_CACHE")
    folder = Path(given).expanduser() if given else Path.home() / ".cache" / "noiseutils"
    return folder / "measured.json"


def measured(
    question: Mapping[str, Any], measure: Callable[[], dict[str, float] | None]
) -> dict[str, float] | None:
    """Named numbers that answer a question: remembered ones, else those that `measure` finds.

    question: JSON values; the machine is added to it.   measure: None where it found nothing, which is not
    remembered. A file that cannot be read or written costs a measurement, no more.
    """
    key = json.dumps({**machine(), **question}, sort_keys=True)
    known = _read()
    if key in known:
        return known[key]
    found = measure()
    if found is not None:
        _write({**_read(), key: found})
    return found


def machine() -> dict[str, Any]:
    """What a measurement holds for."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"processor": processor(), "cores": cores, "gpu": gpu, "torch": torch.__version__}


def processor() -> str:
    """The processor's model name where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _read() -> dict[str, dict[str, float]]:
    try:
        found = json.loads(cache_file().read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(content: dict[str, Any]) -> None:
    file = cache_file()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=file.parent, prefix=".measured-", delete=False) as out:
            json.dump(content, out, indent=1, sort_keys=True)
        os.replace(out.name, file)
    except OSError as error:
        log.warning("%s could not be written (%s): it will be measured again", file, error)
