"""One progress bar for a sweep, fed by its events."""

from __future__ import annotations

import os
import sys
from typing import Any

from tqdm import tqdm

from noiseutils.config import Run


class Bar:
    """Progress bar over the epochs of all runs; failures are printed above it."""

    def __init__(self, runs: list[Run], shown: bool) -> None:
        self.left = {run.key: run.epochs for run in runs}
        total = sum(self.left.values())
        self.name = name = f"{len(runs)} run{'s' if len(runs) != 1 else ''}"
        watched = in_jupyter()
        # disable=None: silent where the output is no terminal, so that executed notebooks stay clean
        disable = (False if watched else None) if shown else True
        file = sys.stdout if watched else None  # notebooks show standard error in red
        self.bar = tqdm(total=total, unit="epoch", desc=name, disable=disable, file=file, leave=not watched)

    def on_event(self, event: str, run: Run, detail: Any) -> None:
        """Show an event: claimed, epoch (detail: its history row), done, failed (detail: a traceback)."""
        left = self.left.get(run.key, 0)
        if event == "claimed":
            return
        if event == "epoch":
            now = run.epochs - int(detail["epoch"])
            self.bar.set_postfix_str(f"{run}: loss {detail['train_loss']:.3f}", refresh=False)
        else:
            now = 0
        self.left[run.key] = min(left, now)
        self.bar.update(max(0, left - now))
        if event == "failed":
            self.bar.write(f"failed: {run}\n  {last_line(detail)}", file=sys.stderr)

    def describe(self, text: str) -> None:
        """Show where the runs are computed, behind their number."""
        self.bar.set_description_str(f"{self.name}, {text}", refresh=False)

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()


def in_jupyter() -> bool:
    """Tell whether a Jupyter server started this kernel for a notebook that a person has open.

    The server sets the variable; papermill, nbval and Voilà start their kernels without it.
    """
    return "JPY_SESSION_NAME" in os.environ


def last_line(trace: str | None) -> str:
    """Return the last line of a failed run's traceback, or that there is none."""
    return next(reversed((trace or "").strip().splitlines()), "no traceback was kept")
