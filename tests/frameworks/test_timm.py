"""docs/how-to/timm.md, run as it stands, against a plain loop."""

import numpy as np
import pytest
import torch
from pages import KINDS, WITHOUT_CLASSES, assert_same, batches, blocks, plain_loop, run
from torch import Tensor

from noiseutils.errors import UserError

timm = pytest.importorskip("timm", reason="needs the dev extra")

[TRAINING] = blocks("timm")


def model():
    torch.manual_seed(0)
    return timm.create_model("resnet10t", num_classes=4)


def data() -> list[tuple[Tensor, Tensor]]:
    return [(x.repeat(1, 1, 4, 4), y) for x, y in batches(2)]


@pytest.fixture(autouse=True)
def _the_same_mixes():
    np.random.seed(0)  # noqa: NPY002  what timm's Mixup draws from


@pytest.mark.parametrize("kind", WITHOUT_CLASSES)
def test_two_steps_with_mixed_images_and_an_average_equal_a_plain_loop(kind):
    page = run(TRAINING, model=model(), noise=KINDS[kind], loader=data())
    np.random.seed(0)  # noqa: NPY002
    mixed = [page["mixup"](x, y) for x, y in data()]
    expected = model().to(memory_format=torch.channels_last)
    average = timm.utils.ModelEmaV3(expected, decay=0.99)
    plain_loop(
        expected,
        KINDS[kind],
        [(x.contiguous(memory_format=torch.channels_last), y) for x, y in mixed],
        page["criterion"],
        after_step=lambda: average.update(expected),
    )
    assert_same(page["model"].state_dict(), expected.state_dict())
    assert_same(page["average"].module.state_dict(), average.module.state_dict())


def test_labels_of_mixed_images_are_refused_by_canl():
    with pytest.raises(UserError, match=r"needs class labels, \(N,\) int64, got \(8, 4\) torch.float32"):
        run(TRAINING, model=model(), noise=KINDS["CANL"], loader=data())
