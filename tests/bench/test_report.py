import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from noiseutils.bench import figure, report, table
from noiseutils.bench.models import Models
from noiseutils.bench.ratios import Ratio, Side
from noiseutils.bench.roofline import work_of_named
from noiseutils.bench.steps import ANL_NOISE
from noiseutils.cli import app
from noiseutils.errors import UserError
from noiseutils.markdown import between_marks, marks

BEGIN, END = marks("bench")

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "outputs" / "reference" / "bench" / "two-cpu-cores.json"
RATIO = Ratio("augmentation", "one / other", Side("one", (4.0,)), Side("other", (2.0,)))
MEMORY = Ratio("resnet18_memory", "memory", Side("ours", (70.0,)), Side("plain", (100.0,)), "bytes")


def found_models():
    peaks = {
        "product": {"name": "product 1024", "median": 1e9, "fastest": 2e9},
        "convolution": {"name": "convolution", "median": 4e9, "fastest": 5e9},
        "rate": 5e9,
        "bandwidth": 1e10,
    }
    rows = [
        {
            "model": name,
            "operations": 10_000 * work_of_named(name).operations,
            "batch": batch,
            "seconds": seconds,
        }
        for name, batch, seconds in (("babycnn", 128, 4.0), ("resnet56", 16, 9000.0))
    ]
    return Models(10_000, 128, "cpu", 2**25, peaks, rows)


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """A JSON of made-up numbers, written as the command writes it."""
    monkeypatch.setitem(report.BENCHMARKS, "augmentation", lambda: [RATIO, MEMORY])
    monkeypatch.setitem(report.BENCHMARKS, "models", lambda: [found_models()])
    file = tmp_path / "bench.json"
    report.report(["augmentation", "models"], file, lambda line: None)
    return file


def test_a_report_names_both_sides_and_is_written_as_json(measured):
    lines = []
    report.report(["augmentation", "models"], None, lines.append)
    assert any("one / other: 2.00   (4000 ms / 2000 ms" in line for line in lines)
    assert any("resnet56" in line for line in lines)
    found = json.loads(measured.read_text())
    assert [r["name"] for r in found["ratios"]] == ["augmentation", "resnet18_memory"]
    assert {"cpu", "threads", "torch", "commit"} <= found["machine"].keys()
    assert [row["model"] for row in found["models"]["rows"]] == ["babycnn", "resnet56"]


def test_what_is_measured_outlives_what_fails(tmp_path, monkeypatch):
    monkeypatch.setitem(report.BENCHMARKS, "augmentation", lambda: [RATIO])
    monkeypatch.setitem(report.BENCHMARKS, "models", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        report.report(["augmentation", "models"], tmp_path / "x.json", lambda line: None)
    assert len(json.loads((tmp_path / "x.json").read_text())["ratios"]) == 1


def test_an_unknown_benchmark_is_refused_before_any_runs(monkeypatch):
    monkeypatch.setitem(report.BENCHMARKS, "augmentation", lambda: pytest.fail("it ran"))
    with pytest.raises(UserError, match="'warp' is not known"):
        report.report(["augmentation", "warp"])


def test_without_a_gpu_its_benchmarks_are_refused_by_name_and_left_out_of_all(monkeypatch):
    ran = []
    for name in report.BENCHMARKS:
        monkeypatch.setitem(report.BENCHMARKS, name, lambda name=name: ran.append(name) or [])
    monkeypatch.setattr(report.torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="eight_seeds needs a CUDA device: not run"):
        report.report(["augmentation", "eight_seeds"])
    assert ran == []
    report.report(echo=lambda line: None)
    assert ran == list(report.ON_CPU)


def test_a_verdict_is_computed_from_the_ratio_as_printed():
    assert table.Goal(at_most=0.8).verdict(0.804) == "yes", "0.80"
    assert table.Goal(at_most=0.8).verdict(0.806) == "no"
    assert table.Goal(at_least=4).verdict(3.99) == "no"
    assert table.Goal(why="the paper: 1.93").verdict(3) == ""
    assert str(table.Goal(at_most=1.85, why="in theory 1.67")) == "at most 1.85; in theory 1.67"


def test_goals_are_those_of_ratios_that_are_measured():
    here = {ratio["name"] for ratio in table.read(REFERENCE)["ratios"]}
    on_a_gpu = report.ON_CUDA.keys() | {f"vgg16_{noise}_step_cuda" for noise in ANL_NOISE}
    assert table.GOALS.keys() <= here | on_a_gpu


def test_the_tables_say_what_was_measured(measured, monkeypatch):
    monkeypatch.setattr(table, "GOALS", {"resnet18_memory": table.Goal(at_most=0.8)})
    text = table.render(measured)
    assert "| one / other | 2.00 |  |  |" in text
    assert "| memory | 0.70 | at most 0.8 | yes |" in text
    # at 5 Gop/s; the other was measured in smaller batches
    assert "| babycnn | 0.0101 | 2.02 | 4.00 | 50% |" in text
    assert "| resnet56 (batch 16) | 7.52 | 1,504 | 9,000 | 17% |" in text
    assert "1 Gop/s in a float32 matrix product, 4 in a convolution" in text


def test_the_readmes_tables_are_those_of_the_committed_json():
    readme = (ROOT / "README.md").read_text()
    assert between_marks(readme, "bench") == table.render(REFERENCE)


def test_a_readme_is_rewritten_between_its_markers_alone(measured, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    table.rewrite(readme, measured)
    text = readme.read_text()
    assert text.startswith(f"before\n{BEGIN}\n")
    assert text.endswith(f"{END}\nafter\n")
    assert between_marks(text, "bench") == table.render(measured)
    table.rewrite(readme, measured)
    assert readme.read_text() == text, "twice does no harm"
    readme.write_text("no markers")
    with pytest.raises(UserError, match="expected the lines"):
        table.rewrite(readme, measured)


def test_a_file_that_is_no_benchmark_is_named(tmp_path):
    old = tmp_path / "old.json"
    old.write_text('{"machine": "x", "ratios": [{"name": "x", "slow": "a"}]}')
    for file, why in ((old, "not what"), (tmp_path / "none.json", "No such file")):
        with pytest.raises(UserError, match=why):
            table.render(file)


def test_the_figure_shows_every_networks_two_numbers(measured):
    paths = figure.draw(measured)
    assert [path.suffix for path in paths] == [".png", ".svg"]
    assert all(path.stat().st_size > 5000 for path in paths)
    found = json.loads(measured.read_text())
    drawn = figure.networks(found["models"], found["machine"])
    ax = drawn.axes[0]
    rooflines, seconds = (np.asarray(line.get_xdata()).tolist() for line in ax.get_lines())
    assert rooflines == pytest.approx([1504, 2.015], rel=1e-3)
    assert seconds == [9000.0, 4.0]
    assert ax.get_xscale() == "log"
    assert [label.get_text() for label in ax.get_yticklabels()] == ["resnet56", "babycnn"]
    figure.plots.pyplot.close(drawn)


def test_the_command_renders_and_draws_without_measuring(measured, monkeypatch, tmp_path):
    monkeypatch.setattr(report, "report", lambda *a: pytest.fail("it measured"))
    monkeypatch.chdir(tmp_path)
    Path("README.md").write_text(f"{BEGIN}{END}")
    done = CliRunner().invoke(app, ["bench", "--readme", str(measured), "--figure", str(measured)])
    assert done.exit_code == 0, done.output
    assert "bench-models.png" in done.output
    assert "| one / other |" in Path("README.md").read_text()
    refused = CliRunner().invoke(app, ["bench", "augmentation", "--readme", str(measured)])
    assert isinstance(refused.exception, UserError)
