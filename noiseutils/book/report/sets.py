"""What there is to report: renderings and committed results, each with the facts of its runs."""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from noiseutils.book.notebooks import placeless, read_notebook, title_of
from noiseutils.book.report.captions import captions
from noiseutils.book.report.figures import Figure, read_figures
from noiseutils.book.report.tables import read_table, told
from noiseutils.config import EMBEDDED, Data
from noiseutils.errors import UserError
from noiseutils.provenance import data_root, project_root, shipped
from noiseutils.studies import STUDIES
from noiseutils.sweeps.store import Store

NOT_STUDIES = ("reference", "report", "runs")  # folders of outputs/ with something else in them


@dataclass(frozen=True)
class Facts:
    """Of the runs behind a set: how many, on which images, when, where, and by which code."""

    runs: str = ""
    data: tuple[str, ...] = ()
    when: str = ""
    where: tuple[str, ...] = ()
    commits: tuple[str, ...] = ()


@dataclass(frozen=True)
class ResultSet:
    """A rendered notebook, or committed results, with its figures and tables.

    place: where its page lies in the report, and its files in outputs/.   problems: what of it is damaged.
    """

    study: str
    profile: str
    folder: Path
    place: str
    committed: bool = False
    notebook: Path | None = None
    title: str = ""
    rendered: str = ""  # when
    figures: list[Figure] = field(default_factory=list)
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    facts: Facts = Facts()
    private: dict[str, str] = field(default_factory=dict)  # what pages say instead of paths of this machine
    problems: list[str] = field(default_factory=list)
    captions: dict[str, str] = field(default_factory=dict)  # of tables, where no notebook shows them

    @property
    def page(self) -> str:
        """The page, from the report's folder."""
        return f"{self.place}/{self.notebook.stem if self.notebook else 'index'}.html"

    @property
    def labels(self) -> list[str]:
        """The names of the sets of images, without how much of them was taken."""
        return [data.partition(" (")[0] for data in self.facts.data]


class Missing(NamedTuple):
    """A profile of a study without a rendering, and the command that makes one."""

    study: str
    profile: str
    why: str
    command: str


def find(outputs: Path, reference: Path) -> tuple[list[ResultSet], list[str]]:
    """All that can be reported, in the order of the index, and a sentence on each rendering that cannot.

    Committed results are left out where a rendering here has the very same tables.
    """
    store = Store(outputs / "runs", tuple(sorted(reference.glob("*/*/runs"))))
    found, problems = [], []
    for path in sorted(outputs.glob("*/*/*.ipynb")):
        if path.parts[-3] in NOT_STUDIES or ".partial" in path.name:
            continue
        where = path.relative_to(outputs).as_posix()
        if path.stem.endswith(".failed"):
            problems.append(f"{where}: a cell failed; what ran before it is kept there")
            continue
        try:
            found.append(_rendering(path, outputs, store))
        except UserError as error:
            problems.append(f"{where}: {str(error).removeprefix(f'{path}: ')}")
    for folder in sorted(reference.glob("*/*/")):
        committed = _committed(folder, reference, outputs)
        same = (other for other in found if (other.study, other.profile) == folder.parts[-2:])
        if (committed.figures or committed.tables) and not any(_same(committed, other) for other in same):
            found.append(committed)
    return sorted(found, key=_order), problems


def missing(sets: Iterable[ResultSet]) -> list[Missing]:
    """The profiles in params/ that nothing here was rendered with, and what each is for in its own words."""
    rendered = {(found.study, found.profile) for found in sets if not found.committed}
    rows = []
    for path in shipped("params").glob("*/*.yaml"):
        study = path.parent.name
        if (study, path.stem) not in rendered:
            head = re.match(r"(#(?! {2}).*\n)*", path.read_text(encoding="utf-8"))  # before the commands
            why = " ".join(line.strip("# ") for line in head[0].splitlines()) if head else ""
            rows.append(Missing(study, path.stem, why, f"noiseutils run {study} --profile {path.stem}"))
    return sorted(rows, key=lambda row: (_rank(row.study), row))


def study_title(found: ResultSet) -> str:
    """The title of a set's study: its committed notebook's, or else its own."""
    notebook = _source(found.study)
    return (title_of(read_notebook(notebook)) if notebook else None) or found.title


def paper(study: str) -> tuple[str, str]:
    """Return authors and title of a study's paper; empty for what is no paper's study."""
    return STUDIES[study].paper if study in STUDIES else ("", "")


def _source(study: str) -> Path | None:
    path = shipped("notebooks") / f"{STUDIES[study].notebook}.ipynb" if study in STUDIES else None
    return path if path and path.is_file() else None


def _rendering(path: Path, outputs: Path, store: Store) -> ResultSet:
    nb = read_notebook(path)
    papermill = nb["metadata"].get("papermill", {})
    if "end_time" not in papermill:
        raise UserError("was not executed to its end")
    given, folder = papermill.get("parameters", {}), path.parent
    figures, tables, problems = _files(folder)
    infos, planned = _infos_of(folder.parts[-2], given, store)
    return ResultSet(
        study=folder.parts[-2],
        profile=folder.name,
        folder=folder,
        place=folder.relative_to(outputs).as_posix(),
        notebook=path,
        title=title_of(nb) or path.stem,
        rendered=_minute(papermill["end_time"]),
        figures=figures,
        tables=tables,
        facts=_facts(infos, planned, tables, given),
        private=private_paths(outputs, given),
        problems=problems,
    )


def _committed(folder: Path, reference: Path, outputs: Path) -> ResultSet:
    figures, tables, problems = _files(folder)
    infos, notebook = [], _source(folder.parts[-2])
    for path in sorted(folder.glob("runs/*/run.json")):
        try:
            infos.append(json.loads(path.read_text(encoding="utf-8"))["info"])
        except (OSError, ValueError, KeyError, TypeError):
            problems.append(f"runs/{path.parent.name[:12]}…/run.json: cannot be read")
    return ResultSet(
        study=folder.parts[-2],
        profile=folder.name,
        folder=folder,
        place=f"reference/{folder.relative_to(reference).as_posix()}",
        committed=True,
        title=f"{folder.parts[-2].replace('_', ' ').capitalize()} on {folder.name}",
        figures=figures,
        tables=tables,
        facts=_facts(infos, len(infos), tables, {}),
        private=private_paths(outputs),
        problems=problems,
        captions=captions(notebook) if notebook else {},
    )


def _files(folder: Path) -> tuple[list[Figure], dict[str, pd.DataFrame], list[str]]:
    figures, problems = read_figures(folder / "figures")
    tables = {}
    for path in sorted(folder.glob("tables/*.csv")):
        try:
            tables[path.stem] = read_table(path)
        except UserError as error:
            problems.append(f"tables/{error}")
    return figures, tables, problems


def _infos_of(study: str, given: dict[str, Any], store: Store) -> tuple[list[dict[str, Any]], int]:
    """What is stored about a rendering's runs, and how many there are to be."""
    if study not in STUDIES:
        return [], 0
    try:
        params = STUDIES[study].Params.read(given, "the notebook's parameters")
        runs = STUDIES[study].runs_known(params, store)
    except UserError:  # of an older version of the study: its tables still say where they come from
        return [], 0
    results = [store.load(run) for run in runs]
    return [result.info for result in results if result], len(runs)


def _facts(
    infos: list[dict[str, Any]], planned: int, tables: dict[str, pd.DataFrame], given: dict[str, Any]
) -> Facts:
    if not infos:
        return Facts(
            data=tuple(
                _label(name) for name in told(tables.values(), "data", ";") or _names(given.get("data"))
            ),
            where=tuple(told(tables.values(), "device", ";")),
            commits=tuple(told(tables.values(), "commit", " ")),
        )
    sizes: dict[str, set[int]] = {}
    for info in infos:
        data = info["data"]
        sizes.setdefault(data.get("label", "images"), set()).add(data["train"])
    ends = sorted(info["finished"] for info in infos)
    hours = sum(info["seconds"] for info in infos) / 3600
    spent = f"{hours:.1f} hours" if hours >= 1 else f"{max(1, round(60 * hours))} min"
    counted = f"{len(infos)}" if len(infos) == planned else f"{len(infos)} of {planned}"
    return Facts(
        runs=f"{counted}, {spent} of training and evaluation in all",
        data=tuple(
            f"{_label(name)} ({' or '.join(f'{size:,}' for size in sorted(found))} training images)"
            for name, found in sizes.items()
        ),
        when=_between(ends[0], ends[-1]),
        where=tuple(
            sorted(
                {
                    f"{i['device']} ({i['versions']['platform']}, torch {i['versions']['torch']})"
                    for i in infos
                }
            )
        ),
        commits=tuple(sorted({i["versions"]["commit"] for i in infos} - {""})),
    )


def _label(name: str) -> str:
    return f"{name}, embedded" if name in EMBEDDED else name


def _names(data: object) -> list[str]:
    given = data if isinstance(data, list) else [data]
    return [Data.parse(text).label or text for text in given if isinstance(text, str)]


def private_paths(outputs: Path, parameters: Mapping[str, Any] | None = None) -> dict[str, str]:
    """Paths of this machine and what stands for them on a page, longer ones first.

    parameters: of a notebook; those that name data in a folder are among the paths.
    """
    said = {str(outputs): "outputs", str(data_root()): "data", str(project_root()): ".", sys.prefix: "python"}
    said[tempfile.gettempdir()] = "tmp"
    for value in (parameters or {}).values():
        for text in _strings(value):
            try:
                data = Data.parse(text)
            except UserError:
                continue
            if data.root is not None:
                said[text] = placeless(text) or ""
                said[str(Path(data.root).expanduser())] = f"./{data.label}"
    if len(Path.home().parts) > 1:
        said[str(Path.home())] = "~"
    return dict(sorted(said.items(), key=lambda item: -len(item[0])))


def _strings(value: object) -> Iterator[str]:
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, str) and "/" in item:
            yield item


def _minute(time: str) -> str:
    return f"{time[:10]} {time[11:16]} UTC"


def _between(first: str, last: str) -> str:
    """From one time to another, the day said once if it is the same."""
    start, end = _minute(first), _minute(last)
    if start == end:
        return end
    return f"{start.removesuffix(' UTC')} to {end[11:] if first[:10] == last[:10] else end}"


def _same(one: ResultSet, other: ResultSet) -> bool:
    return one.tables.keys() == other.tables.keys() and all(
        table.equals(other.tables[name]) for name, table in one.tables.items()
    )


def _order(found: ResultSet) -> tuple:
    real = found.committed or not any("embedded" in name for name in found.facts.data)
    return _rank(found.study), found.study, not real, found.place


def _rank(study: str) -> int:
    """Where a study stands: the start page first, what is none of the papers' last."""
    studies = ["start_here", *STUDIES]
    return studies.index(study) if study in studies else len(studies)
