"""Sweep a study, render its notebook and publish its results, given the study's name."""

from __future__ import annotations

import itertools
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from noiseutils.book.extras import notebooks_extra
from noiseutils.book.notebooks import placeless
from noiseutils.book.render import Rendered, current, render, stamp
from noiseutils.errors import UserError, one_of
from noiseutils.files import write_atomically, writing
from noiseutils.provenance import outputs_root, reference_root, shipped
from noiseutils.studies import RENDERED, STUDIES
from noiseutils.studies.opened import VARIABLE
from noiseutils.studies.params import StudyParams
from noiseutils.studies.study import open_store
from noiseutils.sweeps.jobs import Cluster
from noiseutils.sweeps.progress import last_line
from noiseutils.sweeps.sweep import Sweep, sweep
from noiseutils.training.distributed import on_rank0


def everything(profile: str, changes: Sequence[str] = ()) -> list[str]:
    """Return what `all` means: the studies, and the live lab if it has the profile and nothing is changed."""
    lab = not changes and (shipped("params") / "live_lab" / f"{profile}.yaml").is_file()
    return [*STUDIES, *(["live_lab"] if lab else [])]


def cluster_of(address: str | None, cpus: float | None, gpus: float | None) -> Cluster | None:
    """The cluster that words of the command line name, None where there are none."""
    named = {"address": address, "cpus": cpus, "gpus": gpus}
    given = {name: value for name, value in named.items() if value is not None}
    return Cluster(**given) if given else None


def sweep_study(
    params: StudyParams,
    executor: str = "auto",
    workers: int | None = None,
    budget: float | None = None,
    cluster: Cluster | None = None,
) -> Sweep:
    """Train what the study still lacks, then analyse the trained networks."""
    started, study, store = time.monotonic(), RENDERED[params.study], open_store()

    def left() -> float | None:
        return None if budget is None else budget - (time.monotonic() - started)

    study.check(params)
    options = {"workers": workers, "cluster": cluster}
    failed: dict[str, str] = {}
    done = Sweep([], store)
    for runs in study.runs_by_stage(params):  # what follows from a stage is trained before the next
        done = sweep(runs, store, executor, budget=left(), **options)
        failed |= done.failed
        if not done.out_of_time and study.follow_ups:
            wanted = on_rank0(lambda: study.follow_ups_known(params, store))
            done = sweep(wanted, store, executor, budget=left(), **options)
            failed |= done.failed
        if done.out_of_time:
            break
    known = on_rank0(lambda: study.runs_known(params, store))
    done = Sweep(known, store, failed, done.out_of_time)
    if not done.out_of_time:
        on_rank0(lambda: study.analyse(params, store, left()))  # under torchrun by one process alone
        # what is analysed needs weights, and those that it finds damaged are made again
        again = on_rank0(lambda: [run for run in done.missing if run.key not in done.failed])
        if again:
            made = sweep(again, store, executor, budget=left(), **options)
            done.failed |= made.failed
            done.out_of_time = made.out_of_time
            if not made.out_of_time:
                on_rank0(lambda: study.analyse(params, store, left()))
    return done


def status_of(params: StudyParams) -> tuple[Counter[str], dict[str, str]]:
    """Count the runs in each state (see `Store.state`), and the last line of each failure by run."""
    store = open_store()
    store.check_root()
    states = {run: store.state(run) for run in RENDERED[params.study].runs_known(params, store)}
    failures = {str(run): last_line(store.failure(run)) for run, state in states.items() if state == "failed"}
    return Counter(states.values()), failures


def require_notebooks() -> None:
    """Raise a UserError without the notebooks extra: better before hours of training than after."""
    with notebooks_extra():
        import nbconvert  # noqa: F401
        import papermill  # noqa: F401


def render_study(params: StudyParams, train: bool = True) -> tuple[Rendered, bool]:
    """The study's notebook, executed, and whether that was done already.

    train: False: of the runs that are finished, and nothing is trained or analysed.
    """
    study = RENDERED[params.study]
    notebook = notebook_path(study.notebook)
    folder = outputs_root() / params.study / params.profile
    values = params.model_dump(mode="json")
    store = open_store()
    results = [(run.key, store.digest(run)) for run in study.runs_known(params, store)]
    mark = stamp(notebook, values, results, *([] if train else ["stored"]))
    return _rendered(notebook, folder, values, mark, {} if train else {VARIABLE: "stored"})


def render_start_here() -> tuple[Rendered, bool]:
    """The start page with its defaults, executed, and whether that was done already."""
    from noiseutils.studies import start_here  # draws, and so imports matplotlib, which a sweep does without

    notebook = notebook_path(start_here.NOTEBOOK)
    folder = outputs_root() / start_here.PLACE.study / start_here.PLACE.profile
    return _rendered(notebook, folder, {}, stamp(notebook))


def _rendered(
    notebook: Path, folder: Path, values: dict[str, Any], mark: str, environment: dict[str, str] | None = None
) -> tuple[Rendered, bool]:
    if current(notebook, folder, mark):
        return Rendered(folder / notebook.name, (folder / notebook.name).with_suffix(".html")), True
    return render(notebook, folder, values, mark, environment), False


def publish(params: StudyParams) -> Path:
    """Copy a rendered study's results, figures and tables to outputs/reference/, to be committed.

    Without weights and the executed notebook, which are large, and with the data's label for its path.
    """
    if params.study not in STUDIES:
        raise one_of("study to publish", params.study, STUDIES)
    study = STUDIES[params.study]
    rendered = outputs_root() / params.study / params.profile
    folder = reference_root() / params.study / params.profile
    for name in ("figures", "tables"):
        if not (rendered / name).is_dir():
            require_notebooks()  # nothing is rendered without them
            raise UserError(
                f"{rendered / name} is not there: run `noiseutils run {params.study}` with this profile first"
            )
    store = open_store()
    for run in study.runs_known(params, store):
        if store.finished(run):
            store.publish(run, folder / "runs")
    for name in ("figures", "tables"):
        with writing(folder / name):
            shutil.rmtree(folder / name, ignore_errors=True)  # of an earlier publication
            shutil.copytree(rendered / name, folder / name)
    values = params.model_dump(mode="json")
    for name in study.data_parameters:
        given = values[name]
        values[name] = [placeless(text) for text in given] if isinstance(given, list) else placeless(given)
    place = folder / "params.yaml"
    text = _remarks(place) + yaml.safe_dump(values, sort_keys=False)
    with writing(place):
        write_atomically(place, text.encode())
    return folder


def _remarks(place: Path) -> str:
    """Return the comment at the head of published parameters, which is written by hand, or its first line."""
    try:
        lines = place.read_text().splitlines(keepends=True)
    except (OSError, UnicodeDecodeError):
        lines = []
    found = "".join(itertools.takewhile(lambda line: line.startswith("#"), lines))
    return found or "# What these results were made with.\n"


def notebook_path(name: str) -> Path:
    """A notebook of the project, from the checkout or from the installed package."""
    path = shipped("notebooks") / f"{name}.ipynb"
    if not path.exists():
        raise UserError(f"no notebook {path}: this installation of noiseutils is not whole; install it again")
    return path
