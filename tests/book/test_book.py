"""The book: whole, free of this machine's paths, plain about what is damaged; no name comes alive in it."""

import json
import re
import shutil
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pandas as pd
import pytest
import yaml
from PIL import Image

from noiseutils.book import chapters, found, site, staging
from noiseutils.book.site import broken_links, build
from noiseutils.book.tables import frame_html, in_boxes
from noiseutils.cli import app
from noiseutils.errors import UserError
from noiseutils.provenance import CHECKOUT
from noiseutils.studies import STUDIES, evidence, findings

pytestmark = pytest.mark.slow

bs4 = pytest.importorskip("bs4", reason="needs the notebooks extra")
pytest.importorskip("sphinx_book_theme", reason="needs the docs extra")

NASTY = "<img src=x onerror=alert(1)>"  # the name of a class in `committed`


@pytest.fixture
def outputs(rendered_outputs, tmp_path) -> Path:
    return Path(shutil.copytree(rendered_outputs, tmp_path / "outputs"))


@pytest.fixture(scope="session")
def pages(book_site) -> dict:
    folder = book_site.index.parent
    return {
        path.relative_to(folder).with_suffix("").as_posix(): bs4.BeautifulSoup(
            path.read_text(), "html.parser"
        )
        for path in folder.rglob("*.html")
        if "_static" not in path.parts
    }


@pytest.fixture
def small_docs(tmp_path, monkeypatch):
    """A book of few pages, built in seconds: two chapters, no API."""
    docs, notebooks = tmp_path / "shipped" / "docs", tmp_path / "shipped" / "notebooks"
    for name in ("_ext", "_static"):
        shutil.copytree(CHECKOUT / "docs" / name, docs / name)
    shutil.copy(CHECKOUT / "docs" / "conf.py", docs)
    (docs / "how-to").mkdir()
    notebooks.mkdir()
    (docs / "how-to" / "README.md").write_text("# How to")
    contents = "```{toctree}\nhow-to/README\n```"
    (docs / "index.md").write_text(
        f"# Small\n\n<!-- noiseutils: problems -->\n\n<!-- noiseutils: chapters -->\n\n{contents}\n"
    )
    for name in ("01_noisy_dropout", "03_adversarial_noise_layer"):
        shutil.copy(CHECKOUT / "notebooks" / f"{name}.ipynb", notebooks)
    (docs / "claims.md").write_text("---\norphan: true\n---\n# Claims")
    for module in (site, staging):
        monkeypatch.setattr(module, "shipped", lambda name: tmp_path / "shipped" / name)


def text(page) -> str:
    return " ".join(page.find("article").get_text(" ").split())


def test_first_page_says_what_was_found_and_three_ways_in(pages, committed):
    said = text(pages["index"])
    counts = evidence.summary(evidence.evidence(reference=committed)).iloc[-1]
    assert f"Of all {counts['claims']} claims, {counts['judged']} have a verdict" in said
    assert f"six seeds or more: {counts['replicated']} replicated, {counts['held']} held" in said
    table = next(t for t in pages["index"]("table") if t.find(string="measured: effect [95 % interval]"))
    heads = ["claim", "verdict", "measured: effect [95 % interval]", "trained on"]
    assert [head.get_text() for head in table("th")] == heads
    assert len(table.tbody("tr")) == sum(len(study.main) for study in STUDIES.values())
    assert all(way in said for way in ("See it.", "Use it.", "Repeat it."))


def test_every_paper_and_every_notebook_is_a_chapter(pages):
    for source in (CHECKOUT / "notebooks").rglob("*.ipynb"):
        place = "chapters/solutions" if source.parent.name == "solutions" else "chapters"
        assert f"{place}/{source.stem}" in pages
    contents = pages["index"].find(class_="bd-sidebar-primary")
    for study in STUDIES.values():
        assert contents.find("a", href=f"chapters/{study.notebook}.html")


def test_chapter_opens_with_the_claims_and_says_what_it_was_rendered_with(pages):
    said = text(pages["chapters/01_noisy_dropout"])
    assert said.index("Rendered with profile quick on cifar10-jpeg") < said.index(
        "noise raises the top-1 error"
    )
    said = text(pages["chapters/03_adversarial_noise_layer"])
    assert "it has not been run here. noiseutils run adversarial_noise_layer runs it." in said
    assert "replicated" in said


def test_committed_results_have_a_page_with_verdicts_figures_and_files(pages, book_site):
    page = pages["results/adversarial_noise_layer/mnist"]
    assert "Images: mnist (60,000). Networks: lenet5" in text(page)
    assert page.find(class_="verdict agrees")
    images = page.select("a.drawing img")
    assert images
    assert all(image["alt"].strip() and image["src"].endswith((".svg", ".png")) for image in images)
    assert all(int(image["width"]) and int(image["height"]) for image in images)
    assert (book_site.index.parent / "tables/reference/adversarial_noise_layer/mnist/claims.csv").is_file()


def test_no_link_leads_nowhere_and_nothing_comes_from_elsewhere(book_site, pages):
    assert list(broken_links(book_site.index.parent)) == []
    for name, page in pages.items():
        for tag in page(["script", "img", "link", "source", "iframe"]):
            address = str(tag.get("src") or tag.get("href") or "")
            assert not re.match(r"(https?:)?//", address), (name, address)


def test_a_broken_link_and_a_missing_anchor_are_found(tmp_path):
    (tmp_path / "a.html").write_text('<a href="b.html#here">b</a><img src="c.png"><a href="b.html#no">b</a>')
    (tmp_path / "b.html").write_text('<p id="here"><a href="https://example.org">x</a>')
    assert list(broken_links(tmp_path)) == ["a.html: b.html#no", "a.html: c.png"]


def test_no_page_names_a_path_of_this_machine(book_site, tmp_path_factory):
    for path in book_site.index.parent.rglob("*"):
        if path.suffix in (".html", ".ipynb", ".csv", ".js") and "_static" not in path.parts:
            said = path.read_text(encoding="utf-8")
            for private in ("/secret", str(tmp_path_factory.getbasetemp()), str(CHECKOUT)):
                assert f"{private}/" not in said, path


def test_equations_are_mathml_and_links_between_notebooks_are_pages(pages):
    page = pages["chapters/01_noisy_dropout"]
    assert page.find("math")
    assert page.find("a", string="the other")["href"] == "02_adaptive_noise.html"
    assert not any("MathJax" in str(tag) for tag in page("script"))
    assert pages["chapters/03_adversarial_noise_layer"].select("span.equation math mfrac")


def test_figures_of_a_notebook_come_from_files_with_their_words(pages, book_site):
    (image,) = pages["chapters/01_noisy_dropout"].select("article a.drawing img")
    assert image["src"] == image.parent["href"] == "../figures/noisy_dropout/quick/figure_01_line.svg"
    assert image["alt"] == "A line that falls & rises. Data: shapes, embedded."
    with Image.open(book_site.index.parent / "figures/noisy_dropout/quick/figure_01_line.png") as drawn:
        assert int(image["width"]) / int(image["height"]) == pytest.approx(
            drawn.width / drawn.height, rel=0.01
        )


def test_the_api_names_every_public_noise_and_no_signature_is_a_wall(pages):
    page = pages["api/noise"]
    said = text(page)
    for name in ("attach", "Handle", "NoisyDropout", "adversarial_noise", "cooldown_epochs"):
        assert page.find(id=f"noiseutils.noise.{name}"), name
    assert "where : 'dropped' | 'all' = 'dropped'" in said
    for name in (name for name in pages if name.startswith("api/")):
        assert not re.search(r"Annotated\[|FieldInfo|Ge\(|<class|ForwardRef", text(pages[name])), name


def test_the_command_line_is_whole(pages):
    said = text(pages["command-line"])
    for command in app.registered_commands:
        assert f"noiseutils {command.name or command.callback.__name__.replace('_', '-')}" in said


def test_readings_name_parameters_that_exist_with_their_defaults(pages):
    """The last column is read from the code: a parameter that is renamed breaks the build."""
    said = text(pages["readings"])
    assert "weight_every : epoch ; or step , step_restored" in said
    with pytest.raises(KeyError):
        staging.parameter("adaptive_noise.nosuch")


def test_markup_in_a_name_does_not_come_alive(pages):
    page = pages["results/adversarial_noise_layer/mnist"]
    assert NASTY in page.get_text()
    assert not page.find(onerror=True)
    assert NASTY not in frame_html(pd.DataFrame({NASTY: [NASTY]}), NASTY)
    assert "<img" not in found.escaped(NASTY).replace("\\<", "")


def test_a_class_with_markup_in_its_name_is_escaped_in_a_notebooks_tables(tmp_path, monkeypatch):
    from noiseutils.studies import output
    from noiseutils.studies.params import StudyParams

    shown = []
    monkeypatch.setenv("NOISEUTILS_OUTPUTS", str(tmp_path))
    monkeypatch.setattr(output, "display", shown.append)
    writer = output.OutputWriter(StudyParams(study="noisy_dropout", profile="quick"), NASTY)
    writer.table(pd.DataFrame({"class": [NASTY], NASTY: [0.5]}), "classes", NASTY)
    said = shown[0].to_html()
    assert "<img" not in said
    assert said.count("&lt;img") >= 3


def test_tables_of_a_notebook_stand_in_boxes_with_their_captions_outside():
    boxed = in_boxes("<table><caption>A &amp; B</caption><thead><tr><th>x</th></tr></thead></table> and more")
    page = bs4.BeautifulSoup(boxed, "html.parser")
    assert page.find("p", class_="caption").get_text() == "A & B"
    assert page.find("div", class_="scroll")["aria-label"] == "A & B"
    assert page.find("div").table["class"] == ["sortable"]
    assert page.table.caption is None


def test_rendered_claims_count_beside_committed_ones_and_embedded_ones_decide_nothing(tmp_path):
    claims = evidence.evidence(["noisy_dropout"], tmp_path)
    small = claims.head(2).assign(
        n=3, settings="embedded", images="digits", verdict="embedded images: no verdict"
    )
    real = claims.iloc[2:3].assign(
        n=6, epochs="8", settings="other", images="mine", verdict="held", difference=0.1
    )
    for profile, rows in (("quick", small), ("overnight", real)):
        folder = tmp_path / "noisy_dropout" / profile / "tables"
        folder.mkdir(parents=True)
        rows.to_csv(folder / "claims.csv", index=False)
    folders = sorted((tmp_path / "noisy_dropout").iterdir())
    best, problems = found.best_evidence(tmp_path / "none", folders)
    assert problems == []
    assert list(best.profile[:3]) == ["quick", "quick", "overnight"]
    assert best.epochs[2] == "8"
    assert findings.is_real(best).sum() == 1
    assert "miniature: digits" in found.all_tables(best)
    assert "miniature" not in found.claims_html(best.loc[findings.is_real(best)], "real", fold=False)


def test_links_to_what_the_book_lacks_become_text():
    source = "[a](x.ipynb#B) [a](x.ipynb#Gone) [c](y.ipynb) [d](#E) `[f](y.ipynb)`"
    nb: dict = {"cells": [{"cell_type": "markdown", "source": source}], "metadata": {}}
    x = chapters.page_of({"cells": [{"cell_type": "markdown", "source": "## B"}]}, "chapters/solutions/x")
    made = chapters.chapter(nb, "chapters/one", {"x": x})
    said = "[a](solutions/x.ipynb#B) [a](solutions/x.ipynb) c [d](#E) `[f](y.ipynb)`"
    assert made["cells"][0]["source"] == said


@pytest.mark.usefixtures("small_docs")
def test_second_build_does_nothing_and_what_is_gone_goes(outputs, tmp_path):
    reference = tmp_path / "none"
    first = build(outputs, reference, app)
    again = build(outputs, reference, app)
    assert (first.already, again.already, again.pages) == (False, True, first.pages)
    assert (first.index.parent / "notebooks/noisy_dropout/quick/01_noisy_dropout.ipynb").is_file()
    shutil.rmtree(outputs / "noisy_dropout")
    assert not build(outputs, reference, app).already
    assert not (first.index.parent / "notebooks/noisy_dropout").exists()
    assert sorted(path.name for path in outputs.iterdir()) == [".book", "book"]


@pytest.mark.usefixtures("small_docs")
def test_a_warning_is_an_error_that_leaves_the_earlier_site(outputs, tmp_path):
    reference = tmp_path / "none"
    before = build(outputs, reference, app).index.read_bytes()
    notebook = next(outputs.glob("noisy_dropout/*/*.ipynb"))
    nb = nbformat.read(notebook, as_version=4)
    nb.cells.append(nbformat.v4.new_markdown_cell("[nowhere](#no-such-heading) and $\\nosuch{x}$"))
    nbformat.write(nb, notebook)
    for _ in range(2):  # the second time as well, when pages are built from what is known
        with pytest.raises(UserError, match=r"(?s)the book could not be built:.*no-such-heading"):
            build(outputs, reference, app)
    assert (outputs / "book" / "index.html").read_bytes() == before


@pytest.mark.usefixtures("small_docs")
def test_damaged_files_are_named_and_stop_nothing_else(outputs, committed, tmp_path):
    copy = Path(shutil.copytree(committed, tmp_path / "reference"))
    folder = copy / "adversarial_noise_layer" / "mnist"
    torn = folder / "tables" / "per_class.csv"
    torn.write_bytes(torn.read_bytes()[:-9])
    (folder / "tables" / "binary.csv").write_bytes(b"\xff\xfe\n")
    figure = next(folder.glob("figures/*.png"))
    figure.write_bytes(figure.read_bytes()[:200])
    bad = outputs / "adaptive_noise" / "quick"
    bad.mkdir(parents=True)
    (bad / "02_adaptive_noise.ipynb").write_text("{")
    (bad / "02_adaptive_noise.failed.ipynb").write_text("{}")
    named = "\n".join(problems := build(outputs, copy, app).problems)
    for words in (
        "adaptive_noise/quick/02_adaptive_noise.ipynb: is not a notebook, or is cut off",
        "adaptive_noise/quick/02_adaptive_noise.failed.ipynb: a cell failed",
        "mnist/tables/per_class.csv: is cut off",
        "mnist/tables/binary.csv: is not a table",
        f"mnist/figures/{figure.name}: is damaged",
    ):
        assert words in named
    page = bs4.BeautifulSoup((outputs / "book" / "index.html").read_text(), "html.parser")
    assert all(problem in text(page) for problem in problems)


def test_pages_are_published_without_a_secret():
    workflow = (CHECKOUT / ".github" / "workflows" / "pages.yml").read_text()
    jobs = yaml.safe_load(workflow)["jobs"]
    assert jobs["publish"]["permissions"] == {"pages": "write", "id-token": "write"}
    assert "secrets." not in workflow


def test_the_notebook_is_kept_for_download_as_it_was_executed(book_site, pages):
    (link,) = pages["chapters/01_noisy_dropout"].find_all("a", download=True)
    path = (book_site.index.parent / "chapters" / unquote(link["href"])).resolve()
    assert json.loads(path.read_text())["metadata"]["papermill"]["end_time"]
