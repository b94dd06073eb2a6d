import os
import signal
import threading

import pytest
from small_runs import BASE

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
    def full(self, result):
        raise StoreError("disk full")

    monkeypatch.setattr(Store, "save", full)
    runs = [BASE.replace(seed=seed) for seed in range(4)]
    with pytest.raises(StoreError, match="disk full"):
        sweep(runs, Store(tmp_path), "threads", workers=2, device="cpu", progress=False)


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
