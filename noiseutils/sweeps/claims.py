"""Claim the runs of a store, so that each is computed by one process, on one machine or on several.

Locks are files in the store's folder .locks. A lock is released with its process, however the process ends.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from noiseutils.config import Run
from noiseutils.errors import UserError
from noiseutils.files import not_written


class StoreError(UserError):
    """Raised where the store's folder cannot be written or is no folder; stored results stay intact."""


@contextlib.contextmanager
def clear_errors(path: Path) -> Iterator[None]:
    """Raise StoreError, with the remedy that fits, for what cannot be written inside the block."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"{not_written(path, error)}. Finished runs are kept, the same command then resumes"
        ) from error


class Claims:
    """Claims on the runs of the store under `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @contextlib.contextmanager
    def claim(self, run: Run, owner: str = "") -> Iterator[bool]:
        """Yield whether this process has the run to itself inside the block; a killed process gives it up.

        owner: a name that the processes of one sweep share. A run that one of them marked and died of is not
        given to another of them, which might die of it, too; to the next sweep it is.
        """
        place, mark = self.root / ".locks" / run.key, self._mark_of(run)
        lock, mine = FileLock(place), True
        with clear_errors(place):
            place.parent.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(blocking=False)
            except Timeout:  # an OSError, but no trouble: somebody else has it
                mine = False
        if not mine:
            yield False
            return
        try:
            with clear_errors(mark):
                mine = not owner or not mark.is_file() or mark.read_bytes() != owner.encode()
            if not mine:
                yield False
                return
            with clear_errors(self.root / run.key):
                for partial in (self.root / run.key).glob(".partial-*"):  # of a process killed while writing
                    partial.unlink(missing_ok=True)
            try:
                yield True
            finally:
                with contextlib.suppress(OSError):  # a mark that stays says the name of a sweep that is over
                    mark.unlink()
        finally:
            lock.release()

    def mark(self, run: Run, owner: str) -> None:
        """Write the owner's name beside a claim; called inside it, once the owner has been told of it.

        A process that is killed before has not begun, and the run is free for the others.
        """
        mark = self._mark_of(run)
        with clear_errors(mark):
            mark.unlink(missing_ok=True)  # never written to: it may be a link
            with mark.open("x") as file:
                file.write(owner)

    @contextlib.contextmanager
    def shared_token(self, token: str) -> Iterator[None]:
        """Hold a file named by the token; machines that see the file share this folder: see `sees_token`.

        Files of killed processes are deleted.
        """
        place = self._token_file(token)
        with clear_errors(place):
            place.parent.mkdir(parents=True, exist_ok=True)
            for other in place.parent.glob("seen-*"):
                with contextlib.suppress(Timeout), FileLock(other, blocking=False):
                    other.unlink(missing_ok=True)
            lock = FileLock(place)
            lock.acquire(blocking=False)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # nobody else looks for this token
                place.unlink()
            lock.release()

    def sees_token(self, token: str) -> bool:
        """Return whether the file of `shared_token` exists here."""
        return self._token_file(token).is_file()

    def _token_file(self, token: str) -> Path:
        return self.root / ".locks" / f"seen-{token}"

    def _mark_of(self, run: Run) -> Path:
        return self.root / ".locks" / f"{run.key}.owner"
