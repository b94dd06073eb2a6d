"""Rows of results selected, and the threads of a timing."""

import pandas as pd
import pytest
import torch

from noiseutils.studies.results import select
from noiseutils.studies.timing import threads_of_a_run

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
    with threads_of_a_run():
        assert 1 <= torch.get_num_threads() <= max(1, before)
    assert torch.get_num_threads() == before
