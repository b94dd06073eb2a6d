import json

import pytest
import torch

from noiseutils import bench
from noiseutils.config import Data
from noiseutils.data import load
from noiseutils.errors import UserError


def test_a_ratio_is_of_medians_and_the_two_sides_take_turns():
    calls = []

    def timed(name, values):
        series = iter(values)

        def once() -> float:
            calls.append(name)
            return next(series)

        return name, once

    ratio = bench.interleaved("x", timed("a", [99, 2, 30, 4]), timed("b", [99, 1, 2, 30]), rounds=3)
    assert calls == ["a", "b"] * 4
    assert (ratio.slow_seconds, ratio.fast_seconds, ratio.ratio) == (4, 2, 2.0)


def test_the_plain_loop_serves_the_same_images():
    data = load(Data(train_size=20, test_size=10))
    served = bench.PilImages(data.train.pixels, data.train.labels, lambda image: image)
    assert len(served) == 20
    image, label = served[3]
    assert label == int(data.train.labels[3])
    assert torch.equal(
        torch.tensor(list(image.tobytes())).view(32, 32, 3), data.train.pixels[3].permute(1, 2, 0)
    )


def test_a_report_names_both_sides_and_is_written_as_json(tmp_path, monkeypatch):
    monkeypatch.setitem(
        bench.BENCHMARKS, "noisy_dropout_step", lambda: [bench.noisy_dropout_step(rounds=2, width=0.1)]
    )
    monkeypatch.setitem(bench.BENCHMARKS, "augmentation", lambda: [bench.augmentation(rounds=2)])
    file = tmp_path / "bench.json"
    text = bench.report(["augmentation", "noisy_dropout_step"], file)
    assert "PIL, image by image / whole batch" in text
    found = json.loads(file.read_text())
    assert [r["name"] for r in found["ratios"]] == ["augmentation", "noisy_dropout_step"]
    assert all(r["ratio"] == pytest.approx(r["slow_seconds"] / r["fast_seconds"]) for r in found["ratios"])
    assert {"machine", "torch", "commit"} <= found.keys()


def test_every_noise_of_the_anl_paper_is_timed_against_the_same_step():
    ratios = bench.noise_steps("resnet20", width=0.25, batch_size=10, rounds=1)
    assert list(ratios) == ["anl", "canl", "lat", "gaussian"]
    assert len({ratio.fast_seconds for ratio in ratios.values()}) == 1
    assert all(r.ratio == pytest.approx(r.slow_seconds / r.fast_seconds) for r in ratios.values())


def test_an_unknown_benchmark_is_refused_before_any_runs(monkeypatch):
    monkeypatch.setitem(bench.BENCHMARKS, "augmentation", lambda: pytest.fail("it ran"))
    with pytest.raises(UserError, match="'warp' is not known"):
        bench.report(["augmentation", "warp"])
