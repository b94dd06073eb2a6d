"""Mixup, cutout and label smoothing: the equations, against torchvision and torch, and whole trainings."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.transforms import v2

from noiseutils import Run, train
from noiseutils.config import AdversarialTraining, Data, Evaluation, GaussianNoise, Model, Schedule
from noiseutils.data import load
from noiseutils.data.mixup_cutout import cutout, draw_centres, mixup, mixup_ratios
from noiseutils.errors import UserError
from noiseutils.evaluation.evaluate import predict
from noiseutils.training.checkpoint import Checkpoint
from noiseutils.training.mixup_cutout import MixupCutout
from noiseutils.training.setup import held_out, setup
from noiseutils.training.steps import MixupStep

RUN = Run(
    data=Data(train_size=90, test_size=40),
    model=Model(name="tinycnn", width=0.25),
    schedule=Schedule(learning_rate=2**-5),
    epochs=2,
    batch_size=32,
    augment=True,
)
REGULARISED = {
    "mixup": RUN.replace(mixup=0.4),
    "cutout": RUN.replace(cutout=9),
    "label_smoothing": RUN.replace(label_smoothing=0.2),
    "all": RUN.replace(mixup=0.4, cutout=9, label_smoothing=0.2),
}
of_all = pytest.mark.parametrize("run", REGULARISED.values(), ids=list(REGULARISED))


def images(n: int = 6, size: int = 8) -> torch.Tensor:
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(0))


def weights(result) -> dict[str, torch.Tensor]:
    return result.model.state_dict()


def same(a, b) -> bool:
    return all(torch.equal(v, weights(b)[k]) for k, v in weights(a).items())


def test_mixup_is_torchvisions_at_the_ratio_that_it_draws():
    x, y = images(), torch.arange(6) % 5
    torch.manual_seed(3)
    expected, soft = v2.MixUp(alpha=0.7, num_classes=5)(x.clone(), y)
    ratio = soft[1, 1].item()
    torch.testing.assert_close(mixup(x, torch.tensor(ratio)), expected)
    torch.testing.assert_close(mixup(F.one_hot(y, 5).float(), torch.tensor(ratio)), soft)


def test_the_loss_of_mixed_images_is_that_of_mixed_labels():
    x, y = images(), torch.arange(6) % 5
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 5))
    draws = MixupCutout(Run(mixup=0.5), 7, 3, torch.zeros(1, 3, 1, 1), torch.device("cpu"))
    draws.begin_epoch(2)
    for ratio in draws.ratios.tolist():
        loss, logits = MixupStep(net, F.cross_entropy, draws)(x, y)
        mixed = ratio * x + (1 - ratio) * x.roll(1, 0)
        labels = ratio * F.one_hot(y, 5) + (1 - ratio) * F.one_hot(y.roll(1), 5)
        torch.testing.assert_close(logits, net(mixed))
        torch.testing.assert_close(loss, F.cross_entropy(net(mixed), labels))


def test_ratios_are_beta_with_the_larger_share_to_the_image_itself():
    ratios = mixup_ratios(20_000, 0.4, 0)
    assert ((ratios >= 0.5) & (ratios <= 1)).all()
    # max(r, 1 - r) leaves (r - 1/2)² alone: the variance of Beta(a, a), 1 / (4 (2 a + 1))
    assert ((ratios - 0.5) ** 2).mean().item() == pytest.approx(1 / (4 * 1.8), rel=0.02)
    assert torch.equal(ratios, mixup_ratios(20_000, 0.4, 0))
    assert not torch.equal(ratios, mixup_ratios(20_000, 0.4, 1))


@pytest.mark.parametrize("side", [1, 2, 5, 8, 40])
def test_cutout_erases_a_square_around_each_centre_as_far_as_the_image_goes(side):
    x, centres = images(), torch.tensor([[0, 0], [7, 7], [3, 4], [0, 7], [4, 0], [5, 5]])
    fill = torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1, 1)
    expected = x.clone()
    for image, (row, column) in zip(expected, centres.tolist(), strict=True):
        top, left = row - side // 2, column - side // 2
        at, there = max(0, top), max(0, left)
        height, width = min(8, top + side) - at, min(8, left + side) - there
        v2.functional.erase(image, at, there, height, width, fill[0], inplace=True)
    assert torch.equal(cutout(x, centres, side, fill), expected)
    assert torch.equal(cutout(x, centres, 0, fill), x)


def test_centres_are_uniform_over_the_image():
    drawn = draw_centres(torch.empty(20_000, 3, 4, 10), torch.Generator().manual_seed(0))
    for column, side in ((0, 4), (1, 10)):
        counts = torch.bincount(drawn[:, column])
        assert len(counts) == side
        assert (counts - 20_000 / side).abs().max() < 5 * math.sqrt(20_000 / side)


def test_label_smoothing_is_torchs_in_training_and_none_in_evaluation():
    state = setup(REGULARISED["label_smoothing"], device="cpu", engine="eager")
    x, y = images(5, 32), torch.arange(5)
    loss, logits = state.loss(x, y)
    assert torch.equal(loss, F.cross_entropy(logits, y, label_smoothing=0.2))
    assert torch.equal(state.criterion(logits, y), F.cross_entropy(logits, y))


@of_all
def test_weights_batches_and_crops_stay_the_same(run):
    seen = []
    for each in (RUN, run):
        state = setup(each, device="cpu", engine="eager")
        state.mixup_cutout.begin_epoch(1)
        seen.append((state.model.state_dict(), [x for x, _ in state.batches()]))
    (plain, batches), (ours, ours_batches) = seen
    assert all(torch.equal(value, ours[name]) for name, value in plain.items())
    assert all(torch.equal(a, b) for a, b in zip(batches, ours_batches, strict=True))


@of_all
def test_resumed_run_equals_uninterrupted_and_each_matters(run):
    kept: list[Checkpoint] = []
    whole = train(run, on_epoch=lambda row, checkpoint: kept.append(checkpoint()))
    resumed = train(run, resume=kept[0])
    assert same(whole, resumed)
    assert whole.history.drop(columns="seconds").equals(resumed.history.drop(columns="seconds"))
    assert same(whole, train(run))
    assert not same(whole, train(RUN))
    assert not same(whole, train(run.replace(seed=1)))


def test_the_training_accuracy_of_mixed_images_is_of_the_larger_share():
    run = RUN.replace(mixup=0.2, epochs=12, augment=False, batch_size=16)
    assert train(run).history.train_accuracy.iloc[-1] > 0.6  # of random labels it would stay at about half


def test_training_images_are_tested_as_they_are():
    run = RUN.replace(validation_size=20, cutout=20, evaluation=Evaluation(training_images=1000))
    result = train(run)
    found = next(r for r in result.metrics["conditions"] if r["condition"] == "training")
    assert found["images"] == 70
    held = held_out(load(run.data).train, 20)[0]
    logits, labels = predict(result.model, held)
    assert found["top1_error"] == pytest.approx((logits.argmax(1) != labels).double().mean().item())
    some = train(run.replace(evaluation=Evaluation(training_images=30))).metrics["conditions"][-1]
    assert (some["condition"], some["images"]) == ("training", 30)
    assert len({*(r["condition"] for r in train(RUN).metrics["conditions"])} & {"training"}) == 0


@pytest.mark.parametrize(
    "make",
    [
        lambda: RUN.replace(mixup=0.2, noise=GaussianNoise(std=0.1), after=("relu1",)),
        lambda: RUN.replace(mixup=0.2, adversarial_training=AdversarialTraining(delta=0.1)),
        lambda: RUN.replace(label_smoothing=0.1, loss="sigmoid_bce"),
        lambda: RUN.replace(label_smoothing=1.0),
        lambda: RUN.replace(mixup=-0.1),
        lambda: RUN.replace(cutout=-1),
    ],
)
def test_what_does_not_go_together_is_refused(make):
    with pytest.raises(UserError, match=r"mixup|label_smoothing|cutout"):
        make()


def test_noise_and_cutout_go_together():
    both = RUN.replace(cutout=9, noise=GaussianNoise(std=0.5), after=("relu1",))
    assert not same(train(both), train(both.replace(cutout=0)))


def test_a_run_says_what_it_is_trained_with():
    assert "label smoothing 0.2, mixup 0.4, cutout 9, seed 0" in str(REGULARISED["all"])
