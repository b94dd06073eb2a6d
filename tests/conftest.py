"""Settings of every test: one thread, and a fixed state of torch's global generator."""

import os
import shutil
import subprocess
import sys

import pytest
import torch

import noiseutils  # noqa: F401  its shim must run before a test imports torchvision
from noiseutils.provenance import CHECKOUT

# Small tensors gain nothing from more threads, workers run side by side, and sums must not depend on the
# number of cores. The variable is for child processes and notebook kernels.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NOISEUTILS_NOTEBOOKS", "train")  # notebooks run in their smallest form


@pytest.fixture(autouse=True)
def _fixed_global_generator():
    """A test that draws its inputs from the global generator gets the same ones in any order of tests."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _figures_are_closed():
    """Close the figures that a test has left open: matplotlib keeps them, and warns of more than twenty."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


@pytest.fixture
def popen():
    """subprocess.Popen whose processes end with the test: one that a failing test left would fail others."""
    processes = []

    def start(*command, **options) -> subprocess.Popen:
        processes.append(subprocess.Popen(*command, **options))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


@pytest.fixture(scope="session")
def rendered_outputs(tmp_path_factory):
    """An outputs folder with one rendering, noisy_dropout/quick: a figure and a table of claims.

    Its data parameter is a path, which one cell prints. Read it, or copy it; it is made once.
    """
    nbformat = pytest.importorskip("nbformat", reason="needs the notebooks extra")
    from noiseutils.book.render import render

    root = tmp_path_factory.mktemp("rendered")
    v4 = nbformat.v4
    cells = [
        v4.new_markdown_cell("# Made for tests\n\nWith $\\sigma$; see [the other](02_adaptive_noise.ipynb)."),
        v4.new_code_cell("data: str = 'shapes'  # which images", metadata={"tags": ["parameters"]}),
        v4.new_code_cell(WRITTEN),
    ]
    (root / "notebooks").mkdir()
    source = root / "notebooks" / "01_noisy_dropout.ipynb"
    nbformat.write(v4.new_notebook(cells=cells), source)
    outputs = root / "outputs"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NOISEUTILS_OUTPUTS", str(outputs))  # for the kernel
        render(source, outputs / "noisy_dropout" / "quick", {"data": "/secret/place/cifar10-jpeg"}, "stamp")
    return outputs


@pytest.fixture(scope="session")
def committed(tmp_path_factory):
    """A folder of committed results, those on MNIST, with a class that has markup for a name."""
    import pandas as pd

    root = tmp_path_factory.mktemp("committed") / "reference"
    folder = root / "adversarial_noise_layer" / "mnist"
    shutil.copytree(CHECKOUT / "outputs" / "reference" / "adversarial_noise_layer" / "mnist", folder)
    told = {"data": "mnist", "commit": "abc123abc123", "device": "CPU, 2 threads"}
    table = pd.DataFrame({"class": ["<img src=x onerror=alert(1)>", "7"], "top1_error": [0.123456, 0.1]})
    table.assign(**told).to_csv(folder / "tables" / "per_class.csv", index=False)
    return root


@pytest.fixture(scope="session")
def book_site(tmp_path_factory, rendered_outputs, committed):
    """The book of one rendering and one set of committed results, built once."""
    pytest.importorskip("sphinx_book_theme", reason="needs the docs extra")
    from noiseutils.book.site import build
    from noiseutils.cli import app

    outputs = tmp_path_factory.mktemp("book") / "outputs"
    shutil.copytree(rendered_outputs, outputs)
    return build(outputs, committed, app)


WRITTEN = """
import pandas as pd
from noiseutils import plots
from noiseutils.studies.output import Drawn, OutputWriter
from noiseutils.studies.params import StudyParams

output = OutputWriter(StudyParams(study="noisy_dropout", profile="quick"), "shapes")
figure, axes = plots.canvas(size=(6, 3))
axes[0, 0].plot([1, 2, 3], [3, 1, 2])
axes[0, 0].set(title="A line that falls", xlabel="epoch")
output.show([Drawn("figure_01_line", figure, "A line that falls & rises.")])
rows = {
    "claim": ["noise raises the error (p < 0.3)", "noise lowers the gap", "noise does nothing", "one more"],
    "difference": [0.05, -0.002, 0.0101, float("nan")],
    "low": [0.04, -0.004, 0.01, float("nan")],
    "high": [0.06, 0.001, 0.0102, float("nan")],
    "verdict": ["held", "not shown", "the opposite", "not run"],
}
output.table(pd.DataFrame(rows), "claims", "Differences in top-1 error, shares in [0, 1], by noise.")
print("images from", data)
"""
