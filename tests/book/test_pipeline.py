"""The main job from end to end, in its smallest form: one command, every file, nothing done twice."""

import re
import sys
from pathlib import Path

import pandas as pd
import pytest

from noiseutils import cli
from noiseutils.book import pipeline
from noiseutils.book.render import Rendered
from noiseutils.errors import UserError
from noiseutils.studies.profiles import study_params
from noiseutils.studies.study import open_store
from noiseutils.sweeps.sweep import Sweep
from noiseutils.training.loop import Result

pytest.importorskip("papermill", reason="needs the notebooks extra")


def run(monkeypatch, capsys) -> str:
    monkeypatch.setattr(sys, "argv", ["noiseutils", "run", "noisy_dropout", "--profile", "smoke"])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    assert not exit_.value.code
    return capsys.readouterr().out


def state(outputs: Path) -> dict[Path, int]:
    return {
        path: path.stat().st_mtime_ns
        for path in outputs.rglob("*")
        if path.is_file() and ".locks" not in path.parts
    }


@pytest.mark.slow
def test_run_leaves_every_file_and_a_second_call_does_nothing_twice(tmp_path, monkeypatch, capsys):
    outputs = tmp_path / "outputs"
    monkeypatch.setenv("NOISEUTILS_OUTPUTS", str(outputs))
    said = run(monkeypatch, capsys)
    folder = outputs / "noisy_dropout" / "smoke"
    assert "30 of 30 runs" in said
    assert "noiseutils book" in said
    figures = {path.stem for path in folder.glob("figures/*.png")}
    assert {int(m[1]) for name in figures if (m := re.match(r"figure_(\d+)_", name))} == set(range(1, 12))
    assert figures == {path.stem for path in folder.glob("figures/*.svg")}
    tables = {path.stem: pd.read_csv(path) for path in folder.glob("tables/*.csv")}
    assert {
        "grid",
        "per_class",
        "reported_dropped",
        "claims",
        "significance",
        "robustness",
        "cost",
    } <= tables.keys()
    for name in ("grid", "reported_dropped", "claims", "significance", "robustness"):
        assert {"n", "data", "commit", "device"} <= set(tables[name].columns)
        assert set(tables[name].data) == {"shapes"}
    page = (folder / "01_noisy_dropout.html").read_text()
    assert page.count("<img") >= 13
    assert "Traceback" not in page
    before = state(outputs)
    assert "up to date" in run(monkeypatch, capsys)
    assert state(outputs) == before


def test_a_page_is_drawn_again_when_its_results_have_changed(tmp_path, monkeypatch):
    """The stamp holds which results are there, not only which are wanted."""
    monkeypatch.setenv("NOISEUTILS_OUTPUTS", str(tmp_path))
    params = study_params("noisy_dropout", "smoke")
    stamps = []

    def note(notebook, *parts):
        stamps.append(str(parts))
        return "stamp"

    monkeypatch.setattr(pipeline, "stamp", note)
    monkeypatch.setattr(pipeline, "current", lambda *_: True)
    pipeline.render_study(params)
    run = pipeline.RENDERED["noisy_dropout"].runs(params)[0]
    pipeline.open_store().save(Result(run, "diverged", {}, pd.DataFrame({"epoch": [1]}), None, {}))
    pipeline.render_study(params)
    assert stamps[0] != stamps[1]


def test_run_all_counts_the_studies_says_what_is_left_and_ends_with_the_book(monkeypatch, capsys):
    from noiseutils.book import extras, site

    params = [study_params(name, "smoke") for name in ("noisy_dropout", "adaptive_noise")]
    done = Sweep([], open_store())
    rendered = Rendered(Path("out/a.ipynb"), Path("out/a.html"))
    calls = []
    monkeypatch.setattr(extras, "require_docs", lambda: calls.append("extras"))
    monkeypatch.setattr(pipeline, "everything", lambda *_: [one.study for one in params])
    monkeypatch.setattr(pipeline, "sweep_study", lambda *_: done)
    monkeypatch.setattr(pipeline, "render_study", lambda one: calls.append(one.study) or (rendered, False))
    monkeypatch.setattr(pipeline, "render_start_here", lambda: calls.append("start"))
    book = site.Book(Path("out/book/index.html"), 60, False, ["quick/tables/a.csv: is cut off"])
    monkeypatch.setattr(site, "book", lambda *_: calls.append("book") or book)
    monkeypatch.setattr(cli.time, "monotonic", iter(range(0, 10_000, 100)).__next__)
    monkeypatch.setattr(sys, "argv", ["noiseutils", "run", "all", "--profile", "smoke"])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    assert not exit_.value.code
    assert calls == ["extras", "noisy_dropout", "adaptive_noise", "start", "book"]
    out, err = capsys.readouterr()
    assert re.search(r"noisy_dropout, study 1 of 2\n", out)
    assert re.search(r"adaptive_noise, study 2 of 2; about \d+ min left\n", out)
    assert out.endswith("Open out/book/index.html in a browser.\n")
    assert "left out: quick/tables/a.csv: is cut off" in err


def test_all_is_the_studies_and_the_live_lab_where_it_has_the_profile():
    studies = ["noisy_dropout", "adaptive_noise", "adversarial_noise_layer", "training_data_variation"]
    studies += ["head_to_head"]
    assert pipeline.everything("quick") == [*studies, "live_lab"]
    assert pipeline.everything("paper") == studies
    assert pipeline.everything("quick", ["seeds=3"]) == studies


def test_the_live_lab_has_nothing_to_publish():
    params = study_params("live_lab", "smoke")
    with pytest.raises(UserError, match="study to publish 'live_lab' is not known; allowed: noisy_dropout"):
        pipeline.publish(params)


def test_what_is_not_rendered_is_not_published_by_half(tmp_path, monkeypatch):
    path = pipeline.reference_root() / "noisy_dropout" / "cifar10-jpeg" / "params.yaml"
    params = study_params("noisy_dropout", str(path))
    monkeypatch.setenv("NOISEUTILS_OUTPUTS", str(tmp_path / "outputs"))
    monkeypatch.setattr(pipeline, "reference_root", lambda: tmp_path / "reference")
    with pytest.raises(UserError, match="figures is not there: run `noiseutils run noisy_dropout`"):
        pipeline.publish(params)
    assert not (tmp_path / "reference").exists()


def test_what_is_finished_is_published_without_training_the_rest(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("NOISEUTILS_OUTPUTS", str(tmp_path / "outputs"))
    monkeypatch.setattr(pipeline, "reference_root", lambda: tmp_path / "reference")
    asked = []

    def rendered(notebook, folder, values, mark, environment):
        asked.append((mark, environment))
        for name in ("figures", "tables"):
            (folder / name).mkdir(parents=True, exist_ok=True)
            (folder / name / "made.csv").write_text("a\n1\n")
        return Rendered(folder / "a.ipynb", folder / "a.html")

    monkeypatch.setattr(pipeline, "render", rendered)
    words = ["noiseutils", "publish", "noisy_dropout", "--profile", "smoke", "--finished"]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    assert not exit_.value.code
    folder = tmp_path / "reference" / "noisy_dropout" / "smoke"
    assert (folder / "tables" / "made.csv").exists()
    assert str(folder) in capsys.readouterr().out.replace("\n", "")
    pipeline.render_study(study_params("noisy_dropout", "smoke"))
    (stored, finished), (whole, rest) = asked
    assert (finished, rest) == ({"NOISEUTILS_NOTEBOOKS": "stored"}, {})
    assert stored != whole, "the rendering of a part is not taken for that of all"


def test_a_remark_in_published_parameters_stays(tmp_path, monkeypatch):
    monkeypatch.setenv("NOISEUTILS_OUTPUTS", str(tmp_path / "outputs"))
    monkeypatch.setattr(pipeline, "reference_root", lambda: tmp_path / "reference")
    for name in ("figures", "tables"):
        (tmp_path / "outputs" / "noisy_dropout" / "smoke" / name).mkdir(parents=True)
    place = pipeline.publish(study_params("noisy_dropout", "smoke")) / "params.yaml"
    first = place.read_text()
    assert first.startswith("# What these results were made with.\nstudy: ")
    place.write_text("# Seeds 6 to 11 were added after a look.\n" + first)
    pipeline.publish(study_params("noisy_dropout", "smoke"))
    assert place.read_text() == "# Seeds 6 to 11 were added after a look.\n" + first
