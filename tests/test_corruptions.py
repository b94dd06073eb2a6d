"""noiseutils.corruptions: blur against scipy, noise by its moments, both in training."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from noiseutils import Run, train
from noiseutils.config import Corruption, Data, Evaluation, Model, Schedule
from noiseutils.corruptions import corrupt, gaussian_blur, gaussian_noise
from noiseutils.data import load, to_float
from noiseutils.errors import UserError
from noiseutils.rng import generator
from noiseutils.spec import identity
from noiseutils.training.changes import check_change
from noiseutils.training.setup import setup

RUN = Run(
    data=Data(train_size=64, test_size=20),
    model=Model(name="tinycnn", width=0.25),
    schedule=Schedule(learning_rate=0.02),
    epochs=3,
    batch_size=24,
    augment=True,
    evaluation=Evaluation(),
)


def images(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("sigma", [0.01, 0.1, 0.12, 0.13, 0.4, 0.5, 0.6, 0.8, 1.0, 1.1, 2.1, 5.0])
@pytest.mark.parametrize("shape", [(3, 3, 32, 32), (2, 1, 28, 20), (1, 3, 8, 8), (1, 2, 1, 5)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_blur_is_scipys(sigma, shape, layout):
    x = images(*shape).to(memory_format=layout)
    expected = gaussian_filter(x.double().numpy(), (0, 0, sigma, sigma), mode="mirror", truncate=4)
    found = gaussian_blur(x, sigma)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)
    assert found.is_contiguous(memory_format=layout) or shape[1] == 1 or 1 in shape[2:]


def test_blur_keeps_a_plain_image_and_the_type():
    plain = torch.full((1, 3, 9, 9), 0.25, dtype=torch.float64)
    assert torch.allclose(gaussian_blur(plain, 3.0), plain)
    assert gaussian_blur(plain, 3.0).dtype == torch.float64
    assert gaussian_blur(plain, 0) is plain


@pytest.mark.parametrize("sigma", [-1.0, float("nan")])
def test_a_std_must_be_at_least_zero(sigma):
    with pytest.raises(UserError, match="sigma must be at least 0, got"):
        gaussian_blur(images(1, 1, 4, 4), sigma)
    with pytest.raises(UserError, match="sigma must be at least 0, got"):
        gaussian_noise(images(1, 1, 4, 4), sigma, generator(0, "test"))


def test_noise_has_its_size_and_is_not_clipped():
    x = torch.ones(8, 3, 32, 32)
    noisy = gaussian_noise(x, 0.3, generator(0, "test"))
    assert abs((noisy - x).std().item() - 0.3) < 0.01
    assert noisy.max() > 1.5
    assert gaussian_noise(x, 0, generator(0, "test")) is x


def test_the_noise_is_the_same_in_any_memory_format():
    x = images(4, 3, 8, 8)
    a = gaussian_noise(x, 0.3, generator(0, "test"))
    b = gaussian_noise(x.to(memory_format=torch.channels_last), 0.3, generator(0, "test"))
    assert torch.equal(a, b)


# --- in training


def weights(result):
    return torch.cat([p.detach().reshape(-1) for p in result.model.parameters()])


@pytest.mark.parametrize("kind", ["gaussian_noise", "gaussian_blur"])
def test_training_sees_corrupted_images_and_evaluation_clean_ones(kind, monkeypatch):
    seen = []

    def watched(x, corruption, source):
        seen.append(x)
        return corrupt(x, corruption, source)

    monkeypatch.setattr(sys.modules["noiseutils.training.steps"], "corrupt", watched)
    result = train(RUN.replace(corruption=Corruption(kind=kind, sigma=0.7)))
    assert len(seen) == 3 * 3, "every training batch and nothing else"
    assert all(x.min() >= 0 and x.max() <= 1 for x in seen), "before normalisation"
    clean = train(RUN)
    assert not torch.equal(weights(result), weights(clean))
    without = train(RUN.replace(corruption=Corruption(kind=kind, sigma=0.0)))
    torch.testing.assert_close(weights(without), weights(clean), rtol=1e-3, atol=1e-5)


def test_noise_is_fresh_at_every_step_and_in_every_epoch(monkeypatch):
    drawn = []

    def watched(x, corruption, source):
        noisy = corrupt(x, corruption, source)
        drawn.append((noisy - x)[0, 0, 0, :4])
        return noisy

    monkeypatch.setattr(sys.modules["noiseutils.training.steps"], "corrupt", watched)
    train(RUN.replace(corruption=Corruption(kind="gaussian_noise", sigma=0.5)))
    assert len({tuple(noise.tolist()) for noise in drawn}) == len(drawn) == 9


FIXED = RUN.replace(
    corruption=Corruption(kind="gaussian_noise", sigma=0.5, fresh=False), epochs=2, augment=False
)


def images_seen(run, monkeypatch) -> list[torch.Tensor]:
    """Return each epoch's training images as the network got them, in the order of the data set."""
    seen, labels = [], load(run.data).train.labels
    monkeypatch.setattr(sys.modules["noiseutils.training.steps"], "corrupt", None)  # nothing fresh
    made = setup(run)
    for _ in range(2):
        order = torch.Generator().set_state(made.streams.data.get_state())
        rows = torch.randperm(len(labels), generator=order)
        x, y = map(torch.cat, zip(*made.batches(), strict=True))
        assert torch.equal(y, labels[rows])
        seen.append(x[rows.argsort()])
    return seen


def test_a_noisy_copy_is_the_same_in_every_epoch_and_another_for_another_seed(monkeypatch):
    first, second = images_seen(FIXED, monkeypatch)
    assert torch.equal(first, second)
    noise = first - to_float(load(RUN.data).train.pixels)
    assert noise.std().item() == pytest.approx(0.5, rel=0.02)
    assert first.min() < 0, "noise is not cut to the range of pixels"
    other, _ = images_seen(FIXED.replace(seed=1), monkeypatch)
    assert (other - first).std().item() == pytest.approx(0.5 * 2**0.5, rel=0.02)


def test_a_noisy_copy_trains_leaves_the_images_alone_and_has_a_key_of_its_own():
    before = load(RUN.data).train.pixels.clone()
    fixed = train(FIXED)
    assert torch.equal(load(RUN.data).train.pixels, before)
    fresh = FIXED.replace(corruption=Corruption(kind="gaussian_noise", sigma=0.5))
    assert fixed.status == "finished"
    assert not torch.equal(weights(fixed), weights(train(fresh)))
    assert fresh.key != FIXED.key
    assert "fresh" not in str(identity(fresh)), "runs stored before there were copies keep their keys"


def test_a_blur_has_no_noisy_copy():
    with pytest.raises(ValueError, match="gaussian_blur draws nothing"):
        Corruption(kind="gaussian_blur", sigma=1.0, fresh=False)


def test_the_kind_of_corruption_is_checked():
    with pytest.raises(ValueError, match="gaussian_blur"):
        Corruption(kind="jpeg", sigma=1.0)
    assert "gaussian_blur (sigma 0.5)" in str(
        RUN.replace(corruption=Corruption(kind="gaussian_blur", sigma=0.5))
    )


def test_a_noisy_copy_cannot_change_while_a_training_runs():
    fresh = FIXED.replace(corruption=Corruption(kind="gaussian_noise", sigma=0.5))
    louder = FIXED.replace(corruption=FIXED.corruption.replace(sigma=0.9))
    for before, after in ((FIXED, louder), (FIXED, fresh), (fresh, FIXED)):
        with pytest.raises(UserError, match="before the first step"):
            check_change(before, after)
    check_change(fresh, fresh.replace(corruption=fresh.corruption.replace(sigma=0.9)))
