"""Train side by side in one thread, started, paused, tuned and stopped from another.

The trainings take their steps in turn, from the same seed and on the same batches. Callers update settings
under a lock, and the thread applies the settings before the next step. Now and then the thread probes the
trainings and draws the probes, so rarely that probing and drawing take at most `SHARE` of the time.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from noiseutils.config import Run
from noiseutils.data import Dataset, to_float
from noiseutils.data.subsets import fixed_order
from noiseutils.errors import UserError
from noiseutils.live.watching import Probe, Watcher, layers_of, tests_of
from noiseutils.studies.live_lab import Params, pair
from noiseutils.sweeps.jobs import cores
from noiseutils.training.changes import check_change
from noiseutils.training.classifier import Classifier, build_classifier
from noiseutils.training.loop import TrainState, training

DRAWING_SHARE = 0.08  # of the time that probing and drawing may take
LEAST_PROBE_SECONDS = 0.15  # seconds from one probe to the next
SHOWN_IMAGES = 2  # test images whose feature maps are shown, unless others are chosen
THREAD_NAME = "noiseutils-live"  # of the thread

Probes = Mapping[str, Probe]
Steps = Generator[TrainState, Run | None, Any]


class Stopped(Exception):
    """End a training from inside a forward pass."""


class Session:
    """Run one start of one or several trainings, until `state` is finished, stopped or failed.

    params: the trainings, all on `data`.   draw: called in the training thread, with a probe of each training
    that has taken a step since the last call, and with nothing at the end.
    A training that ends, finished or diverged, leaves the others to go on.
    """

    def __init__(self, params: Params, data: Dataset, draw: Callable[[Probes], None]) -> None:
        self.params, self.data, self.draw = params, data, draw  # params: those of the last step
        self.runs = pair(params)  # those of the last step, by name
        self.state = "ready"
        self.error: Exception | None = None
        self.diverged: list[str] = []
        self.steps = 0
        self.seconds = 0.0  # of steps, probes and drawings, pauses left out
        self.drawing = 0.0  # of probes and drawings alone
        self.pending = params  # those of the next step
        self._lock = threading.Condition()
        self._paused = self.stopping = self._copying = self._ended = False
        self._unseen = False  # a change was asked for that no drawing shows
        self._thread: threading.Thread | None = None
        self._watchers: dict[str, Watcher] = {}
        self._probes: dict[str, Probe] = {}
        self._weights: dict[str, dict[str, Tensor]] = {}
        self._drawn = self._soonest = 0.0
        self.pause_after = 0  # epochs; 0: go on
        self.paused_after = 0  # epochs after which the session has paused by itself
        self.show(params.shown)

    def show(self, shown: Sequence[int], maps_of: str = "") -> None:
        """Choose the test images whose feature maps are shown from the next probe on; none: `SHOWN` of them.

        maps_of: name of the convolution in the bare network; "" is the first.
        Raises UserError for a number that the data does not have.
        """
        count = len(self.data.test)
        if wrong := [index for index in shown if not 0 <= index < count]:
            raise UserError(f"test image {wrong[0]} is not there; allowed: 0 to {count - 1}")
        chosen = list(shown) or fixed_order(count, "shown")[:SHOWN_IMAGES].tolist()
        indices = torch.tensor(chosen, device=self.data.test.labels.device)
        self.images = to_float(self.data.test.subset(indices).pixels)
        self.maps_of = f"net.{maps_of}" if maps_of else ""
        for watcher in list(self._watchers.values()):  # the thread may be adding one
            watcher.images, watcher.maps_of = self.images.to(watcher.state.device), self.maps_of
        with self._lock:
            self._unseen = True

    @property
    def running(self) -> bool:
        """Tell if the thread is alive."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def epochs_trained(self) -> int:
        """Return the number of epochs that were trained and tested."""
        return max((len(watcher.state.rows) for watcher in list(self._watchers.values())), default=0)

    def start(self) -> None:
        """Begin, or go on after a pause."""
        with self._lock:
            self._paused = False
            self._lock.notify_all()
            if self._thread is not None:
                return
            self.state = "running"
            self._thread = threading.Thread(target=self._work, args=(None,), name=THREAD_NAME, daemon=True)
        self._thread.start()

    def run(self, steps: int, every: int) -> None:
        """Train in this thread for `steps` steps, with a probe after every `every` steps and the last."""
        self.state = "running"
        self._work(steps, every)
        if self.error is not None:
            raise self.error

    def pause(self) -> None:
        """Stand still between two steps."""
        with self._lock:
            self._paused = True

    def stop(self, timeout: float = 5.0) -> bool:
        """End the session; return if the thread ended within `timeout` seconds, as a step may take longer."""
        with self._lock:
            self.stopping = True
            self._lock.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)
        return not self.running

    def tune(self, params: Params) -> None:
        """Change the values from the next step on.

        Raises UserError, and changes nothing, for a value that cannot change.
        """
        with self._lock:
            for run, changed in zip(self.runs.values(), pair(params).values(), strict=True):
                check_change(run, changed)
            self.pending = params
            self._unseen = True
            self._lock.notify_all()

    def networks(self) -> dict[str, Classifier]:
        """Copy the networks between two steps, in eval mode; return none before the first step."""
        with self._lock:
            if self.running and not self._ended:
                self._copying = True
                self._lock.notify_all()
                self._lock.wait_for(lambda: not self._copying)
            weights, data = self._weights, self.data
        networks = {}
        for name, values in weights.items():
            network = build_classifier(self.runs[name], data.num_classes, data.channels, data.image_size)
            network.load_state_dict(values)
            networks[name] = network.eval()
        return networks

    def _copy_weights(self) -> None:
        """Copy the weights for `networks`; called under the lock."""
        self._weights = {
            name: {key: value.cpu().clone() for key, value in watcher.state.model.state_dict().items()}
            for name, watcher in self._watchers.items()
        }
        self._copying = False
        self._lock.notify_all()

    def _work(self, steps: int | None, every: int = 0) -> None:
        threads = torch.get_num_threads()
        if "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(max(1, cores() - 1))  # another core draws, and answers
        trainings = {name: training(run, data=self.data, engine="eager") for name, run in self.runs.items()}
        ended = "failed"
        try:
            with ExitStack() as stack:
                stack.callback(torch.set_num_threads, threads)
                for one in trainings.values():
                    stack.callback(one.close)
                self._loop(trainings, steps, every, stack)
            ended = "finished"
        except Stopped:
            ended = "stopped"
        except Exception as error:
            self.error = error
        finally:
            with self._lock:
                self.state, self._ended = ended, True
                self._copy_weights()
        if self.error is None:
            # the last epoch's tests came after its last step
            self.draw(
                {n: replace(p, tests=tests_of(self._watchers[n].state)) for n, p in self._probes.items()}
            )
        self.draw({})

    def _loop(self, trainings: dict[str, Steps], steps: int | None, every: int, stack: ExitStack) -> None:
        going = dict(trainings)
        while going and (steps is None or self.steps < steps):
            self._between_steps()
            started = time.perf_counter()
            last = self.steps + 1 in (steps, self._last_step())
            probing = last or ((self.steps + 1) % every == 0 if every else started >= self._next_probe())
            if probing:
                for name in going.keys() & self._watchers.keys():
                    self._watchers[name].prepare()
            changes = self._changes()
            for name, one in list(going.items()):
                try:
                    state = one.send(changes.get(name))
                except StopIteration as end:
                    del going[name]
                    if end.value.status == "diverged":
                        self.diverged.append(name)
                    continue
                if name not in self._watchers:
                    self._watch(name, state, stack)
            if not going:
                return
            self.steps += 1
            reached = self._epoch_reached()
            if probing or reached or self.steps == 1:
                self._probe(going)
            self.seconds += time.perf_counter() - started

    def _last_step(self) -> int:
        """Return the number of the trainings' last step, or 0 before their first."""
        per_epoch = max((watcher.state.steps_per_epoch for watcher in self._watchers.values()), default=0)
        return self.params.epochs * per_epoch

    def _between_steps(self) -> None:
        """Wait while paused, and copy weights when asked. Raises Stopped when the session is to end."""
        with self._lock:
            while True:
                if self.stopping:
                    raise Stopped
                if self._copying:
                    self._copy_weights()
                if not self._paused:
                    self.state = "running"
                    return
                self.state = "paused"
                self._lock.wait()

    def _epoch_reached(self) -> bool:
        """Pause if `pause_after` epochs have been trained and tested, and return if so.

        An epoch's tests come with the first step of the next epoch.
        """
        trained = self.epochs_trained
        with self._lock:
            if not 0 < self.pause_after <= trained:
                return False
            self._paused, self.paused_after, self.pause_after = True, trained, 0
        return True

    def _changes(self) -> dict[str, Run]:
        """Return the changes asked for since the last step; before its first step a training takes none."""
        if not self._watchers:
            return {}
        with self._lock:
            if self.pending == self.params:
                return {}
            before, self.runs, self.params = self.runs, pair(self.pending), self.pending
        return {name: run for name, run in self.runs.items() if run != before[name]}

    def _watch(self, name: str, state: TrainState, stack: ExitStack) -> None:
        """Begin to watch a training, after its first step."""
        stack.callback(state.model.register_forward_pre_hook(self._stop_in_forward).remove)
        noisiest = next(iter(self.runs.values()))  # the same layers of all, to be compared
        layers = layers_of(state.model, noisiest)
        watcher = self._watchers[name] = Watcher(state, self.images, layers, self.maps_of)
        stack.callback(watcher.forget)

    def _stop_in_forward(self, module: object, inputs: object) -> None:
        if self.stopping:
            raise Stopped

    def _next_probe(self) -> float:
        """Return the time of the next probe, which is sooner after a change."""
        return min(self._soonest, self._drawn + LEAST_PROBE_SECONDS) if self._unseen else self._soonest

    def _probe(self, going: Iterable[str]) -> None:
        started = time.perf_counter()
        fresh = {name: self._watchers[name].probe() for name in going}
        self._probes |= fresh
        self.draw(fresh)
        self._drawn = time.perf_counter()
        cost = self._drawn - started
        self.drawing += cost
        self._soonest = next_probe(self._drawn, cost)
        with self._lock:
            self._unseen = self.pending != self.params


def next_probe(now: float, cost: float) -> float:
    """Return when to probe again after a probe of `cost` seconds, so that `SHARE` is kept."""
    return now + max(LEAST_PROBE_SECONDS, cost / DRAWING_SHARE)
