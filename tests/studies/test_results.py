"""Results by cell and seed: values, pairs, frames; and the threads of a timing."""

import pandas as pd
import pytest
import torch
from factory import DROPOUT, diverged, dropout_results

from noiseutils.studies.noisy_dropout import STUDY
from noiseutils.studies.noisy_dropout.grid import Cell
from noiseutils.studies.results import select
from noiseutils.sweeps.jobs import one_thread

FRAME = pd.DataFrame({"p": [0.2, 0.3, 0.2, float("nan")], "kind": ["a", "b", None, "a"], "n": [1, 2, 3, 4]})


@pytest.mark.parametrize(
    ("equal", "rows"),
    [
        ({}, [1, 2, 3, 4]),
        ({"p": 0.2}, [1, 3]),
        ({"kind": "a"}, [1, 4]),
        ({"p": 0.2, "kind": ("a", "b")}, [1]),
        ({"p": (0.2, 0.3), "n": 2}, [2]),
        ({"kind": "other"}, []),
        ({"p": "other"}, []),
    ],
)
def test_select_keeps_the_rows_with_the_given_values(equal, rows):
    assert select(FRAME, **equal)["n"].tolist() == rows


def test_select_keeps_the_columns_of_an_empty_table():
    assert list(select(FRAME.iloc[:0], p=0.2, kind="a").columns) == ["p", "kind", "n"]


def test_threads_are_put_back_after_a_timing():
    before = torch.get_num_threads()
    with one_thread():
        assert 1 <= torch.get_num_threads() <= max(1, before)
    assert torch.get_num_threads() == before


PLAIN, NOISY = Cell(0.2, 0.0, "dropped"), Cell(0.2, 0.5, "dropped")


def with_one_missing_and_one_diverged():
    """Seed 0 of the noisy cell is missing, seed 1 of the plain one diverged."""
    missing, wild = STUDY.run_of(DROPOUT, NOISY, 0), STUDY.run_of(DROPOUT, PLAIN, 1)
    found = [result for result in dropout_results().stored if result.run != missing]
    return STUDY.results(DROPOUT, [diverged(r) if r.run == wild else r for r in found])


def test_values_are_by_seed_without_what_is_missing_or_diverged():
    results = with_one_missing_and_one_diverged()
    assert list(results.values(NOISY, "top1_error")) == [1, 2]
    assert list(results.values(PLAIN, "top1_error")) == [0, 2]
    assert results.values(PLAIN, "top1_error", condition="fgsm", size=9.0) == {}
    assert results.values(None, "top1_error") == {}
    assert (results.diverged(PLAIN), results.diverged(NOISY)) == (1, 0)


def test_pairs_and_means_are_over_the_seeds_that_all_have():
    results = with_one_missing_and_one_diverged()
    test = results.paired(NOISY, PLAIN, "top1_error")
    noisy, plain = (results.values(cell, "top1_error")[2] for cell in (NOISY, PLAIN))
    assert test.difference.n == 1
    assert test.difference.mean == pytest.approx(noisy - plain)
    assert results.means([NOISY, PLAIN], "top1_error") == {2: pytest.approx((noisy + plain) / 2)}


def test_rows_lead_back_to_their_results():
    results = with_one_missing_and_one_diverged()
    rows = select(results.frame, p=0.2, level=(0.0, 0.5), reading="dropped", condition=("clean", "fgsm"))
    expected = [
        STUDY.run_of(DROPOUT, cell, seed) for cell, seed in ((PLAIN, 0), (PLAIN, 2), (NOISY, 1), (NOISY, 2))
    ]
    assert [result.run for result in results.behind(rows)] == expected
    assert results.behind(rows.iloc[:0]) == []
    assert results.at([(NOISY, 0), (NOISY, 1), (NOISY, 1)]) == [results.by_cell[NOISY, 1]]


def test_nothing_found_leaves_an_empty_frame_with_the_cells_columns():
    assert {"p", "level", "reading", "seed", "condition"} <= set(STUDY.results(DROPOUT, []).frame)
