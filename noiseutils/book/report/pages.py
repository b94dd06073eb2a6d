"""The pages of single results: a rendered notebook, committed figures and tables, the benchmarks."""

from __future__ import annotations

import html
import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from noiseutils.bench import table as bench_table
from noiseutils.book.extras import notebooks_extra
from noiseutils.book.page import to_html
from noiseutils.book.report import verdicts
from noiseutils.book.report.figures import (
    Figure,
    digest,
    embedded,
    figure_html,
    image_html,
    read_figures,
    size_of,
    words_of,
)
from noiseutils.book.report.look import frame
from noiseutils.book.report.sets import ResultSet, paper
from noiseutils.book.report.tables import MADE_WITH, dress, table_html, told

BENCH = "reference/bench"


def write_page(found: ResultSet, root: Path, notebooks: Mapping[str, str]) -> None:
    """Write a set's page below `root`, its figures, tables and notebook beside it.

    notebooks: by name of a notebook, where its page lies in the report; for links from one to another.
    """
    folder = root / found.place
    for name in ("figures", "tables"):
        if (found.folder / name).is_dir():
            shutil.copytree(found.folder / name, folder / name, dirs_exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    up = "../" * (found.place.count("/") + 1)
    soup = _notebook(found, folder, up, notebooks) if found.notebook else _committed(found)
    dress(soup)
    _after_title(soup, found)
    if found.notebook:
        text = found.notebook.read_text(encoding="utf-8")
        written = {json.dumps(path, ensure_ascii=False)[1:-1]: said for path, said in found.private.items()}
        copy = pathless(text, written)
        (folder / found.notebook.name).write_text(copy, encoding="utf-8")
        soup.append(_parsed(_files(found)))
    escaped = {html.escape(path, quote=False): said for path, said in found.private.items()}
    page = frame(found.title, pathless(str(soup), escaped), up)
    (root / found.page).write_text(page, encoding="utf-8")


def write_bench(reference: Path, root: Path) -> list[tuple[str, str]]:
    """A page for each benchmark in the committed results: titles and where the pages lie in the report."""
    with notebooks_extra():
        import mistune

    pages = []
    for file in sorted((reference / "bench").glob("*.json")):
        markdown = bench_table.render(file)
        title = f"Speed: {file.stem.replace('-', ' ').replace('cpu', 'CPU').replace('gpu', 'GPU')}"
        folder = root / BENCH
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, folder / file.name)
        drawn = []
        for figure in read_figures(file.parent)[0]:
            if figure.name.startswith(file.stem):
                for path in filter(None, (figure.png, figure.svg)):
                    shutil.copy(path, folder / path.name)
                drawn.append(figure_html(figure, f"{title}. In the figure: {words_of(figure)}.", folder=""))
        tables = mistune.create_markdown(plugins=["table"])(markdown)
        soup = _parsed(
            f"<h1>{title}</h1>{''.join(f'<figure>{picture}</figure>' for picture in drawn)}{tables}"
            f'<p><a href="{quote(file.name)}">Every single time measured (JSON)</a></p>'
        )
        dress(soup)
        page = f"{BENCH}/{file.stem}.html"
        (root / page).write_text(frame(title, str(soup), "../../"), encoding="utf-8")
        pages.append((title, page))
    return pages


def facts_html(found: ResultSet) -> str:
    """A set's facts as a list of terms: data, runs, when, where, code."""
    facts = found.facts
    rows = {
        "Data": "; ".join(facts.data),
        "Runs": facts.runs,
        "When": facts.when,
        "Where": "; ".join(facts.where),
        "Commit": ", ".join(facts.commits),
        "Rendered": found.rendered,
    }
    items = "".join(f"<dt>{name}</dt><dd>{html.escape(said)}</dd>" for name, said in rows.items() if said)
    return f"<dl>{pathless(items, found.private)}</dl>"


def problems_html(problems: list[str], title: str = "What could not be read") -> str:
    """Sentences on what is damaged, as a box; nothing where nothing is."""
    if not problems:
        return ""
    items = "".join(f"<li>{html.escape(problem)}</li>" for problem in problems)
    return f'<section class="problems"><h2>{title}</h2><ul>{items}</ul></section>'


def pathless(text: str, private: Mapping[str, str]) -> str:
    """A text without this machine's paths.   private: what to say instead of each."""
    for path, said in private.items():
        text = re.sub(rf"(?<![\w/.]){re.escape(path)}(?![\w-])", lambda _, said=said: said, text)
    return text


def _notebook(found: ResultSet, folder: Path, up: str, notebooks: Mapping[str, str]) -> Any:
    """The cells of a notebook as a tree, figures from files beside the page."""
    assert found.notebook is not None
    made = found.notebook.with_suffix(".html")
    page = _parsed(made.read_text(encoding="utf-8") if made.is_file() else to_html(found.notebook))
    soup = _parsed("")
    soup.extend(list((page.find("main") or page).children))
    by_content = {digest(figure.png.read_bytes()): figure for figure in found.figures}
    for count, image in enumerate(soup("img"), 1):
        content = embedded(str(image.get("src", "")))
        if content:
            (image.parent if image.parent.name == "a" else image).replace_with(
                _parsed(_picture(image, content, by_content, folder, f"{found.notebook.stem}-{count:02}"))
            )
    for cell in soup.select(".celltag_parameters, .celltag_injected-parameters"):
        _fold(soup, cell)
    for tag in soup(attrs={"tabindex": True}):
        del tag["tabindex"]  # nbconvert's: a stop on every cell, where there is nothing to do
    for link in soup("a", href=True):
        target = unquote(link["href"])
        name = target.rpartition("/")[2].removesuffix(".ipynb")
        if target.endswith(".ipynb") and name in notebooks:
            link["href"] = quote(up + notebooks[name])
        elif not re.match(r"#|[a-z]+:", target) and not (folder / target).exists():
            link.unwrap()  # to a file that the report has not
    return soup


def _picture(
    image: Any, content: tuple[bytes, str], figures: dict[str, Figure], folder: Path, name: str
) -> str:
    """An embedded image as a link to files: of a study's figure, or of its own."""
    drawn, suffix = content
    alt = str(image.get("alt") or "Figure")
    given = int(found[0]) if (found := re.match(r"\d+", str(image.get("width", "")))) else None
    if figure := figures.get(digest(drawn)):
        return figure_html(figure, alt, width=given)
    path = folder / "figures" / f"{name}.{suffix}"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(drawn)
    size = size_of(drawn, suffix)
    if size and given:
        size = (given, round(given * size[1] / size[0]))
    return image_html(f"figures/{path.name}", alt, size, str(image.get("style") or ""))


def _fold(soup: Any, cell: Any) -> None:
    """Parameters are long, and few who read want them: behind a line to open."""
    area = cell.select_one(".jp-InputArea")
    if area is None:
        return
    details, summary = soup.new_tag("details"), soup.new_tag("summary")
    injected = "celltag_injected-parameters" in cell.get("class", ())
    summary.string = "Parameters of this rendering" if injected else "Parameters and their defaults"
    area.replace_with(details)
    details.extend([summary, area])


def _committed(found: ResultSet) -> Any:
    """Committed results as a tree: a heading, the verdicts' tables, figures, all other tables."""
    authors, title = paper(found.study)
    parts = [f"<h1>{html.escape(found.title)}</h1>"]
    if title:
        parts.append(f"<p>{html.escape(authors)}, <em>{html.escape(title)}</em>.</p>")
    parts.append(_figures(found))
    judged = [name for name, table in found.tables.items() if "verdict" in table]
    judged.sort(key=lambda name: [*verdicts.KINDS].index(verdicts.kind_of(name)))
    parts.append(
        '<section id="tables" aria-label="Tables"><h2>Verdicts</h2>' if judged else '<section id="tables">'
    )
    parts += [_table(found, name) for name in judged]
    if others := [name for name in found.tables if name not in judged]:
        parts += ["<h2>Tables</h2>", *(_table(found, name) for name in others)]
    parts.append("</section>")
    return _parsed("".join(parts))


def _figures(found: ResultSet) -> str:
    if not found.figures:
        return ""
    drawn = []
    for figure in found.figures:
        words = words_of(figure)
        alt = f"{figure.title}, {found.study} on {found.profile}." + (
            f" In the figure: {words}." if words else ""
        )
        drawn.append(
            f"<h3>{html.escape(figure.title)}</h3><figure>{figure_html(figure, alt)}"
            f"<p>{_links(figure)}</p></figure>"
        )
    return f'<section id="figures"><h2>Figures</h2>{"".join(drawn)}</section>'


def _table(found: ResultSet, name: str) -> str:
    table = found.tables[name]
    data = ", ".join(told([table], "data", ";"))
    caption = f"{found.captions.get(name, '')} {f'Data: {data}.' if data else ''}".strip()
    if table.columns.drop(MADE_WITH, errors="ignore").str.endswith("low").any():
        caption += " [95 % interval]."
    file = quote(name)
    return (
        f"<h3>{html.escape(name.replace('_', ' ').capitalize())}</h3>{table_html(table, caption)}"
        f'<p><a href="tables/{file}.csv">{html.escape(name)}.csv</a></p>'
    )


def _files(found: ResultSet) -> str:
    """What lies beside a notebook's page: figures, tables, the notebook."""
    assert found.notebook is not None
    parts = []
    if found.figures:
        items = "".join(f"<li>{html.escape(f.title)}: {_links(f)}</li>" for f in found.figures)
        parts.append(f'<section id="figures"><h2>Files of the figures</h2><ul>{items}</ul></section>')
    if found.tables:
        items = "".join(
            f'<li><a href="tables/{quote(name)}.csv">{html.escape(name)}.csv</a>, {len(table)} rows</li>'
            for name, table in found.tables.items()
        )
        parts.append(f'<section id="tables"><h2>Files of the tables</h2><ul>{items}</ul></section>')
    file = found.notebook.name
    parts.append(f'<p><a href="{quote(file)}">The executed notebook, {html.escape(file)}</a></p>')
    return "".join(parts)


def _links(figure: Figure) -> str:
    links = []
    for file in filter(None, (figure.png, figure.svg)):
        kind = file.suffix[1:].upper()
        said = html.escape(f"{figure.title} as {kind}")
        links.append(f'<a href="figures/{quote(file.name)}" aria-label="{said}">{kind}</a>')
    return " · ".join(links)


def _after_title(soup: Any, found: ResultSet) -> None:
    """Facts, verdict counts and what is damaged, right below the page's title."""
    title = soup.find("h1")
    if title is None:
        title = _parsed(f"<h1>{html.escape(found.title)}</h1>").h1
        soup.insert(0, title)
    counts = verdicts.badges(verdicts.count(found.tables))
    if counts:
        to_legend = "../" * (found.place.count("/") + 1) + "index.html#verdicts"
        counts += f'<p><a href="{to_legend}">What the verdicts mean</a></p>'
    said = f'<aside class="facts" aria-label="Data, runs and verdicts">{facts_html(found)}{counts}</aside>'
    title.insert_after(_parsed(said + problems_html(found.problems)))


def _parsed(text: str) -> Any:
    with notebooks_extra():
        from bs4 import BeautifulSoup
    return BeautifulSoup(text, "html.parser")
