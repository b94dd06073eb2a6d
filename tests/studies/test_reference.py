"""The committed results: each loads under its key, and gives the tables and figures that it always gave.

A study's notebook is executed cell by cell on the results under outputs/reference, and what it hands to its
tables and figures is compared: with the committed CSVs number by number, and with `reference_numbers/`, which
`python tests/studies/test_reference.py [STUDY …]` writes. A figure is there as weighted sums of the arrays
drawn.
"""

import contextlib
import io
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib import colors, pyplot
from matplotlib.collections import Collection
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

pytest.importorskip("IPython", reason="needs the notebooks extra")
pytest.importorskip("nbformat", reason="needs the notebooks extra")

import nbformat
import torch

import noiseutils.data
from noiseutils import Run
from noiseutils.config import Data
from noiseutils.studies import STUDIES, study
from noiseutils.studies.output import OutputWriter
from noiseutils.studies.profiles import read_yaml
from noiseutils.sweeps.jobs import Sweep
from noiseutils.sweeps.store import Store

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "outputs" / "reference"
NUMBERS = Path(__file__).with_name("reference_numbers")
PROFILES = sorted(path.parent for path in REFERENCE.glob("*/*/params.yaml"))
of_profiles = pytest.mark.parametrize("folder", PROFILES, ids=lambda f: f"{f.parent.name}/{f.name}")

MEASURES = {"step_overhead", "timing_table"}  # functions that time steps on this machine
NOT_HERE = {"overhead", "timing", "dataset_std"}  # tables of those, and of images that are not committed
MADE_WITH = ["data", "commit", "device"]


@of_profiles
def test_stored_runs_load_under_their_keys(folder):
    store = Store(folder / "runs")
    keys = sorted(path.name for path in (folder / "runs").iterdir())
    for key in keys:
        record = json.loads((folder / "runs" / key / "run.json").read_text())
        run = Run(**record["run"])
        assert run.key == key
        assert store.load(run) is not None


@of_profiles
def test_stored_runs_give_the_committed_tables(folder, shown):
    tables, _ = shown(folder)
    committed = {path.stem: path for path in (folder / "tables").glob("*.csv")}
    committed = {name: path for name, path in committed.items() if name not in NOT_HERE}
    assert committed.keys() <= tables.keys()
    for name, path in committed.items():
        ours = pd.read_csv(io.StringIO(tables[name].to_csv(index=False)))
        kept = pd.read_csv(path).drop(columns=[c for c in MADE_WITH if c not in ours], errors="ignore")
        pd.testing.assert_frame_equal(ours[kept.columns], kept, check_dtype=False, rtol=1e-9, obj=name)


@of_profiles
def test_stored_runs_give_the_same_numbers_in_tables_and_figures(folder, shown):
    found = digest(*shown(folder))
    expected = json.loads((NUMBERS / f"{folder.parent.name}.json").read_text())[folder.name]
    for kind in ("tables", "figures"):
        assert found[kind].keys() == expected[kind].keys()
        for name, numbers in expected[kind].items():
            assert len(found[kind][name]) == len(numbers), name
            assert found[kind][name] == pytest.approx(numbers, rel=1e-5, abs=1e-9), name


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """A profile's folder -> what its study shows of it, each executed once."""
    known = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NOISEUTILS_OUTPUTS", str(tmp_path_factory.mktemp("outputs")))
        stand_in(patch)

        def show(folder: Path) -> tuple[dict, dict]:
            if folder not in known:
                known[folder] = execute(patch, folder)
            return known[folder]

        yield show


def stand_in(patch: pytest.MonkeyPatch) -> None:
    """Train nothing, measure nothing, and have embedded images for those that are not committed."""

    embedded = noiseutils.data.load(Data(name="shapes", train_size=64, test_size=20))
    patch.setattr(study, "sweep", lambda runs, store, executor: Sweep(runs, store))
    patch.setattr(noiseutils.data, "load", lambda data: embedded)


def execute(patch: pytest.MonkeyPatch, folder: Path) -> tuple[dict[str, pd.DataFrame], dict[str, list]]:
    """What a study's notebook shows of stored results: tables, and figures as (name, arrays, runs)."""
    tables, figures = {}, {}

    def keep_figures(self, drawn) -> None:
        for one in drawn:
            figures[one.name] = [len({result.run.key for result in one.results}), *arrays(one.figure)]
            pyplot.close(one.figure)

    patch.setattr(OutputWriter, "show", keep_figures)
    patch.setattr(
        OutputWriter, "table", lambda self, table, name, *said, **more: tables.update({name: table})
    )
    stem = STUDIES[folder.parent.name].notebook
    names = read_yaml(folder / "params.yaml")
    notebook = nbformat.read(ROOT / "notebooks" / f"{stem}.ipynb", as_version=4)
    torch.manual_seed(0)  # for a walkthrough's made-up network
    for cell in notebook.cells:
        if cell.cell_type == "markdown" or cell.id == "parameters" or cell.id.startswith("exercise"):
            continue
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(cell.source, f"{stem}:{cell.id}", "exec"), names)
        for name in MEASURES & vars(names.get("tables", folder)).keys():
            patch.setattr(names["tables"], name, lambda params: pd.DataFrame())
    return {name: table for name, table in tables.items() if len(table)}, figures


def digest(tables: dict[str, pd.DataFrame], figures: dict[str, list]) -> dict[str, dict[str, list[float]]]:
    """Each table's and figure's numbers, small enough to be committed."""
    of_tables = {}
    for name, table in tables.items():
        if name not in NOT_HERE:
            numbers = table.drop(columns=[c for c in MADE_WITH if c in table]).select_dtypes("number")
            of_tables[name] = [float(len(table)), *(weighted(numbers[c].to_numpy()) for c in numbers)]
    of_figures = {name: [float(runs), *map(weighted, found)] for name, (runs, *found) in figures.items()}
    return {"tables": of_tables, "figures": of_figures}


def weighted(values) -> float:
    """A sum that each value and its place takes part in; what is not finite counts as zero."""
    flat = np.asarray(values, dtype=float).ravel()
    flat = np.where(np.isfinite(flat), flat, 0.0)
    return float(f"{flat @ np.sin(1.0 + np.arange(len(flat))):.8g}")


def arrays(figure) -> list[np.ndarray]:
    """What is drawn on each of a figure's axes: coordinates, sizes, colours and images, in their order."""
    return [np.concatenate([np.zeros(0), *map(np.ravel, drawn_on(ax))]) for ax in figure.axes]


def drawn_on(ax) -> list[np.ndarray]:
    found = []
    for artist in ax.get_children():
        if isinstance(artist, Line2D):
            found += [np.asarray(artist.get_xydata(), dtype=float), colors.to_rgba(artist.get_color())]
        elif isinstance(artist, Rectangle) and artist is not ax.patch:
            found += [artist.get_bbox().bounds, artist.get_facecolor()]
        elif isinstance(artist, AxesImage):
            found.append(np.ma.filled(np.ma.asarray(artist.get_array(), dtype=float), np.nan))
        elif isinstance(artist, Collection):
            found += [path.vertices for path in artist.get_paths()]
            found.append(np.ma.filled(artist.get_offsets(), np.nan))
    return found


if __name__ == "__main__":
    import sys
    import tempfile

    for study_name in sys.argv[1:] or STUDIES:
        with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as outputs:
            patch.setenv("NOISEUTILS_OUTPUTS", outputs)
            stand_in(patch)
            made = {f.name: digest(*execute(patch, f)) for f in PROFILES if f.parent.name == study_name}
        text = json.dumps(made, indent=1, sort_keys=True)
        text = re.sub(r"\n {4}|\n {3}(?=])", "", text) + "\n"  # a line a table or figure
        (NUMBERS / f"{study_name}.json").write_text(text)
