"""Write the pages of committed results: one for each set, one for the benchmarks, and a table of all."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from noiseutils.bench import table as bench_table
from noiseutils.book import found
from noiseutils.book.drawings import Drawing, drawing_html, read_drawings, words_of
from noiseutils.book.notebooks import read_notebook
from noiseutils.book.stage import Stage, keep_drawing, problems_box, toctree
from noiseutils.book.tables import frame_html, told
from noiseutils.errors import UserError
from noiseutils.markdown import markdown_table
from noiseutils.provenance import shipped
from noiseutils.studies import STUDIES, evidence
from noiseutils.studies.output import read_table
from noiseutils.studies.registry import for_readers

KINDS = ("claim", "reported", "")  # how names of tables with verdicts begin, in the order of a page


def stage_sets(stage: Stage, reference: Path) -> tuple[list[str], list[str]]:
    """Write a page for each set of committed results; return docnames and what is damaged."""
    pages, problems = [], []
    known = {(row["study"], row["set"]): row for row in evidence.rows_of(evidence.committed(reference))}
    for study in STUDIES:
        for folder in sorted(reference.glob(f"{study}/*/")):
            drawings, damaged = read_drawings(folder / "figures")
            tables = {}
            for path in sorted(folder.glob("tables/*.csv")):
                try:
                    tables[path.stem] = read_table(path)
                except UserError as error:
                    damaged.append(f"tables/{error}")
            problems += [f"reference/{study}/{folder.name}/{problem}" for problem in damaged]
            if not drawings and not tables:
                continue
            docname = f"results/{study}/{folder.name}"
            text = _set_page(stage, docname, drawings, tables, known.get((study, folder.name), {}))
            stage.write(f"{docname}.md", text + problems_box(damaged))
            pages.append(docname)
    return pages, problems


def _set_page(
    stage: Stage,
    docname: str,
    drawings: list[Drawing],
    tables: Mapping[str, pd.DataFrame],
    facts: Mapping[str, Any],
) -> str:
    """Return the page of a set of committed results as Markdown: facts, figures, verdicts, tables."""
    _, study, name = docname.split("/")
    authors, title = STUDIES[study].paper
    parts = [f"# {evidence.paper_name(study)} on {found.escaped(name)}"]
    parts += [f"{authors}, *{title}*."] * bool(title)
    if facts:
        said = {key: found.escaped(str(value)) for key, value in facts.items()}
        parts.append(
            f"Images: {said['images']}. Networks: {said['networks']}, width {said['width']}. "
            f"{said['epochs']} epochs, {said['seeds']} seeds, {said['runs']} runs, {facts['hours']:.1f} hours"
            f" of training. Commit: {found.escaped(', '.join(told(tables.values(), 'commit', ' ')))}; "
            f"{found.escaped(', '.join(told(tables.values(), 'device', ';')))}."
        )
    parts += ["## Figures"] * bool(drawings)
    for drawing in drawings:
        words, about = words_of(drawing), f"{drawing.title}, {evidence.paper_name(study)} on {name}."
        alt = f"{about} In the figure: {words}." if words else about
        url = keep_drawing(stage, drawing, docname, f"figures/reference/{study}/{name}")
        parts += [f"### {found.escaped(drawing.title)}", drawing_html(drawing, alt, url)]
    judged = [table for table in tables if "verdict" in tables[table]]
    judged.sort(key=lambda table: next(i for i, kind in enumerate(KINDS) if table.startswith(kind)))
    captions, keep = captions_of(study), stage.keep(docname, f"tables/reference/{study}/{name}")
    others = [table for table in tables if table not in judged]
    for heading, names in (("Verdicts", judged), ("Tables", others)):
        parts += [f"## {heading}"] * bool(names)
        for table in names:
            frame = tables[table]
            file = keep(f"{table}.csv", frame.to_csv(index=False).encode())
            if set(frame.columns) >= found.NEEDED_COLUMNS:
                frame = for_readers(frame)
            parts += [
                f"### {found.escaped(table.replace('_', ' ').capitalize())}",
                frame_html(frame, captions.get(table) or f"Table {table}.", table),
                f'<p><a href="{file}">{html.escape(table)}.csv</a></p>',
            ]
    return "\n\n".join(parts) + "\n"


def captions_of(study: str) -> dict[str, str]:
    """Return captions by the names of tables, from the calls of `output.table` in the study's notebook."""
    path = shipped("notebooks") / f"{STUDIES[study].notebook}.ipynb"
    cells = read_notebook(path)["cells"] if path.is_file() else []
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    return dict(re.findall(r'\.table\([^"]*?,\s*"(\w+)",\s*"([^"\\]*)"', text))


def stage_speed(stage: Stage, reference: Path, problems: list[str]) -> str:
    """Write the page of the committed benchmarks; return its docname, or nothing.

    problems: gets a sentence on each damaged file.
    """
    parts = ["# Speed"]
    for file in sorted((reference / "bench").glob("*.json")):
        title = file.stem.replace("-", " ").replace("cpu", "CPU").replace("gpu", "GPU")
        try:
            table = bench_table.render(file)
        except (UserError, KeyError, TypeError, ValueError, AttributeError) as error:
            said = str(error) if isinstance(error, UserError) else "not what `noiseutils bench --json` writes"
            problems.append(f"reference/bench/{file.name}: {said.removeprefix(f'{file}: ')}")
            continue
        parts += [f"## {title[0].upper()}{title[1:]}", table]
        for drawing in read_drawings(file.parent)[0]:
            if drawing.name.startswith(file.stem):
                url = keep_drawing(stage, drawing, "results/speed", "figures/reference/bench")
                parts.append(
                    drawing_html(drawing, f"{drawing.title}. In the figure: {words_of(drawing)}.", url)
                )
    if len(parts) == 1:
        return ""
    stage.write("results/speed.md", "\n\n".join(parts) + "\n")
    return "results/speed"


def results_table(reference: Path, sets: list[str], speed: str) -> str:
    """Return the table of committed results as Markdown, and a link to the benchmarks."""
    rows = []
    for row in evidence.rows_of(evidence.committed(reference)):
        page = f"results/{row['study']}/{row['set']}"
        name = f"{evidence.paper_name(row['study'])}: {found.escaped(row['set'])}"
        values = [
            found.escaped(str(row[key])) for key in ("images", "networks", "epochs", "width", "seeds", "runs")
        ]
        rows.append([f"[{name}]({page}.md)" if page in sets else name, *values, f"{row['hours']:.1f}"])
    heads = ("results", "images", "networks", "epochs", "width", "seeds", "runs", "hours of training")
    return markdown_table(heads, rows) + (f"\n\n{toctree('', [speed], hidden=False)}" if speed else "")
