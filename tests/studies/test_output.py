"""What a study shows is kept as files."""

import filecmp
import warnings
from xml.etree import ElementTree

import pandas as pd
import pytest

pytest.importorskip("IPython", reason="needs the notebooks extra")

from noiseutils import plots
from noiseutils.studies import output
from noiseutils.studies.output import Drawn
from noiseutils.studies.params import StudyParams


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    monkeypatch.setattr(output, "display", lambda shown: None)
    monkeypatch.setenv("NOISEUTILS_OUTPUTS", str(tmp_path))
    return output.OutputWriter(StudyParams(study="s", profile="p"), "shapes")


def picture():
    figure, axes = plots.canvas(1, 2, size=(5, 2), sharey=True)
    axes[0, 0].plot([1, 2, 3], [1, 10, 5], label="a line")
    axes[0, 1].imshow([[0, 1], [2, 3]])
    figure.colorbar(axes[0, 1].images[0], ax=axes[0, 1])
    figure.suptitle("a title that is wider than the figure, so that the cut shows, and then some more words")
    figure.legend(loc="outside lower center")
    return figure


def test_a_figure_is_laid_out_once_and_cut_as_savefig_would_cut_it(tmp_path, monkeypatch):
    picture().savefig(tmp_path / "tight.png", dpi=output.DPI, bbox_inches="tight")
    figure = picture()
    engine, laid_out = figure.get_layout_engine(), []
    execute = type(engine).execute
    monkeypatch.setattr(type(engine), "execute", lambda self, f: (laid_out.append(f), execute(self, f)))
    shown = []
    monkeypatch.setattr(output, "display", shown.append)
    monkeypatch.setenv("NOISEUTILS_OUTPUTS", str(tmp_path))
    place = output.OutputWriter(StudyParams(study="s", profile="p"), "shapes")
    place.show([output.Drawn("figure", figure, "A line.")])
    kept = tmp_path / "s" / "p" / "figures" / "figure.png"
    assert laid_out == [figure]
    assert filecmp.cmp(tmp_path / "tight.png", kept, shallow=False)
    assert kept.with_suffix(".svg").read_text().startswith("<?xml")
    assert len(shown) == 1


@pytest.mark.parametrize(
    "name",
    [
        "$a$ $b$",
        r"$\frac$",
        "<img src=x onerror=alert(1)>",
        "a\x01b\x1bc",
        "_x_ %s {} \\",
        "new\nline",
        "x" * 255,
    ],
)
def test_a_class_may_be_called_anything_in_a_figure(shelf, name):
    figure, axes = plots.canvas()
    ax = axes[0, 0]
    ax.plot([1, 10], [1, 2], label=f"of {name}")
    ax.set(title=name, xlabel=name)
    ax.set_yticks([1, 2], [name, "other"])
    ax.annotate(name, (1, 1))
    plots.log_scale(ax, "x")
    plots.label_ends(ax, {name: (1, 1, "black")})
    ax.legend()
    figure.suptitle(name)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph|constrained_layout not applied")  # a name too odd or long
        shelf.show([Drawn("odd", figure, name)])
    root = ElementTree.parse(next(shelf.folder.glob("figures/odd.svg"))).getroot()
    assert {element.tag.rpartition("}")[2] for element in root.iter()}.isdisjoint({"img", "script"})


@pytest.mark.parametrize("axis", ["x", "y"])
@pytest.mark.parametrize("ends", [(1e-5, 1e-1), (2, 7), (1, 1e4)])
def test_ticks_of_a_logarithmic_axis_are_plain_numbers(axis, ends):
    figure, axes = plots.canvas()
    ax = axes[0, 0]
    ax.plot(ends, ends)
    plots.log_scale(ax, axis)
    figure.draw_without_rendering()
    ticks = getattr(ax, f"{axis}axis")
    texts = [t.get_text() for t in (*ticks.get_majorticklabels(), *ticks.get_minorticklabels())]
    assert any(texts)
    assert all(text == "" or float(text) > 0 for text in texts)


def test_a_tables_own_column_of_images_is_kept_beside_what_it_was_made_with(shelf):
    table = pd.DataFrame({"data": ["photographs"], "n": [6]})
    shelf.table(table, "errors", "Errors.")
    kept = pd.read_csv(shelf.folder / "tables" / "errors.csv")
    assert list(kept.columns) == ["data", "n", "commit", "device"]
    assert list(kept.data) == ["photographs"]
    shelf.table(table.drop(columns="data"), "errors", "Errors.")
    assert list(pd.read_csv(shelf.folder / "tables" / "errors.csv").data) == ["shapes"]
