"""The networks beside other people's: the same weights must give the same logits, and counts must agree."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import AlexNet, mobilenetv2, resnet, vgg

from noiseutils.models import build_model


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def images(n: int, size: int = 32) -> Tensor:
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(1))


def draw_weights(model: nn.Module) -> None:
    """Weights that keep a signal alive; BatchNorms unlike the ones and zeros that they start with."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.weight.data, module.running_var):
                values.uniform_(0.5, 1.5)
            for values in (module.bias.data, module.running_mean):
                values.normal_(0, 0.1)


def assert_same_logits(
    ours: nn.Module, theirs: nn.Module, x: Tensor, modes: tuple[bool, ...] = (True, False)
):
    """Give `ours` the weights of `theirs`, in the order of their state, and hold the logits together.

    Training mode comes first: it moves the running statistics that evaluation uses.
    """
    draw_weights(theirs)
    values = theirs.state_dict().values()
    ours.load_state_dict(dict(zip(ours.state_dict(), values, strict=True)))
    for mode in modes:
        expected, got = theirs.train(mode)(x), ours.train(mode)(x)
        size = expected.abs().max()
        torch.testing.assert_close(got / size, expected / size, atol=1e-4, rtol=0)
        assert (expected[0] - expected[1]).abs().max() > 0.01 * size  # they depend on the image


class Plus(nn.Module):
    """The sum of two modules' outputs."""

    def __init__(self, branch: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.branch, self.shortcut = branch, shortcut

    def forward(self, x: Tensor) -> Tensor:
        return self.branch(x) + self.shortcut(x)


class Apply(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def head(channels: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10)]


@pytest.mark.parametrize(("name", "configuration"), [("vgg11", "A"), ("vgg16", "D")])
def test_vgg_with_torchvisions_weights_gives_torchvisions_output(name, configuration):
    theirs = vgg.make_layers(vgg.cfgs[configuration], batch_norm=True)
    ours = build_model(name)
    assert parameters(ours) == parameters(theirs) + 512 * 10 + 10
    assert_same_logits(ours, nn.Sequential(theirs, *head(512)), images(4))


def test_vgg_of_a_large_image_is_the_mean_of_the_last_pool():
    torch.manual_seed(1)
    theirs = nn.Sequential(vgg.make_layers(vgg.cfgs["A"], batch_norm=True), Apply(lambda x: x.mean((2, 3))))
    assert_same_logits(
        build_model("vgg11", image_size=75), nn.Sequential(*theirs, head(512)[-1]), images(2, 75)
    )


@pytest.mark.parametrize("name", ["resnet18", "resnet34"])
def test_resnet_with_torchvisions_weights_gives_torchvisions_output(name):
    theirs = getattr(resnet, name)(num_classes=10)
    theirs.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    theirs.maxpool = nn.Identity()
    ours = build_model(name)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    assert_same_logits(ours, theirs, images(4))


@pytest.mark.parametrize(("name", "blocks"), [("resnet20", 3), ("resnet56", 9)])
def test_cifar_resnet_is_torchvisions_blocks_with_parameter_free_shortcuts(name, blocks):
    def shortcut(x: Tensor) -> Tensor:
        kept = x[:, :, ::2, ::2]
        return torch.cat([kept, torch.zeros_like(kept)], dim=1)

    layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    for before, after in ((16, 16), (16, 32), (32, 64)):
        halves = before != after
        layers.append(
            resnet.BasicBlock(before, after, 1 + halves, downsample=Apply(shortcut) if halves else None)
        )
        layers += [resnet.BasicBlock(after, after) for _ in range(blocks - 1)]
    assert_same_logits(build_model(name), nn.Sequential(*layers, *head(64)), images(4))


def test_mobilenet_with_timms_weights_gives_timms_output():
    import timm  # slow to import, and no other test needs it

    theirs = timm.create_model("mobilenetv1_100", num_classes=10, act_layer="relu")
    theirs.conv_stem.stride = (1, 1)
    ours = build_model("mobilenet")
    assert parameters(ours) == parameters(theirs)
    assert_same_logits(ours, theirs, images(4))


def test_mobilenet_v2_is_torchvisions_and_the_released_codes_extra_convolutions():
    stages = [[1, 16, 1, 1], [6, 24, 2, 1], [6, 32, 3, 2], [6, 64, 4, 2], [6, 96, 3, 1], [6, 160, 3, 2]]
    whole = mobilenetv2.MobileNetV2(10, inverted_residual_setting=[*stages, [6, 320, 1, 1]])
    assert parameters(whole) == 2_236_682
    whole.features[0][0].stride = (1, 1)

    ours = build_model("mobilenet_v2")
    extra = [m for key, m in ours.named_modules() if key.endswith(".shortcut")]
    extra += [ours.block1.expand, ours.block1.bn1]
    assert parameters(ours) - sum(map(parameters, extra)) == parameters(whole)

    # its own first block has no expansion by one; asked for a hair more, it has
    whole.features[1] = mobilenetv2.InvertedResidual(32, 16, stride=1, expand_ratio=1 + 1e-9)
    for place, (before, after) in {1: (32, 16), 2: (16, 24), 11: (64, 96), 17: (160, 320)}.items():
        projection = nn.Sequential(nn.Conv2d(before, after, 1, bias=False), nn.BatchNorm2d(after))
        whole.features[place] = Plus(whole.features[place], projection)
    for module in list(whole.modules()):
        for key, child in module.named_children():
            if isinstance(child, nn.ReLU6):
                setattr(module, key, nn.ReLU())
    whole.classifier[0] = nn.Identity()  # dropout
    assert_same_logits(ours, whole, images(4))


def test_alexnet_for_large_images_with_torchvisions_weights_gives_torchvisions_output():
    theirs = AlexNet(num_classes=10)
    ours = build_model("alexnet", image_size=224)
    assert parameters(ours) == parameters(theirs)
    assert_same_logits(ours, theirs, images(2, 224), modes=(False,))  # in training theirs drops units


def pyramid_sizes(alpha: int) -> list[int]:
    return [math.floor(16 + Fraction(alpha, 54) * k) for k in range(55)]


@pytest.mark.parametrize(("name", "alpha", "last"), [("pyramidnet48", 48, 64), ("pyramidnet270", 270, 286)])
def test_pyramidnet_has_the_channels_and_the_count_of_the_additive_formula(name, alpha, last):
    sizes = pyramid_sizes(alpha)
    assert sizes[-1] == last  # Han et al.'s "output feature dimension"
    blocks = sum(9 * a * b + 9 * b * b + 2 * (a + b + b) for a, b in pairwise(sizes))
    stem, end = 3 * 9 * 16 + 2 * 16, 2 * last + 10 * last + 10
    with torch.device("meta"):
        model = build_model(name)
    assert parameters(model) == stem + blocks + end
    convs = [m.out_channels for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert convs == [16] + [size for size in sizes[1:] for _ in range(2)]
    assert len(convs) + 1 == 110  # the depth: convolutions and the dense layer


@pytest.mark.parametrize("size", [16, 13])
def test_pyramidnet_equals_a_plain_function_of_its_weights(size):
    model = build_model("pyramidnet48", image_size=size, width=0.5).double()
    draw_weights(model)
    weights = list(model.parameters())  # in the order of the network

    def take(n: int) -> list[Tensor]:
        return [weights.pop(0) for _ in range(n)]

    def norm(x: Tensor) -> Tensor:
        scale, shift = (v[:, None, None] for v in take(2))
        mean = x.mean((0, 2, 3), keepdim=True)
        return scale * (x - mean) / torch.sqrt(((x - mean) ** 2).mean((0, 2, 3), keepdim=True) + 1e-5) + shift

    def halved(x: Tensor) -> Tensor:  # by hand: the mean of each square's pixels, fewer at the border
        rows = [x[:, :, i : i + 2].mean(2) for i in range(0, x.shape[2], 2)]
        x = torch.stack(rows, 2)
        return torch.stack([x[..., i : i + 2].mean(3) for i in range(0, x.shape[3], 2)], 3)

    x = images(3, size).double()
    expected = norm(F.conv2d(x, *take(1), padding=1))
    for k in range(54):
        stride = 2 if k in (18, 36) else 1
        out = norm(F.conv2d(norm(expected), *take(1), stride=stride, padding=1))
        out = norm(F.conv2d(out.clamp(min=0), *take(1), padding=1))
        kept = halved(expected) if stride == 2 else expected
        out[:, : kept.shape[1]] += kept
        expected = out
    expected = norm(expected).clamp(min=0).mean((2, 3)) @ weights[0].T + weights[1]
    torch.testing.assert_close(model.train()(x), expected)
