"""Stores that tests hand to workers on a cluster."""

import os
import signal
from pathlib import Path

import torch
from small_runs import RUNS

from noiseutils.sweeps import budget
from noiseutils.sweeps.store import Store, StoreError


class Eager(Store):
    """A store whose runs have a checkpoint after every epoch; says in `resumed` which went on from one."""

    def __setstate__(self, state):
        vars(self).update(state)
        budget.CHECKPOINT_SECONDS = 0.0

    def load_checkpoint(self, run):
        found = super().load_checkpoint(run)
        if found is not None:
            (self.root / "resumed" / run.key).mkdir(parents=True, exist_ok=True)
        return found


class Elsewhere(Eager):
    """A store that no other process sees: where it was, there is nothing for them."""

    def __setstate__(self, state):
        super().__setstate__(state | {"root": Path(f"{state['root']}-elsewhere")})


class Deadly(Store):
    """Its second run kills whoever stores the result."""

    def save(self, result):
        if result.run == RUNS[1]:
            os.kill(os.getpid(), signal.SIGKILL)
        super().save(result)


class Hungry(Store):
    """Its runs lack memory on less than half a GPU; says in `shares` what each attempt had."""

    def load_checkpoint(self, run):
        import ray

        share = ray.get_runtime_context().get_assigned_resources()["GPU"]
        (self.root / "shares" / f"{share:g} {run.key}").mkdir(parents=True)
        if share < 0.5:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().load_checkpoint(run)


class Full(Store):
    def save(self, result):
        raise StoreError("cannot write: No space left on device")
