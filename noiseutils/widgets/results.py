"""Show the result explorer: browse the stored runs of any study, and the runs behind each figure."""

from __future__ import annotations

import base64
import html
import math

import ipywidgets as widgets

from noiseutils.errors import UserError, one_of
from noiseutils.live.charts import Line, bar_chart, line_chart
from noiseutils.live.pictures import card, grid
from noiseutils.live.stored import Cell, Stored, profiles, stored
from noiseutils.provenance import outputs_root, reference_root
from noiseutils.studies import STUDIES
from noiseutils.studies.readable import readable
from noiseutils.widgets.view import (
    Markup,
    View,
    button,
    dropdown,
    near,
    problem,
    row,
    shows_errors,
    table,
)

CELLS_AT_FIRST = 3  # cells that are chosen at first
CELLS_WITH_BARS = 3  # cells whose classes are shown
PAPER_ROWS = 12  # of ours beside the paper's
KEY_CHARACTERS = 12  # characters of a run's key
CELLS_WITH_CURVES = 7  # cells whose curves are drawn: as many as there are colours
CLASS_BARS = 20  # whose bars are drawn
CURVES = {"train_loss": "training loss", "test_accuracy": "test accuracy, %"}
LEGEND_CHARACTERS = 44  # characters of a cell's values in a legend


class ResultExplorer(View):
    """Show stored runs of a study: cells of its grid, curves, classes, figures, ours beside the paper's.

    study: its name.   profile: a name in params/<study>/, or a name of committed results; None: the first.
    interactive: see `view.is_interactive`. Raises UserError for an unknown study or profile; other errors
    stand on the page.
    """

    def __init__(
        self, study: str = "noisy_dropout", profile: str | None = None, *, interactive: bool | None = None
    ) -> None:
        super().__init__(interactive)
        if study not in STUDIES:
            raise one_of("study", study, STUDIES)
        titles = profiles(study)
        title = next((t for t in titles if profile is None or t in (profile, f"{profile}, committed")), None)
        if title is None:
            raise one_of(f"profile of {study}", profile, titles)
        self.stored: Stored | None = None
        self._make_controls(study)
        self._choose_study(title)

    # --- controls on the page

    def _make_controls(self, study: str) -> None:
        self.study = dropdown("study", list(STUDIES), study)
        self.profile = dropdown("results", [], None, "a profile, or committed results")
        self.cells = widgets.SelectMultiple(description="cells", rows=9, layout={"width": "46em"})
        self.cells.style.description_width = "initial"
        self.figure = dropdown("figure", [], None)
        self.behind = button("Runs behind this figure", "choose their cells", self._behind)
        self.on_change(self._choose_study, self.study)
        self.on_change(self._read, self.profile)
        self.on_change(self._show, self.cells, self.figure)
        parts = [row(self.study, self.profile), self.cells, row(self.figure, self.behind)]
        self.box = self.laid_out(*parts, self.message, self.shown)

    @shows_errors
    def _choose_study(self, title: str | None = None) -> None:
        """Offer the study's profiles, and choose one by its title, or the first."""
        titles = profiles(str(self.study.value))
        with self.filling():
            self.profile.options = list(titles.items())
            self.profile.value = titles[title] if title else next(iter(titles.values()), None)
        self._read()

    @shows_errors
    def _read(self) -> None:
        """Read the stored runs of the study's profile, and choose the first cells."""
        self.stored, self.message.value = None, ""
        try:
            self.stored = stored(str(self.study.value), str(self.profile.value))
        except UserError as error:
            self.shown.value = problem(error)
            return
        with self.filling():
            self.cells.options = [(_named(cell), i) for i, cell in enumerate(self.stored.cells)]
            self.cells.value = tuple(range(min(CELLS_AT_FIRST, len(self.stored.cells))))
            self.figure.options = list(self.stored.figures) or ["none is there"]
            self.figure.value = self.figure.options[0]
        self._show()

    # --- reactions to the controls

    @shows_errors
    def _behind(self) -> None:
        """Choose the cells that the figure was drawn from, and count their runs."""
        if self.stored is None or not self.stored.figures:
            raise UserError("there is no figure here: `noiseutils run` renders them")
        name = str(self.figure.value)
        if name not in self.stored.behind:
            raise UserError(f"{name} was rendered without the list of its runs")
        keys = self.stored.behind[name]
        cells = self.stored.cells_behind(name)
        text = f"{name} was drawn from {len(keys)} runs, in {len(cells)} of the cells above."
        self.show_message(text if keys else f"{name} shows no run.")
        self.cells.value = tuple(i for i, cell in enumerate(self.stored.cells) if cell in cells)

    @shows_errors
    def _show(self) -> None:
        if self.stored is not None:
            cells = [self.stored.cells[i] for i in self.cells.value]
            self.draw(self._pictures(self.stored, [(letter(i), cell) for i, cell in enumerate(cells)]))

    # --- pictures

    def _pictures(self, found: Stored, picked: list[tuple[str, Cell]]) -> str:
        """Draw the cells picked, by letter, and what is rendered of the profile."""
        runs = sum(len(cell.results) for cell in found.cells)
        text = f"{found.study}, {found.profile}: {runs} runs in {len(found.cells)} cells are stored"
        text += f", {found.missing} are not" if found.missing else ""
        if not found.cells:
            command = f"noiseutils run {found.study} --profile {found.profile}"
            return f"<p>{html.escape(text)}: <code>{html.escape(command)}</code> makes them.</p>"
        charts = []
        for column, title in CURVES.items():
            drawn = enumerate(picked[:CELLS_WITH_CURVES])
            factor = 100 if column == "test_accuracy" else 1
            lines = [
                Line(_short(name, cell), [(x, factor * y) for x, y in cell.curve(column)], i)
                for i, (name, cell) in drawn
            ]
            charts.append(card(line_chart(title, lines, "epoch")))
        if classes := [
            (_short(name, c), c.per_class()) for name, c in picked[:CELLS_WITH_BARS] if c.per_class()
        ]:
            labels = list(classes[0][1])[:CLASS_BARS]
            series = [(name, [values.get(k, math.nan) for k in labels]) for name, values in classes]
            charts.append(card(bar_chart("accuracy by class", labels, series)))
        more = (
            f" Curves of the first {CELLS_WITH_CURVES} cells chosen."
            if len(picked) > CELLS_WITH_CURVES
            else ""
        )
        parts = [f"<p>{html.escape(text)}.{more}</p>", self._cells(picked), grid(charts)]
        return "".join([*parts, self._figure(found), self._beside(found)])

    def _cells(self, picked: list[tuple[str, Cell]]) -> str:
        rows = []
        for name, cell in picked:
            keys = " ".join(_link(result.run.key) for result in cell.results)
            error = cell.top1_error().format(2, 100)
            data = ", ".join({result.info["data"]["label"] for result in cell.results})
            rows.append((name, cell.label, data, error, Markup(keys)))
        return table(rows, ("", "cell", "data", "top-1 error, % [95 % t interval] n", "runs"))

    def _figure(self, found: Stored) -> str:
        path = found.figures.get(str(self.figure.value))
        if path is None:
            return "<p>No figure of this profile has been rendered.</p>"
        picture = base64.b64encode(path.read_bytes()).decode()
        name = html.escape(path.stem)
        count = len(found.behind.get(path.stem, ()))
        runs = f", drawn from {count} runs" if count else ", which shows no run"
        runs = runs if path.stem in found.behind else ""
        return (
            f'<figure style="margin:6px 0"><figcaption>{name}{runs}</figcaption>'
            f'<img alt="{name} of {found.study}, {html.escape(found.profile)}" '
            f'style="width:100%;max-width:1200px;background:white" src="data:image/png;base64,{picture}">'
            "</figure>"
        )

    def _beside(self, found: Stored) -> str:
        papers = found.beside
        if papers.empty:
            return "<p>No table of ours beside the paper's has been rendered for this profile.</p>"
        run = papers.dropna(subset=["ours"]) if "ours" in papers else papers
        shown, _ = readable(run.head(PAPER_ROWS))
        counts = papers["verdict"].value_counts() if "verdict" in run else {}
        verdicts = ", ".join(f"{count} {verdict}" for verdict, count in dict(counts).items())
        where = near(found.folder / "tables")
        return (
            f"<p><b>Ours beside the paper's</b>: {html.escape(verdicts)}. {len(shown)} of {len(papers)} "
            f"rows, where ours is there; all: <code>{html.escape(where)}/reported*.csv</code>.</p>"
            + table(shown.itertuples(index=False), list(shown.columns))
        )


def letter(index: int) -> str:
    """Return the index-th of A, B, …, Z, AA, AB, …"""
    before, last = divmod(index, 26)
    return (letter(before - 1) if before else "") + chr(65 + last)


def _short(name: str, cell: Cell) -> str:
    """Write a cell's letter and values for a legend."""
    label = cell.label if len(cell.label) <= LEGEND_CHARACTERS else f"{cell.label[: LEGEND_CHARACTERS - 1]}…"
    return f"{name}: {label}"


def _named(cell: Cell) -> str:
    return f"{cell.label} ({len(cell.results)} seed{'s' if len(cell.results) > 1 else ''})"


def _link(key: str) -> str:
    """Write the beginning of a run's key, with the place of its record as hint."""
    places = [outputs_root() / "runs" / key, *reference_root().glob(f"*/*/runs/{key}")]
    where = next((near(place / "run.json") for place in places if (place / "run.json").exists()), "")
    return f'<code title="{html.escape(where, quote=True)}">{key[:KEY_CHARACTERS]}</code>'
