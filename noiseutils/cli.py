"""Run the command line `noiseutils …`: turn arguments into calls and print the results."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from noiseutils.cli_exits import resumable, run_to_end
from noiseutils.cli_options import Address, Changes, Cpus, Executor, Gpus, Profile, Study, Workers, up_to
from noiseutils.errors import UserError, one_of
from noiseutils.files import writing
from noiseutils.provenance import versions
from noiseutils.spec import LARGEST_SIDE
from noiseutils.training.distributed import is_main_process, launched, on_rank0

if TYPE_CHECKING:
    from noiseutils.sweeps.sweep import Sweep

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Noise in CNN training: replicate the studies of four papers.",
)
data_app = typer.Typer(no_args_is_help=True, help="List, check and fetch data sets.")
app.add_typer(data_app, name="data")


def _say_versions(asked: bool) -> None:
    if asked:
        typer.echo("; ".join(f"{name} {version}" for name, version in versions().items() if version))
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_say_versions,
            is_eager=True,
            help="print the versions that results depend on",
        ),
    ] = False,
) -> None:
    pass


@app.command()
def run(
    study: Annotated[str, typer.Argument(help="study, such as noisy_dropout, or all")],
    profile: Profile = "quick",
    changes: Changes = None,
    executor: Executor = "auto",
    workers: Workers = None,
) -> None:
    """Train all missing runs, then render the study's notebook: figures, tables, HTML."""
    from noiseutils.book import pipeline
    from noiseutils.book.extras import require_docs
    from noiseutils.studies import profiles

    if launched():
        raise UserError("torchrun is for `noiseutils sweep`; then `noiseutils run`, without it, renders")
    names = pipeline.everything(profile, changes or ()) if study == "all" else [study]
    wanted = [profiles.study_params(name, profile, changes or ()) for name in names]
    pipeline.require_notebooks()
    if study == "all":
        require_docs()  # the book comes last
    failed, begun = False, time.monotonic()
    for count, params in enumerate(wanted):
        started = time.monotonic()
        if len(wanted) > 1:
            left = _left(begun, count, len(wanted))
            typer.echo(f"{params.study}, study {count + 1} of {len(wanted)}{left}")
        with resumable():
            done = pipeline.sweep_study(params, executor, workers)
            failed |= _say_failures(done)
            rendered, already = pipeline.render_study(params)
        spent = (
            f"up to date ({time.monotonic() - started:.0f} s)"
            if already
            else f"{time.monotonic() - started:.0f} s"
        )
        typer.echo(f"{params.study}, {params.profile}: {len(done.results)} of {len(done.runs)} runs, {spent}")
        typer.echo(f"  notebook  {_near(rendered.notebook)}\n  page      {_near(rendered.html)}")
        for folder in (rendered.html.parent / name for name in ("figures", "tables")):
            if folder.is_dir():
                typer.echo(f"  {folder.name:<9} {_near(folder)}/")
    if study == "all":
        with resumable():
            pipeline.render_start_here()
            _build_book()
    else:
        typer.echo("The book has a chapter of it: noiseutils book")
    raise typer.Exit(1 if failed else 0)


@app.command()
def sweep(
    study: Study,
    profile: Profile = "quick",
    changes: Changes = None,
    budget: Annotated[
        str | None, typer.Option(help="time limit, such as 90s, 9m, 1.5h; the sweep ends cleanly before")
    ] = None,
    executor: Executor = "auto",
    workers: Workers = None,
    address: Address = None,
    cpus: Cpus = None,
    gpus: Gpus = None,
) -> None:
    """Train all missing runs, without rendering; needs no Jupyter.

    Under torchrun all processes train each run together, each process on its own GPU.
    """
    from noiseutils.book import pipeline
    from noiseutils.studies import profiles

    limit = None if budget is None else profiles.seconds(budget)
    params = profiles.study_params(study, profile, changes or ())
    cluster = pipeline.cluster_of(address, cpus, gpus)
    with resumable():
        done = pipeline.sweep_study(params, executor, workers, limit, cluster)
    missing = on_rank0(lambda: len(done.missing))
    if is_main_process():
        _say_failures(done)
        stored = f"{len(done.runs) - missing} of {len(done.runs)} runs stored"
        typer.echo(f"{study}, {params.profile}: {stored}; {_end_of(done, missing)}.")
    raise typer.Exit(1 if missing and not done.out_of_time else 0)


@app.command()
def status(study: Study, profile: Profile = "quick", changes: Changes = None) -> None:
    """Count the runs that are finished, missing, failed or interrupted."""
    from noiseutils.book import pipeline
    from noiseutils.studies import profiles

    counts, failures = pipeline.status_of(profiles.study_params(study, profile, changes or ()))
    typer.echo(f"{study}, {profile}: {sum(counts.values())} runs")
    for state in ("finished", "diverged", "interrupted", "failed", "missing"):
        typer.echo(f"  {state:<12} {counts[state]}")
    for name, sentence in failures.items():
        typer.echo(f"  failed: {name}: {sentence}")


@app.command()
def publish(
    study: Study,
    profile: Profile = "quick",
    changes: Changes = None,
    finished: Annotated[
        bool, typer.Option("--finished", help="first render the finished runs, without training")
    ] = False,
) -> None:
    """Copy a rendered study's results, figures and tables to outputs/reference/, to be committed."""
    from noiseutils.book import pipeline
    from noiseutils.studies import profiles

    params = profiles.study_params(study, profile, changes or ())
    if finished:
        pipeline.render_study(params, train=False)
    typer.echo(_near(pipeline.publish(params)))


@app.command()
def claims(
    study: Annotated[str | None, typer.Argument(help="study; default: all studies")] = None,
    csv: Annotated[
        Path | None, typer.Option(metavar="FILE", help="also write the whole table to this file")
    ] = None,
    controls: Annotated[
        bool, typer.Option("--controls", help="list other readings and controls instead of the claims")
    ] = False,
    readme: Annotated[
        bool,
        typer.Option("--readme", help="regenerate the results in README.md and outputs/reference/README.md"),
    ] = False,
) -> None:
    """List every claim of the papers with its best evidence among the committed results."""
    from noiseutils.markdown import write_between_marks
    from noiseutils.provenance import reference_root
    from noiseutils.studies import STUDIES, evidence, findings

    if readme:
        write_between_marks(Path("README.md"), "in short", findings.first_words())
        write_between_marks(Path("README.md"), "claims", findings.in_readme())
        listed = reference_root() / findings.LISTED
        with writing(listed):
            listed.write_text(findings.page(), encoding="utf-8")
        typer.echo(f"README.md and {_near(listed)} have the verdicts of outputs/reference")
        return
    if study is not None and study not in STUDIES:
        raise one_of("study", study, STUDIES)
    if study is not None and not STUDIES[study].claims:
        typer.echo(f"{study} belongs to no paper, so it has no claims; see the results in its notebook")
        return
    if not any(reference_root().glob("*/*/params.yaml")):
        typer.echo(
            f"no committed results in {_near(reference_root())}, so no claim is judged: they come with the "
            "project's checkout, or from `noiseutils publish`",
            err=True,
        )
    asked = [study] if study else list(STUDIES)
    shown = evidence.evidence(asked)
    for line in evidence.lines(shown, controls):
        typer.echo(line)
    typer.echo("")
    typer.echo(evidence.summary(shown).to_string(index=False))
    numbers = evidence.printed(asked)
    if len(numbers):
        typer.echo("")
        typer.echo(numbers.to_string(index=False))
    if csv is not None:
        with writing(csv):
            shown.to_csv(csv, index=False)


@app.command(hidden=True)
def report() -> None:
    """Name the command that replaced this one."""
    raise UserError("`noiseutils report` is now `noiseutils book`: one site, outputs/book/index.html")


@app.command()
def book() -> None:
    """Build the book in outputs/book/: results, chapters, how-to guides, the API."""
    with resumable():
        _build_book()


def _build_book() -> None:
    from noiseutils.book import site

    started = time.monotonic()
    built = site.book(app, lambda stage: typer.echo(f"book: {stage}"))
    for problem in built.problems:
        typer.echo(f"  left out: {problem}", err=True)
    spent = "up to date" if built.already else f"{time.monotonic() - started:.0f} s"
    typer.echo(f"book: {built.pages} pages, {spent}. Open {_near(built.index)} in a browser.")


def _left(begun: float, done: int, count: int) -> str:
    """Return the estimated time for the remaining studies, from the mean of the finished ones."""
    if not done:
        return ""
    seconds = (time.monotonic() - begun) / done * (count - done)
    return f"; about {seconds / 60:.0f} min left" if seconds >= 90 else f"; about {seconds:.0f} s left"


@app.command()
def bench(
    names: Annotated[
        list[str] | None, typer.Argument(help="benchmarks; default: all that can run here")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="also write the measurements to this file")] = None,
    readme: Annotated[
        Path | None,
        typer.Option(metavar="JSON", help="measure nothing; rewrite README.md's tables from this file"),
    ] = None,
    figure: Annotated[
        Path | None,
        typer.Option(metavar="JSON", help="measure nothing; draw the networks' epochs next to this file"),
    ] = None,
) -> None:
    """Measure ratios of medians, interleaved on this machine, and compare every network with its roofline."""
    from noiseutils.bench import figure as figures
    from noiseutils.bench import report, table

    if readme is None and figure is None:
        report.report(names or (), json, typer.echo)
        return
    if names or json:
        raise UserError("--readme and --figure measure nothing: leave the benchmarks and --json out")
    if readme is not None:
        table.rewrite(Path("README.md"), readme)
        typer.echo(f"README.md has the tables of {readme}")
    if figure is not None:
        for path in figures.draw(figure):
            typer.echo(_near(path))


@data_app.command("list")
def data_list() -> None:
    """List the data sets by name, with the place where each is expected and whether it is there."""
    from noiseutils.data import availability

    typer.echo(availability.overview())


@data_app.command("check")
def data_check(name: Annotated[str, typer.Argument(help="name from `data list`, or a folder")]) -> None:
    """Check that a data set is complete; if not, say what is missing and exit with code 2."""
    from noiseutils.config import Data
    from noiseutils.data import availability

    typer.echo(availability.check(Data.parse(name)))


@data_app.command("make")
def data_make(
    name: Annotated[str, typer.Argument(help="name from `data list`, or a folder")],
    image_size: Annotated[
        int | None,
        typer.Option(
            parser=up_to(LARGEST_SIDE), metavar="N", help="pixels a side, for images of different sizes"
        ),
    ] = None,
) -> None:
    """Download a data set, or decode a folder of images."""
    from noiseutils.config import Data
    from noiseutils.data import availability

    typer.echo(availability.fetch(Data.parse(name, image_size=image_size)))


def _end_of(done: Sweep, missing: int) -> str:
    """Return how a sweep ended: done, or what is not stored and why."""
    if done.out_of_time:
        return "the budget is used up, the same command resumes"
    failed = min(len(done.failed), missing)
    counts = {"failed": failed, "missing": missing - failed}
    return ", ".join(f"{count} {state}" for state, count in counts.items() if count > 0) or "done"


def _say_failures(done: Sweep) -> bool:
    for run in done.runs:
        if trace := done.failed.get(run.key):
            typer.echo(f"failed: {run}\n{trace.rstrip()}", err=True)
    return bool(done.failed)


def _near(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def main() -> None:
    """Run the command line; bad input is one screen on standard error and exit code 2."""
    run_to_end(app)
