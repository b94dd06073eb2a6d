"""Sources of the book for Sphinx: a copy of docs/ with its marks filled, chapters and pages of results.

A mark is a line such as `<!-- noiseutils: found -->` in a page of docs/, which takes what the code knows.
"""

from __future__ import annotations

import html
import json
import re
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import typer
from typer.cli import get_docs_for_click
from typer.main import get_command

from noiseutils import noise
from noiseutils.bench import table as bench_table
from noiseutils.book import chapters, found
from noiseutils.book.drawings import Drawing, drawing_html, read_drawings, words_of
from noiseutils.book.notebooks import pathless, private_paths, read_notebook
from noiseutils.book.tables import frame_html, one_line, read_table, told
from noiseutils.config import EMBEDDED
from noiseutils.errors import UserError
from noiseutils.markdown import markdown_table
from noiseutils.models import MODELS
from noiseutils.provenance import shipped
from noiseutils.studies import STUDIES, evidence
from noiseutils.studies.registry import for_readers

TELLING = ("paper", "cifar10", "overnight", "quick", "smoke")  # profiles, the most telling first
NOT_STUDIES = ("reference", "runs", "book")  # folders of outputs/ with something else in them
MARK = re.compile(r"<!-- noiseutils: (?P<name>\w+)(?: (?!-->)(?P<words>.*?))? -->", re.S)
KINDS = ("claim", "reported", "")  # how names of tables with verdicts begin, in the order of a page


@dataclass(frozen=True)
class Rendering:
    """An executed notebook with its figures and tables, in outputs/<study>/<profile>/."""

    notebook: Path
    parameters: dict[str, Any]
    when: str

    @property
    def folder(self) -> Path:
        """Return the folder of the notebook."""
        return self.notebook.parent

    @property
    def profile(self) -> str:
        """Return the profile's name."""
        return self.folder.name

    @property
    def study(self) -> str:
        """Return the study's name."""
        return self.folder.parent.name

    @property
    def data(self) -> list[str]:
        """Return the sets of images, as they were typed."""
        data = self.parameters.get("data") or []
        return list(map(str, data)) if isinstance(data, list) else [str(data)]

    def private(self, outputs: Path) -> dict[str, str]:
        """Return paths of this machine and what a page says instead."""
        return private_paths(outputs, self.parameters)


@dataclass
class Stage:
    """A copy of docs/ for Sphinx: files are written only where they differ, and strangers are removed."""

    root: Path
    written: set[Path] = field(default_factory=set)

    def write(self, name: str, content: str | bytes) -> None:
        path = self.root / name
        content = content.encode() if isinstance(content, str) else content
        self.written.add(path)
        if not path.is_file() or path.read_bytes() != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    def keep(self, docname: str, place: str) -> Callable[[str, bytes], str]:
        """Return a function that stores a file in a folder of the site: name, content -> URL for a page."""

        def store(name: str, content: bytes) -> str:
            self.write(f"_extra/{place}/{name}", content)
            return "../" * docname.count("/") + f"{place}/{name}"

        return store

    def tidy(self) -> bool:
        """Remove what this stage has not written; tell whether there was anything."""
        strangers = [path for path in self.root.rglob("*") if path.is_file() and path not in self.written]
        for path in strangers:
            path.unlink()
        for folder in sorted((path for path in self.root.rglob("*") if path.is_dir()), reverse=True):
            if not any(folder.iterdir()):
                folder.rmdir()
        return any("__pycache__" not in path.parts for path in strangers)


def renderings(outputs: Path) -> tuple[list[Rendering], list[str]]:
    """Return the executed notebooks below outputs/<study>/<profile>/, and a sentence on each unusable one.

    Of one study, those on real images come first, then the order of TELLING.
    """
    whole, problems = [], []
    for path in sorted(outputs.glob("*/*/*.ipynb")):
        if path.parts[-3] in NOT_STUDIES or path.parts[-3].startswith(".") or ".partial" in path.name:
            continue
        where = path.relative_to(outputs).as_posix()
        if path.stem.endswith(".failed"):
            problems.append(f"{where}: a cell failed; what ran before it is kept there")
            continue
        try:
            papermill = read_notebook(path)["metadata"].get("papermill", {})
            if "end_time" not in papermill:
                raise UserError("was not executed to its end")
            whole.append(Rendering(path, papermill.get("parameters", {}), papermill["end_time"]))
        except UserError as error:
            problems.append(f"{where}: {str(error).removeprefix(f'{path}: ')}")
    order = [*TELLING]

    def key(one: Rendering) -> tuple:
        place = order.index(one.profile) if one.profile in order else -1
        return one.study, bool(set(one.data) & set(EMBEDDED)), place, one.profile

    return sorted(whole, key=key), problems


def stage_all(stage: Stage, outputs: Path, reference: Path, program: typer.Typer) -> list[str]:
    """Write the sources of all pages; return a sentence on each thing that is damaged."""
    rendered, problems = renderings(outputs)
    claims, damaged = found.best_evidence(reference, [one.folder for one in rendered])
    problems += damaged
    sets, damaged = _stage_sets(stage, reference)
    problems += damaged
    problems += _stage_chapters(stage, outputs, rendered, claims, sets)
    speed = _stage_bench(stage, reference)
    fill = {
        "sentence": lambda _: found.in_a_sentence(claims),
        "counts": lambda _: found.counts_table(claims),
        "found": lambda _: found.judged_table(claims),
        "claims": lambda _: found.all_tables(claims),
        "verdicts": lambda _: found.legend(),
        "chapters": lambda _: _toctree("Chapters", _contents(rendered)),
        "results": lambda _: _results(reference, sets, speed),
        "figure": lambda words: _hero(stage, reference, words),
        "commands": lambda _: commands(program),
        "models": lambda _: models(),
        "parameter": parameter,
        "problems": lambda _: _problems(problems),
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
    stage.write("how-to/README.md", f"{text}\n{_toctree('', guides)}")
    return problems


def _results(reference: Path, sets: list[str], speed: str) -> str:
    """Return the table of committed results as Markdown, and a link to the benchmarks."""
    rows = []
    for row in evidence.rows_of(evidence.committed(reference)):
        page = f"results/{row['study']}/{row['set']}"
        name = f"{evidence.paper_name(row['study'])}: {row['set']}"
        values = [
            found.escaped(str(row[key])) for key in ("images", "networks", "epochs", "width", "seeds", "runs")
        ]
        rows.append([f"[{name}]({page}.md)" if page in sets else name, *values, f"{row['hours']:.1f}"])
    heads = ("results", "images", "networks", "epochs", "width", "seeds", "runs", "hours of training")
    return markdown_table(heads, rows) + (f"\n\n{_toctree('', [speed], hidden=False)}" if speed else "")


def _toctree(caption: str, pages: Iterable[str], hidden: bool = True) -> str:
    options = [":hidden:"] * hidden + [f":caption: {caption}"] * bool(caption) + [":maxdepth: 1"]
    return "\n".join(["```{toctree}", *options, "", *pages, "```"])


def _problems(problems: list[str]) -> str:
    if not problems:
        return ""
    return (
        ":::{warning}\nLeft out, as damaged:\n\n"
        + "\n".join(f"- {found.escaped(p)}" for p in problems)
        + "\n:::"
    )


def _hero(stage: Stage, reference: Path, words: str) -> str:
    """Return a committed figure of the first page.   words: `<study>/<set>/<figure>: alternative text`."""
    place, _, alt = words.partition(": ")
    folder, _, name = place.rpartition("/")
    drawing = next((d for d in read_drawings(reference / folder / "figures")[0] if d.name == name), None)
    if drawing is None:  # an installed package brings no committed results
        return ""
    url = _keep_drawing(stage, drawing, "index", f"figures/reference/{folder}")
    return drawing_html(drawing, one_line(alt), url)


def _keep_drawing(stage: Stage, drawing: Drawing, docname: str, place: str) -> str:
    keep = stage.keep(docname, place)
    urls = [keep(file.name, file.read_bytes()) for file in filter(None, (drawing.png, drawing.svg))]
    return urls[0].rpartition("/")[0]


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
        if study:
            title = "**What was found of the paper's claims** ([all claims](/claims.md))"
            box += [title, found.box(claims, study)]
        if _stem(docname) == source.stem:  # the chapter that the contents name
            below = [*own, *(page for page in pages if page.startswith(f"{docname}-"))]
            below += [page for page in sources if page == f"chapters/solutions/{source.stem}_solutions"]
            box += [_toctree("", [f"/{page}" for page in below])] * bool(below)
        nb, place = read_notebook(source), ""
        if shown:
            private = {json.dumps(path)[1:-1]: said for path, said in shown.private(outputs).items()}
            nb = json.loads(pathless(json.dumps(nb, ensure_ascii=False), private))
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
    notebook = keep(shown.notebook.name, pathless(shown.notebook.read_text("utf-8"), private).encode())
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


def _stage_sets(stage: Stage, reference: Path) -> tuple[list[str], list[str]]:
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
            stage.write(f"{docname}.md", text + _problems(damaged))
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
    parts = [f"# {evidence.paper_name(study)} on {found.escaped(name)}", f"{authors}, *{title}*."]
    if facts:
        said = {key: found.escaped(str(value)) for key, value in facts.items()}
        parts.append(
            f"Images: {said['images']}. Networks: {said['networks']}, width {said['width']}. "
            f"{said['epochs']} epochs, {said['seeds']} seeds, {said['runs']} runs, {facts['hours']:.1f} hours"
            f" of training. Commit: {', '.join(told(tables.values(), 'commit', ' '))}; "
            f"{', '.join(told(tables.values(), 'device', ';'))}."
        )
    parts += ["## Figures"] * bool(drawings)
    for drawing in drawings:
        words, about = words_of(drawing), f"{drawing.title}, {evidence.paper_name(study)} on {name}."
        alt = f"{about} In the figure: {words}." if words else about
        url = _keep_drawing(stage, drawing, docname, f"figures/reference/{study}/{name}")
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
            if set(frame.columns) >= found.NEEDED:
                frame = for_readers(frame)
            parts += [
                f"### {found.escaped(table.replace('_', ' ').capitalize())}",
                frame_html(frame, captions.get(table) or f"Table {table}."),
                f'<p><a href="{file}">{html.escape(table)}.csv</a></p>',
            ]
    return "\n\n".join(parts) + "\n"


def captions_of(study: str) -> dict[str, str]:
    """Return captions by the names of tables, from the calls of `output.table` in the study's notebook."""
    path = shipped("notebooks") / f"{STUDIES[study].notebook}.ipynb"
    cells = read_notebook(path)["cells"] if path.is_file() else []
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    return dict(re.findall(r'\.table\([^"]*?,\s*"(\w+)",\s*"([^"\\]*)"', text))


def _stage_bench(stage: Stage, reference: Path) -> str:
    """Write the page of the committed benchmarks; return its docname, or nothing."""
    parts = ["# Speed"]
    for file in sorted((reference / "bench").glob("*.json")):
        title = file.stem.replace("-", " ").replace("cpu", "CPU").replace("gpu", "GPU")
        parts += [f"## {title[0].upper()}{title[1:]}", bench_table.render(file)]
        for drawing in read_drawings(file.parent)[0]:
            if drawing.name.startswith(file.stem):
                url = _keep_drawing(stage, drawing, "results/speed", "figures/reference/bench")
                parts.append(
                    drawing_html(drawing, f"{drawing.title}. In the figure: {words_of(drawing)}.", url)
                )
    if len(parts) == 1:
        return ""
    stage.write("results/speed.md", "\n\n".join(parts) + "\n")
    return "results/speed"


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
