import os
import signal
import threading
import time

import pytest
from small_runs import BASE

from noiseutils.config import Data
from noiseutils.sweeps.progress import Bar
from noiseutils.sweeps.store import Store, StoreError
from noiseutils.sweeps.sweep import sweep


def test_threads_side_by_side_compute_what_one_after_the_other_does(tmp_path):
    runs = [BASE.replace(seed=seed) for seed in range(4)]
    one = sweep(runs, Store(tmp_path / "one"), "inline", device="cpu", progress=False)
    several = sweep(runs, Store(tmp_path / "several"), "threads", workers=3, device="cpu", progress=False)
    assert not several.failed
    for a, b in zip(one.results, several.results, strict=True):
        assert a.metrics == b.metrics
        assert a.history.drop(columns="seconds").equals(b.history.drop(columns="seconds"))


def test_a_full_disk_stops_all_threads(tmp_path, monkeypatch):
    failed = []

    def full(self, result):
        failed.append(time.monotonic())
        raise StoreError("disk full")

    monkeypatch.setattr(Store, "save", full)
    long = BASE.replace(data=Data(train_size=20_000, test_size=30), batch_size=1, epochs=1)
    with pytest.raises(StoreError, match="disk full"):
        sweep([BASE, long], Store(tmp_path), "threads", workers=2, device="cpu", progress=False)
    assert time.monotonic() - failed[0] < 15, "the other is in an epoch of a minute"
    assert not list(tmp_path.glob("*/failure.txt"))


def test_an_interrupt_ends_all_threads_and_leaves_a_state_to_go_on_from(tmp_path, monkeypatch):
    ordinary, events = Bar.on_event, []

    def on_event(self, event, run, detail):
        events.append(event)
        if event == "epoch" and events.count("epoch") == 1:
            os.kill(os.getpid(), signal.SIGINT)
        ordinary(self, event, run, detail)

    monkeypatch.setattr(Bar, "on_event", on_event)
    runs = [BASE.replace(seed=seed, epochs=200) for seed in range(2)]
    with pytest.raises(KeyboardInterrupt):
        sweep(runs, Store(tmp_path), "threads", workers=2, device="cpu", progress=False)
    assert not [thread for thread in threading.enumerate() if "(work)" in thread.name and thread.is_alive()]
    monkeypatch.setattr(Bar, "on_event", ordinary)
    short = [run.replace(epochs=1) for run in runs]
    assert not sweep(short, Store(tmp_path), "threads", workers=2, device="cpu", progress=False).failed


def test_an_interrupt_does_not_wait_for_the_end_of_an_epoch(tmp_path, monkeypatch):
    claimed, interrupted = [], []

    def interrupt():
        interrupted.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    def on_event(self, event, run, detail):
        claimed.append(run)
        if len(claimed) == 2:
            threading.Timer(0.5, interrupt).start()

    monkeypatch.setattr(Bar, "on_event", on_event)
    long = BASE.replace(data=Data(train_size=20_000, test_size=30), batch_size=1, epochs=1)
    runs = [long.replace(seed=seed) for seed in range(2)]
    with pytest.raises(KeyboardInterrupt):
        sweep(runs, Store(tmp_path), "threads", workers=2, device="cpu", progress=False)
    assert time.monotonic() - interrupted[0] < 15, "an epoch takes a minute"
    assert not [thread for thread in threading.enumerate() if "(work)" in thread.name and thread.is_alive()]
    for run in runs:
        with Store(tmp_path).claim(run) as mine:
            assert mine
