"""Settings of every test: one thread, and a fixed state of torch's global generator."""

import os

import pytest
import torch

import noiseutils

# Small tensors gain nothing from more threads, workers run side by side, and sums must not depend on the
# number of cores. The variable is for child processes and notebook kernels.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True, scope="session")
def _nothing_remembered(tmp_path_factory):
    """What was measured on this machine before must not decide how tests train."""
    os.environ["NOISEUTILS_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def _fixed_global_generator():
    """A test that draws its inputs from the global generator gets the same ones in any order of tests."""
    torch.manual_seed(0)


class _Stop(Exception):
    pass


@pytest.fixture
def interrupted():
    """A run and an epoch -> its result where it was stopped after that epoch, and then went on."""

    def resumed(run, stop):
        taken = []

        def on_epoch(row, snapshot):
            if row["epoch"] == stop:
                taken.append(snapshot())
                raise _Stop

        with pytest.raises(_Stop):
            noiseutils.train(run, on_epoch=on_epoch)
        return noiseutils.train(run, resume=taken[0])

    return resumed
