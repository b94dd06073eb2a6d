import subprocess
import sys

import pytest

from noiseutils.training import allocator

FAULTS = """
import resource, torch
from noiseutils.training import allocator
def faults():
    for _ in range(3): torch.ones(2 ** 22)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10): torch.ones(2 ** 22); torch.ones(2 ** 21)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
allocator.keep_freed_memory()
kept = faults()
with allocator.ordinary_allocator():
    allocator.keep_freed_memory()  # a training inside does not change it
    ordinary = faults()
print(kept, ordinary, faults())
"""


@pytest.mark.slow
@pytest.mark.skipif(allocator._glibc() is None, reason="another C library")
def test_kept_memory_costs_no_page_faults_and_the_ordinary_allocator_is_there_for_a_while():
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    kept, _, again = map(int, done.stdout.split())
    assert kept < 100  # of 10 x 6,144 pages
    assert again < 100 + 6144  # what was given back is fetched once


def test_other_c_libraries_are_left_alone(monkeypatch):
    monkeypatch.setattr(allocator, "_glibc", lambda: None)
    allocator._set(allocator.KEEP)


def test_what_was_tuned_at_the_start_is_left_alone(monkeypatch):
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.trim_threshold=8589934592")
    assert allocator._glibc.__wrapped__() is None
