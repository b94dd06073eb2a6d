"""Results by run key: written whole or not at all, verified when read, resumable when unfinished.

    <root>/<key>/run.json              the configuration, status, versions, device; digests of the files below
    <root>/<key>/history.csv           one row an epoch
    <root>/<key>/metrics.json          numbers of `noiseutils.evaluation.evaluate.evaluate`
    <root>/<key>/weights.safetensors   may be left out of a published copy
    <root>/<key>/extra-<name>.json     findings about the trained network, with their checksum
    <root>/<key>/checkpoint            while unfinished: a safetensors image, then its SHA-256
    <root>/<key>/failure.txt           the traceback of the last attempt, when it failed

`run.json` is written last: a run is finished when it is there. Every file is written under a temporary name,
flushed to disk and renamed. Nothing is ever unpickled.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from noiseutils.config import Run
from noiseutils.errors import UserError
from noiseutils.files import Unusable, obstacle, read_bytes, size_of, write_atomically
from noiseutils.sweeps.claims import Claims, StoreError, clear_errors
from noiseutils.sweeps.records import (
    RUN,
    WEIGHTS,
    StoredResult,
    checkpoint_content,
    checkpoint_of,
    checksum,
    files_of,
    fingerprint_of,
    read_extra,
    record_content,
    verified_result,
    verify_files,
)
from noiseutils.training.checkpoint import Checkpoint
from noiseutils.training.loop import Result

log = logging.getLogger("noiseutils")

T = TypeVar("T")


class Store(Claims):
    """Results under `root`. `reference` folders are searched, too, and never written.

    A file that is not as it was written is reported and, where possible, set aside; other runs continue.
    Finding a run reads and verifies the run's small files. Weights are read and verified on request alone.
    File operations to find a stored run: three times open, read and close, and one stat of the weights. To
    find that a run is missing: a failing open in `root` and in each reference folder, and two failing stats.
    """

    def __init__(self, root: Path | str, reference: tuple[Path, ...] = ()) -> None:
        super().__init__(Path(root))
        self.reference = reference
        # where this process has found results whole, by key: run.json, and the fingerprint of the images
        self._verified: dict[str, tuple[str, str | None]] = {}
        self._named: set[str] = set()  # damage that stays where it is, and was named

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what this process has seen: another, perhaps on another machine, looks itself."""
        return {**vars(self), "_verified": {}, "_named": set()}

    def check_root(self) -> None:
        """Raise StoreError where the store, or a folder above it, is no folder: no run is to blame."""
        if not os.path.isdir(self.root) and (found := obstacle(self.root / "a run")):
            raise StoreError(f"{self.root} cannot hold results: {found}; remove or rename what stands there")

    def finished(self, run: Run) -> bool:
        """Return whether the run's result is here, whole; a damaged one is named and set aside."""
        known = self._verified.get(run.key)
        # another process may have set the run aside
        return (known is not None and os.path.exists(known[0])) or self._find(run) is not None

    def state(self, run: Run) -> str:
        """Return one of: finished, diverged, failed, interrupted, missing."""
        if (found := self._find(run)) is not None:
            return found.record["status"]
        if self.failure(run) is not None:
            return "failed"
        return "interrupted" if self._has_checkpoint(run) else "missing"

    def load(self, run: Run, *, weights: bool = False) -> Result | None:
        """Return the stored result of a run, None when there is none; with its network if `weights`."""
        return self._look(run, lambda found: found.result(run, weights))

    def fingerprint(self, run: Run) -> str | None:
        """Return the fingerprint of the images of a stored result, None where none is known."""
        if not self.finished(run):
            return None
        return self._verified[run.key][1]

    def has_weights(self, run: Run) -> bool:
        """Return whether the trained network of a finished run is here, and not its numbers alone."""
        return any(os.path.isfile(f"{folder}/{WEIGHTS}") for folder in self._folders(run))

    def save(self, result: Result) -> None:
        """Write a result; `run.json` comes last and makes it count. UserError if it was changed by hand."""
        self._write_result(result.run, files_of(result), result.info)

    def adopt(self, run: Run, files: Mapping[str, bytes], sender: str) -> None:
        """Write a result that was computed elsewhere, whole or not at all.

        files: bytes of `records.files_of`.   sender: names where the bytes come from, for the error.
        Raises UserError if they are not as they were made.
        """
        try:
            record = verify_files(files, run, sender)
        except Unusable as damage:
            raise UserError(f"a result cannot be stored: {damage}") from damage
        self._write_result(run, files, record["info"])

    def _write_result(self, run: Run, files: Mapping[str, bytes], info: dict[str, Any]) -> None:
        folder = self._folder(run)
        for name in sorted(files, key=RUN.__eq__):  # run.json comes last
            _write(folder / name, files[name])
        for leftover in ("checkpoint", "failure.txt"):
            self._remove(folder / leftover)
        self._verified[run.key] = (str(folder / RUN), fingerprint_of(info))

    def save_extra(self, run: Run, name: str, content: dict[str, Any]) -> None:
        """Store findings about a finished run's network, under a name of letters and dashes."""
        text = json.dumps({"content": content, "checksum": checksum(content)}, indent=1)
        _write(self._folder(run) / f"extra-{name}.json", text.encode())

    def load_extra(self, run: Run, name: str) -> dict[str, Any] | None:
        """Return the findings of `save_extra`, None where there are none; damaged ones are set aside."""
        for folder in self._folders(run):
            path = f"{folder}/extra-{name}.json"
            try:
                return read_extra(path)
            except FileNotFoundError:
                continue
            except Unusable as damage:
                self._set_aside(Path(path), damage, "not used")
        return None

    def publish(self, run: Run, destination: Path) -> None:
        """Copy a finished result without its weights to another store's folder, to be shared.

        One that is there already with the same content stays byte for byte: its record may be of an older
        version. Raises UserError where the run has no result.
        """
        found = self._find(run)
        if found is None:
            raise UserError(f"{run} has no result to publish in {self.root}")
        files = {name: digest for name, digest in found.record["files"].items() if name != WEIGHTS}
        contents = dict(found.contents)
        for path in sorted(Path(found.folder).glob("extra-*.json")):
            try:
                read_extra(path)
                contents[path.name] = read_bytes(path)
            except (FileNotFoundError, Unusable) as damage:
                log.warning("%s: not published", damage)
        folder = destination / run.key
        with clear_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            _write(folder / name, content)
        record = {**found.record, "files": files}
        try:
            there = verified_result(str(folder), run).record
        except (FileNotFoundError, Unusable):
            there = {}
        if any(there.get(part) != record[part] for part in ("status", "info", "files")):
            _write(folder / RUN, record_content(run, record["status"], record["info"], files))

    def save_checkpoint(self, run: Run, checkpoint: Checkpoint) -> None:
        """Store the state of an unfinished run in place of the one before."""
        _write(self._folder(run) / "checkpoint", checkpoint_content(run, checkpoint))

    def load_checkpoint(self, run: Run) -> Checkpoint | None:
        """Return the state of an unfinished run, None where none is stored; a damaged one is set aside."""
        path = self._path(run, "checkpoint")
        try:
            stored = read_bytes(path, largest=None)
        except FileNotFoundError:
            return None
        except Unusable as damage:
            self._set_aside(path, damage, "the run starts anew")
            return None
        try:
            return checkpoint_of(run, stored)
        except Unusable as damage:
            self.drop_checkpoint(run, str(damage))
            return None

    def drop_checkpoint(self, run: Run, why: str) -> None:
        """Set a checkpoint aside that cannot be resumed from; the run starts anew."""
        path = self._path(run, "checkpoint")
        self._set_aside(path, Unusable(f"{path} cannot be used ({why})"), "the run starts anew")

    def digest(self, run: Run) -> str | None:
        """Return the checksum of a stored result, None when there is none; a rendering depends on it."""
        found = self._find(run)
        return found.record["checksum"] if found is not None else None

    def record_failure(self, run: Run, trace: str) -> None:
        """Store the traceback of an attempt that failed; the next sweep tries again."""
        _write(self._folder(run) / "failure.txt", trace.encode(errors="replace"))

    def failure(self, run: Run) -> str | None:
        """Return the traceback of a failed run's last attempt, None where it did not fail."""
        path = self._path(run, "failure.txt")
        try:
            return read_bytes(path).decode(errors="replace")
        except FileNotFoundError:
            return None
        except Unusable as damage:
            self._set_aside(path, damage, "the run counts as not failed")
            return None

    def forget_failure(self, run: Run) -> None:
        """Drop the traceback of an earlier attempt."""
        self._remove(self._path(run, "failure.txt"))

    def _folders(self, run: Run) -> Iterator[str]:
        """Yield the folders that may hold a result, this store's own first."""
        for root in (self.root, *self.reference):
            yield f"{root}/{run.key}"

    def _path(self, run: Run, name: str) -> Path:
        return self.root / run.key / name

    def _folder(self, run: Run) -> Path:
        """Return the folder of a run, made if it is not there; a file in its place is set aside."""
        folder = self.root / run.key
        with clear_errors(folder):
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except (FileExistsError, NotADirectoryError):
                if not self.root.is_dir():
                    raise
                self._set_aside(folder, Unusable(obstacle(folder)), "the run is computed again")
                folder.mkdir(exist_ok=True)
        return folder

    def _find(self, run: Run) -> StoredResult | None:
        """Return the verified files of a run's result, None where there are none."""
        return self._look(run, lambda found: found)

    def _look(self, run: Run, use: Callable[[StoredResult], T]) -> T | None:
        """Return what `use` makes of the first folder with a whole result; set aside what is damaged."""
        for folder in self._folders(run):
            try:
                found = verified_result(folder, run)
                made = use(found)
            except FileNotFoundError:
                continue
            except Unusable as damage:
                self.check_root()
                place = Path(folder)
                self._set_aside(place, damage, "the run is computed again", f"damaged-{place.name[:12]}")
                self._verified.pop(run.key, None)
                continue
            self._verified[run.key] = (f"{folder}/run.json", fingerprint_of(found.record["info"]))
            return made
        return None

    def _has_checkpoint(self, run: Run) -> bool:
        path = self._path(run, "checkpoint")
        try:
            return size_of(path) is not None
        except Unusable as damage:
            self._set_aside(path, damage, "the run starts anew")
            return False

    def _remove(self, path: Path) -> None:
        """Remove a file; a folder in its place is set aside."""
        with clear_errors(path):
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                if not path.is_dir() or path.is_symlink():
                    if isinstance(error, NotADirectoryError) and self.root.is_dir():
                        return  # a file stands in the place of the run's folder: there is nothing to remove
                    raise
                self._set_aside(path, Unusable(f"{path} is a folder, not a file"), "not used")

    def _set_aside(self, path: Path, damage: Unusable, then: str, name: str = "") -> None:
        """Name what is damaged, and rename it, unless it is not this store's, or may be whole.

        then: what follows from that.   name: the new name's beginning, in the store's own folder.
        """
        why = "not used"
        if path.is_relative_to(self.root) and damage.readable:
            aside = path.with_name(f"{name or f'{path.name}.damaged'}-{time.time_ns()}")
            try:
                path.rename(aside)
            except FileNotFoundError:  # another process was first
                return
            except OSError as error:
                why = f"not used; it cannot be set aside: {error.strerror}"
            else:
                log.warning("%s: set aside as %s, %s", damage, aside.name, then)
                return
        if str(damage) not in self._named:  # a sweep that waits for others looks again and again
            self._named.add(str(damage))
            log.warning("%s: %s", damage, why)


def _write(path: Path, content: bytes) -> None:
    with clear_errors(path):
        write_atomically(path, content)
