"""The site of results: whole, free of this machine's paths, and plain about what is damaged or missing."""

import itertools
import json
import re
import shutil
from pathlib import Path
from urllib.parse import unquote

import pandas as pd
import pytest
from PIL import Image

from noiseutils import cli
from noiseutils.book import pipeline
from noiseutils.book.report import build, verdicts
from noiseutils.book.report.sets import missing, paper
from noiseutils.errors import UserError
from noiseutils.provenance import CHECKOUT
from noiseutils.studies import STUDIES, start_here
from noiseutils.studies.adaptive_noise.claims import NO_GAP

pytestmark = pytest.mark.slow

bs4 = pytest.importorskip("bs4", reason="needs the notebooks extra")

INFO = {
    "device": "CPU, 2 threads",
    "seconds": 90.0,
    "data": {"label": "mnist", "train": 1000, "test": 100, "fingerprint": "f"},
    "versions": {"commit": "abc123abc123", "platform": "Linux x86_64", "torch": "2.13.0"},
}


@pytest.fixture
def outputs(rendered_outputs, tmp_path):
    return Path(shutil.copytree(rendered_outputs, tmp_path / "outputs"))


@pytest.fixture
def reference(tmp_path, rendered_outputs):
    """Committed results of one study: a figure, two tables, two runs."""
    folder = tmp_path / "reference" / "adversarial_noise_layer" / "mnist"
    shutil.copytree(rendered_outputs / "noisy_dropout" / "quick" / "figures", folder / "figures")
    (folder / "tables").mkdir()
    told = {"data": "mnist", "commit": "abc123abc123", "device": "CPU, 2 threads"}
    reported = {"value": [9.4, 8.9], "ours": [15.1, 8.8], "low": [14.9, 8.7], "high": [15.4, 8.9]}
    judged = pd.DataFrame(reported | {"verdict": ["ours is higher", "agrees"]}).assign(**told)
    judged.to_csv(folder / "tables" / "reported_table2.csv", index=False)
    pd.DataFrame({"top1_error": [0.1]}).assign(**told).to_csv(folder / "tables" / "table_2.csv", index=False)
    for seed, day in enumerate(("01", "03")):
        run = folder / "runs" / f"key{seed}" / "run.json"
        run.parent.mkdir(parents=True)
        run.write_text(json.dumps({"info": INFO | {"finished": f"2026-02-{day}T10:00:00Z"}}))
    return tmp_path / "reference"


def soup(path: Path):
    return bs4.BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


def text(path: Path) -> str:
    return " ".join(soup(path).get_text(" ").split())


def pages(outputs: Path) -> list[Path]:
    return sorted((outputs / "report").rglob("*.html"))


def test_index_says_study_profile_data_verdicts_runs_when_and_where(outputs, reference):
    built = build(outputs, reference)
    said = text(built.index)
    assert built == type(built)(outputs / "report" / "index.html", 3, [])
    for words in (
        "Oboa Franck & Mao, Examining Input Noise Injection During Dropout for Robust CIFAR Dataset",
        "Claims of the paper, 4 in all ✓ 1 held ✗ 1 the opposite ○ 1 not shown – 1 not run",
        "shapes, embedded",
        "Numbers that the paper reports, 2 in all ✓ 1 agrees ✗ 1 ours is higher",
        "mnist (1,000 training images)",
        "2, 3 min of training and evaluation in all",
        "2026-02-01 10:00 to 2026-02-03 10:00 UTC",
        "CPU, 2 threads (Linux x86_64, torch 2.13.0)",
        "abc123abc123",
    ):
        assert words in said


def test_every_link_leads_to_something_in_the_report(outputs, reference):
    build(outputs, reference)
    for page in pages(outputs):
        tree = soup(page)
        for tag in tree.find_all(["a", "img", "link", "script"]):
            address = str(tag.get("href") or tag.get("src") or "#content")
            file, _, anchor = unquote(address).partition("#")
            assert not re.match(r"[a-z]+:|/", file), address
            target = (page.parent / file).resolve() if file else page
            assert target.is_file(), address
            assert target.is_relative_to(outputs / "report")
            if anchor:
                assert soup(target).find(id=anchor), address


def test_pages_are_semantic(outputs, reference):
    build(outputs, reference)
    for page in pages(outputs):
        tree = soup(page)
        assert tree.html["lang"] == "en"
        assert len(tree("h1")) == len(tree("main")) == 1
        levels = [int(tag.name[1]) for tag in tree(re.compile(r"^h[1-6]$"))]
        assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
        ids = [tag["id"] for tag in tree(id=True)]
        assert len(ids) == len(set(ids))
        assert tree.select_one("a.skip")["href"] == "#content"


def test_no_page_names_a_path_of_this_machine(outputs, reference, tmp_path):
    build(outputs, reference)
    for path in (outputs / "report").rglob("*"):
        if path.suffix in (".html", ".ipynb", ".csv"):
            said = path.read_text(encoding="utf-8")
            for private in ("/secret", str(tmp_path), str(Path.home()), str(CHECKOUT)):
                assert f"{private}/" not in said, path
    page = text(outputs / "report" / "noisy_dropout" / "quick" / "01_noisy_dropout.html")
    assert "images from ./cifar10-jpeg" in page


def test_figures_come_from_svg_with_their_place_held_and_their_words(outputs, reference):
    build(outputs, reference)
    page = outputs / "report" / "noisy_dropout" / "quick" / "01_noisy_dropout.html"
    (image,) = soup(page).select("img")
    assert image["src"] == image.parent["href"] == "figures/figure_01_line.svg"
    assert image["alt"] == "A line that falls & rises. Data: shapes, embedded."
    assert image["loading"] == "lazy"
    with Image.open(page.parent / "figures" / "figure_01_line.png") as drawn:
        pixels = drawn.size
    shown = int(image["width"]), int(image["height"])
    assert shown[0] / shown[1] == pytest.approx(pixels[0] / pixels[1], rel=0.01)
    (image,) = soup(
        outputs / "report" / "reference" / "adversarial_noise_layer" / "mnist" / "index.html"
    ).select("img")
    assert (
        "Figure 1: line, adversarial_noise_layer on mnist. In the figure: epoch, A line that falls"
        in image["alt"]
    )


def test_large_svg_gives_way_to_a_png_of_two_pixels_a_pixel(outputs, reference):
    figure = outputs / "noisy_dropout" / "quick" / "figures" / "figure_01_line.svg"
    figure.write_text(figure.read_text().replace("</svg>", f"<!-- {'x' * 600_000} --></svg>"))
    build(outputs, reference)
    (image,) = soup(outputs / "report" / "noisy_dropout" / "quick" / "01_noisy_dropout.html").select("img")
    assert image["src"] == "figures/figure_01_line.png"
    with Image.open(figure.with_suffix(".png")) as drawn:
        assert 2 * int(image["width"]) <= drawn.width


def test_tables_are_sortable_and_their_captions_stand_outside(outputs, reference):
    build(outputs, reference)
    page = soup(outputs / "report" / "noisy_dropout" / "quick" / "01_noisy_dropout.html")
    (table,) = page.select("table.sortable")
    assert table.caption is None
    assert table.find_parent("div")["aria-labelledby"] == table.find_parent("figure").figcaption["id"]
    assert all(head["scope"] == "col" for head in table.thead("th"))
    heads = [head.get_text() for head in table.thead("th")]
    assert heads == ["claim", "verdict", "difference"]  # in sight on a phone, too
    badges = table.select("tr > :nth-child(2) .verdict")
    assert [badge["class"][1] for badge in badges] == ["agrees", "open", "differs", "none"]


def test_damaged_files_are_named_and_stop_nothing_else(outputs, reference):
    folder = reference / "adversarial_noise_layer" / "mnist"
    torn = folder / "tables" / "reported_table2.csv"
    torn.write_bytes(torn.read_bytes()[:-9])
    (folder / "tables" / "empty.csv").write_bytes(b"")
    (folder / "tables" / "binary.csv").write_bytes(b"\xff\xfe\n")
    figure = folder / "figures" / "figure_01_line.png"
    figure.write_bytes(figure.read_bytes()[:200])
    (folder / "runs" / "key1" / "run.json").write_text("{")
    bad = outputs / "adaptive_noise" / "quick"
    bad.mkdir(parents=True)
    (bad / "02_adaptive_noise.ipynb").write_text("{")
    (bad / "02_adaptive_noise.failed.ipynb").write_text("{}")
    built = build(outputs, reference)
    named = "\n".join(built.problems)
    for words in (
        "adaptive_noise/quick/02_adaptive_noise.ipynb: is not a notebook, or is cut off",
        "adaptive_noise/quick/02_adaptive_noise.failed.ipynb: a cell failed",
        "reference/adversarial_noise_layer/mnist/tables/reported_table2.csv: is cut off",
        "mnist/tables/empty.csv: is cut off",
        "mnist/tables/binary.csv: is not a table",
        "mnist/figures/figure_01_line.png: is damaged",
        "mnist/runs/key1…/run.json: cannot be read",
    ):
        assert words in named
    assert "tables/reported_table2.csv: is cut off" in text(
        outputs / "report" / "reference" / "adversarial_noise_layer" / "mnist" / "index.html"
    )
    assert "cut off: not valid JSON" in text(built.index)
    assert str(outputs) not in built.index.read_text()
    assert built.pages == 3


def test_notebook_that_did_not_run_to_its_end_is_no_rendering(outputs, reference):
    path = outputs / "noisy_dropout" / "quick" / "01_noisy_dropout.ipynb"
    nb = json.loads(path.read_text())
    del nb["metadata"]["papermill"]["end_time"]
    path.write_text(json.dumps(nb))
    built = build(outputs, reference)
    assert built.problems == ["noisy_dropout/quick/01_noisy_dropout.ipynb: was not executed to its end"]
    assert not (outputs / "report" / "noisy_dropout").exists()


def test_second_build_is_the_same_and_what_is_gone_goes(outputs, reference):
    def files() -> dict[Path, bytes]:
        return {p: p.read_bytes() for p in (outputs / "report").rglob("*") if p.is_file()}

    build(outputs, reference)
    first = files()
    (outputs / "report.partial1").mkdir()  # of a process that was killed
    build(outputs, reference)
    assert files() == first
    shutil.rmtree(outputs / "noisy_dropout")
    build(outputs, reference)
    assert not (outputs / "report" / "noisy_dropout").exists()
    assert [path.name for path in outputs.glob("report*")] == ["report"]


def test_a_site_that_had_stepped_aside_for_a_killed_build_comes_back(outputs, reference, monkeypatch):
    before = build(outputs, reference).index.read_bytes()
    (outputs / "report").rename(outputs / "report.partial1.old")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("noiseutils.book.report.index_html", fail)
    with pytest.raises(UserError):
        build(outputs, reference)
    assert (outputs / "report" / "index.html").read_bytes() == before


def test_failure_leaves_the_earlier_site(outputs, reference, monkeypatch):
    before = build(outputs, reference).index.read_bytes()

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("noiseutils.book.report.index_html", fail)
    with pytest.raises(
        UserError, match=r"report: cannot be written: No space left on device; .*NOISEUTILS_OUTPUTS"
    ):
        build(outputs, reference)
    assert (outputs / "report" / "index.html").read_bytes() == before
    assert [path.name for path in outputs.glob("report*")] == ["report"]


def test_nothing_to_report_is_an_error_that_says_what_to_do(tmp_path):
    with pytest.raises(
        UserError, match=r"(?s)nothing to report: no rendered notebook in .*noiseutils run STUDY"
    ):
        build(tmp_path / "outputs", tmp_path / "reference")
    assert not (tmp_path / "outputs" / "report").exists()


def test_committed_results_that_were_rendered_here_are_shown_once(outputs, reference):
    twin = reference / "noisy_dropout" / "quick"
    shutil.copytree(
        outputs / "noisy_dropout" / "quick", twin, ignore=shutil.ignore_patterns("*.ipynb", "*.html")
    )
    build(outputs, reference)
    assert not (outputs / "report" / "reference" / "noisy_dropout").exists()
    table = twin / "tables" / "claims.csv"
    table.write_text(table.read_text().replace("held", "not shown"))
    build(outputs, reference)
    assert (outputs / "report" / "reference" / "noisy_dropout" / "quick" / "index.html").is_file()


def test_missing_profiles_have_their_command(outputs, reference):
    rows = {(row.study, row.profile): row for row in missing([])}
    assert set(rows) == {(path.parts[-2], path.stem) for path in (CHECKOUT / "params").glob("*/*.yaml")}
    row = rows["noisy_dropout", "quick"]
    assert row.command == "noiseutils run noisy_dropout --profile quick"
    assert row.why.startswith("NoisyDropout, Figures 1-11")
    assert "noiseutils" not in row.why
    said = text(build(outputs, reference).index)
    assert "noiseutils run noisy_dropout --profile paper" in said
    assert row.command not in said  # it is rendered


@pytest.mark.parametrize("study", STUDIES)
def test_every_study_names_its_paper(study):
    authors, title = paper(study)
    assert authors
    assert title
    assert "*" not in title


def test_every_verdict_in_the_committed_tables_is_known():
    words = set()
    for path in (CHECKOUT / "outputs" / "reference").glob("*/*/tables/*.csv"):
        table = pd.read_csv(path)
        words |= set(table["verdict"].dropna() if "verdict" in table else ())
    assert words
    assert words | {NO_GAP} <= verdicts.WORDS.keys()


def test_claims_reported_numbers_and_the_rest_are_counted_apart():
    tables = {
        "claims_all": pd.DataFrame({"verdict": ["held", "held", None]}),
        "claim_similarity": pd.DataFrame({"verdict": ["not shown"]}),
        "reported": pd.DataFrame({"verdict": ["ours is lower"]}),
        "attacks_survival": pd.DataFrame({"verdict": ["sturdier"]}),
        "grid": pd.DataFrame({"top1_error": [0.1]}),
    }
    assert verdicts.count(tables) == {
        "claim": {"held": 2, "not shown": 1},
        "reported": {"ours is lower": 1},
        "": {"sturdier": 1},
    }
    assert verdicts.outcome_of("never heard of") == verdicts.OTHER


def test_bench_results_have_a_page(outputs, tmp_path):
    built = build(outputs, CHECKOUT / "outputs" / "reference")
    page = outputs / "report" / "reference" / "bench" / "two-cpu-cores.html"
    assert "epoch of babycnn, plain / ours" in text(page)
    assert soup(page).select("table.sortable")
    assert "reference/bench/two-cpu-cores.html" in built.index.read_text()


def test_command_says_where_the_site_is(outputs, monkeypatch, capsys):
    monkeypatch.setenv("NOISEUTILS_OUTPUTS", str(outputs))
    monkeypatch.setattr("sys.argv", ["noiseutils", "report"])

    def broken():
        raise UserError(f"cell [3] failed\nIts state is kept in {outputs}/x.failed.ipynb")

    monkeypatch.setattr("noiseutils.book.report.render_start_here", broken)
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert not end.value.code
    said = capsys.readouterr()
    assert f"Open {outputs / 'report' / 'index.html'} in a browser." in said.out
    assert "start_here: cell [3] failed" in said.err
    page = text(outputs / "report" / "index.html")
    assert "start_here: cell [3] failed Its state is kept in outputs/x.failed.ipynb" in page


def test_outputs_that_cannot_be_written_are_a_clear_error(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NOISEUTILS_OUTPUTS", str(tmp_path / "file" / "outputs"))
    monkeypatch.setattr("sys.argv", ["noiseutils", "report"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert f"{tmp_path / 'file' / 'outputs' / 'report'}: cannot be written: Not a directory" in said
    assert "NOISEUTILS_OUTPUTS" in said


def test_start_page_is_rendered_once(outputs, monkeypatch):
    monkeypatch.setenv("NOISEUTILS_OUTPUTS", str(outputs))
    asked = []

    def render(notebook, folder, values, mark):
        asked.append((notebook.stem, folder, values))

    monkeypatch.setattr(pipeline, "render", render)
    pipeline.render_start_here()
    assert asked == [(start_here.NOTEBOOK, outputs / "start_here" / "quick", {})]
    monkeypatch.setattr(pipeline, "current", lambda *_: True)
    _, already = pipeline.render_start_here()
    assert already
    assert len(asked) == 1
