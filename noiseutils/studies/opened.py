"""Notebooks as opened: committed results are shown, and nothing is trained until a parameter is changed."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import torch

from noiseutils import data as images
from noiseutils.config import Data
from noiseutils.data import Dataset
from noiseutils.errors import UserError
from noiseutils.provenance import reference_root
from noiseutils.studies.params import StudyParams
from noiseutils.studies.profiles import read_profile
from noiseutils.sweeps.progress import in_jupyter

P = TypeVar("P", bound=StudyParams)

# "train": notebooks train with the parameters in their cells, as in tests; "stored": they show what is stored
VARIABLE = "NOISEUTILS_NOTEBOOKS"
OPENED, CHANGED = "opened", "changed"  # folders under outputs/<study>/


def opened(kind: type[P], names: Mapping[str, Any], show: str | None, **also: Any) -> tuple[P, bool]:
    """Return the parameters of a notebook, and whether to train; print what is shown.

    kind: the study's parameters.   names: the notebook's `globals()`.
    show: a folder of outputs/reference/<study>, whose results are shown as long as no parameter is changed,
    neither in the notebook nor by papermill; None: train with the parameters in the notebook.
    also: values in place of the folder's own, such as those of other committed results.
    Changed parameters get a folder of their own under outputs/, unless `profile` names one.
    Raises UserError for a parameter that is not allowed.
    """
    use_one_thread()
    given, passed = kind.from_notebook(names), set(passed_by_papermill(names))
    smallest = read_profile(kind, given.study, "smoke")
    run_quick = f"noiseutils run {given.study} --profile quick"
    if show is not None and given == smallest and not passed and os.environ.get(VARIABLE) != "train":
        place = f"outputs/reference/{given.study}/{show}"
        path = reference_root() / given.study / show / "params.yaml"
        if path.is_file():
            others = ", and others, named in this cell" if also else ""
            print(f"Committed results are shown ({place}{others}); nothing is trained.")
            print(f"To train: change a parameter in the folded cell above, or run in a terminal: {run_quick}")
            return read_profile(kind, given.study, str(path)).replace(profile=OPENED, **also), False
        print(f"The committed results are not here ({place}): they are in a checkout of the project alone.")
    if given != smallest and given.profile == smallest.profile and "profile" not in passed:
        given = given.replace(profile=CHANGED)
        print(f"Parameters are changed: figures and tables go to outputs/{given.study}/{CHANGED}/.")
    elif given == smallest:
        print(f"This is the smallest form, for tests: its numbers mean nothing. For numbers: {run_quick}")
    else:
        print(f"Profile {given.profile}.")
    return given, os.environ.get(VARIABLE) != "stored"


def passed_by_papermill(names: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of parameters in the cell that papermill adds to a notebook with these `globals()`."""
    for source in names.get("In", ()):
        if source.startswith("# Parameters\n"):
            yield from (node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name))


def notebook_names() -> Mapping[str, Any]:
    """Return the `globals()` of the notebook that this code runs in; empty outside of one."""
    from IPython.core.getipython import get_ipython  # of the notebooks extra

    shell = get_ipython()
    return shell.user_ns if shell is not None else {}


def images_at_hand(data: Data) -> Dataset:
    """Return images; where they are not on this machine, say so and return embedded ones in their place."""
    try:
        return images.load(data)
    except UserError:
        print(f"The images of {data.label} are not on this machine: shapes, drawn by the package, stand in.")
        return images.load(Data(name="shapes", train_size=200, test_size=100))


def use_one_thread() -> None:
    """Let torch compute with one thread in Jupyter, as the workers of a sweep do.

    Small networks gain little from more threads, and lose much where other programs use the cores, too. A
    notebook that is rendered has the cores for itself, and OMP_NUM_THREADS is respected.
    """
    if in_jupyter() and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)
