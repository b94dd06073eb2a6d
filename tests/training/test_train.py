import gc
import math
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from noiseutils import Run, train
from noiseutils.config import (
    AdaptiveNoise,
    AdversarialNoise,
    ClassAdversarialNoise,
    Data,
    Evaluation,
    GaussianNoise,
    Model,
    NoisyDropout,
    Optimizer,
    Schedule,
)
from noiseutils.data import batches, load
from noiseutils.errors import UserError
from noiseutils.models import build_model
from noiseutils.rng import streams
from noiseutils.training.checkpoint import CannotResume, Checkpoint
from noiseutils.training.setup import held_out

RUN = Run(
    data=Data(train_size=90, test_size=40),
    model=Model(name="cifar10net", width=0.125),
    noise=NoisyDropout(p=0.25, std=0.1),
    after=("relu3", "relu4"),
    schedule=Schedule(kind="step", learning_rate=0.02, factor=0.5, every=2),
    epochs=3,
    batch_size=32,
    augment=True,
    evaluation=Evaluation(noise=(0.1,), fgsm=(0.01,)),
)
OPTIMIZERS = [
    Optimizer(),
    Optimizer(momentum=0.9),
    Optimizer(momentum=0.9, nesterov=True, weight_decay=1e-3),
    Optimizer(name="adam", weight_decay=1e-3),
]


def weights(result):
    return {k: v.clone() for k, v in result.model.state_dict().items()}


def same(a, b) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_noise_ends_when_its_epochs_are_over():
    noisy = RUN.replace(
        model=Model(name="resnet20", width=0.25), noise=AdversarialNoise(epsilon=0.1), after=("BatchNorm2d",)
    )
    plain = noisy.replace(noise=None, after=())
    kept: list[Checkpoint] = []
    train(noisy.replace(noise_epochs=1), on_epoch=lambda row, snapshot: kept.append(snapshot()))
    first = {k: v for k, v in kept[0].tensors.items() if not k.startswith("noise/")}
    resumed = train(plain, resume=replace(kept[0], tensors=first))
    assert same(weights(resumed), weights(train(noisy.replace(noise_epochs=1))))


def test_held_out_images_are_not_trained_on():
    data = load(RUN.data)
    training, validation = held_out(data.train, 30)
    assert (len(training), len(validation)) == (60, 30)
    whole = {pixels.numpy().tobytes() for pixels in data.train.pixels}
    parts = [{p.numpy().tobytes() for p in part.pixels} for part in (training, validation)]
    assert parts[0] | parts[1] == whole
    assert not parts[0] & parts[1]
    with pytest.raises(UserError, match="leaves nothing to train on"):
        held_out(data.train, 90)


def test_a_wrong_number_of_classes_is_named():
    run = RUN.replace(noise=ClassAdversarialNoise(epsilon=0.1, num_classes=7), after=("relu3",))
    with pytest.raises(UserError, match="num_classes 7 of the noise is not that of the data: 10"):
        train(run)


@pytest.mark.parametrize("change", [{"device": "cuda"}, {"tensors": {"model/w": torch.zeros(1)}}])
def test_a_snapshot_that_does_not_fit_is_refused(change):
    kept: list[Checkpoint] = []
    train(RUN.replace(epochs=1), on_epoch=lambda row, snapshot: kept.append(snapshot()))
    with pytest.raises(CannotResume):
        train(RUN, resume=replace(kept[0], **change))


def test_the_same_run_twice_is_the_same_result():
    a, b = train(RUN), train(RUN)
    assert same(weights(a), weights(b))
    assert a.metrics == b.metrics


def test_the_seed_changes_the_result():
    assert not same(weights(train(RUN)), weights(train(RUN.replace(seed=1))))


def test_training_leaves_the_global_generators_alone():
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002 - the state under test
    train(RUN.replace(epochs=1))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()  # noqa: NPY002


def test_noise_does_not_change_initial_weights_batch_order_or_crops(monkeypatch):
    seen: dict[str, list] = {}
    for name, noise, after in (("none", None, ()), ("noise", GaussianNoise(std=0.5), ("relu3",))):
        calls = seen[name] = []

        def spy(*arguments, calls=calls, **options):
            for x, y in batches(*arguments, **options):
                calls.append((x.clone(), y.clone()))
                yield x, y

        monkeypatch.setattr(sys.modules["noiseutils.training.engines"], "batches", spy)
        train(RUN.replace(noise=noise, after=after, epochs=2), engine="eager")
    assert len(seen["none"]) == len(seen["noise"]) == 6
    for (x, y), (u, v) in zip(seen["none"], seen["noise"], strict=True):
        assert torch.equal(x, u)
        assert torch.equal(y, v)


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
def test_the_loop_equals_a_plain_reference(optimizer):
    """An epoch by hand, with torch's own unfused optimisers and nothing of the trainer's."""
    run = RUN.replace(
        optimizer=optimizer,
        noise=None,
        after=(),
        augment=False,
        epochs=2,
        model=Model(name="tinycnn", width=0.25),
    )
    result = train(run)
    data, random = load(run.data), streams(run.seed)
    net = build_model("tinycnn", width=0.25, seed=random.init.initial_seed())
    mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (data.mean, data.std))
    if optimizer.name == "adam":
        reference = torch.optim.Adam(net.parameters(), lr=0.02, weight_decay=1e-3)
    else:
        reference = torch.optim.SGD(
            net.parameters(),
            lr=0.02,
            momentum=optimizer.momentum,
            nesterov=optimizer.nesterov,
            weight_decay=optimizer.weight_decay,
        )
    for _ in range(2):
        total = 0.0
        for x, y in batches(data.train, 32, order=random.data):
            loss = F.cross_entropy(net((x - mean) / std), y)
            reference.zero_grad()
            loss.backward()
            reference.step()
            total += loss.item() * len(y)
    assert result.history.train_loss.iloc[-1] == pytest.approx(total / 90, rel=1e-3)
    trained = dict(result.model.net.named_parameters())
    for name, value in net.named_parameters():
        assert torch.allclose(trained[name], value, atol=2e-4), name


def test_history_is_one_tidy_row_an_epoch():
    history = train(RUN).history
    assert history.epoch.tolist() == [1, 2, 3]
    assert history.learning_rate.tolist() == [0.02, 0.02, 0.01]
    assert {
        "train_loss",
        "train_accuracy",
        "test_loss",
        "test_accuracy",
        "gradient_norm",
        "update_norm",
        "seconds",
        "activation_std.conv1",
        "activation_std.fc3",
    } <= set(history.columns)
    assert np.isfinite(history.to_numpy()).all()
    assert (history[["gradient_norm", "update_norm", "activation_std.conv3"]] > 0).all().all()


def test_history_and_metrics_agree_on_the_last_epoch():
    result = train(RUN)
    assert result.history.test_accuracy.iloc[-1] == pytest.approx(1 - result.metrics["top1_error"])


def test_the_trained_model_is_clean():
    result = train(RUN)
    assert not result.model.training
    assert all(not module._forward_hooks for module in result.model.modules())


@pytest.mark.parametrize(
    "changes",
    [
        {"noise": NoisyDropout(p=0.25, std=0.1)},
        {"noise": AdversarialNoise(epsilon=0.1)},
        {"noise": ClassAdversarialNoise(epsilon=0.1)},
        {"noise": None, "after": (), "validation_size": 20},
        {"noise": None, "after": (), "validation_size": 20, "parameter_noise": AdaptiveNoise(min_epochs=1)},
        {"noise": None, "after": (), "mixup": 0.5},
        {"optimizer": Optimizer(name="adam"), "schedule": Schedule(learning_rate=1e12)},  # diverges
    ],
    ids=lambda changes: ", ".join(changes),
)
def test_a_training_leaves_memory_as_soon_as_its_result_does(changes):
    """A worker trains one run after the other: 140 MB a run stayed until Python looked for cycles."""
    run = RUN.replace(epochs=1, **changes)
    train(run)  # imports, and caches that are kept
    gc.collect()
    others = [found for found in gc.get_objects() if issubclass(type(found), torch.Tensor)]  # kept
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        train(run)
        gc.collect()
        assert not [found for found in gc.garbage if isinstance(found, torch.Tensor)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
        others.clear()


def test_a_loss_that_is_not_finite_ends_the_run_as_diverged():
    result = train(RUN.replace(schedule=Schedule(learning_rate=1e30)))
    assert result.status == "diverged"
    assert result.metrics == {}
    assert len(result.history) < 3
    assert not math.isfinite(result.history.drop(columns="seconds").iloc[-1].sum(skipna=False))


def test_learning_beats_chance_on_the_embedded_shapes():
    run = Run(
        data=Data(train_size=2000, test_size=300),
        model=Model(name="tinycnn", width=0.5),
        optimizer=Optimizer(name="adam"),
        schedule=Schedule(learning_rate=2e-3),
        epochs=4,
        batch_size=32,
    )
    result = train(run)
    assert result.metrics["top1_error"] < 0.75
    assert result.history.train_loss.is_monotonic_decreasing


def test_grey_images_train_lenet():
    result = train(
        Run(data=Data(name="digits", train_size=200, test_size=100), model=Model(name="lenet5"), epochs=1)
    )
    assert result.status == "finished"
    assert result.info["data"]["label"] == "digits"


def test_an_unknown_model_and_a_missing_place_are_named():
    with pytest.raises(UserError, match="'lenet' is not known; allowed: lenet5"):
        train(RUN.replace(model=Model(name="lenet")))
    with pytest.raises(UserError, match="relu9 matches no module"):
        train(RUN.replace(after=("relu9",)))
