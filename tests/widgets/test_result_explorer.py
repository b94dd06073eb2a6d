"""The result explorer without a page."""

import re

import pytest
from views import alone

from noiseutils.errors import UserError
from noiseutils.widgets import ResultExplorer
from noiseutils.widgets.results import letter


def test_the_explorer_shows_cells_curves_classes_and_ours_beside_the_papers():
    page = ResultExplorer("noisy_dropout", "cifar10-jpeg", interactive=False).static()
    alone(page)
    for words in (
        "30 runs in 5 cells",
        "top-1 error",
        "accuracy by class",
        "A: the plain one",
        "B: std 0.07975",
        "test accuracy, %",
        "Ours beside the paper",
        "widths were chosen by it",
    ):
        assert words in page
    assert "cifar10-jpeg" in page


def test_the_explorer_goes_from_study_to_study_and_from_a_figure_to_its_runs():
    explorer = ResultExplorer("noisy_dropout", "cifar10-jpeg", interactive=True)
    explorer.study.value = "adaptive_noise"
    assert "adaptive_noise, cifar10-jpeg" in explorer.shown.value
    explorer.figure.value = "controls_momentum"
    explorer.behind.click()
    assert re.search(r"drawn from \d+ runs", explorer.message.value)
    assert 0 < len(explorer.cells.value) < len(explorer.stored.cells)
    explorer.figure.value = "schedule"
    explorer.behind.click()
    assert "shows no run" in explorer.message.value


@pytest.mark.parametrize(
    ("study", "profile", "words"),
    [("dropout", None, "allowed: noisy_dropout"), ("noisy_dropout", "cifar10-typo", "allowed: cifar10-jpeg")],
)
def test_what_the_explorer_does_not_have_is_an_error(study, profile, words):
    with pytest.raises(UserError, match=words):
        ResultExplorer(study, profile, interactive=False)


def test_more_cells_than_there_are_colours_are_counted():
    explorer = ResultExplorer("adaptive_noise", "cifar10-jpeg", interactive=False)
    explorer.cells.value = tuple(range(len(explorer.stored.cells)))
    assert "Curves of the first 7 cells" in explorer.shown.value
    assert [letter(i) for i in (0, 25, 26, 27, 52)] == ["A", "Z", "AA", "AB", "BA"]


def test_where_nothing_is_stored_the_explorer_says_how_to_make_it():
    page = ResultExplorer("noisy_dropout", "smoke", interactive=False).static()
    assert "noiseutils run noisy_dropout --profile smoke" in page
