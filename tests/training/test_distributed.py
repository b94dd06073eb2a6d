"""Two processes on the CPU, as torchrun starts them: this file, run as a script, is what they do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import nn

from noiseutils import Run, train
from noiseutils.book import pipeline
from noiseutils.config import (
    AdversarialNoise,
    ClassAdversarialNoise,
    Data,
    Evaluation,
    LayerwiseAdversarialNoise,
    Model,
    NoisyDropout,
    Optimizer,
    Schedule,
)
from noiseutils.data import batch_parts, batches
from noiseutils.errors import UserError
from noiseutils.rng import rank_seed
from noiseutils.studies import STUDIES
from noiseutils.studies.profiles import study_params
from noiseutils.sweeps import budget, execution
from noiseutils.sweeps.budget import OutOfTime
from noiseutils.sweeps.store import Store
from noiseutils.sweeps.sweep import Sweep, sweep
from noiseutils.training import distributed
from noiseutils.training.checkpoint import CannotResume, Checkpoint
from noiseutils.training.distributed import raise_on_all, rank, world

pytestmark = pytest.mark.slow

CLEAN = Run(
    data=Data(train_size=69, test_size=30),  # a last batch of five: three and two
    model=Model(name="cifar10net", width=0.1),
    optimizer=Optimizer(momentum=0.9, weight_decay=1e-3),
    schedule=Schedule(kind="plateau", learning_rate=0.05, factor=0.5, every=1),
    epochs=2,
    batch_size=32,
    augment=True,
    evaluation=Evaluation(),
)
NORMED = CLEAN.replace(
    data=Data(train_size=67, test_size=30),  # a last batch of three: too small, dropped
    model=Model(name="resnet20", width=0.25),
)
NOISY = {
    name: NORMED.replace(noise=noise, after=("BatchNorm2d",))
    for name, noise in (
        ("anl", AdversarialNoise(epsilon=0.2)),
        ("canl", ClassAdversarialNoise(epsilon=0.2)),
        ("lat", LayerwiseAdversarialNoise(epsilon=0.01)),
        ("dropout", NoisyDropout(p=0.1, std=0.1)),
    )
}
RUNS = [CLEAN.replace(seed=seed) for seed in range(3)]
CURSED = 1  # the seed of the run that fails on rank 1
GRADIENT_CASES = (6, 5)  # images in the global batch: even and uneven parts
TIMEOUT = 120


# ---------------------------------------------------------------------------------- what the processes do


def toy() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(3)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5))
    for p in net.parameters():
        p.data.normal_(generator=random).mul_(0.1)
    net = net.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    return net, torch.randn(6, 3, 8, 8, generator=random), torch.tensor([0, 1, 2, 3, 4, 0])


def state_of(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone().contiguous() for name, value in model.state_dict().items()}


def equal_on_all(state: dict[str, torch.Tensor]) -> bool:
    first = distributed.broadcast_object(state)
    return all(torch.equal(value, state[name]) for name, value in first.items())


def gradients(folder: Path) -> dict:
    found = {}
    for n in GRADIENT_CASES:
        net, x, y = toy()
        (part,) = batch_parts(n, n, (rank(), world()))
        network = distributed.wrapped(net)
        loss = F.cross_entropy(network(x[:n][part]), y[:n][part])
        distributed.backward(loss, len(y[:n][part]), n)
        found |= {f"{n}/{name}": p.grad.contiguous() for name, p in net.named_parameters()}
    safetensors.torch.save_file(found, folder / f"gradients.{rank()}")
    return {}


def trainings(folder: Path) -> dict:
    result = train(CLEAN)
    if rank() == 0:
        safetensors.torch.save_file(state_of(result.model), folder / "clean")
        result.history.to_csv(folder / "clean.csv")
    said = {"seeds": rank_seed(7), "processes": result.info["device"]}
    said["clean_equal"] = equal_on_all(state_of(result.model))
    for name, run in NOISY.items():
        kept: list[Checkpoint] = []
        result = train(run, on_epoch=lambda row, snapshot, kept=kept: kept.append(snapshot()))
        whole = state_of(result.model)
        again = train(run, resume=distributed.broadcast_object(kept[0]))
        said[name] = {
            "status": result.status,
            "equal": equal_on_all(whole),
            "resumed": all(torch.equal(v, whole[k]) for k, v in state_of(again.model).items()),
            "loss": result.history.train_loss.tolist(),
            "top1_error": result.metrics["top1_error"],
        }
        if name == "canl" and rank() == 0:
            Store(folder / "checkpoints").save_checkpoint(run, kept[0])
    real, parts = distributed.backward, []

    def spy(loss, images, batch):
        parts.append([images, batch])
        real(loss, images, batch)

    distributed.backward = spy
    for name, run in (("none", CLEAN), ("batchnorm", NOISY["anl"])):
        parts.clear()
        train(run.replace(epochs=1))
        said[f"parts_{name}"] = list(parts)
    distributed.backward = real
    return said


def errors(folder: Path) -> dict:
    """The type and text of what each rank gets to see."""

    def seen(call) -> list[str]:
        try:
            call()
        except Exception as error:
            return [type(error).__name__, str(error), "".join(getattr(error, "__notes__", ()))]
        return ["nothing", "", ""]

    def out_of_time(row, snapshot):
        if rank() == 0:
            raise OutOfTime

    def both():
        with raise_on_all():
            raise UserError("first") if rank() == 0 else ZeroDivisionError("second")

    module = sys.modules["noiseutils.training.engines"]
    module.batches = torn  # pyright: ignore[reportAttributeAccessIssue]
    found = {"data": seen(lambda: train(CLEAN.replace(seed=CURSED)))}
    module.batches = batches  # pyright: ignore[reportAttributeAccessIssue]
    return found | {
        "on_epoch": seen(lambda: train(CLEAN, on_epoch=out_of_time)),
        "both": seen(both),
        "small": seen(lambda: train(NOISY["anl"].replace(batch_size=3))),
        "place": seen(lambda: train(NOISY["anl"].replace(after=("nowhere",)))),
        "fine": seen(lambda: train(CLEAN)),
    }


def torn(images, batch_size, *, order=None, **options):
    """`batches`, whose second batch breaks on rank 1 for the cursed seed alone."""
    cursed = order is not None and order.initial_seed() == torn_seed()
    for number, batch in enumerate(batches(images, batch_size, order=order, **options)):
        if cursed and rank() == 1 and number == 1:
            raise ValueError("a broken image")
        yield batch


def torn_seed() -> int:
    from noiseutils.rng import streams

    return streams(CURSED).data.initial_seed()


def sweeps(folder: Path) -> dict:
    calls: Counter[int] = Counter()

    def counted(run, **options):
        calls[run.seed] += 1
        return train(run, **options)

    execution.train = counted
    module = sys.modules["noiseutils.training.engines"]
    module.batches = torn  # pyright: ignore[reportAttributeAccessIssue]
    store = Store(folder / "runs")
    done = sweep(RUNS, store, progress=False)
    said = {"failed": {str(run.seed): done.failed.get(run.key, "") for run in RUNS}, "first": dict(calls)}
    module.batches = batches  # pyright: ignore[reportAttributeAccessIssue]
    distributed.on_rank0(lambda: None)
    said["results"] = len(sweep(RUNS, store, progress=False).results)
    said["second"] = dict(calls)

    lap, laps = budget.Clock.lap, Counter()

    def short(self) -> bool:
        laps["all"] += 1
        return lap(self) or laps["all"] == 1

    long = NOISY["canl"].replace(epochs=3)
    budget.Clock.lap = short
    stopped = sweep([long], store, progress=False)
    budget.Clock.lap = lap
    said["out_of_time"] = stopped.out_of_time
    said["state"] = distributed.on_rank0(lambda: store.state(long))
    sweep([long], store, progress=False)
    sweep([long], Store(folder / "whole"), "distributed", progress=False)
    return said


if __name__ == "__main__":
    place = Path(sys.argv[1])
    if sys.argv[2] != "sweeps":  # a sweep joins by itself
        distributed.start()
    torch.set_num_threads(1)
    report = {"gradients": gradients, "trainings": trainings, "errors": errors, "sweeps": sweeps}
    told = {name: report[name](place) for name in sys.argv[2:]}
    (place / f"{'-'.join(sys.argv[2:])}.{rank()}.json").write_text(json.dumps(told))
    distributed.exit_process(0)


# ------------------------------------------------------------------------------------- what is held of them


def torchrun(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.run(
        [*launcher, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        env=os.environ | environment,
        check=False,
    )


def reports(folder: Path, *names: str) -> list[dict]:
    done = torchrun(__file__, folder, *names)
    assert done.returncode == 0, done.stderr[-5000:]
    return [json.loads((folder / f"{'-'.join(names)}.{r}.json").read_text()) for r in range(2)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, list[dict]]:
    folder = tmp_path_factory.mktemp("trained")
    return folder, reports(folder, "gradients", "trainings", "errors")


@pytest.fixture(scope="module")
def swept(tmp_path_factory) -> tuple[Path, list[dict]]:
    folder = tmp_path_factory.mktemp("swept")
    return folder, [report["sweeps"] for report in reports(folder, "sweeps")]


@pytest.mark.parametrize("n", GRADIENT_CASES)
def test_averaged_gradients_are_those_of_the_global_batch(trained, n):
    net, x, y = toy()
    F.cross_entropy(net(x[:n]), y[:n]).backward()
    for r in range(2):
        found = safetensors.torch.load_file(trained[0] / f"gradients.{r}")
        for name, p in net.named_parameters():
            want = torch.zeros_like(p) if p.grad is None else p.grad
            assert torch.allclose(found[f"{n}/{name}"], want, atol=1e-6), name


def test_a_clean_training_over_two_processes_equals_that_of_one(trained):
    import pandas as pd

    folder, (first, second) = trained
    single = train(CLEAN)
    for name, value in safetensors.torch.load_file(folder / "clean").items():
        assert torch.allclose(value, single.model.state_dict()[name], atol=1e-5), name
    history = pd.read_csv(folder / "clean.csv", index_col=0).drop(columns="seconds")
    assert list(history) == [c for c in single.history if c != "seconds"]
    for column in history:
        assert history[column].tolist() == pytest.approx(single.history[column].tolist(), rel=1e-3), column
    assert first["trainings"]["clean_equal"]
    assert second["trainings"]["clean_equal"]
    assert first["trainings"]["processes"].endswith(", 2 processes")


@pytest.mark.parametrize("method", NOISY)
def test_noise_over_two_processes_ends_finite_with_equal_weights(trained, method):
    first, second = (report["trainings"][method] for report in trained[1])
    assert first["status"] == second["status"] == "finished"
    assert first["equal"]
    assert second["equal"]
    assert first["loss"] == second["loss"]
    assert first["top1_error"] == second["top1_error"]


@pytest.mark.parametrize("method", NOISY)
def test_resumed_on_two_processes_equals_uninterrupted(trained, method):
    assert all(report["trainings"][method]["resumed"] for report in trained[1])


def test_a_last_batch_too_small_for_one_process_is_dropped_on_all(trained):
    first, second = (report["trainings"] for report in trained[1])
    assert first["parts_none"] == [[16, 32], [16, 32], [3, 5]]
    assert second["parts_none"] == [[16, 32], [16, 32], [2, 5]]
    assert first["parts_batchnorm"] == second["parts_batchnorm"] == [[16, 32], [16, 32]]


def test_noise_differs_by_rank_and_is_as_ever_on_the_first(trained):
    first, second = (report["trainings"]["seeds"] for report in trained[1])
    assert first == 7 != second


def test_a_snapshot_of_another_number_of_processes_is_refused(trained):
    snapshot = Store(trained[0] / "checkpoints").load_checkpoint(NOISY["canl"])
    assert snapshot is not None
    with pytest.raises(CannotResume, match="2 processes made it, here it is 1"):
        train(NOISY["canl"], resume=snapshot)


def test_an_error_on_one_rank_is_raised_on_all(trained):
    first, second = (report["errors"] for report in trained[1])
    assert second["data"] == ["ValueError", "a broken image", ""]
    assert first["data"][:2] == ["RuntimeError", "ValueError: a broken image"]
    assert "on rank 1 of 2" in first["data"][2]
    assert "in torn" in first["data"][2], "the traceback goes along"
    assert first["on_epoch"][0] == second["on_epoch"][0] == "OutOfTime"
    assert first["both"][:2] == second["both"][:2] == ["UserError", "first"]
    assert first["fine"][0] == second["fine"][0] == "nothing", "the ranks are still in step"


def test_what_several_processes_cannot_do_is_an_error_on_each(trained):
    for report in trained[1]:
        kind, text, _ = report["errors"]["small"]
        assert kind == "UserError"
        assert "batches of 3 leave no 2 images for each of 2 processes" in text
        assert "nowhere matches no module" in report["errors"]["place"][1]


def test_a_sweep_over_two_processes_computes_each_run_once_and_records_failures(swept):
    folder, (first, second) = swept
    for report in (first, second):
        assert report["first"] == {"0": 1, "1": 1, "2": 1}
        assert report["second"] == {"0": 1, "1": 2, "2": 1}, "the next sweep tries the failed one again"
        assert report["results"] == 3
        assert not report["failed"]["0"]
        assert not report["failed"]["2"]
        assert "a broken image" in report["failed"]["1"]
    assert "on rank 1 of 2" in first["failed"]["1"]
    runs = [*RUNS, NOISY["canl"].replace(epochs=3)]
    found = sorted(p.name for p in (folder / "runs").iterdir() if p.name != ".locks")
    assert found == sorted(run.key for run in runs)


def test_a_sweep_over_two_processes_goes_on_after_its_budget_and_ends_the_same(swept):
    folder, told = swept
    run = NOISY["canl"].replace(epochs=3)
    assert all(report["out_of_time"] for report in told)
    assert told[0]["state"] == "interrupted"
    parts = [Store(folder / place).load(run, weights=True) for place in ("runs", "whole")]
    weights = [part.model.state_dict() for part in parts]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    assert parts[0].history.drop(columns="seconds").equals(parts[1].history.drop(columns="seconds"))


def test_the_command_line_under_torchrun_speaks_once(tmp_path):
    profile = tmp_path / "small.yaml"
    profile.write_text(SMALL)
    place = {"NOISEUTILS_OUTPUTS": str(tmp_path / "outputs")}
    words = ("-m", "noiseutils", "sweep", "noisy_dropout", "--profile", profile)
    done = torchrun(*words, **place)
    assert done.returncode == 0, done.stderr[-5000:]
    (line,) = done.stdout.splitlines()
    assert line.endswith("runs stored; done.")
    done = torchrun(*words, "--executor", "local", **place)
    assert done.returncode != 0
    assert done.stderr.count("noiseutils: executor 'local' does not go with torchrun") == 1


def test_the_executor_for_several_processes_needs_them(tmp_path):
    with pytest.raises(UserError, match="torchrun --nproc-per-node"):
        sweep(RUNS, Store(tmp_path), "distributed")


@pytest.fixture
def as_second_of_two(monkeypatch):
    for name, value in zip(distributed.TORCHRUN, ("1", "1", "2", "127.0.0.1", "1"), strict=True):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")


@pytest.mark.parametrize("executor", ["inline", "local"])
def test_other_executors_do_not_go_with_torchrun(tmp_path, as_second_of_two, executor):
    with pytest.raises(UserError, match="does not go with torchrun"):
        sweep(RUNS, Store(tmp_path), executor)


def test_notebooks_are_not_rendered_by_several_processes(as_second_of_two):
    from noiseutils.cli import run

    assert not distributed.is_main_process()
    with pytest.raises(UserError, match="torchrun is for `noiseutils sweep`"):
        run("noisy_dropout")


def test_what_follows_the_training_is_done_by_one_process(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(pipeline, "on_rank0", lambda make: told.append(make) or [])
    monkeypatch.setattr(pipeline, "sweep", lambda *_, **__: Sweep([], Store(tmp_path)))
    params = study_params("adversarial_noise_layer", "smoke")
    study = replace(STUDIES[params.study], analyse=lambda *_: "analysed")
    monkeypatch.setitem(pipeline.RENDERED, params.study, study)
    pipeline.sweep_study(params)
    known, *after = [make() for make in told]
    assert known == STUDIES[params.study].runs(params)
    assert after == ["analysed", []]  # then: runs whose weights were found damaged


def test_processes_on_one_machine_share_its_cores_for_decoding(tmp_path, monkeypatch, as_second_of_two):
    from PIL import Image

    from noiseutils.data import load

    for place in ("train/x", "train/y", "test/x", "test/y"):
        (tmp_path / "pics" / place).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "pics" / place / "0.png")
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    data = Data(name="folder", root=str(tmp_path / "pics"), image_size=8, streamed=True)
    assert load(data).train.workers == 8


SMALL = """
study: noisy_dropout
data: shapes
train_size: 40
test_size: 20
width: 0.1
noise_levels: [0.1]
epochs: 1
batch_size: 20
input_noise: []
fgsm_255: []
seeds: 1
"""
