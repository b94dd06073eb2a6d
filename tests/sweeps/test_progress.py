"""Progress is for people: remaining time in a terminal and in Jupyter, nothing in executed notebooks."""

import pandas as pd
import pytest

from noiseutils import Run, train
from noiseutils.config import Data, Model
from noiseutils.data import load
from noiseutils.sweeps.progress import Bar

RUN = Run(
    data=Data(name="digits", train_size=64, test_size=20), model=Model(name="lenet5", width=0.5), epochs=4
)


def test_an_open_notebook_shows_epochs_and_the_remaining_time(monkeypatch, capsys):
    monkeypatch.setenv("JPY_SESSION_NAME", "notebooks/00_start_here.ipynb")  # a Jupyter server sets it
    with Bar([RUN], shown=True) as bar:
        for epoch in (1, 2):
            bar.on_event("epoch", RUN, {"epoch": epoch, "train_loss": 2.3})
        bar.bar.refresh()
    said = capsys.readouterr()
    assert "1 run:  50%" in said.out
    assert "2/4 [" in said.out
    assert "<" in said.out, "elapsed < remaining"
    assert said.err == ""


def test_papermill_and_nbval_leave_no_bar_in_a_notebook(monkeypatch, capsys):
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    with Bar([RUN, RUN.replace(seed=1)], shown=True) as bar:
        bar.on_event("done", RUN, None)
    assert capsys.readouterr() == ("", "")


def test_the_start_pages_trainings_are_those_of_train(monkeypatch, capsys):
    pytest.importorskip("IPython", reason="needs the notebooks extra")
    from noiseutils.studies import start_here

    monkeypatch.setenv("JPY_SESSION_NAME", "notebooks/00_start_here.ipynb")
    run, images = RUN.replace(epochs=1), load(RUN.data)
    found = start_here.train_each({"a": run, "b": run.replace(seed=1)}, images)
    assert "2 runs:" in capsys.readouterr().out
    assert list(found) == ["a", "b"]
    own = train(run, data=images).history.drop(columns="seconds")
    pd.testing.assert_frame_equal(found["a"].history.drop(columns="seconds"), own)
