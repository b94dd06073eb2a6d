"""Each paper's notebook is a lesson: marked stops, exercises, and a twin in which each exercise is solved."""

import ast
import re
from html import unescape
from pathlib import Path
from urllib.parse import unquote

import pandas as pd
import pytest

from noiseutils.book.export import to_html
from noiseutils.book.render import render
from noiseutils.studies import STUDIES

nbformat = pytest.importorskip("nbformat", reason="needs the notebooks extra")
pytest.importorskip("papermill", reason="needs the notebooks extra")

FOLDER = Path(__file__).resolve().parent.parent / "notebooks"
START = FOLDER / "00_start_here.ipynb"
PAPERS = [FOLDER / f"{study.notebook}.ipynb" for study in STUDIES.values()]
TWINS = [FOLDER / "solutions" / f"{path.stem}_solutions.ipynb" for path in PAPERS]
of_papers = pytest.mark.parametrize("path", PAPERS, ids=lambda path: path.stem)
of_twins = pytest.mark.parametrize("path", TWINS, ids=lambda path: path.stem)
of_all = pytest.mark.parametrize("path", [START, *PAPERS, *TWINS], ids=lambda path: path.stem)

STOP = re.compile(r"^\*\*Stop (\d+) of (\d+)\*\* · (\d+) minutes\. (.+) Next: \[([^]]+)\]\((#[^)]+)\)$", re.M)
ROW = re.compile(r"^\| (\d+) · \[([^]]+)\]\((#[^)]+)\) \| .+\? \| (\d+) \|$", re.M)
LINK = re.compile(r"(?<!!)\[[^]]*\]\(([^)]+)\)")


def cells(path: Path) -> list:
    return nbformat.read(path, as_version=4).cells


def markdown(path: Path) -> str:
    return "\n\n".join(cell.source for cell in cells(path) if cell.cell_type == "markdown")


def prose(path: Path) -> str:
    """Markdown without its code."""
    return re.sub(r"```.*?```|`[^`\n]*`", "", markdown(path), flags=re.S)


def headings(path: Path) -> list[str]:
    """As a reader sees them, from top to bottom."""
    return [re.sub(r"[*`]", "", found) for found in re.findall(r"^#{1,6} (.+)$", prose(path), re.M)]


def anchors(path: Path) -> set[str]:
    """What JupyterLab calls a notebook's headings: their text, with dashes for spaces."""
    return {"#" + heading.replace(" ", "-") for heading in headings(path)}


def exercises(path: Path) -> dict[int, str]:
    """Number -> title."""
    found = [re.fullmatch(r"Exercise (\d+)\. (.+)", heading) for heading in headings(path)]
    return {int(match[1]): match[2] for match in found if match}


@of_papers
def test_stops_are_marked_in_order_each_with_the_way_to_the_next(path):
    stops = STOP.findall(markdown(path))
    numbers = [int(number) for number, *_ in stops]
    assert 5 <= len(stops) <= 7
    assert numbers == list(range(1, len(stops) + 1))
    assert markdown(path).count("**Stop ") == len(stops), "a mark of another form"
    assert {int(of) for _, of, *_ in stops} == {len(stops)}
    targets = [target for *_, target in stops]
    rows = ROW.findall(markdown(path))
    assert targets == [*(target for _, _, target, _ in rows[1:]), "#Exercises"]
    assert [name for *_, name, _ in stops] == [*(f"stop {n}" for n in numbers[1:]), "the exercises"]
    assert all("*Predict first:*" in said and "?" in said for _, _, _, said, _, _ in stops)


@of_papers
def test_the_lesson_lists_its_stops_where_they_stand(path):
    text = markdown(path)
    rows, stops = ROW.findall(text), STOP.findall(text)
    assert [(int(n), minutes) for n, _, _, minutes in rows] == [(int(n), m) for n, _, m, *_ in stops]
    assert 40 <= sum(int(minutes) for *_, minutes in rows) <= 60
    assert f"about {sum(int(minutes) for *_, minutes in rows)} minutes" in text
    for number, name, target, _ in rows:
        assert re.search(rf"^#+ {re.escape(name)}\n\n\*\*Stop {number} of", text, re.M), "under its heading"
        assert target in anchors(path)
        # what every browser, nbconvert and JupyterLab write alike
        assert re.fullmatch(r"[A-Za-z0-9 ,.:?()-]+", target.removeprefix("#"))


@of_papers
def test_what_the_stops_link_to_is_there_in_the_page_too(path):
    page = to_html(path)
    ids = {unescape(found) for found in re.findall(r'\bid="([^"]+)"', page)}
    local = re.findall(r'<a href="#([^"]+)"', page)
    assert len(local) >= 10
    assert {unquote(unescape(link)) for link in local} <= {*ids, *map(unquote, ids)}


@of_papers
def test_there_are_exercises_to_think_about_and_to_do(path):
    found = [cell for cell in cells(path) if cell.source.startswith("### Exercise")]
    kinds = [re.search(r"^\*(Calculate|Think|Do)\.\* ", cell.source, re.M) for cell in found]
    assert all(kinds), "each says what it asks for"
    assert len(found) >= 5
    assert [kind[1] for kind in kinds].count("Do") >= 2
    assert list(exercises(path)) == list(range(1, len(found) + 1))
    tagged = [cell for cell in cells(path) if "exercise" in cell.metadata.get("tags", ())]
    assert len(tagged) >= 2
    assert all(cell.cell_type == "code" and "print(" in cell.source for cell in tagged)
    assert all(re.search(r"#.*\b(change|add)\b", cell.source) for cell in tagged), "what to turn is said"
    assert "<details>" not in markdown(path), "solutions are in the twin"
    stops = " ".join(said for _, _, _, said, _, _ in STOP.findall(markdown(path)))
    assert all(f"(#Exercise-{number}." in stops for number in exercises(path)), "each belongs to a stop"


@pytest.mark.parametrize(("path", "twin"), [*zip(PAPERS, TWINS, strict=True)], ids=[p.stem for p in PAPERS])
def test_every_exercise_is_solved_in_the_twin(path, twin):
    assert exercises(twin) == exercises(path)
    text = markdown(twin)
    for number, title in exercises(path).items():
        own = text.partition(f"## Exercise {number}. {title}")[2].partition("\n## ")[0]
        assert "**Answer.** " in own
        assert f"(../{path.name}#Exercise-{number}." in own, "the way back"
        proofs = [c for c in cells(twin) if re.fullmatch(rf"proof-{number}(-\w)?", c.id)]
        names = {n for c in proofs for n in map(type, ast.walk(ast.parse(c.source)))}
        assert ast.Assert in names, "the answer is asserted"
    assert f"solutions/{twin.name}" in markdown(path)


@of_twins
def test_twins_are_thin_and_train_with_the_library(path):
    for cell in cells(path):
        if cell.cell_type != "code":
            continue
        tree = list(map(type, ast.walk(ast.parse(cell.source))))
        assert not {ast.FunctionDef, ast.ClassDef, ast.Lambda, ast.While} & set(tree)
        assert ".backward()" not in cell.source or "FlopCounterMode" in cell.source
        assert len(cell.source.splitlines()) <= 20


@of_twins
def test_twins_need_no_data_but_the_packages_own(path):
    code = "\n".join(cell.source for cell in cells(path) if cell.cell_type == "code")
    assert set(re.findall(r'Data\(name="(\w+)"', code)) <= {"shapes", "digits"}
    assert not re.search(r"read_csv|open\(|Path\(|collect\(", code)


@of_all
def test_links_between_notebooks_resolve(path):
    for link in LINK.findall(prose(path)):
        if re.match(r"[a-z]+:", link):
            continue
        name, dash, fragment = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.is_file(), link
        if fragment:
            assert dash + fragment in anchors(target), link


@of_all
def test_cells_have_ids_that_can_be_read(path):
    ids = [cell.id for cell in cells(path)]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", each) and len(each) <= 24 for each in ids)


def test_the_start_page_offers_three_routes_first():
    assert headings(START)[1] == "Three routes"
    text = markdown(START)
    for heading in ("The first five minutes", "One lesson", "Full replication"):
        assert heading in headings(START)
        assert (
            f"| [{heading.removeprefix('The first ').capitalize()}](#{heading.replace(' ', '-')}) |" in text
        )
    for path, twin in zip(PAPERS, TWINS, strict=True):
        (row,) = re.findall(rf"^\| \[{path.stem}\].*$", text, re.M)
        minutes = sum(int(minutes) for *_, minutes in ROW.findall(markdown(path)))
        assert f"| {minutes} |" in row
        assert f"| {len(exercises(path))}, [worked answers](solutions/{twin.name}) |" in row
    assert "06_live_lab.ipynb" in text


@of_all
def test_figures_are_shown_by_functions_that_give_them_a_text(path):
    """`OutputWriter.show` and `start_here` do; a bare figure would have none."""
    code = "\n".join(cell.source for cell in cells(path) if cell.cell_type == "code")
    assert not re.search(r"pyplot|plt\.|\.plot\(|imshow|\bImage\(|display\(", code)


@pytest.mark.slow
def test_every_figure_of_the_start_page_says_what_is_seen(tmp_path):
    small = {"epochs": 1, "train_size": 100}
    folder = render(START, tmp_path, small, "stamp") and tmp_path
    shown = [
        (kind, output.metadata)
        for cell in cells(folder / START.name)
        for output in cell.get("outputs", ())
        for kind in output.get("data", ())
        if kind.startswith("image/")
    ]
    assert len(shown) == 2
    alts = [metadata[kind]["alt"] for kind, metadata in shown]
    assert "arrow" in alts[0]
    assert re.search(r"noise 0\.1: training loss \d\.\d+, test loss \d\.\d+, test accuracy \d+\.\d%", alts[1])
    page = (folder / START.with_suffix(".html").name).read_text()
    assert re.findall(r'<img[^>]* alt="([^"]*)"', page) == alts


@pytest.mark.parametrize(("path", "twin"), [*zip(PAPERS, TWINS, strict=True)], ids=[p.stem for p in PAPERS])
def test_the_twin_says_what_the_predictions_come_to(path, twin):
    said = markdown(twin).partition("## The stops")[2]
    assert re.findall(r"^(\d+)\. ", said, re.M) == [number for number, *_ in STOP.findall(markdown(path))]


DIFFERENCE = ("{difference:+.1f}", "[{low:+.1f}, {high:+.1f}]")


@pytest.mark.parametrize(
    ("twin", "table", "row", "scale", "texts"),
    [
        (0, "noisy_dropout/cifar10-jpeg/tables/significance", {"reading": "all"}, 100, DIFFERENCE),
        (0, "noisy_dropout/cifar10-jpeg/tables/significance", {"reading": "dropped"}, 100, DIFFERENCE),
        *(
            (1, "adaptive_noise/cifar10-jpeg-tinycnn/tables/claims", {"name": name}, 100, DIFFERENCE)
            for end in ("", "-noise-rate", "-own-rate")
            for name in (f"accuracy-tinycnn-momentum{end}",)
        ),
        (
            1,
            "adaptive_noise/cifar10-jpeg/tables/claims",
            {"name": "accuracy-babycnn-momentum-own-rate"},
            100,
            DIFFERENCE,
        ),
        (1, "adaptive_noise/cifar10-jpeg/tables/controls", {"control": "shuffled"}, 100, DIFFERENCE),
        (2, "adversarial_noise_layer/mnist/tables/similarity", {"site": "fc3"}, 1, ["{same_class:.2f}"]),
        (2, "adversarial_noise_layer/mnist/tables/similarity", {"site": "conv1"}, 1, ["{same_class:.2f}"]),
        (2, "adversarial_noise_layer/mnist/tables/similarity", {"site": "conv2"}, 1, ["{same_class:.2f}"]),
        (
            2,
            "adversarial_noise_layer/fashion-mnist-subset/tables/claims",
            {"verdict": "held"},
            100,
            DIFFERENCE,
        ),
        *(
            (2, "adversarial_noise_layer/fashion-mnist-subset/tables/figure_02", row, 1, ["{last_epoch:.1f}"])
            for row in ({"method": name, "layer": "conv2"} for name in ("no noise", "LAT", "ANL"))
        ),
        *(
            (3, "training_data_variation/cifar10-jpeg/tables/matrix_noise_on_noise", row, 100, [text])
            for row, text in (
                ({"sigma": 0, "level": 0}, "{accuracy:.1f}"),
                ({"sigma": 1, "level": 1}, "{accuracy:.1f}"),
                ({"sigma": 1, "level": 0}, "{accuracy:.1f}"),
                ({"sigma": 1, "level": 0}, "{accuracy_recalibrated:.1f}"),
            )
        ),
        *(
            (3, "training_data_variation/cifar10-jpeg/tables/minimal_change", row, 1, ["{size:.2f}"])
            for row in ({"reading": r, "sigma": sigma} for r in ("correct", "zero") for sigma in (0, 0.1, 1))
        ),
    ],
)
def test_numbers_of_real_images_are_those_of_the_committed_results(twin, table, row, scale, texts):
    found = pd.read_csv(FOLDER.parent / "outputs" / "reference" / f"{table}.csv")
    for name, value in row.items():
        found = found[found[name] == value]
    numbers = {name: v * scale for name, v in found.iloc[0].items() if isinstance(v, float)}
    said = " ".join(markdown(TWINS[twin]).partition("## The stops")[2].split())
    for text in texts:
        assert text.format(**numbers) in said
