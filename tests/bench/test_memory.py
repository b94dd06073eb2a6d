import subprocess
import sys

import psutil
import pytest

from noiseutils.bench import memory
from noiseutils.errors import UserError

pytestmark = pytest.mark.skipif(not psutil.LINUX, reason="needs Linux")
MEGABYTE = 2**20


def python(code):
    return [sys.executable, "-c", code]


def test_a_childs_memory_counts_and_a_shared_page_counts_once():
    hold = "import os, time; x = b'a' * (64 << 20); pid = os.fork(); time.sleep(3)"
    proportional, resident = memory.peak_of(python(hold))
    assert 64 * MEGABYTE < proportional < 110 * MEGABYTE, "both processes hold the same 64 MiB"
    assert resident > 128 * MEGABYTE, "counted in each"


def test_the_peak_is_found_though_it_is_over_at_the_end():
    high = "import time; x = b'a' * (96 << 20); time.sleep(3); del x; time.sleep(0.2)"
    assert memory.peak_of(python(high))[0] > 96 * MEGABYTE


def test_a_command_that_fails_says_why():
    with pytest.raises(RuntimeError, match="ended with 3:\nno luck"):
        memory.peak_of(python("import sys; print('no luck', file=sys.stderr); sys.exit(3)"))


def test_a_process_that_has_ended_takes_nothing():
    process = subprocess.Popen(python("pass"))
    found = psutil.Process(process.pid)
    process.wait()
    assert memory.memory_of(found) == (0, 0)


def test_elsewhere_than_on_linux_it_is_an_error_before_anything_runs(monkeypatch):
    monkeypatch.setattr(psutil, "LINUX", False)
    monkeypatch.setattr(memory.subprocess, "Popen", lambda *a, **k: pytest.fail("it ran"))
    with pytest.raises(UserError, match="this needs Linux"):
        memory.peak_of(python("pass"))


@pytest.mark.slow
def test_a_training_is_watched_on_both_sides():
    (ratio,) = memory.training_memory("resnet20", 1, width=0.1, batch_size=8, steps=1, test=8)
    assert ratio.name == "resnet20_memory"
    assert (ratio.above.name, ratio.below.name) == ("ours", "plain")
    assert min(ratio.above.median, ratio.below.median) > 100 * MEGABYTE, "torch alone takes that"
    assert ratio.details["resident_bytes_plain"][0] > ratio.below.median, "its workers share pages with it"
