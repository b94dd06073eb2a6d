"""Bytes of a stored run's files: written with their digests, verified when they are read.

`noiseutils.sweeps.store` says which files there are, and what becomes of those that are damaged.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import safetensors
import safetensors.torch
import torch

from noiseutils.config import Run
from noiseutils.errors import UserError
from noiseutils.files import LARGEST_FILE, Unusable, read_bytes, read_json, size_of
from noiseutils.provenance import versions
from noiseutils.training.checkpoint import Checkpoint
from noiseutils.training.classifier import Classifier, build_classifier
from noiseutils.training.loop import Result

DIGEST_BYTES = hashlib.sha256().digest_size
RECORD = "told"  # name in a checkpoint file of what is no tensor, as JSON
WEIGHTS = "weights.safetensors"
RUN = "run.json"
FILES = {"history.csv", "metrics.json", WEIGHTS}
STATUSES = ("finished", "diverged")
CHECKSUM_FIELDS = ("schema", "key", "run", "status", "info", "files")  # what a record's checksum is of
SIZES_FIELD = "bytes"  # in a record's info: sizes of the files, of records that have it


def contents_of(result: Result) -> dict[str, bytes]:
    """Return the bytes of a result's files, by name, without its run.json."""
    contents = {
        "history.csv": result.history.to_csv(index=False).encode(),
        "metrics.json": json.dumps(result.metrics, indent=1).encode(),
    }
    if result.model is not None and result.status == "finished":
        tensors = {name: value.cpu().contiguous() for name, value in result.model.state_dict().items()}
        contents[WEIGHTS] = safetensors.torch.save(tensors)
    return contents


def files_of(result: Result) -> dict[str, bytes]:
    """Return the bytes of all files of a result, by name, its run.json last.

    Raises UserError if the run was changed by hand while it trained.
    """
    if "changed_after_steps" in result.info:
        raise UserError(
            f"{result.run} cannot be stored: values were changed during its training, so no configuration "
            "reproduces the result"
        )
    contents = contents_of(result)
    info = {
        **result.info,
        "versions": versions(),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        SIZES_FIELD: {name: len(content) for name, content in contents.items()},
    }
    files = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    return {**contents, RUN: record_content(result.run, result.status, info, files)}


@dataclass(frozen=True)
class StoredResult:
    """The verified files of a result.   contents: by name, without the weights."""

    folder: str
    record: dict[str, Any]
    contents: dict[str, bytes]

    def result(self, run: Run, weights: bool) -> Result:
        """Return the result, with its network if `weights` and if they are here. Raises Unusable."""
        record = self.record
        try:
            history = _history(self.contents["history.csv"])
            metrics = json.loads(self.contents["metrics.json"])
        except (ValueError, KeyError, TypeError, csv.Error, RecursionError) as error:
            raise Unusable(f"{self.folder} holds no result of this version: {error}") from error
        model = None
        if weights and WEIGHTS in record["files"]:
            path = f"{self.folder}/{WEIGHTS}"
            model = _network(run, record["info"], _content(path, record["files"][WEIGHTS], None), path)
        return Result(run, record["status"], metrics, history, model, record["info"])


def _history(content: bytes) -> pd.DataFrame:
    """Read a history bit for bit: pandas' own float parser is not exact in every version."""
    names, *rows = csv.reader(io.StringIO(content.decode()))
    values = np.array([[float(text or "nan") for text in row] for row in rows])
    history = pd.DataFrame(values.reshape(len(rows), len(names)), columns=names)
    history["epoch"] = history["epoch"].astype(int)  # `astype` of the whole frame takes ten times as long
    return history


def verified_result(folder: str, run: Run) -> StoredResult:
    """Return the files of a result, held against their digests; of the weights, that they are there.

    Raises FileNotFoundError where no run.json is, and Unusable.
    """
    path = f"{folder}/{RUN}"
    record = read_json(path)
    _check_record(record, run, path)
    files, sizes = record["files"], record["info"].get(SIZES_FIELD, {})
    contents = {
        name: _content(f"{folder}/{name}", digest) for name, digest in files.items() if name != WEIGHTS
    }
    if WEIGHTS in files:
        size = size_of(f"{folder}/{WEIGHTS}")
        if size is None:
            raise Unusable(f"{folder}/{WEIGHTS} is missing")
        if size != sizes.get(WEIGHTS, size):
            raise Unusable(f"{folder}/{WEIGHTS} is incomplete or edited: its size differs")
    return StoredResult(folder, record, contents)


def verify_files(files: Mapping[str, bytes], run: Run, sender: str) -> dict[str, Any]:
    """Return the record among the bytes of `files_of` that came from elsewhere, once all fit their digests.

    Raises Unusable, which names the sender.
    """
    try:
        record = json.loads(files[RUN])
    except (KeyError, ValueError, RecursionError) as error:
        raise Unusable(f"{RUN} from {sender} is incomplete") from error
    _check_record(record, run, f"{RUN} from {sender}")
    if record["files"].keys() | {RUN} != files.keys():
        raise Unusable(f"{RUN} from {sender} names other files than came with it")
    for name, digest in record["files"].items():
        if hashlib.sha256(files[name]).hexdigest() != digest:
            raise Unusable(f"{name} from {sender} is incomplete: its checksum differs")
    return record


def _check_record(record: Any, run: Run, path: str) -> None:
    """Raise Unusable where the content of a run.json is not what was written, or is another run's."""
    try:
        described = {name: record[name] for name in CHECKSUM_FIELDS}
        whole = record["checksum"] == checksum(described)
        files, info, status = record["files"], record["info"], record["status"]
        known = set(files) <= FILES and status in STATUSES
        known &= all(isinstance(part, dict) for part in (files, info, info.get(SIZES_FIELD, {})))
    except (AttributeError, KeyError, TypeError, RecursionError) as error:
        raise Unusable(f"{path} is incomplete or edited") from error
    if not whole or record["key"] != run.key:
        raise Unusable(f"{path} is edited: its checksum differs")
    if not known:
        raise Unusable(f"{path} is of another version: it names other files or another status")


def _content(path: str, digest: str, largest: int | None = LARGEST_FILE) -> bytes:
    try:
        content = read_bytes(path, largest)
    except FileNotFoundError as error:
        raise Unusable(f"{path} is missing") from error
    if hashlib.sha256(content).hexdigest() != digest:
        raise Unusable(f"{path} is incomplete or edited: its checksum differs")
    return content


def read_extra(path: Path | str) -> dict[str, Any]:
    """Return the findings in a file of `save_extra`; raises FileNotFoundError and Unusable."""
    stored = read_json(path)
    try:
        if stored["checksum"] == checksum(stored["content"]) and isinstance(stored["content"], dict):
            return stored["content"]
    except (KeyError, TypeError, RecursionError):
        pass
    raise Unusable(f"{path} is incomplete or edited")


def fingerprint_of(info: dict[str, Any]) -> str | None:
    """Return the fingerprint of the images that a result comes from, None where none is known."""
    data = info.get("data")
    return data.get("fingerprint") if isinstance(data, dict) else None


def _network(run: Run, info: dict[str, Any], content: bytes, path: str) -> Classifier:
    try:
        data = info["data"]
        model = build_classifier(run, len(data["classes"]), data["channels"], data["image_size"])
        model.load_state_dict(safetensors.torch.load(content))
    except Exception as error:  # whole, but of another version, or no weights: anything may go wrong
        raise Unusable(f"{path} does not fit the network: {type(error).__name__}: {error}") from error
    return model.eval()


def record_content(run: Run, status: str, info: dict[str, Any], files: dict[str, str]) -> bytes:
    """Return the bytes of a run.json.   files: digests by name."""
    record = {
        "schema": run.schema,
        "key": run.key,
        "run": run.model_dump(mode="json", exclude={"data": {"root"}}),  # paths belong to a machine
        "status": status,
        "info": info,
        "files": files,
    }
    return json.dumps({**record, "checksum": checksum(record)}, indent=1).encode()


def checksum(record: dict[str, Any]) -> str:
    """Return the SHA-256 of a value's canonical JSON."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def checkpoint_content(run: Run, checkpoint: Checkpoint) -> bytes:
    """Return the bytes of a checkpoint file: a safetensors image, then its SHA-256."""
    record = {name: value for name, value in vars(checkpoint).items() if name != "tensors"}
    record["key"] = run.key
    text = bytearray(json.dumps(record).encode())
    tensors = {**checkpoint.tensors, RECORD: torch.frombuffer(text, dtype=torch.uint8)}
    content = safetensors.torch.save(tensors)
    return content + hashlib.sha256(content).digest()


def checkpoint_of(run: Run, stored: bytes) -> Checkpoint:
    """Return the checkpoint in the bytes of a file. Raises Unusable, which says why not."""
    content = stored[:-DIGEST_BYTES]
    if hashlib.sha256(content).digest() != stored[-DIGEST_BYTES:]:
        raise Unusable("it is incomplete or edited")
    try:
        tensors = safetensors.torch.load(content)
        record = json.loads(bytes(tensors.pop(RECORD).tolist()))
        if record.pop("key", run.key) != run.key:  # older ones do not name their run
            raise ValueError("it is another run's")
        return Checkpoint(tensors=tensors, **{"device": "cpu", **record})
    except Exception as error:  # whole, but of another version, or no checkpoint: anything may go wrong
        raise Unusable(f"it does not fit: {type(error).__name__}: {error}") from error
