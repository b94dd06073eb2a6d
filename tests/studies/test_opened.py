"""A notebook as opened shows committed results and trains nothing; a changed parameter trains."""

import contextlib
import io
import shutil
from pathlib import Path

import pytest
import torch
from matplotlib import pyplot

from noiseutils.config import Data
from noiseutils.data import load
from noiseutils.errors import UserError
from noiseutils.provenance import reference_root
from noiseutils.studies import STUDIES, output, start_here, study
from noiseutils.studies.opened import VARIABLE, images_at_hand, opened, use_one_thread
from noiseutils.studies.output import OutputWriter
from noiseutils.studies.profiles import read_profile

ROOT = Path(__file__).resolve().parents[2]
MEASURES = {"step_overhead", "timing_table"}  # functions that time steps on this machine
KIND = STUDIES["noisy_dropout"].Params


@pytest.fixture
def names(notebook_parameters, monkeypatch):
    """What a notebook's `globals()` hold after its cell of parameters."""
    monkeypatch.delenv(VARIABLE, raising=False)
    return notebook_parameters("noisy_dropout")


def cells(name: str) -> list:
    path = ROOT / "notebooks" / f"{STUDIES[name].notebook}.ipynb"
    nbformat = pytest.importorskip("nbformat", reason="needs the notebooks extra")
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in STUDIES if any((reference_root() / name).glob("*"))])
def test_a_lesson_as_opened_shows_results_of_real_images_and_trains_nothing(
    name, notebook_parameters, tmp_path, monkeypatch
):
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("NOISEUTILS_OUTPUTS", str(tmp_path))
    monkeypatch.setattr(study, "sweep", lambda *_: pytest.fail("it trains"))
    shown, tables, names, order, said = [], {}, notebook_parameters(name), [], io.StringIO()

    def show(self, drawn):
        for each in drawn:
            shown.append((each.name, {result.run.data.label for result in each.results}))
            pyplot.close(each.figure)

    monkeypatch.setattr(OutputWriter, "show", show)
    monkeypatch.setattr(
        OutputWriter, "table", lambda self, table, name, *_, **__: tables.update({name: table})
    )
    for cell in cells(name):
        if cell.id == "parameters" or cell.id.startswith("exercise"):
            continue
        with contextlib.redirect_stdout(said):
            exec(compile(cell.source, f"{name}:{cell.id}", "exec"), names)
        order.append(len(shown))
        for measure in MEASURES & vars(names.get("tables", study)).keys():
            monkeypatch.setattr(names["tables"], measure, lambda params: tables.get("none"))
    assert order[:4] == [0, 0, 0, 1], "the fourth cell of code has the first figure"
    assert "Committed results are shown (outputs/reference/" in said.getvalue()
    real = set().union(*(labels for _, labels in shown))
    assert real
    assert not real & {"shapes", "digits"}
    judged = tables["claims" if STUDIES[name].claims else "top1"]
    assert (judged.n > 0).any()
    assert names["params"].profile == "opened"


@pytest.mark.parametrize("name", STUDIES)
def test_what_comes_before_the_first_figure_is_folded(name):
    nbformat = pytest.importorskip("nbformat", reason="needs the notebooks extra")
    path = ROOT / "notebooks" / f"{STUDIES[name].notebook}.ipynb"
    first = nbformat.read(path, as_version=4).cells[:5]
    assert [cell.id for cell in first] == ["title", "parameters", "imports", "opened", "grid"]
    assert all(cell.metadata.jupyter.source_hidden for cell in first[1:])


def test_a_notebook_trains_as_soon_as_a_parameter_is_changed(names, capsys):
    params, train = opened(KIND, names, show="cifar10-jpeg")
    assert (params.data, params.seeds, params.profile, train) == ("./cifar10-jpeg", 6, "opened", False)
    params, train = opened(KIND, names | {"seeds": 3}, show="cifar10-jpeg")
    assert (params.data, params.seeds, params.profile, train) == ("shapes", 3, "changed", True)
    assert "outputs/noisy_dropout/changed/" in capsys.readouterr().out
    params, train = opened(KIND, names, show=None)
    assert (params, train) == (read_profile(KIND, "noisy_dropout", "smoke"), True)
    assert "its numbers mean nothing" in capsys.readouterr().out


def test_a_sweep_that_is_not_at_its_end_is_shown_without_training(names, monkeypatch):
    monkeypatch.setenv(VARIABLE, "stored")
    params, train = opened(KIND, names | {"seeds": 3, "profile": "mine"}, show="cifar10-jpeg")
    assert (params.seeds, params.profile, train) == (3, "mine", False)


def test_what_papermill_passes_is_trained_in_a_folder_of_its_own(names, capsys):
    """`-p seeds 3` alone must not write over the figures of the profile that it began from."""
    passed = names | {"seeds": 3, "In": ["", "# Parameters\nseeds = 3\n"]}
    params, train = opened(KIND, passed, show="cifar10-jpeg")
    assert (params.profile, params.seeds, train) == ("changed", 3, True)
    passed["In"] = ["", '# Parameters\nprofile = "smoke"\nseeds = 3\n']
    assert opened(KIND, passed, show="cifar10-jpeg")[0].profile == "smoke", "a folder that was asked for"
    passed = names | {"In": ["", "# Parameters\nseeds = 2\n"]}
    assert opened(KIND, passed, show="cifar10-jpeg") == (read_profile(KIND, "noisy_dropout", "smoke"), True)
    passed = names | {"In": ["", "# Parameters\nsedes = 2\n"], "sedes": 2}
    with pytest.raises(UserError, match="sedes: unknown key"):
        opened(KIND, passed, show="cifar10-jpeg")


def test_a_page_of_another_profile_does_not_say_that_its_numbers_mean_nothing(names, capsys):
    quick = read_profile(KIND, "noisy_dropout", "quick").model_dump(mode="json")
    passed = (
        names
        | quick
        | {"In": ["# Parameters\n" + "\n".join(f"{key} = {value!r}" for key, value in quick.items())]}
    )
    params, train = opened(KIND, passed, show="cifar10-jpeg")
    assert (params.profile, train) == ("quick", True)
    assert capsys.readouterr().out == "Profile quick.\n"


@pytest.mark.parametrize("name", STUDIES)
def test_no_text_of_a_lesson_speaks_of_one_profile(name):
    path = ROOT / "notebooks" / f"{STUDIES[name].notebook}.ipynb"
    assert "mean nothing" not in path.read_text()
    assert "smallest form" not in path.read_text()


def test_results_that_are_not_stored_are_missed_aloud(tmp_path, monkeypatch):
    monkeypatch.setenv("NOISEUTILS_OUTPUTS", str(tmp_path))
    quick = read_profile(KIND, "noisy_dropout", "quick")
    with pytest.raises(UserError, match=r"none of the \d+ runs of noisy_dropout is stored"):
        STUDIES["noisy_dropout"].collect(quick, train=False)


def test_what_papermill_passes_to_the_start_page_has_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("NOISEUTILS_OUTPUTS", str(tmp_path))
    monkeypatch.setattr(output, "display", lambda _: None)
    images = load(Data(name="digits", train_size=200, test_size=10))
    for source, profile in (("seed = 1", "quick"), ("# Parameters\nseed = 1\n", "changed")):
        monkeypatch.setattr(start_here, "notebook_names", lambda source=source: {"In": ["", source]})
        start_here.show_images(images)
        assert [path.name for path in (tmp_path / "start_here").glob("*") if path.name == profile] == [
            profile
        ]
        shutil.rmtree(tmp_path / "start_here")


def test_without_committed_results_a_notebook_says_so_and_trains(names, capsys):
    assert opened(KIND, names, show="not-there") == (read_profile(KIND, "noisy_dropout", "smoke"), True)
    assert "not here (outputs/reference/noisy_dropout/not-there)" in capsys.readouterr().out


def test_images_that_are_not_here_are_stood_in_for_aloud(capsys):
    found = images_at_hand(Data(name="folder", root="./no-such-folder"))
    assert found.label == "shapes"
    assert "images of no-such-folder are not on this machine" in capsys.readouterr().out
    assert images_at_hand(Data(name="digits", train_size=20, test_size=10)).label == "digits"
    assert capsys.readouterr().out == ""


def test_small_networks_get_one_thread_in_jupyter_unless_the_environment_says_otherwise(monkeypatch):
    torch.set_num_threads(2)
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    try:
        use_one_thread()
        assert torch.get_num_threads() == 2, "a rendered notebook has the cores for itself"
        monkeypatch.setenv("JPY_SESSION_NAME", "notebooks/01_noisy_dropout.ipynb")
        monkeypatch.setenv("OMP_NUM_THREADS", "2")
        use_one_thread()
        assert torch.get_num_threads() == 2
        monkeypatch.delenv("OMP_NUM_THREADS")
        use_one_thread()
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(1)
