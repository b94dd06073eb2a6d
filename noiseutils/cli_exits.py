"""End a command of `noiseutils`: exit codes, one screen for bad input, how to resume."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from noiseutils.errors import UserError
from noiseutils.files import DISK_FULL_ERRORS, not_written
from noiseutils.provenance import outputs_root
from noiseutils.sweeps.signals import Stop
from noiseutils.training.distributed import exit_process, is_main_process

STOP = Stop()
# torchrun kills all processes as soon as one has exited: other ranks wait this long, until rank 0 has printed
RANK0_SECONDS = 5.0


@contextmanager
def resumable() -> Iterator[None]:
    """Exit as shells expect after Ctrl-C, SIGTERM and SIGHUP, and say that the same command resumes."""
    STOP.message = "stopped; finished runs are kept, the same command resumes"
    try:
        yield
    except KeyboardInterrupt:
        STOP.print_message()
        raise typer.Exit(STOP.code) from None


def run_to_end(app: typer.Typer) -> None:
    """Run the command line; bad input is one screen on standard error and exit code 2."""
    try:
        with STOP.handling():
            _run(app)
    except UserError as error:
        if is_main_process():
            print(_plain(f"noiseutils: {error}"), file=sys.stderr)
        else:
            time.sleep(RANK0_SECONDS)
        exit_process(2)
        sys.exit(2)
    except BaseException as end:
        if STOP.number is not None:
            code = STOP.code  # click's is 1, outside of `resumable`
        elif isinstance(end, SystemExit):
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        else:
            raise
        exit_process(code)
        sys.exit(code)


def _run(app: typer.Typer) -> None:
    """Run the command; turn any error about a full disk into UserError."""
    try:
        app()
    except OSError as error:
        if error.errno not in DISK_FULL_ERRORS:
            raise
        raise UserError(not_written(error.filename or outputs_root(), error)) from error


def _plain(text: str) -> str:
    """Return a text without control characters, and without characters that stderr cannot encode."""
    shown = "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)
    code = sys.stderr.encoding or "utf-8"
    return shown.encode(code, "backslashreplace").decode(code)
