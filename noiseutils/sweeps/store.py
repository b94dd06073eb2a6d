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

import contextlib
import errno
import hashlib
import io
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import safetensors
import safetensors.torch
import torch
from filelock import FileLock, Timeout

from noiseutils.config import Run
from noiseutils.errors import UserError
from noiseutils.provenance import versions
from noiseutils.training.checkpoint import Checkpoint
from noiseutils.training.classifier import Classifier, build_classifier
from noiseutils.training.loop import Result

log = logging.getLogger("noiseutils")

DIGEST = hashlib.sha256().digest_size
RECORD = "told"  # name in a checkpoint file of what is no tensor, as JSON


class StoreError(UserError):
    """The store cannot be written; what it holds is intact."""


class Damaged(Exception):
    """Raised for a stored file that is not as it was written: torn, edited or missing."""


class Store:
    """Results under `root`; `reference` folders are looked in too, and never written."""

    def __init__(self, root: Path | str, reference: tuple[Path, ...] = ()) -> None:
        self.root = Path(root)
        self.reference = reference
        self._verified: set[str] = set()  # keys whose files this process has checked already

    def finished(self, run: Run) -> bool:
        """Return whether the run's result is here, whole; a damaged one is named and set aside."""
        return run.key in self._verified or self.load(run) is not None

    def state(self, run: Run) -> str:
        """Return one of: finished, diverged, failed, interrupted, missing."""
        result = self.load(run)
        if result is not None:
            return result.status
        folder = self.root / run.key
        if (folder / "failure.txt").exists():
            return "failed"
        return "interrupted" if (folder / "checkpoint").exists() else "missing"

    def load(self, run: Run, *, weights: bool = False) -> Result | None:
        """Return the stored result of a run, None when there is none; with its network if `weights`."""
        for folder in self._folders(run):
            if not (folder / "run.json").exists():
                continue
            try:
                result = _read(folder, run, weights)
            except Damaged as damage:
                self._set_aside(folder, damage)
                continue
            self._verified.add(run.key)
            return result
        return None

    def has_weights(self, run: Run) -> bool:
        """Return whether the trained network of a finished run is here, and not its numbers alone."""
        return any((folder / "weights.safetensors").exists() for folder in self._folders(run))

    def save(self, result: Result) -> None:
        """Write a result; `run.json` comes last and makes it count. UserError if it was changed by hand."""
        if "changed_after_steps" in result.info:
            raise UserError(f"{result.run} was changed while it trained: no run says how to make it again")
        folder = self._folder(result.run)
        contents = {
            "history.csv": result.history.to_csv(index=False).encode(),
            "metrics.json": json.dumps(result.metrics, indent=1).encode(),
        }
        if result.model is not None and result.status == "finished":
            tensors = {name: value.cpu().contiguous() for name, value in result.model.state_dict().items()}
            contents["weights.safetensors"] = safetensors.torch.save(tensors)
        for name, content in contents.items():
            _write(folder / name, content)
        files = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
        info = {
            **result.info,
            "versions": versions(),
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        _write_record(folder, result.run, result.status, info, files)
        for leftover in ("checkpoint", "failure.txt"):
            (folder / leftover).unlink(missing_ok=True)
        self._verified.add(result.run.key)

    def save_extra(self, run: Run, name: str, content: dict[str, Any]) -> None:
        """Store findings about a finished run's network, under a name of letters and dashes."""
        text = json.dumps({"content": content, "checksum": _checksum(content)}, indent=1)
        _write(self._folder(run) / f"extra-{name}.json", text.encode())

    def load_extra(self, run: Run, name: str) -> dict[str, Any] | None:
        """Return the findings of `save_extra`, None where there are none; torn or edited ones are named."""
        for folder in self._folders(run):
            path = folder / f"extra-{name}.json"
            if not path.exists():
                continue
            try:
                stored = json.loads(path.read_bytes())
                if stored["checksum"] == _checksum(stored["content"]):
                    return stored["content"]
            except (ValueError, KeyError, TypeError):
                pass
            log.warning("%s is torn or edited: not used", path)
        return None

    def publish(self, run: Run, destination: Path) -> None:
        """Copy a finished result without its weights to another store's folder, to be shared."""
        source = next(f for f in self._folders(run) if (f / "run.json").exists())
        record = json.loads((source / "run.json").read_bytes())
        files = {name: digest for name, digest in record["files"].items() if name != "weights.safetensors"}
        folder = destination / run.key
        folder.mkdir(parents=True, exist_ok=True)
        for path in [source / name for name in files] + sorted(source.glob("extra-*.json")):
            _write(folder / path.name, path.read_bytes())
        _write_record(folder, run, record["status"], record["info"], files)

    def save_checkpoint(self, run: Run, checkpoint: Checkpoint) -> None:
        """Store the state of an unfinished run in place of the one before."""
        record = {name: value for name, value in vars(checkpoint).items() if name != "tensors"}
        text = bytearray(json.dumps(record).encode())
        tensors = {**checkpoint.tensors, RECORD: torch.frombuffer(text, dtype=torch.uint8)}
        content = safetensors.torch.save(tensors)
        _write(self._folder(run) / "checkpoint", content + hashlib.sha256(content).digest())

    def load_checkpoint(self, run: Run) -> Checkpoint | None:
        """Return the state of an unfinished run, None where none is stored."""
        path = self.root / run.key / "checkpoint"
        if not path.exists():
            return None
        stored = path.read_bytes()
        content = stored[:-DIGEST]
        if hashlib.sha256(content).digest() != stored[-DIGEST:]:
            self.drop_checkpoint(run, "it is torn or edited")
            return None
        tensors = safetensors.torch.load(content)
        record = json.loads(bytes(tensors.pop(RECORD).tolist()))
        return Checkpoint(tensors=tensors, **{"device": "cpu", **record})

    def drop_checkpoint(self, run: Run, why: str) -> None:
        """Set a checkpoint aside that cannot be resumed from; the run starts anew."""
        path = self.root / run.key / "checkpoint"
        aside = path.with_name(f"checkpoint.damaged-{time.time_ns()}")
        with _clear_errors(path):
            path.rename(aside)
        log.warning("%s cannot be used (%s): set aside as %s, the run starts anew", path, why, aside.name)

    def digest(self, run: Run) -> str | None:
        """Return the checksum of a stored result, None when there is none; a rendering depends on it."""
        for folder in self._folders(run):
            if (folder / "run.json").exists():
                return json.loads((folder / "run.json").read_bytes())["checksum"]
        return None

    def record_failure(self, run: Run, trace: str) -> None:
        """Store the traceback of an attempt that failed; the next sweep tries again."""
        _write(self._folder(run) / "failure.txt", trace.encode())

    def failure(self, run: Run) -> str | None:
        """Return the traceback of a failed run's last attempt, None where it did not fail."""
        path = self.root / run.key / "failure.txt"
        return path.read_text() if path.exists() else None

    def forget_failure(self, run: Run) -> None:
        """Drop the traceback of an earlier attempt."""
        path = self.root / run.key / "failure.txt"
        with _clear_errors(path):
            path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def claim(self, run: Run, owner: str = "") -> Iterator[bool]:
        """Yield whether this process has the run to itself inside the block; a killed process gives it up.

        owner: a name that the processes of one sweep share. A run that one of them marked and died of is not
        given to another of them, which might die of it, too; to the next sweep it is.
        """
        place, mark = self.root / ".locks" / run.key, self._mark_of(run)
        lock, mine = FileLock(place), True
        with _clear_errors(place):
            place.parent.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(blocking=False)
            except Timeout:  # an OSError, but no trouble: somebody else has it
                mine = False
        if not mine:
            yield False
            return
        try:
            with _clear_errors(mark):
                mine = not owner or not mark.is_file() or mark.read_bytes() != owner.encode()
            if not mine:
                yield False
                return
            with _clear_errors(self.root / run.key):
                for torn in (self.root / run.key).glob(".partial-*"):  # of a process killed while writing
                    torn.unlink(missing_ok=True)
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
        with _clear_errors(mark):
            mark.unlink(missing_ok=True)  # never written to: it may be a link
            with mark.open("x") as file:
                file.write(owner)

    def _mark_of(self, run: Run) -> Path:
        return self.root / ".locks" / f"{run.key}.owner"

    def _folders(self, run: Run) -> tuple[Path, ...]:
        """Return the folders that may hold a result, this store's own first."""
        return (self.root / run.key, *(root / run.key for root in self.reference))

    def _folder(self, run: Run) -> Path:
        folder = self.root / run.key
        with _clear_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _set_aside(self, folder: Path, damage: Damaged) -> None:
        if folder.parent != self.root:
            log.warning("%s: not used", damage)
            return
        aside = self.root / f"damaged-{folder.name[:12]}-{time.time_ns()}"
        with contextlib.suppress(FileNotFoundError):  # another process was first
            folder.rename(aside)
            log.warning("%s: set aside as %s, the run is computed again", damage, aside.name)


def _read(folder: Path, run: Run, weights: bool) -> Result:
    try:
        record = json.loads((folder / "run.json").read_bytes())
        described = {name: record[name] for name in ("schema", "key", "run", "status", "info", "files")}
    except (ValueError, KeyError, TypeError) as error:
        raise Damaged(f"{folder / 'run.json'} is torn or edited") from error
    if record.get("checksum") != _checksum(described) or record["key"] != run.key:
        raise Damaged(f"{folder / 'run.json'} is edited: its checksum differs")
    contents = {}
    for name, digest in record["files"].items():
        try:
            contents[name] = (folder / name).read_bytes()
        except FileNotFoundError as error:
            raise Damaged(f"{folder / name} is missing") from error
        if hashlib.sha256(contents[name]).hexdigest() != digest:
            raise Damaged(f"{folder / name} is torn or edited: its checksum differs")
    # read as text: pandas' own float parser is not exact in every version
    history = pd.read_csv(io.BytesIO(contents["history.csv"]), dtype=str).astype(float).astype({"epoch": int})
    model = None
    if weights and "weights.safetensors" in contents:
        model = _network(run, record["info"], contents["weights.safetensors"])
    metrics = json.loads(contents["metrics.json"])
    return Result(run, record["status"], metrics, history, model, record["info"])


def _network(run: Run, info: dict[str, Any], content: bytes) -> Classifier:
    data = info["data"]
    model = build_classifier(run, len(data["classes"]), data["channels"], data["image_size"])
    model.load_state_dict(safetensors.torch.load(content))
    return model.eval()


def _write_record(folder: Path, run: Run, status: str, info: dict[str, Any], files: dict[str, str]) -> None:
    record = {
        "schema": run.schema,
        "key": run.key,
        "run": run.model_dump(mode="json", exclude={"data": {"root"}}),  # paths belong to a machine
        "status": status,
        "info": info,
        "files": files,
    }
    _write(folder / "run.json", json.dumps({**record, "checksum": _checksum(record)}, indent=1).encode())


def _checksum(record: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def _write(path: Path, content: bytes) -> None:
    """Write a file so that a kill at any moment leaves the old one or the new one, whole."""
    with _clear_errors(path):
        descriptor, name = tempfile.mkstemp(prefix=".partial-", dir=path.parent)
        partial = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            partial.chmod(0o644)
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def _clear_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        free = ""
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            with contextlib.suppress(OSError):
                left = shutil.disk_usage(next(p for p in path.parents if p.exists())).free
                free = f" ({left / 2**20:.0f} MiB left)"
        raise StoreError(
            f"cannot write {path}: {error.strerror or error}{free}. What was finished is intact; "
            "make room or name another place with NOISEUTILS_OUTPUTS, then run the same command to go on"
        ) from error
