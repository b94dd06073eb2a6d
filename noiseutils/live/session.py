"""Trainings side by side in one thread: started, paused, tuned and stopped from another.

They take their steps in turn, from the same seed and on the same batches. Whoever steers sets values under a
lock, which the thread takes over before the next step. Every so often it looks and hands the looks to who
draws them, in the same thread, so rarely that looking and drawing take at most `SHARE` of the time.
"""

from __future__ import annotations

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
from noiseutils.live.watching import Look, Watch, layers_of, tests_of
from noiseutils.sweeps.jobs import cores
from noiseutils.training.changes import check_change
from noiseutils.training.classifier import Classifier, build_classifier
from noiseutils.training.loop import TrainState, training

SHARE = 0.08  # of the time that looking and drawing may take
SOONEST = 0.15  # seconds from one look to the next
SHOWN = 2  # test images whose feature maps are shown, unless others are chosen
NAME = "noiseutils-live"  # of the thread

Looks = Mapping[str, Look]
Steps = Generator[TrainState, Run | None, Any]


class Stopped(Exception):
    """Raised inside a training's forward pass, to end it within one."""


class Session:
    """One start of one or several trainings. It is over when `state` is finished, stopped or failed.

    runs: name -> what is trained, all on `data`.   draw: called in the training thread, with a look at each
    that has taken a step since it was last called, and with nothing at the end.   note: whatever the caller
    wants to know of the values that are in force, see `tune`.   shown: see `show`.
    A training that ends, by itself or as its loss is no longer finite, leaves the others to go on.
    """

    def __init__(
        self,
        runs: Mapping[str, Run],
        data: Dataset,
        draw: Callable[[Looks], None],
        note: Any = None,
        shown: Sequence[int] = (),
    ) -> None:
        self.data, self.draw, self.note = data, draw, note
        self.state = "ready"
        self.error: Exception | None = None
        self.diverged: list[str] = []
        self.steps = 0
        self.seconds = 0.0  # of steps, looks and drawings, pauses left out
        self.drawing = 0.0  # of looks and drawings alone
        self.reactions: list[float] = []  # seconds from a change to the drawing of the first step that had it
        self._runs, self._wish, self._wish_note = dict(runs), dict(runs), note
        self._lock = threading.Condition()
        self._paused = self._stopping = self._copying = self._over = False
        self._asked: float | None = None  # when a change was asked for that no step has yet
        self._taken: float | None = None  # when one was asked for that no drawing shows yet
        self._thread: threading.Thread | None = None
        self._moments: dict[str, TrainState] = {}
        self._watches: dict[str, Watch] = {}
        self._looks: dict[str, Look] = {}
        self._weights: dict[str, dict[str, Tensor]] = {}
        self._drawn = self._soonest = 0.0
        self.show(shown)

    def show(self, shown: Sequence[int]) -> None:
        """The test images whose feature maps are shown from the next look on; of none, `SHOWN` of them.

        Raises UserError for a number that the data does not have.
        """
        count = len(self.data.test)
        if wrong := [index for index in shown if not 0 <= index < count]:
            raise UserError(f"test image {wrong[0]} is not there; allowed: 0 to {count - 1}")
        chosen = list(shown) or fixed_order(count, "shown")[:SHOWN].tolist()
        indices = torch.tensor(chosen, device=self.data.test.labels.device)
        self.images = to_float(self.data.test.subset(indices).pixels)
        for name, watch in list(self._watches.items()):  # the thread may be adding one
            watch.images = self.images.to(next(self._moments[name].model.parameters()).device)

    @property
    def running(self) -> bool:
        """Whether the thread is there."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def stopping(self) -> bool:
        """Whether it was told to end."""
        return self._stopping

    @property
    def runs(self) -> dict[str, Run]:
        """What is trained, with the values that the last step had."""
        with self._lock:
            return dict(self._runs)

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
        """End it; whether the thread has ended within so many seconds. A long step is not interrupted."""
        with self._lock:
            self._stopping = True
            self._lock.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)
        return not self.running

    def tune(self, runs: Mapping[str, Run], note: Any = None) -> None:
        """Other values from the next step on; from then on `note` is this one.

        Raises UserError, and nothing changes, for what cannot change.
        """
        with self._lock:
            for name, run in runs.items():
                check_change(self._wish[name], run)
            self._wish.update(runs)
            self._wish_note = note
            self._asked = self._asked or time.perf_counter()
            self._lock.notify_all()

    def networks(self) -> dict[str, Classifier]:
        """Copies of the networks as they are between two steps, in eval mode; none before the first."""
        with self._lock:
            if self.running and not self._over:
                self._copying = True
                self._lock.notify_all()
                self._lock.wait_for(lambda: not self._copying)
            weights, runs = self._weights, dict(self._runs)
        found = {}
        for name, values in weights.items():
            data = self.data
            found[name] = build_classifier(runs[name], data.num_classes, data.channels, data.image_size)
            found[name].load_state_dict(values)
        return {name: model.eval() for name, model in found.items()}

    def _hand_out_copies(self) -> None:
        """In the lock."""
        self._weights = {
            name: {key: value.cpu().clone() for key, value in moment.model.state_dict().items()}
            for name, moment in self._moments.items()
        }
        self._copying = False
        self._lock.notify_all()

    def _work(self, steps: int | None, every: int = 0) -> None:
        threads = torch.get_num_threads()
        torch.set_num_threads(max(1, cores() - 1))  # the other one draws, and answers
        trainings = {name: training(run, data=self.data, engine="eager") for name, run in self._runs.items()}
        ended = "failed"
        try:
            with ExitStack() as stack:
                stack.callback(torch.set_num_threads, threads)
                for one in trainings.values():
                    stack.callback(one.close)
                self._go(trainings, steps, every, stack)
            ended = "finished"
        except Stopped:
            ended = "stopped"
        except Exception as error:
            self.error = error
        finally:
            with self._lock:
                self.state, self._over = ended, True
                self._hand_out_copies()
        if self.error is None:
            # the last epoch's tests came after its last step
            self.draw({n: replace(look, tests=tests_of(self._moments[n])) for n, look in self._looks.items()})
        self.draw({})

    def _go(self, trainings: dict[str, Steps], steps: int | None, every: int, stack: ExitStack) -> None:
        going = dict(trainings)
        while going and (steps is None or self.steps < steps):
            self._between_steps()
            started = time.perf_counter()
            last = self.steps + 1 == steps
            looking = last or ((self.steps + 1) % every == 0 if every else started >= self._next_look())
            if looking:
                for name in going.keys() & self._watches.keys():
                    self._watches[name].prepare(self._moments[name])
            wishes = self._changes()
            for name, one in list(going.items()):
                try:
                    self._moments[name] = one.send(wishes.get(name))
                except StopIteration as end:
                    del going[name]
                    if end.value.status == "diverged":
                        self.diverged.append(name)
                    continue
                if name not in self._watches:
                    self._begin(name, stack)
            if not going:
                return
            self.steps += 1
            if looking or self.steps == 1:
                self._look(going)
            self.seconds += time.perf_counter() - started

    def _between_steps(self) -> None:
        """Stand still while that is wanted, and hand out copies. Raises Stopped when it is time."""
        with self._lock:
            while True:
                if self._stopping:
                    raise Stopped
                if self._copying:
                    self._hand_out_copies()
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
            self.note = self._wish_note
            self._taken, self._asked = self._taken or self._asked, None
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
        changed = self._asked is not None or self._taken is not None
        return min(self._soonest, self._drawn + SOONEST) if changed else self._soonest

    def _look(self, going: Iterable[str]) -> None:
        started, taken = time.perf_counter(), self._taken
        fresh = {name: self._watches[name].look(self._moments[name], self._runs[name]) for name in going}
        self._looks |= fresh
        self.draw(fresh)
        self._drawn = time.perf_counter()
        cost = self._drawn - started
        self.drawing += cost
        self._soonest = next_look(self._drawn, cost)
        if taken is not None:
            self.reactions.append(self._drawn - taken)
            self._taken = None


def next_look(now: float, cost: float) -> float:
    """When to look again after a look that has cost so many seconds, so that `SHARE` is kept."""
    return now + max(SOONEST, cost / SHARE)
