"""What a study shows is kept as files."""

import filecmp

import pytest

pytest.importorskip("IPython", reason="needs the notebooks extra")

from noiseutils import plots
from noiseutils.studies import output
from noiseutils.studies.params import StudyParams


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
