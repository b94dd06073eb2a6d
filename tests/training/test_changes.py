import pytest
import torch

from noiseutils import Run, train
from noiseutils.config import (
    AdaptiveNoise,
    AdversarialNoise,
    AdversarialTraining,
    ClassAdversarialNoise,
    Corruption,
    Data,
    GaussianNoise,
    LayerwiseAdversarialNoise,
    Model,
    NoisyDropout,
    Schedule,
    ScriptedNoise,
)
from noiseutils.errors import UserError
from noiseutils.sweeps.store import Store
from noiseutils.training.loop import training

PLAIN = Run(
    data=Data(train_size=96, test_size=20),
    model=Model(name="cifar10net", width=0.125),
    schedule=Schedule(learning_rate=0.05),
    epochs=2,
    batch_size=32,
)
AT = ("relu3", "relu4")
SCRIPT = ScriptedNoise(gradient=(0.0, 0.0), weight=(0.0, 0.0), weight_every="step")
# a run, and the same with another value of what may change
TUNED = {
    "noisy dropout": (
        PLAIN.replace(noise=NoisyDropout(p=0.2, std=0.0), after=AT),
        {"noise": NoisyDropout(p=0.2, std=0.5)},
    ),
    "gaussian": (PLAIN.replace(noise=GaussianNoise(std=0.0), after=AT), {"noise": GaussianNoise(std=0.5)}),
    "ANL": (
        PLAIN.replace(noise=AdversarialNoise(epsilon=0.0), after=AT),
        {"noise": AdversarialNoise(epsilon=0.5)},
    ),
    "CANL": (
        PLAIN.replace(noise=ClassAdversarialNoise(epsilon=0.0), after=AT),
        {"noise": ClassAdversarialNoise(epsilon=0.5)},
    ),
    "LAT": (
        PLAIN.replace(noise=LayerwiseAdversarialNoise(epsilon=0.0), after=AT),
        {"noise": LayerwiseAdversarialNoise(epsilon=0.5)},
    ),
    "gradients": (
        PLAIN.replace(parameter_noise=SCRIPT),
        {"parameter_noise": SCRIPT.replace(gradient=(0.05, 0.05))},
    ),
    "weights": (
        PLAIN.replace(parameter_noise=SCRIPT),
        {"parameter_noise": SCRIPT.replace(weight=(0.05, 0.05))},
    ),
    "noise on images": (
        PLAIN.replace(corruption=Corruption(kind="gaussian_noise", sigma=0.0)),
        {"corruption": Corruption(kind="gaussian_noise", sigma=0.3)},
    ),
    "blur": (
        PLAIN.replace(corruption=Corruption(kind="gaussian_blur", sigma=0.0)),
        {"corruption": Corruption(kind="gaussian_blur", sigma=1.0)},
    ),
    "FGSM images": (
        PLAIN.replace(adversarial_training=AdversarialTraining(delta=0.0)),
        {"adversarial_training": AdversarialTraining(delta=0.1)},
    ),
    "learning rate": (PLAIN, {"schedule": Schedule(learning_rate=0.01)}),
}


def weights(model) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def equal(a, b) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


def walk(run, changes=None, at=None, engine="auto"):
    """The weights after every step, and the result."""
    steps, seen, wish = training(run, engine=engine), [], None
    while True:
        try:
            moment = steps.send(wish)
        except StopIteration as end:
            return seen, end.value
        seen.append(weights(moment.model))
        wish = run.replace(**changes) if changes and moment.step == at else None


def test_a_training_that_is_looked_at_is_the_training():
    run = PLAIN.replace(noise=AdversarialNoise(epsilon=0.1), after=AT)
    seen, result = walk(run)
    alone = train(run)
    assert len(seen) == 6
    assert equal(seen[-1], weights(alone.model))
    assert equal(weights(result.model), weights(alone.model))
    assert result.metrics == alone.metrics
    told = [name for name in alone.history if name != "seconds"]
    assert result.history[told].equals(alone.history[told])


@pytest.mark.parametrize("name", TUNED)
def test_a_value_changed_between_two_steps_counts_from_the_next_step_on(name):
    run, changes = TUNED[name]
    before, _ = walk(run)
    after, result = walk(run, changes, at=3)
    assert [equal(a, b) for a, b in zip(before[:3], after[:3], strict=True)] == [True] * 3
    assert not equal(before[3], after[3])
    assert result.info["changed_after_steps"] == [3]


def test_a_tenth_of_the_learning_rate_makes_a_tenth_of_the_next_step():
    run = PLAIN.replace(optimizer=PLAIN.optimizer.replace(momentum=0.0))
    before, _ = walk(run)
    after, _ = walk(run, {"schedule": Schedule(learning_rate=0.005)}, at=3)
    for name, start in before[2].items():
        torch.testing.assert_close(
            10 * (after[3][name] - start), before[3][name] - start, atol=1e-5, rtol=1e-3
        )


def test_adaptive_noise_takes_a_new_sigma_while_it_is_noisy():
    adaptive = AdaptiveNoise(
        min_epochs=2, window=1, gradient_plateau=9.0, validation_plateau=9.0, sigma_min=0.01, sigma_max=0.01
    )
    run = PLAIN.replace(epochs=4, parameter_noise=adaptive)
    louder = {"parameter_noise": adaptive.replace(sigma_min=0.02, sigma_max=0.02)}
    _, before = walk(run)
    _, after = walk(run, louder, at=7)  # in the third epoch, the first with noise
    quiet, loud = before.history.gradient_noise, after.history.gradient_noise
    assert quiet[0] == quiet[1] == 0 < quiet[2]
    assert loud[2] == pytest.approx(2 * quiet[2])
    assert loud[3] == pytest.approx(2 * quiet[3])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"epochs": 3, "seed": 1}, "epochs, seed cannot change"),
        ({"model": Model(name="tinycnn")}, "model cannot change"),
        ({"noise": NoisyDropout(p=0.1), "after": AT}, "after cannot change"),
        ({"corruption": Corruption(kind="gaussian_blur", sigma=1.0)}, "corruption cannot change from None"),
        ({"parameter_noise": SCRIPT}, "parameter_noise cannot change from None"),
        ({"schedule": Schedule(kind="step", every=1, factor=0.5)}, "schedule cannot change"),
    ],
)
def test_what_cannot_change_is_refused(change, words):
    steps = training(PLAIN)
    next(steps)
    with pytest.raises(UserError, match=words):
        steps.send(PLAIN.replace(**change))


def test_another_kind_of_noise_is_refused():
    run = PLAIN.replace(noise=GaussianNoise(std=0.1), after=AT)
    steps = training(run)
    next(steps)
    with pytest.raises(UserError, match="noise cannot change"):
        steps.send(run.replace(noise=NoisyDropout(p=0.1)))
    run = PLAIN.replace(parameter_noise=SCRIPT)
    steps = training(run)
    next(steps)
    with pytest.raises(UserError, match="train anew"):
        steps.send(run.replace(parameter_noise=SCRIPT.replace(distribution="uniform")))


def test_a_closed_training_leaves_the_network_without_noise():
    run = PLAIN.replace(noise=GaussianNoise(std=0.1), after=AT)
    steps = training(run)
    model = next(steps).model
    hooked = [m for m in model.modules() if m._forward_hooks]
    steps.close()
    assert hooked
    assert not [m for m in model.modules() if m._forward_hooks]
    assert not [m for m in model.modules() if getattr(m, "inplace", False)]


def test_a_training_that_was_changed_is_not_stored(tmp_path):
    run, changes = TUNED["learning rate"]
    _, result = walk(run, changes, at=3)
    store = Store(tmp_path)
    with pytest.raises(UserError, match="changed during its training"):
        store.save(result)
    assert not store.finished(result.run)
