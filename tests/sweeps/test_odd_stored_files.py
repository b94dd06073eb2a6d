"""Anything may stand in the place of a stored file: it is named, set aside, and stops no other run."""

import errno
import functools
import hashlib
import json
import os
import shutil
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from odd_files import ODD, no_waiting, put
from small_runs import BASE, RUNS, equal, stored_weights

from noiseutils import cli
from noiseutils.sweeps import budget
from noiseutils.sweeps.records import RECORD, checksum
from noiseutils.sweeps.store import Store, StoreError
from noiseutils.sweeps.sweep import sweep
from noiseutils.training.checkpoint import Checkpoint

RUN, OTHER = RUNS[:2]
STATES = ("finished", "diverged", "failed", "interrupted", "missing")
RESULT = ("run.json", "history.csv", "metrics.json", "weights.safetensors", "extra-asked.json")
UNFINISHED = ("checkpoint", "failure.txt")
__all__ = ["no_waiting"]  # for every test here


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A store with two results, and findings about each."""
    root = tmp_path_factory.mktemp("whole")
    sweep([RUN, OTHER], Store(root), "inline", device="cpu", progress=False)
    for run in (RUN, OTHER):
        Store(root).save_extra(run, "asked", {"answer": 1.5})
    return root


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory) -> Path:
    """A store with one run that has a checkpoint after its first epoch, and one that failed."""
    root = tmp_path_factory.mktemp("interrupted")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(budget.Clock, "lap", lambda self: True)
        assert sweep([RUN], Store(root), "inline", device="cpu", progress=False).out_of_time
    Store(root).record_failure(RUN, "Traceback\nRuntimeError: no")
    return root


def copy(whole: Path, root: Path) -> Store:
    shutil.copytree(whole, root / "runs")
    return Store(root / "runs")


def computed_again(store: Store, whole: Path) -> None:
    """Sweep, and hold the run's result against the undisturbed one."""
    done = sweep([RUN, OTHER], Store(store.root), "inline", device="cpu", progress=False)
    assert not done.failed
    assert len(done.results) == 2
    assert equal(stored_weights(store.root, RUN), stored_weights(whole, RUN))
    result, before = (Store(root).load(RUN) for root in (store.root, whole))
    assert result.metrics == before.metrics
    assert result.history.drop(columns="seconds").equals(before.history.drop(columns="seconds"))


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("name", RESULT)
def test_an_odd_file_of_a_result_is_named_and_stops_nothing(tmp_path, whole, caplog, name, odd):
    store = copy(whole, tmp_path)
    other = store.root / OTHER.key / "run.json"
    before = other.stat().st_mtime_ns
    put(store.root / RUN.key / name, odd)
    assert store.state(RUN) in STATES
    assert store.state(OTHER) == "finished"
    store.load(RUN, weights=True)
    store.load_extra(RUN, "asked")
    assert name in caplog.text
    assert "set aside" in caplog.text
    computed_again(store, whole)
    assert other.stat().st_mtime_ns == before
    if name.startswith("extra"):
        assert store.load_extra(RUN, "asked") is None
        store.save_extra(RUN, "asked", {"answer": 1.5})
        assert store.load_extra(RUN, "asked") == {"answer": 1.5}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("name", UNFINISHED)
def test_an_odd_file_of_an_unfinished_run_stops_nothing(tmp_path, whole, interrupted, caplog, name, odd):
    store = copy(interrupted, tmp_path)
    put(store.root / RUN.key / name, odd)
    assert store.state(RUN) in STATES
    store.failure(RUN)
    store.load_checkpoint(RUN)
    # a traceback is a text, whatever it is
    if name == "checkpoint" or odd in ("a folder", "a FIFO", "a link to itself", "a link to nothing"):
        assert name in caplog.text
    computed_again(store, whole)


@pytest.mark.parametrize("odd", [odd for odd in ODD if odd not in ("a folder", "a full folder")])
def test_what_stands_in_the_place_of_a_runs_folder_stops_nothing(tmp_path, whole, caplog, odd):
    store = copy(whole, tmp_path)
    folder = store.root / RUN.key
    shutil.rmtree(folder)
    ODD[odd](folder, b"x" * 30)
    assert store.state(RUN) == "missing"
    assert store.load_checkpoint(RUN) is None
    assert store.state(OTHER) == "finished"
    computed_again(store, whole)
    assert folder.name[:12] in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["local", "threads"])
def test_odd_files_stop_no_run_of_the_other_executors(tmp_path, whole, executor):
    """They read by the same functions; `local` reads checkpoints in processes of its own."""
    store, third = copy(whole, tmp_path), RUNS[2]
    put(store.root / RUN.key / "run.json", "a full folder")
    shutil.rmtree(store.root / OTHER.key)
    for name, odd in (("checkpoint", "a FIFO"), ("failure.txt", "not UTF-8"), (".partial-x", "half of it")):
        (store.root / OTHER.key).mkdir(exist_ok=True)
        ODD[odd](store.root / OTHER.key / name, b"x" * 30)
    ODD["a link to itself"](store.root / third.key, b"")
    done = sweep(RUNS, Store(store.root), executor, workers=2, device="cpu", progress=False)
    assert not done.failed
    assert len(done.results) == 3
    for run in (RUN, OTHER):
        assert equal(stored_weights(store.root, run), stored_weights(whole, run))
    assert Store(store.root).finished(third)


@pytest.mark.parametrize("name", RESULT)
def test_an_odd_file_of_a_committed_result_is_named_once_and_stays(tmp_path, whole, caplog, name):
    committed = copy(whole, tmp_path).root
    put(committed / RUN.key / name, "a FIFO")
    store = Store(tmp_path / "own", reference=(committed,))
    for _ in range(3):
        assert store.state(RUN) == ("finished" if name.startswith("extra") else "missing")
        assert store.load_extra(RUN, "asked") is None or not name.startswith("extra")
    assert store.state(OTHER) == "finished"
    assert caplog.text.count("not used") == 1
    assert (committed / RUN.key / name).is_fifo()


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES])
@pytest.mark.parametrize("name", RESULT)
def test_damage_in_a_store_that_cannot_be_written_stops_nothing(
    tmp_path, whole, monkeypatch, caplog, name, code
):
    store = copy(whole, tmp_path)
    put(store.root / RUN.key / name, "half of it")

    def refuse(self, target):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Path, "rename", refuse)
    store.load_extra(RUN, "asked")
    assert store.state(RUN) == ("finished" if name.startswith("extra") else "missing")
    assert store.state(OTHER) == "finished"
    assert "cannot be set aside" in caplog.text


def test_a_file_that_cannot_be_read_now_is_named_and_stays(tmp_path, whole, monkeypatch, caplog):
    store, real = copy(whole, tmp_path), os.open

    def forbidden(path, *flags):
        if str(path).endswith(f"{RUN.key}/run.json"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return real(path, *flags)

    monkeypatch.setattr(os, "open", forbidden)
    assert store.state(RUN) == "missing"
    assert store.state(OTHER) == "finished"
    assert "run.json cannot be read: Permission denied: not used" in caplog.text
    monkeypatch.undo()
    assert Store(store.root).state(RUN) == "finished", "it may be whole, and stays where it is"


def test_a_process_without_file_handles_blames_no_run(tmp_path, whole, monkeypatch):
    store = copy(whole, tmp_path)

    def exhausted(*_):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(os, "open", exhausted)
    with pytest.raises(ValueError, match="Too many open files"):
        store.state(RUN)
    monkeypatch.undo()
    assert Store(store.root).state(RUN) == "finished"


def edited_record(path: Path, **changes) -> None:
    """Change a record and make its checksum right."""
    record = {**json.loads(path.read_bytes()), **changes}
    del record["checksum"]
    path.write_text(json.dumps({**record, "checksum": checksum(record)}))


@pytest.mark.parametrize(
    "changes",
    [
        {"status": "half"}, {"status": ["finished"]}, {"info": None}, {"info": []}, {"files": None},
        {"files": ["history.csv"]},
        {"files": {}}, {"files": {"../../other": "0"}}, {"files": {"history.csv": 7}}, {"info": {"bytes": 5}},
    ],
)  # fmt: skip
def test_a_record_of_another_version_with_a_right_checksum_stops_nothing(tmp_path, whole, caplog, changes):
    store = copy(whole, tmp_path)
    edited_record(store.root / RUN.key / "run.json", **changes)
    assert store.state(RUN) in STATES
    store.load(RUN, weights=True)
    computed_again(store, whole)
    assert "set aside" in caplog.text


@pytest.mark.parametrize("content", [b"", b"no tensors", safetensors.torch.save({"a": torch.zeros(3)})])
def test_weights_of_another_network_are_found_when_they_are_needed(tmp_path, whole, caplog, content):
    store = copy(whole, tmp_path)
    path = store.root / RUN.key / "weights.safetensors"
    path.write_bytes(content)
    record = json.loads((path.parent / "run.json").read_bytes())
    files = {**record["files"], path.name: hashlib.sha256(content).hexdigest()}
    edited_record(path.parent / "run.json", files=files, info={**record["info"], "bytes": {}})
    assert store.finished(RUN)
    assert store.load(RUN, weights=True) is None
    assert not store.finished(RUN)
    assert "weights.safetensors does not fit the network" in caplog.text
    computed_again(store, whole)


def test_a_record_without_sizes_is_whole(tmp_path, whole):
    """Earlier versions recorded none."""
    store = copy(whole, tmp_path)
    path = store.root / RUN.key / "run.json"
    info = json.loads(path.read_bytes())["info"]
    del info["bytes"]
    edited_record(path, info=info)
    assert store.load(RUN, weights=True).model is not None


@functools.cache
def checkpoint_of(root: Path) -> Checkpoint:
    found = Store(root).load_checkpoint(RUN)
    assert found is not None
    return found


def without(tensors, name):
    return {key: value for key, value in tensors.items() if key != name}


CHANGES = {
    "no tensor": lambda tensors, name: without(tensors, name),
    "another shape": lambda tensors, name: tensors | {name: torch.zeros(3, 1, 2, dtype=tensors[name].dtype)},
    "another type": lambda tensors, name: tensors | {name: tensors[name].double()},
    "another name": lambda tensors, name: without(tensors, name) | {f"{name}x": tensors[name]},
}
TENSORS = ("model/net.conv1.weight", "optimizer/0/momentum_buffer", "streams/data", "noise/noise")
ROWS = {
    "no rows": [], "words": "words", "a number": 3, "null": None, "rows that are none": [1, 2],
    "empty rows": [{}],
    "too many": lambda rows: rows * 5, "text": lambda rows: [rows[0] | {"test_loss": "x"}],
    "null in it": lambda rows: [rows[0] | {"train_loss": None}],
    "NaN": lambda rows: [rows[0] | {"test_loss": float("nan")}],
    "a column less": lambda rows: [without(rows[0], "gradient_norm")],
    "no loss": lambda rows: [without(rows[0], "test_loss")],
    "another epoch": lambda rows: [rows[0] | {"epoch": 7}],
}  # fmt: skip
SETTINGS = [
    {"threads": 0}, {"threads": -1}, {"threads": 10**9}, {"threads": "one"}, {"threads": None},
    {"engine": "steam"},
    {"engine": ["eager"]}, {"engine": None}, {"device": "abacus"}, {"device": 3}, {"unknown": 1},
    {"key": "another run's"},
]  # fmt: skip


def starts_anew(tmp_path, interrupted, whole, caplog, **changes) -> None:
    """Store a changed checkpoint under a right checksum, and sweep."""
    checkpoint = checkpoint_of(interrupted)
    record = {name: value for name, value in vars(checkpoint).items() if name != "tensors"}
    tensors = changes.pop("tensors", checkpoint.tensors)
    text = json.dumps({**record, "key": RUN.key, **changes}).encode()
    tensors = tensors | {RECORD: torch.frombuffer(bytearray(text), dtype=torch.uint8)}
    content = safetensors.torch.save(tensors)
    put_checkpoint(tmp_path, content, whole, caplog)


def put_checkpoint(tmp_path, content, whole, caplog) -> None:
    store = Store(tmp_path)
    (tmp_path / RUN.key).mkdir()
    digest = hashlib.sha256(content).digest()
    (tmp_path / RUN.key / "checkpoint").write_bytes(content + digest)
    assert store.state(RUN) == "interrupted"
    computed_again(store, whole)
    assert "checkpoint cannot be used" in caplog.text
    assert "starts anew" in caplog.text
    assert len(list((tmp_path / RUN.key).glob("checkpoint.damaged-*"))) == 1


def test_a_whole_checkpoint_is_taken(tmp_path, interrupted, whole, caplog):
    store = copy(interrupted, tmp_path)
    store.forget_failure(RUN)
    computed_again(store, whole)
    assert not caplog.text


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", TENSORS)
def test_a_checkpoint_with_other_tensors_starts_the_run_anew(
    tmp_path, interrupted, whole, caplog, name, change
):
    tensors = CHANGES[change](checkpoint_of(interrupted).tensors, name)
    starts_anew(tmp_path, interrupted, whole, caplog, tensors=tensors)


@pytest.mark.parametrize("rows", ROWS)
def test_a_checkpoint_with_another_history_starts_the_run_anew(tmp_path, interrupted, whole, caplog, rows):
    made = ROWS[rows]
    starts_anew(
        tmp_path, interrupted, whole, caplog,
        rows=made(checkpoint_of(interrupted).rows) if callable(made) else made,
    )  # fmt: skip


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_a_checkpoint_with_other_settings_starts_the_run_anew(tmp_path, interrupted, whole, caplog, settings):
    starts_anew(tmp_path, interrupted, whole, caplog, **settings)


@pytest.mark.parametrize("content", [b"", b"[" * 100_000, safetensors.torch.save({"a": torch.zeros(3)})])
def test_a_checkpoint_that_is_none_starts_the_run_anew(tmp_path, whole, caplog, content):
    put_checkpoint(tmp_path, content, whole, caplog)


def test_a_failure_without_a_traceback_is_still_a_failure(tmp_path, whole, capsys, monkeypatch):
    store = Store(tmp_path)
    store.record_failure(RUN, "")
    assert store.state(RUN) == "failed"
    store.record_failure(RUN, "odd \ud800 words")
    assert store.failure(RUN) == "odd ? words"


def command(monkeypatch, outputs: Path, *words: str) -> int:
    monkeypatch.setenv("NOISEUTILS_OUTPUTS", str(outputs))
    monkeypatch.setattr(sys, "argv", ["noiseutils", *words])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)


@pytest.mark.parametrize("what", ["a file", "a link to itself", "a link to nothing"])
@pytest.mark.parametrize("words", [("status", "noisy_dropout"), ("sweep", "noisy_dropout")])
@pytest.mark.parametrize("place", ["outputs", "outputs/runs"])
def test_outputs_that_are_no_folder_are_an_error_that_says_so(
    tmp_path, monkeypatch, capsys, what, words, place
):
    (tmp_path / place).parent.mkdir(exist_ok=True)
    if what == "a file":
        (tmp_path / place).write_text("mine")
    else:
        ODD[what](tmp_path / place, b"")
    assert command(monkeypatch, tmp_path / "outputs", *words, "--profile", "smoke") == 2
    said = capsys.readouterr().err
    assert f"{tmp_path / place} is a {'file, not a folder' if what == 'a file' else 'link to'}" in said
    assert "remove or rename" in said
    assert "make room" not in said


def test_status_lists_all_runs_around_odd_ones(tmp_path, monkeypatch, capsys):
    from noiseutils.studies import RENDERED
    from noiseutils.studies.profiles import study_params

    runs = RENDERED["noisy_dropout"].runs(study_params("noisy_dropout", "smoke"))
    root = tmp_path / "runs"
    for run, odd in zip(runs, ODD, strict=False):
        for name in ("run.json", "failure.txt", "checkpoint"):
            (root / run.key).mkdir(parents=True, exist_ok=True)
            ODD[odd](root / run.key / name, b"0123456789" * 4)
    assert command(monkeypatch, tmp_path, "status", "noisy_dropout", "--profile", "smoke") == 0
    said = capsys.readouterr()
    assert f"{len(runs)} runs" in said.out
    assert "Traceback" not in said.err


def test_a_full_disk_is_said_with_its_remedy_and_what_stays(tmp_path, monkeypatch):
    def refuse(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(StoreError, match=r"MiB left\): make room.*Finished runs are kept"):
        Store(tmp_path).record_failure(BASE, "no")
