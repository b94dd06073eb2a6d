"""Every benchmark's code runs, on networks and sets so small that their numbers mean nothing."""

import json

import pytest
import torch

from noiseutils.bench import cuda, epochs, machine, models, noise_steps, noisy_dropout_step, steps
from noiseutils.bench.epochs import embedded, synthetic
from noiseutils.bench.plain import PilImages, PlainLoop
from noiseutils.bench.roofline import Work, work_of_named
from noiseutils.bench.side_by_side import side_by_side
from noiseutils.config import Data
from noiseutils.data import load
from noiseutils.training import allocator


@pytest.fixture
def small_peaks(monkeypatch):
    monkeypatch.setattr(machine, "SAMPLE_OPERATIONS", 1.0)
    monkeypatch.setattr(machine, "COPIED_BYTES", 4096)
    monkeypatch.setitem(machine.MATRIX_SIDES, "cpu", (8, 16))
    monkeypatch.setattr(machine, "CONVOLUTIONS", ((1, 2, 2, 3, 4),))


def test_the_plain_loop_serves_the_same_images():
    data = load(Data(train_size=20, test_size=10))
    served = PilImages(data.train, [])
    assert len(served) == 20
    image, label = served[3]
    assert label == int(data.train.labels[3])
    assert torch.equal(
        torch.tensor(list(image.tobytes())).view(32, 32, 3), data.train.pixels[3].permute(1, 2, 0)
    )


def test_the_plain_loop_trains_and_tests():
    loop = PlainLoop(embedded(20, 10), "babycnn", 10, workers=0)
    before = [p.detach().clone() for p in loop.net.parameters()]
    assert loop.epoch() > 0
    assert all(not torch.equal(a, b) for a, b in zip(before, loop.net.parameters(), strict=True))
    assert loop.accuracy() in [right / 10 for right in range(11)]


def test_an_epoch_is_compared_with_the_plain_loop_under_the_ordinary_allocator(monkeypatch):
    allocator.keep_freed_memory()
    now, kept, epoch = [allocator.KEEP], [], PlainLoop.epoch
    monkeypatch.setattr(allocator, "_set", lambda values: now.append(values))
    monkeypatch.setattr(PlainLoop, "epoch", lambda self: kept.append(now[-1]) or epoch(self))
    plain, eager = epochs.epoch("babycnn", 2, embedded(200), workers=0)
    assert (plain.name, eager.name) == ("babycnn_epoch", "babycnn_epoch_eager")
    assert kept == [allocator.ORDINARY] * 3, "a warm-up and two rounds"
    assert now[-1] == allocator.KEEP, "and afterwards as before"
    assert plain.below is eager.below
    assert len(plain.above.values) == len(plain.below.values) == 2
    assert plain.below.warm_up


def test_a_training_that_diverges_is_no_benchmark():
    run = epochs.run_of("babycnn").replace(schedule={"learning_rate": 1e30})
    with pytest.raises(RuntimeError, match="diverged"):
        epochs.in_turn_with_training(run, embedded(200), {}, 2)


def test_a_rate_is_counted_operations_over_seconds(small_peaks):
    product, convolution = epochs.rate("tinycnn", 1, embedded(150), width=0.1)
    operations = work_of_named("tinycnn", width=0.1).operations * 150
    assert product.above.median == pytest.approx(operations / product.details["seconds_an_epoch"])
    assert product.details["operations_an_epoch"] == operations
    assert product.below.name.startswith("product")
    assert convolution.below.name.startswith("convolution")
    assert product.details["peaks"]["product"]["median"] == product.below.median


def test_single_operations_and_steps_name_both_sides():
    blurred = steps.blur(sigma=1.0, rounds=2)
    assert (blurred.above.name, blurred.below.name) == ("torchvision, image by image", "whole batch")
    cropped = steps.augmentation(rounds=2)
    assert (cropped.above.name, cropped.below.name) == ("PIL, image by image", "whole batch")
    assert noisy_dropout_step(rounds=1, width=0.1).below.name == "nn.Dropout"


def test_noise_on_parameters_is_timed_in_turn_with_none():
    ratios = steps.parameter_noise_steps("resnet20", width=0.25, batch_size=10, rounds=1)
    assert [r.name for r in ratios] == [
        f"resnet20_{kind}_{target}s" for kind in ("gaussian", "uniform") for target in ("gradient", "weight")
    ]
    assert len({r.below.values for r in ratios}) == 1
    assert all(r.ratio > 0 for r in ratios)


def test_every_noise_of_the_anl_paper_is_timed_against_the_same_step():
    ratios = noise_steps("resnet20", width=0.25, batch_size=10, rounds=1)
    assert list(ratios) == ["anl", "canl", "lat", "gaussian"]
    assert len({ratio.fast_seconds for ratio in ratios.values()}) == 1
    assert ratios["anl"].name == "resnet20_anl_step"


@pytest.mark.slow
def test_trainings_side_by_side_are_over_the_same_images():
    (ratio,) = side_by_side("babycnn", 2, 1, images=200, epochs=1)
    assert ratio.name == "side_by_side"
    assert (ratio.above.name, ratio.below.name) == ("2 processes", "one after another")
    assert ratio.unit == "images/s"
    assert min(ratio.above.median, ratio.below.median) > 0


def test_networks_are_measured_beside_their_rooflines(small_peaks, monkeypatch):
    monkeypatch.setattr(models, "embedded", lambda images: embedded(40))
    (found,) = models.models(["babycnn", "lenet5"])
    record = json.loads(json.dumps(found.to_json()))
    assert [row["model"] for row in record["rows"]] == ["babycnn", "lenet5"]
    for row in record["rows"]:
        assert row["operations"] == work_of_named(row["model"]).operations * 10_000
        assert row["share"] == pytest.approx(row["roofline_seconds"] / row["seconds"])
        compute = row["operations"] / record["peaks"]["rate"]
        assert row["roofline_seconds"] >= compute * (1 - 1e-9)


def test_a_batch_that_would_not_fit_is_halved():
    a_megabyte = Work(operations=1, saved=2**18, parameters=1)
    assert models.fitting(a_megabyte, 128) == 128
    assert models.fitting(Work(1, saved=100 * 2**18, parameters=1), 128) == 16
    assert models.fitting(Work(1, saved=10**12, parameters=1), 128) == 1


def test_random_images_are_a_set_like_any_other():
    data = synthetic(30)
    assert data.train.pixels.shape == (30, 3, 32, 32)
    assert data.train.pixels.is_contiguous()
    assert torch.equal(data.train.pixels, synthetic(30).train.pixels)


def test_the_gpu_benchmarks_run_on_cpu_where_they_prove_nothing(small_peaks):
    tiny = {"rounds": 1, "data": synthetic(20), "width": 0.1, "device": "cpu"}
    small = tiny | {"batch_size": 10, "engine": "eager"}
    product, _ = epochs.rate("resnet20", **small)
    assert product.unit == "operations/s"
    assert product.details["seconds_an_epoch"] > 0
    (graphed,) = cuda.graphed("resnet20", **tiny)
    assert (graphed.above.name, graphed.below.name) == ("eager", "graphed")
    noisy = cuda.noise_epochs("resnet20", **small)
    assert [r.name.split("_")[1] for r in noisy] == ["anl", "canl", "lat", "gaussian"]
    plain, _ = epochs.epoch("resnet20", workers=0, engine="graphed", **tiny)
    assert plain.name == "resnet20_epoch"
    (loader,) = cuda.loader_share("resnet20", **small)
    assert loader.ratio > 0
