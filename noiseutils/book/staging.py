"""Write the book's sources for Sphinx: a copy of docs/ with all marks filled, chapters, pages of results.

A mark is a line such as `<!-- noiseutils: found -->` in a page of docs/; the code replaces the line.
"""

from __future__ import annotations

import html
import json
import re
import typing
from pathlib import Path

import pandas as pd
import typer
from typer.cli import get_docs_for_click
from typer.main import get_command

from noiseutils import noise
from noiseutils.book import chapters, found
from noiseutils.book.drawings import drawing_html, read_drawings
from noiseutils.book.notebooks import pathless, pathless_notebook, read_notebook
from noiseutils.book.renderings import Rendering, renderings
from noiseutils.book.result_pages import results_table, stage_sets, stage_speed
from noiseutils.book.stage import Stage, keep_drawing, problems_box, toctree
from noiseutils.book.tables import one_line
from noiseutils.config import EMBEDDED
from noiseutils.markdown import markdown_table
from noiseutils.models import MODELS
from noiseutils.provenance import shipped
from noiseutils.studies import STUDIES

MARK = re.compile(r"<!-- noiseutils: (?P<name>\w+)(?: (?!-->)(?P<words>.*?))? -->", re.S)


def stage_all(stage: Stage, outputs: Path, reference: Path, program: typer.Typer) -> list[str]:
    """Write the sources of all pages; return a sentence on each thing that is damaged."""
    rendered, problems = renderings(outputs)
    claims, damaged = found.best_evidence(reference, [one.folder for one in rendered])
    problems += damaged
    sets, damaged = stage_sets(stage, reference)
    problems += damaged
    problems += _stage_chapters(stage, outputs, rendered, claims, sets)
    speed = stage_speed(stage, reference, problems)
    fill = {
        "short": lambda _: found.short_tables(reference, claims),
        "counts": lambda _: found.counts_table(claims),
        "main": lambda _: found.main_table(claims),
        "causes": lambda _: found.causes_table(claims),
        "methods": lambda _: found.methods_tables(reference),
        "claims": lambda _: found.all_tables(claims),
        "numbers": lambda _: found.numbers_table(reference),
        "verdicts": lambda _: found.legend(),
        "chapters": lambda _: toctree("Chapters", _contents(rendered)),
        "results": lambda _: results_table(reference, sets, speed),
        "figure": lambda words: _hero(stage, reference, words),
        "commands": lambda _: commands(program),
        "models": lambda _: models(),
        "parameter": parameter,
        "problems": lambda _: problems_box(problems),
    }
    for path in sorted(shipped("docs").rglob("*")):
        name = path.relative_to(shipped("docs")).as_posix()
        if (
            not path.is_file()
            or "__pycache__" in path.parts
            or path.suffix not in (".md", ".py", ".css", ".js")
        ):
            continue
        if path.suffix == ".md":
            stage.write(name, MARK.sub(lambda m: fill[m["name"]](m["words"] or ""), path.read_text("utf-8")))
        else:
            stage.write(name, path.read_bytes())
    guides = sorted(path.stem for path in shipped("docs").glob("how-to/*.md") if path.stem != "README")
    text = (stage.root / "how-to" / "README.md").read_text("utf-8")
    stage.write("how-to/README.md", f"{text}\n{toctree('', guides)}")
    return problems


def _hero(stage: Stage, reference: Path, words: str) -> str:
    """Return a committed figure of the first page.   words: `<study>/<set>/<figure>: alternative text`."""
    place, _, alt = words.partition(": ")
    folder, _, name = place.rpartition("/")
    drawing = next((d for d in read_drawings(reference / folder / "figures")[0] if d.name == name), None)
    if drawing is None:  # an installed package brings no committed results
        return ""
    url = keep_drawing(stage, drawing, "index", f"figures/reference/{folder}")
    return drawing_html(drawing, one_line(alt), url)


def _contents(rendered: list[Rendering]) -> list[str]:
    pages = _chapter_pages(rendered)
    return [page for page, one in pages.items() if one is None or _stem(page) == one.notebook.stem]


def _chapter_pages(rendered: list[Rendering]) -> dict[str, Rendering | None]:
    """Return the docnames of all chapters, and what each shows: a rendering, or a notebook as it is."""
    pages: dict[str, Rendering | None] = {}
    for source in sorted(shipped("notebooks").glob("*.ipynb")):
        own = [one for one in rendered if one.notebook.stem == source.stem]
        pages[f"chapters/{source.stem}"] = own[0] if own else None
        pages |= {f"chapters/{source.stem}-{one.profile}": one for one in own[1:]}
    return pages


def _stage_chapters(
    stage: Stage, outputs: Path, rendered: list[Rendering], claims: pd.DataFrame, sets: list[str]
) -> list[str]:
    """Write a chapter for each notebook, and the worked answers; return what is damaged."""
    pages, problems = _chapter_pages(rendered), []
    answers = sorted(shipped("notebooks").glob("solutions/*.ipynb"))
    sources = {page: one.notebook if one else _source(_stem(page)) for page, one in pages.items()}
    sources |= {f"chapters/solutions/{path.stem}": path for path in answers}
    links = {_stem(page): chapters.page_of(read_notebook(path), page) for page, path in sources.items()}
    studies = {study.notebook: name for name, study in STUDIES.items()}
    for docname, shown in pages.items():
        source = sources[docname]
        study = studies.get(source.stem)
        own = [page for page in sets if study and page.startswith(f"results/{study}/")]
        box = [_made_with(stage, docname, shown, study, own)]
        if study and STUDIES[study].claims:
            title = "**What was found of the paper's claims** ([all claims](/claims.md))"
            box += [title, found.box(claims, study)]
        if _stem(docname) == source.stem:  # the chapter that the contents name
            below = [*own, *(page for page in pages if page.startswith(f"{docname}-"))]
            below += [page for page in sources if page == f"chapters/solutions/{source.stem}_solutions"]
            box += [toctree("", [f"/{page}" for page in below])] * bool(below)
        nb, place = read_notebook(source), ""
        if shown:
            nb = pathless_notebook(nb, shown.private(outputs))
            place = f"{shown.study}/{shown.profile}"
            problems += [f"{place}/{said}" for said in read_drawings(shown.folder / "figures")[1]]
        figures, keep = source.parent / "figures", stage.keep(docname, f"figures/{place}")
        nb = chapters.chapter(nb, docname, links, "\n\n".join(box), figures, keep)
        stage.write(f"{docname}.ipynb", chapters.dumps(nb))
    for path in answers:
        docname = links[path.stem].docname
        stage.write(f"{docname}.ipynb", chapters.dumps(chapters.chapter(read_notebook(path), docname, links)))
    return problems


def _source(stem: str) -> Path:
    return shipped("notebooks") / f"{stem}.ipynb"


def _stem(docname: str) -> str:
    return docname.rpartition("/")[2]


def _made_with(stage: Stage, docname: str, shown: Rendering | None, study: str | None, own: list[str]) -> str:
    """Return a box that says what a chapter was rendered with, or that it was not; with its files."""
    if shown is None:
        command = f" `noiseutils run {study}` runs it." if study else ""
        return f":::{{note}}\nThe notebook as it is: it has not been run here.{command}\n:::"
    place, private = f"{shown.study}/{shown.profile}", shown.private(shown.folder.parents[1])
    keep = stage.keep(docname, f"notebooks/{place}")
    content = json.dumps(
        pathless_notebook(read_notebook(shown.notebook), private), ensure_ascii=False, indent=1
    )
    notebook = keep(shown.notebook.name, content.encode())
    files = [f'<a href="{notebook}" download>the executed notebook</a>']
    keep = stage.keep(docname, f"tables/{place}")
    for path in sorted(shown.folder.glob("tables/*.csv")):
        content = pathless(path.read_bytes().decode(errors="replace"), private).encode()
        files.append(f'<a href="{keep(path.name, content)}">{html.escape(path.name)}</a>')
    data = shown.data
    names = found.escaped(", ".join(Path(name).name for name in data))
    said = [f"Rendered with profile **{shown.profile}**{f' on {names}' * bool(names)}, {shown.when[:10]}."]
    if study and set(data) & set(EMBEDDED):
        said.append(f"Embedded images make a {found.MINIATURE}: its numbers decide nothing.")
        real = [f"[{found.escaped(_stem(page))}](/{page}.md)" for page in own]
        said += [f"Measured on real images: {', '.join(real)}."] * bool(real)
    listed = f"<details><summary>Files</summary><p>{' · '.join(files)}</p></details>"
    return f":::{{note}}\n{' '.join(said)}\n\n{listed}\n:::"


def parameter(words: str) -> str:
    """Return a parameter with its default and all that it may be.   words: `<study or noise>.<parameter>`."""
    owner, _, name = words.partition(".")
    spec = STUDIES[owner].Params if owner in STUDIES else getattr(noise, owner)
    default = spec.model_fields[name].get_default()
    allowed = typing.get_args(spec.model_fields[name].annotation)
    others = [f"`{value}`" for value in allowed if isinstance(value, str) and value != default]
    said = ", ".join(map(str, default)) if isinstance(default, tuple) else default
    return f"`{name}`: `{said if said != '' else 'none'}`" + (f"; or {', '.join(others)}" if others else "")


def models() -> str:
    """Return the networks as Markdown, each with the first line of its docstring."""
    rows = [(f"`{name}`", (make.__doc__ or "").strip().splitlines()[0]) for name, make in MODELS.items()]
    return markdown_table(("name", "network"), [(name, found.escaped(said)) for name, said in rows])


def commands(program: typer.Typer) -> str:
    """Return the command line's help as Markdown, a section a command."""
    command = get_command(program)
    context = typer.Context(command, info_name="noiseutils")
    text = get_docs_for_click(obj=command, ctx=context, name="noiseutils")
    text = re.sub(r"\*\*Commands\*\*:\n\n(\* .*\n)+", "", text)  # cut to a few words each
    return re.sub(r"^# .*\n", "", text, count=1)
