"""Group the stored runs of a study into cells of its grid, and find the figures drawn from them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from noiseutils.config import Evaluation, Run
from noiseutils.errors import UserError
from noiseutils.provenance import outputs_root, reference_root, shipped
from noiseutils.spec import identity
from noiseutils.stats import Interval, mean_interval
from noiseutils.studies import RENDERED
from noiseutils.studies.output import read_figure_runs, read_table
from noiseutils.studies.profiles import profile_path, study_params
from noiseutils.studies.study import open_store
from noiseutils.sweeps.store import Store
from noiseutils.training.loop import Result

log = logging.getLogger("noiseutils")

VALUE_CHARACTERS = 28  # characters of a value in a cell's name
UNNAMED_FIELDS = ("kind", "name", "after")  # fields that come first in a label, without a word before them


@dataclass(frozen=True)
class Cell:
    """Hold the results of runs that differ in their seed alone.   label: the cell's values in the grid."""

    label: str
    results: Sequence[Result]

    def curve(self, column: str) -> list[tuple[float, float]]:
        """Return (epoch, mean over seeds) of a column of the histories; empty where none has the column."""
        histories = [result.history.set_index("epoch") for result in self.results]
        frames = [history[column] for history in histories if column in history]
        if not frames:
            return []
        means = pd.concat(frames, axis=1).mean(axis=1)
        return list(zip(means.index.astype(float).tolist(), means.tolist(), strict=True))

    def top1_error(self) -> Interval:
        """Return the mean error on the test images, over the seeds that finished."""
        return mean_interval([r.metrics["top1_error"] for r in self.results if r.metrics])

    def per_class(self) -> dict[str, float]:
        """Return accuracy by class, means over the seeds that finished; empty if none did."""
        found = [r.metrics["per_class"] for r in self.results if r.metrics]
        return {name: sum(one[name] for one in found) / len(found) for name in found[0]} if found else {}


@dataclass(frozen=True)
class Stored:
    """Hold the stored results of one study's profile.   missing: number of its runs that are not stored.

    figures: name -> PNG.   behind: name -> keys of the runs behind the figure, for figures that keep them.
    beside: the tables that set ours beside the paper's, in one.   folder: of figures and tables.
    """

    study: str
    profile: str
    cells: list[Cell]
    missing: int
    folder: Path
    figures: dict[str, Path] = field(default_factory=dict)
    behind: dict[str, set[str]] = field(default_factory=dict)
    beside: pd.DataFrame = field(default_factory=pd.DataFrame)

    def cells_behind(self, figure: str) -> list[Cell]:
        """Return the cells with a run behind the figure; none where the figure does not keep its runs."""
        keys = self.behind.get(figure, set())
        return [cell for cell in self.cells if any(result.run.key in keys for result in cell.results)]


def profiles(study: str) -> dict[str, str]:
    """Map the titles of a study's profiles to the arguments of `stored`; committed results first."""
    committed = sorted((reference_root() / study).glob("*/params.yaml"))
    found = {f"{path.parent.name}, committed": str(path) for path in committed}
    made = sorted((shipped("params") / study).glob("*.yaml"))
    return found | {path.stem: path.stem for path in made}


def stored(study: str, profile: str, place: Store | None = None) -> Stored:
    """Load the stored results of a study's profile.

    profile: a name, or the path of a YAML file, such as a committed result's `params.yaml`.   place: their
    store; None: the project's. Raises UserError for an unknown study or profile.
    """
    place = place or open_store()
    params = study_params(study, profile)
    path = profile_path(study, profile)
    committed = path.is_relative_to(reference_root())
    folder = path.parent if committed else outputs_root() / study / params.profile
    wanted = RENDERED[study].runs_known(params, place)
    results = [result for run in wanted if (result := place.load(run)) is not None]
    figures = {path.stem: path for path in sorted((folder / "figures").glob("*.png")) if path.is_file()}
    return Stored(
        study=study,
        profile=path.parent.name if committed else params.profile,
        cells=cells_of(results),
        missing=len(wanted) - len(results),
        folder=folder,
        figures=figures,
        behind={name: set(keys) for name, keys in read_figure_runs(folder / "figures" / "runs.json").items()},
        beside=_beside(folder / "tables"),
    )


def cells_of(results: Sequence[Result]) -> list[Cell]:
    """Group results of trainings that are equal but for the seed; name groups by the values that differ."""
    groups: dict[Run, list[Result]] = {}
    for result in results:
        groups.setdefault(result.run.replace(seed=0, evaluation=Evaluation()), []).append(result)
    fields = pd.json_normalize([identity(run) for run in groups]).astype(object)  # a dotted name a column
    divisions: dict[tuple[int, ...], str] = {}  # of the groups -> the first field that divides them so
    for name in sorted(fields, key=lambda name: (*UNNAMED_FIELDS, _last(name)).index(_last(name))):
        values = fields[name].map(str, na_action="ignore")
        division = tuple(pd.factorize(values, use_na_sentinel=False)[0])
        if any(division):
            divisions.setdefault(division, name)
    labels = [
        ", ".join(_short(str(name), value) for name, value in row.dropna().items()) or "the plain one"
        for _, row in fields[[*divisions.values()]].iterrows()
    ]
    # values of many numbers are cut short, and may then look alike
    labels = [
        label if labels.count(label) == 1 else f"{label} ({labels[: i + 1].count(label)})"
        for i, label in enumerate(labels)
    ]
    cells = [Cell(label, found) for label, found in zip(labels, groups.values(), strict=True)]
    return sorted(cells, key=lambda cell: not cell.per_class())  # what diverged comes last


def _last(name: str) -> str:
    return name.rsplit(".", 1)[-1]


def _short(name: str, value: Any) -> str:
    words = value if isinstance(value, (tuple, list)) else [value]
    text = " ".join(f"{word:g}" if isinstance(word, float) else str(word) for word in words)
    text = text if len(text) <= VALUE_CHARACTERS else text[: VALUE_CHARACTERS - 1] + "…"
    return text if _last(name) in UNNAMED_FIELDS else f"{_last(name)} {text}"


def _beside(folder: Path) -> pd.DataFrame:
    """Join the study's `reported` tables, without columns that are the same in all rows."""
    tables = []
    for path in sorted(folder.glob("reported*.csv")):
        try:
            tables.append(read_table(path).assign(table=path.stem))
        except UserError as damage:
            log.warning("%s: %s: left out", folder, damage)
    if not tables:
        return pd.DataFrame()
    whole = pd.concat(tables, ignore_index=True)
    if "paper" not in whole:
        whole = whole.rename(columns={"value": "paper"})
    dull = [name for name in ("commit", "device", "data") if name in whole]
    return whole.drop(columns=dull).dropna(axis=1, how="all")
