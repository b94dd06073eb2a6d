"""Gradients at activations, their similarity by class, feature maps: against slow ones written out here."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from noiseutils.config import Data, Evaluation, Model, Run
from noiseutils.data import Images, load
from noiseutils.evaluation.inspection import (
    activation_gradients,
    class_similarity,
    feature_maps,
    packed,
    sharpness,
    unpacked,
)
from noiseutils.training.loop import train


def net() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(4 * 36, 3)
        ).train()


def images(n: int = 14) -> Images:
    source = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (n, 1, 8, 8), generator=source, dtype=torch.uint8)
    return Images(pixels, torch.arange(n) % 3)


def test_activation_gradients_are_those_of_a_network_cut_in_two():
    model, data = net(), images()
    x, y = data.pixels / 255, data.labels
    found = activation_gradients(model, x, y, ("input", "0", "3"))
    assert list(found) == ["input", "0", "3"]
    h = model[0](x).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(F.cross_entropy(model[1:](h * 1), y), h)
    torch.testing.assert_close(found["0"], gradient)
    x = x.requires_grad_()
    (gradient,) = torch.autograd.grad(F.cross_entropy(model(x), y), x)
    torch.testing.assert_close(found["input"], gradient)
    assert model.training
    assert all(p.grad is None for p in model.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_class_similarity_is_the_mean_of_equation_5_over_all_pairs():
    model, data = net(), images()
    found = class_similarity(model, data, 3, ("0",))["0"]
    x, y = data.pixels / 255, data.labels
    gradients = [activation_gradients(model, x[i : i + 1], y[i : i + 1], ("0",))["0"] for i in range(len(y))]
    for a in range(3):
        for b in range(3):
            cosines = [
                F.cosine_similarity(gradients[i].flatten(), gradients[j].flatten(), dim=0).item()
                for i in range(len(y))
                for j in range(len(y))
                if i != j and y[i] == a and y[j] == b
            ]
            assert np.isclose(found[a][b], np.mean(cosines), atol=1e-5)


def test_a_class_without_a_pair_has_no_similarity():
    data = images(4)  # classes 0 1 2 0
    found = np.array(class_similarity(net(), data, 4, ("input",))["input"])
    assert np.isfinite(found[0, :3]).all()
    assert np.isnan(found[1, 1])
    assert np.isnan(found[3]).all()


def test_a_gradient_of_zero_has_no_direction_and_is_left_out():
    model = net()
    with torch.no_grad():
        model[0].weight.zero_()
        model[0].bias.fill_(-1.0)  # every ReLU is dead
    assert np.isnan(np.array(class_similarity(model, images(), 3, ("0",))["0"])).all()


def test_feature_maps_are_the_first_convolution_through_a_sigmoid():
    model, data = net(), images()
    found = feature_maps(model, data, 2)
    shown, maps = unpacked(found["images"]), unpacked(found["maps"])
    assert np.array_equal(shown, data.pixels[:2].numpy()), "the first image of each class"
    expected = model[0](data.pixels[:2] / 255).sigmoid() * 255
    assert np.abs(maps - expected.detach().numpy()).max() <= 0.51


def test_packed_arrays_pass_through_json():
    array = torch.arange(24, dtype=torch.uint8).view(2, 3, 4)
    assert np.array_equal(unpacked(json.loads(json.dumps(packed(array)))), array.numpy())


def test_a_run_keeps_what_its_evaluation_asks_for():
    run = Run(
        data=Data(train_size=60, test_size=30),
        model=Model(name="lenet5"),
        epochs=1,
        evaluation=Evaluation(similarity=("input", "conv1", "fc3"), feature_maps=3),
    )
    result = train(run, data=load(run.data))
    assert list(result.metrics["gradient_similarity"]) == ["input", "conv1", "fc3"]
    assert unpacked(result.metrics["feature_maps"]["maps"]).shape == (3, 6, 28, 28)


def test_sharpness_is_the_mean_gradient_and_falls_with_blur_and_contrast():
    ramp = np.tile(np.arange(5) * 0.1, (5, 1))[None, None]  # 0.1 a pixel across, nothing down
    assert sharpness(ramp) == pytest.approx([0.1])
    assert sharpness(ramp + 0.2 * np.arange(5)[:, None]) == pytest.approx([np.hypot(0.1, 0.2)])
    assert sharpness(np.full((2, 3, 4, 4), 0.7)).tolist() == [0, 0]
    edge = np.zeros((1, 1, 8, 8))
    edge[..., 4:] = 1
    soft = (edge + np.roll(edge, 1, -1) + np.roll(edge, 1, -2)) / 3
    assert sharpness(edge / 2) == pytest.approx(sharpness(edge) / 2)
    assert sharpness(soft[..., 1:7, 1:7]) < sharpness(edge[..., 1:7, 1:7]) + 1e-12
