"""Trainings side by side in one thread: started, paused, tuned and stopped from another.

They take their steps in turn, from the same seed and on the same batches. Whoever steers sets values under a
lock, which the thread takes over before the next step. Every so often it looks and hands the looks to who
draws them, in the same thread, so rarely that looking and drawing take at most `SHARE` of the time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor

from noiseutils.classifier import Classifier, build_classifier
from noiseutils.config import Run
from noiseutils.data import Dataset, to_float
from noiseutils.jobs import cores
from noiseutils.live.watching import Look, Watch, layers_of
from noiseutils.subsets import fixed_order
from noiseutils.train import Moment, training
from noiseutils.tuning import tuned

SHARE = 0.08  # of the time that looking and drawing may take
SOONEST = 0.15  # seconds from one look to the next
SHOWN = 4  # test images whose feature maps are shown
NAME = "noiseutils-live"  # of the thread

Looks = Mapping[str, Look]
Steps = Generator[Moment, Run | None, Any]


class Stopped(Exception):
    """Raised inside a training's forward pass, to end it within one."""


class Session:
    """One start of one or several trainings. It is over when `state` is finished, stopped or failed.

    runs: name -> what is trained, all on `data`.   draw: called with a look at each, in the training thread.
    """

    def __init__(self, runs: Mapping[str, Run], data: Dataset, draw: Callable[[Looks], None]) -> None:
        self.data, self.draw = data, draw
        self.state = "ready"
        self.error: Exception | None = None
        self.steps = 0
        self.seconds = 0.0  # of steps, looks and drawings, pauses left out
        self.drawing = 0.0  # of looks and drawings alone
        self.reactions: list[float] = []  # seconds from a change to the drawing that has it in it
        chosen = fixed_order(len(data.test), "shown")[:SHOWN]
        self.images = to_float(data.test.subset(torch.from_numpy(chosen)).pixels)
        self._runs, self._wish = dict(runs), dict(runs)
        self._lock = threading.Condition()
        self._paused = self._stopping = self._copying = False
        self._asked: float | None = None  # when a change was asked for that no drawing shows yet
        self._thread: threading.Thread | None = None
        self._moments: dict[str, Moment] = {}
        self._watches: dict[str, Watch] = {}
        self._weights: dict[str, dict[str, Tensor]] = {}
        self._drawn = self._soonest = 0.0

    @property
    def running(self) -> bool:
        """Whether the thread is there."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def runs(self) -> dict[str, Run]:
        """What is trained, with the values asked for last."""
        with self._lock:
            return dict(self._wish)

    def start(self) -> None:
        """Begin, or go on after a pause."""
        with self._lock:
            self._paused = False
            self._lock.notify_all()
            if self._thread is not None:
                return
            self.state = "running"
            self._thread = threading.Thread(target=self._work, args=(None,), name=NAME, daemon=True)
        self._thread.start()

    def run(self, steps: int, every: int) -> None:
        """The same in this thread, for so many steps of each, with a look after every few and the last."""
        self.state = "running"
        self._work(steps, every)
        if self.error is not None:
            raise self.error

    def pause(self) -> None:
        """Stand still between two steps."""
        with self._lock:
            self._paused = True

    def stop(self, timeout: float = 5.0) -> bool:
        """End it; whether the thread has ended within so many seconds."""
        with self._lock:
            self._stopping = True
            self._lock.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)
        return not self.running

    def tune(self, runs: Mapping[str, Run]) -> None:
        """Other values from the next step on. UserError, and nothing changes, for what cannot change."""
        for name, run in runs.items():
            tuned(self._runs[name], run, None, None)
        with self._lock:
            self._wish.update(runs)
            self._asked = self._asked or time.perf_counter()
            self._lock.notify_all()

    def networks(self) -> dict[str, Classifier]:
        """Copies of the networks as they are between two steps, in eval mode; none before the first."""
        with self._lock:
            self._copying = self.running
            self._lock.notify_all()
            self._lock.wait_for(lambda: not (self._copying and self.running))
            if not self._copying:
                weights = self._weights if self.running else self._copies()
        found = {}
        for name, values in weights.items():
            data = self.data
            found[name] = build_classifier(self._runs[name], data.num_classes, data.channels, data.image_size)
            found[name].load_state_dict(values)
        return {name: model.eval() for name, model in found.items()}

    def _copies(self) -> dict[str, dict[str, Tensor]]:
        return {
            name: {key: value.cpu().clone() for key, value in moment.model.state_dict().items()}
            for name, moment in self._moments.items()
        }

    def _work(self, steps: int | None, every: int = 0) -> None:
        threads = torch.get_num_threads()
        torch.set_num_threads(max(1, cores() - 1))  # the other one draws, and answers
        trainings = {name: training(run, data=self.data, engine="eager") for name, run in self._runs.items()}
        with ExitStack() as stack:
            stack.callback(torch.set_num_threads, threads)
            for one in trainings.values():
                stack.callback(one.close)
            try:
                self._go(trainings, steps, every, stack)
                self.state = "finished"
            except Stopped:
                self.state = "stopped"
            except Exception as error:
                self.error, self.state = error, "failed"
        self.draw({})  # the end is drawn, too

    def _go(self, trainings: dict[str, Steps], steps: int | None, every: int, stack: ExitStack) -> None:
        while steps is None or self.steps < steps:
            self._between_steps()
            started = time.perf_counter()
            last = self.steps + 1 == steps
            looking = last or ((self.steps + 1) % every == 0 if every else started >= self._next_look())
            if looking:
                for name, watch in self._watches.items():
                    watch.prepare(self._moments[name])
            wishes = self._changes()
            for name, one in trainings.items():
                try:
                    self._moments[name] = one.send(wishes.get(name))
                except StopIteration:
                    return
                if name not in self._watches:
                    self._begin(name, stack)
            self.steps += 1
            if looking or self.steps == 1:
                self._look()
            self.seconds += time.perf_counter() - started

    def _between_steps(self) -> None:
        """Stand still while that is wanted, and hand out copies. Raises Stopped when it is time."""
        with self._lock:
            while True:
                if self._stopping:
                    raise Stopped
                if self._copying:
                    self._weights, self._copying = self._copies(), False
                    self._lock.notify_all()
                if not self._paused:
                    self.state = "running"
                    return
                self.state = "paused"
                self._lock.wait()

    def _changes(self) -> dict[str, Run]:
        """What was asked for since the last step; a training cannot be told anything before its first."""
        if not self._watches:
            return {}
        with self._lock:
            found = {name: run for name, run in self._wish.items() if run != self._runs[name]}
            self._runs.update(found)
        return found

    def _begin(self, name: str, stack: ExitStack) -> None:
        """After a training's first step."""
        moment = self._moments[name]
        stack.callback(moment.model.register_forward_pre_hook(self._stop_inside).remove)
        noisiest = next(iter(self._runs.values()))  # the same layers of all, to be compared
        images = self.images.to(next(moment.model.parameters()).device)
        watch = self._watches[name] = Watch(images, layers_of(moment.model, noisiest))
        stack.callback(watch.forget)

    def _stop_inside(self, module: object, inputs: object) -> None:
        if self._stopping:
            raise Stopped

    def _next_look(self) -> float:
        """When it is due; a change is shown sooner."""
        return self._soonest if self._asked is None else min(self._soonest, self._drawn + SOONEST)

    def _look(self) -> None:
        started, asked = time.perf_counter(), self._asked
        self.draw({n: self._watches[n].look(m, self._runs[n]) for n, m in self._moments.items()})
        self._drawn = time.perf_counter()
        cost = self._drawn - started
        self.drawing += cost
        self._soonest = self._drawn + max(SOONEST, cost / SHARE)
        if asked is not None:
            self.reactions.append(self._drawn - asked)
            self._asked = None
