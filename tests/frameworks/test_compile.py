"""docs/how-to/compile.md, run as it stands, against plain loops."""

import shutil
import sysconfig
from pathlib import Path

import pytest
import torch
from pages import KINDS, assert_same, batches, blocks, net, plain_loop, run

[TRAINING] = blocks("compile")
COMPILER = (
    any(map(shutil.which, ("g++", "clang++"))) and Path(sysconfig.get_path("include"), "Python.h").exists()
)


@pytest.mark.slow
@pytest.mark.skipif(not COMPILER, reason="needs a C++ compiler and Python's headers")
@pytest.mark.filterwarnings("ignore")  # the compiler's own
@pytest.mark.parametrize("kind", KINDS)
def test_two_compiled_steps_equal_a_plain_loop(kind):
    page = run(TRAINING, model=net(), noise=KINDS[kind], loader=batches(2))
    assert_same(page["model"].state_dict(), plain_loop(net(), KINDS[kind], batches(2)))


@pytest.mark.slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_two_steps_with_reduced_overhead_equal_a_plain_loop(kind):
    reduced = TRAINING.replace("torch.compile(model)", 'torch.compile(model, mode="reduce-overhead")')
    assert reduced != TRAINING
    data = [(x.cuda(), y.cuda()) for x, y in batches(2)]
    page = run(reduced, model=net().cuda(), noise=KINDS[kind], loader=data)
    assert_same(page["model"].state_dict(), plain_loop(net().cuda(), KINDS[kind], data))
