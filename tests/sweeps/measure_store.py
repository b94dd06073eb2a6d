"""Time `noiseutils status` and a sweep that finds everything done, on many stored runs with large weights.

    python tests/sweeps/measure_store.py [--runs 10000] [--megabytes 10] [--folder FOLDER]

Not a test: it takes minutes. The weights of all runs are one sparse file with many names.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from noiseutils.config import Run
from noiseutils.data import load
from noiseutils.studies import RENDERED
from noiseutils.studies.noisy_dropout.left_on import LEFT_ON
from noiseutils.studies.profiles import study_params
from noiseutils.studies.study import Study
from noiseutils.sweeps.records import record_content
from noiseutils.sweeps.store import Store
from noiseutils.sweeps.sweep import sweep
from noiseutils.training.loop import Result

STUDY, PROFILE = "noisy_dropout", "smoke"
NAMES = 50_000  # of one file: file systems allow some 65,000


def make(outputs: Path, count: int, megabytes: int) -> list[str]:
    """Store `count` runs of a study, copies of one that is trained; return the `--set` that names them."""
    study: Study = RENDERED[STUDY]
    cells = len(study.runs(study_params(STUDY, PROFILE, ["seeds=1"])))
    changes = [f"seeds={count // cells}"]
    params = study_params(STUDY, PROFILE, changes)
    runs, store = study.runs(params), Store(outputs / "runs")
    sweep(runs[:1], store, "inline", progress=False)
    trained = store.load(runs[0])
    assert trained is not None
    weights = outputs / "weights"
    with weights.open("wb") as file:
        file.truncate(megabytes << 20)
    with weights.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    images = {data: load(data).fingerprint for data in dict.fromkeys(run.data for run in runs)}
    for number, run in enumerate(runs):
        if number % NAMES == NAMES - 1:
            weights = weights.with_name(f"weights-{number}")
            with weights.open("wb") as file:
                file.truncate(megabytes << 20)
        info = {**trained.info, "data": {**trained.info["data"], "fingerprint": images[run.data]}}
        store.save(Result(run, "finished", trained.metrics, trained.history, None, info))
        _add_weights(store.root / run.key, run, weights, digest)
        store.save_extra(run, LEFT_ON, {"conditions": trained.metrics["conditions"]})
    return [f"--set={change}" for change in changes]


def _add_weights(folder: Path, run: Run, weights: Path, digest: str) -> None:
    (folder / "weights.safetensors").unlink(missing_ok=True)
    os.link(weights, folder / "weights.safetensors")
    record = json.loads((folder / "run.json").read_bytes())
    files = {**record["files"], "weights.safetensors": digest}
    sizes = {**record["info"].get("bytes", {}), "weights.safetensors": weights.stat().st_size}
    info = {**record["info"], "bytes": sizes}
    (folder / "run.json").write_bytes(record_content(run, record["status"], info, files))


def main() -> None:
    """Make the runs, then time each command twice."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--megabytes", type=int, default=10)
    parser.add_argument("--folder", type=Path, help="for the runs; kept, and used again")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        outputs = given.folder or Path(made)
        outputs.mkdir(parents=True, exist_ok=True)
        os.fsync = lambda descriptor: None  # nothing here must survive a crash
        kept = outputs / "changes.json"
        if not kept.exists():
            kept.write_text(json.dumps(make(outputs, given.runs, given.megabytes)))
        changes = json.loads(kept.read_text())
        variables = {**os.environ, "NOISEUTILS_OUTPUTS": str(outputs)}
        for command in ("status", "sweep"):
            for _ in range(2):
                words = [sys.executable, "-m", "noiseutils", command, STUDY, "--profile", PROFILE, *changes]
                before, begun = os.times(), time.perf_counter()
                said = subprocess.run(words, env=variables, capture_output=True, text=True, check=True)
                wall, after = time.perf_counter() - begun, os.times()
                used = after.children_user + after.children_system
                used -= before.children_user + before.children_system
                line = said.stdout.strip().splitlines()[1 if command == "status" else -1].strip()
                print(f"{command}: {wall:.1f} s, {used:.1f} s of CPU  ({line})", flush=True)


if __name__ == "__main__":
    main()
