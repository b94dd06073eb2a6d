"""Describe a study as a value: the trainings, the analysis after the trainings, and the results of both.

A study's folder has further modules, `tables` and `figures`, with functions of `Results`. Only the study's
notebook calls them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Generic, ParamSpec, cast

import pandas as pd

from noiseutils.config import Run
from noiseutils.errors import UserError
from noiseutils.provenance import outputs_root, reference_root
from noiseutils.studies.registry import Cause, Claim, Settings, judge
from noiseutils.studies.results import C, P, Record, Results, at_places, conditions
from noiseutils.sweeps.progress import last_line
from noiseutils.sweeps.store import Store
from noiseutils.sweeps.sweep import sweep
from noiseutils.training.loop import Result

A = ParamSpec("A")

MOST_RUNS = 50_000  # naming them takes some seconds; the papers' own grids have hundreds


def all_seeds(params: Any) -> Iterable[int]:
    """Return the seeds 0 to `seeds` - 1 of a profile."""
    return range(params.seeds)


def no_check(params: Any) -> None:
    """Require nothing."""


def no_analysis(params: Any, store: Store, budget: float | None = None) -> None:
    """Analyse no trained networks."""


def no_answers(params: Any, store: Store) -> Mapping:
    """Return no answers: the trained networks were not analysed."""
    return {}


def unknown_settings(params: Any, cell: Any) -> str:
    """Return "other": no run is at a paper's own setting."""
    return "other"


def made_once(run_of: Callable[A, Run]) -> Callable[A, Run]:
    """Return `run_of` with a cache, as runs of a study are asked for many times."""
    return cast("Callable[A, Run]", cache(cast("Callable[..., Run]", run_of)))


def no_stages(params: Any) -> Sequence[Sequence]:
    """Return no stages: the whole grid is trained in one."""
    return ()


def no_numbers(results: Any) -> pd.DataFrame:
    """Return no numbers: the paper prints none that a training reproduces."""
    return pd.DataFrame({"n": [], "settings": [], "verdict": []})


def no_overview(results: Any) -> dict[str, pd.DataFrame]:
    """Return nothing in addition to the verdicts on a paper's claims."""
    return {}


def one_look(params: Any) -> int:
    """Return 1: all seeds were run before any result was looked at."""
    return 1


@dataclass(frozen=True)
class Study(Generic[P, C]):
    """Experiments of one paper.

    name: name of the study's folders.
    notebook: stem of the notebook's file name.
    paper: authors and title.
    label: name of the paper's method, for readers; defaults to `name`.
    cells: grid of a profile. The most informative cells come first, in case a sweep is cut short.
    run_of: training of a cell and a seed.
    seeds: seeds of a profile.
    stages: parts of the grid, in order. Each stage trains all its seeds before the next stage begins, so that
    a sweep cut short has finished comparisons.
    follow_ups: runs that follow from the results of the grid, by cell and seed. A sweep trains the follow-ups
    of a stage right after this stage.
    check: raises UserError if something is missing that is needed after the training.
    analyse: analyses trained networks within a budget in seconds, and stores each answer that is not stored.
    answers: stored answers of `analyse`, by cell, seed and question.
    records: numbers of a result, see `Results`.
    claims: claims of the paper, each with its test.
    main: names of the paper's three to six main claims.
    causes: possible reasons why our result differs from the paper's.
    settings: setting of a cell's runs, a key of `stats.SETTINGS`.
    looks: number of looks at the results of a profile up to its last seeds; verdicts are corrected for it.
    numbers: numbers that the paper prints, by place in the study's reported.csv, each with the n, settings
    and verdict of our result.
    overview: tables of results that belong to no claim of a paper, by caption; empty without a verdict.
    in_short: what `overview` comes to, as tables by caption, for the first page.
    data_parameters: names of the parameters that name the data sets or image folders.
    """

    name: str
    notebook: str
    Params: type[P]
    cells: Callable[[P], Sequence[C]]
    run_of: Callable[[P, C, int], Run]
    paper: tuple[str, str] = ("", "")
    label: str = ""
    seeds: Callable[[P], Iterable[int]] = all_seeds
    stages: Callable[[P], Sequence[Sequence[C]]] = no_stages
    follow_ups: Callable[[Results[P, C]], Mapping[tuple[C, int], Run]] | None = None
    check: Callable[[P], None] = no_check
    analyse: Callable[..., None] = no_analysis
    answers: Callable[[P, Store], Mapping[tuple[C, int, str], Record]] = no_answers
    records: Callable[[Result], Sequence[Record]] = conditions
    claims: tuple[Claim[P, C], ...] = ()
    main: tuple[str, ...] = ()
    causes: tuple[Cause, ...] = ()
    settings: Settings[P, C] = unknown_settings
    looks: Callable[[P], int] = one_look
    numbers: Callable[[Results[P, C]], pd.DataFrame] = no_numbers
    overview: Callable[[Results[P, C]], dict[str, pd.DataFrame]] = no_overview
    in_short: Callable[[Results[P, C]], dict[str, pd.DataFrame]] = no_overview
    data_parameters: tuple[str, ...] = ("data",)

    def runs(self, params: P) -> list[Run]:
        """Return every training of the grid once, ordered by stage, then by seed.

        Raises UserError for a grid of more than `MOST_RUNS`.
        """
        cells = self.cells(params)
        if (count := len(cells) * len(list(self.seeds(params)))) > MOST_RUNS:
            raise UserError(
                f"the parameters of {self.name} make {count:,} trainings, {len(cells):,} for each seed; "
                f"allowed: up to {MOST_RUNS:,}"
            )
        stages = (*self.stages(params), cells)
        grid = [
            self.run_of(params, cell, seed)
            for stage in stages
            for seed in self.seeds(params)
            for cell in stage
        ]
        return list(dict.fromkeys(grid))

    def runs_by_stage(self, params: P) -> list[list[Run]]:
        """Return the trainings of the grid by stage; one list if the study has no follow-ups."""
        runs = self.runs(params)
        if self.follow_ups is None:
            return [runs]
        seeds, parts = list(self.seeds(params)), []
        for stage in self.stages(params):
            own = {self.run_of(params, cell, seed).key for cell in stage for seed in seeds}
            parts.append([run for run in runs if run.key in own])
            runs = [run for run in runs if run.key not in own]
        return [part for part in (*parts, runs) if part]

    def runs_known(self, params: P, store: Store) -> list[Run]:
        """Return every training known so far: the grid, and the follow-ups of its stored results."""
        return self.runs(params) + self.follow_ups_known(params, store)

    def follow_ups_known(self, params: P, store: Store) -> list[Run]:
        """Return the follow-ups of the grid's stored results."""
        if self.follow_ups is None:
            return []
        found = [result for run in self.runs(params) if (result := store.load(run)) is not None]
        return list(self.follow_ups(self.results(params, found)).values())

    def results(
        self, params: P, found: Iterable[Result], answers: Mapping[tuple[C, int, str], Record] | None = None
    ) -> Results[P, C]:
        """Gather results, follow-ups included, by cell and seed."""
        found, cells = list(found), self.cells(params)
        places = {(cell, s): self.run_of(params, cell, s) for cell in cells for s in self.seeds(params)}
        grid = Results(params, cells, at_places(places, found), self.records, answers or {})
        more = at_places(self.follow_ups(grid), found) if self.follow_ups else {}
        return replace(grid, by_cell={**grid.by_cell, **more}) if more else grid

    def verdicts(self, results: Results[P, C]) -> pd.DataFrame:
        """Judge every claim of the paper; one row a claim, see `registry.judge`."""
        return judge(self.claims, results, self.settings, self.looks(results.params))

    def stored(self, params: P, store: Store) -> Results[P, C]:
        """Return a profile's results from a store, without training or analysing."""
        found = [result for run in self.runs_known(params, store) if (result := store.load(run)) is not None]
        return self.results(params, found, self.answers(params, store))

    def collect(self, params: P, executor: str = "auto", *, train: bool = True) -> Results[P, C]:
        """Train and analyse all runs of a profile that are not stored, then return the results of all.

        train: False leaves out runs that are not stored.
        Failed runs are printed and left out. Raises UserError if no run finished, or no run is stored.
        """
        if not train:
            results = self.stored(params, open_store())
            if results.frame.empty:
                raise UserError(
                    f"none of the {len(self.runs(params))} runs of {self.name} is stored: train them"
                )
            return results
        self.check(params)  # before hours of training, not after
        store = open_store()
        found = gather(self.runs(params), store, executor)
        if self.follow_ups:
            found += gather(list(self.follow_ups(self.results(params, found)).values()), store, executor)
        self.analyse(params, store)
        if any(not store.finished(result.run) for result in found):  # its weights were damaged
            found = gather([result.run for result in found], store, executor)
            self.analyse(params, store)
        results = self.results(params, found, self.answers(params, store))
        if results.frame.empty:
            count = len(self.runs(params))
            raise UserError(f"none of the study's {count} runs finished: see `noiseutils status`")
        return results


def open_store() -> Store:
    """Return the store under outputs/, which also reads the committed reference results."""
    reference = sorted(reference_root().glob("*/*/runs"))
    return Store(outputs_root() / "runs", tuple(reference))


def gather(runs: list[Run], store: Store, executor: str = "auto") -> list[Result]:
    """Train all runs that are not stored, and return all results; failed runs are printed and left out."""
    done = sweep(runs, store, executor)
    for run in done.runs:
        if trace := done.failed.get(run.key):
            print(f"failed: {run}\n  {last_line(trace)}")
    return done.results
