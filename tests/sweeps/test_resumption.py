"""Each kind of noise, interrupted in each way: the resumed run ends bit for bit as the uninterrupted one."""

import functools
import os
import signal
from itertools import islice

import pytest
import torch

from noiseutils import train
from noiseutils.config import (
    AdaptiveNoise,
    AdversarialNoise,
    AdversarialTraining,
    ClassAdversarialNoise,
    Corruption,
    Data,
    Evaluation,
    GaussianNoise,
    LayerwiseAdversarialNoise,
    Model,
    NoisyDropout,
    Optimizer,
    Run,
    Schedule,
    ScriptedNoise,
)
from noiseutils.data import load
from noiseutils.sweeps import budget
from noiseutils.sweeps.store import Store
from noiseutils.sweeps.sweep import sweep
from noiseutils.training import loop

CLEAN = Run(
    data=Data(train_size=90, test_size=40),
    model=Model(name="cifar10net", width=0.125),
    optimizer=Optimizer(momentum=0.9),
    schedule=Schedule(kind="plateau", learning_rate=0.02, factor=0.5, every=1, minimum=0.001, switch=2),
    validation_size=20,
    epochs=3,
    batch_size=32,
    augment=True,
    evaluation=Evaluation(noise=(0.1,), fgsm=(0.01,)),
)
STEPS = 3  # an epoch
LONGER = CLEAN.replace(schedule=Schedule(learning_rate=0.02), epochs=6)
DROPOUT = CLEAN.replace(noise=NoisyDropout(p=0.25, std=0.1), after=("relu3", "relu4"))
FLAGS = AdaptiveNoise(
    min_epochs=1, window=1, gradient_plateau=10.0, consecutive_trigger=2, cooldown_min=1, cooldown_max=1
)
SCRIPT = ScriptedNoise(gradient=(0.1,) * 6, weight=(0.01,) * 6)


def at_batchnorm(noise) -> Run:
    """Return a run with noise at the input and after each BatchNorm, until the last epoch but one."""
    model = Model(name="resnet20", width=0.125)
    return CLEAN.replace(model=model, noise=noise, after=("input", "BatchNorm2d"), noise_epochs=2)


RUNS = {
    "clean": CLEAN,
    "SGD": DROPOUT.replace(optimizer=Optimizer()),
    "momentum": DROPOUT,
    "Nesterov": DROPOUT.replace(optimizer=Optimizer(momentum=0.9, nesterov=True, weight_decay=1e-3)),
    "Adam": DROPOUT.replace(optimizer=Optimizer(name="adam", weight_decay=1e-3)),
    "Gaussian": at_batchnorm(GaussianNoise(std=0.1)),
    "ANL": at_batchnorm(AdversarialNoise(epsilon=0.1)),
    "ANL as released": at_batchnorm(AdversarialNoise(epsilon=0.1, variant="released")),
    "CANL": at_batchnorm(ClassAdversarialNoise(epsilon=0.1)),
    "LAT": at_batchnorm(LayerwiseAdversarialNoise(epsilon=0.05)),
    "images": CLEAN.replace(corruption=Corruption(kind="gaussian_noise", sigma=0.5)),
    "noisy copy": CLEAN.replace(corruption=Corruption(kind="gaussian_noise", sigma=0.5, fresh=False)),
    "adversarial training": CLEAN.replace(adversarial_training=AdversarialTraining(delta=0.05)),
    "flags": LONGER.replace(parameter_noise=FLAGS),
    "script": LONGER.replace(parameter_noise=SCRIPT),
    "script, each step": LONGER.replace(parameter_noise=SCRIPT.replace(weight_every="step")),
}


@functools.cache
def uninterrupted(name):
    return train(RUNS[name], data=load(CLEAN.data), device="cpu")


class Stop(Exception):
    pass


def between_epochs(run, root):
    """Stop a training after each of its epochs, and go on from the checkpoint."""
    for last in range(1, run.epochs):
        kept = []

        def on_epoch(row, checkpoint, last=last, kept=kept):
            if row["epoch"] == last:
                kept.append(checkpoint())
                raise Stop

        with pytest.raises(Stop):
            train(run, device="cpu", on_epoch=on_epoch)
        yield train(run, device="cpu", resume=kept[0])


def within_an_epoch(run, root):
    """Close a training before the last step of its second epoch."""
    kept = []
    steps = loop.training(run, device="cpu", on_epoch=lambda row, checkpoint: kept.append(checkpoint()))
    assert len(list(islice(steps, 2 * STEPS - 1))) == 2 * STEPS - 1
    steps.close()
    assert len(kept) == 1
    yield train(run, device="cpu", resume=kept[0])


def signal_within_an_epoch(run, root):
    """Send Ctrl-C to a sweep before the last step of an epoch; the next sweep goes on from the store."""
    set_rate, steps = loop.set_rate, []

    def interrupting(*arguments):
        steps.append(arguments)
        if len(steps) == 2 * STEPS:
            os.kill(os.getpid(), signal.SIGINT)
        set_rate(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(budget, "CHECKPOINT_SECONDS", 0.0)
        patch.setattr(loop, "set_rate", interrupting)
        with pytest.raises(KeyboardInterrupt):
            sweep([run], Store(root), "inline", device="cpu", progress=False)
    yield from swept_again(run, root)


def budget_between_epochs(run, root):
    """End a sweep after an epoch, as its budget is used up; the next sweep goes on from the store."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(budget.Clock, "lap", lambda self: True)
        assert sweep([run], Store(root), "inline", device="cpu", progress=False).out_of_time
    yield from swept_again(run, root)


def swept_again(run, root):
    assert Store(root).state(run) == "interrupted"
    assert not sweep([run], Store(root), "inline", device="cpu", progress=False).failed
    yield Store(root).load(run, weights=True)


INTERRUPTIONS = (between_epochs, within_an_epoch, signal_within_an_epoch, budget_between_epochs)


@pytest.mark.parametrize("interruption", INTERRUPTIONS)
@pytest.mark.parametrize("name", RUNS)
def test_resumed_run_equals_uninterrupted(name, interruption, tmp_path):
    whole = uninterrupted(name)
    weights = whole.model.state_dict()
    for resumed in interruption(RUNS[name], tmp_path):
        assert resumed.metrics == whole.metrics
        assert resumed.history.drop(columns="seconds").equals(whole.history.drop(columns="seconds"))
        found = resumed.model.state_dict()
        assert found.keys() == weights.keys()
        assert all(torch.equal(found[key], weights[key]) for key in weights)


def test_the_runs_have_what_a_resumed_run_must_remember():
    plateau = uninterrupted("ANL").history
    assert {"validation_loss", "validation_accuracy"} <= set(plateau)
    assert plateau.learning_rate.iloc[-1] == 0.001
    flags = uninterrupted("flags").history
    assert flags.cooldown.any()
    assert (flags.gradient_noise > 0).nunique() == 2
