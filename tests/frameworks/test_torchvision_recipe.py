"""docs/how-to/torchvision-recipe.md, run as it stands, against a plain loop."""

import pytest
import torch
from pages import KINDS, WITHOUT_CLASSES, assert_same, blocks, images, net, plain_loop, run
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import TensorDataset

from noiseutils.errors import UserError

[TRAINING] = blocks("torchvision-recipe")


@pytest.mark.parametrize("kind", WITHOUT_CLASSES)
def test_two_steps_with_mixed_images_smooth_labels_and_an_average_equal_a_plain_loop(kind):
    page = run(TRAINING, model=net(), noise=KINDS[kind], dataset=TensorDataset(*images(16)))
    torch.manual_seed(0)
    mixed = list(page["loader"])
    model = net()
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.99), use_buffers=True)
    plain_loop(
        *(model, KINDS[kind], mixed, page["criterion"]), after_step=lambda: average.update_parameters(model)
    )
    assert_same(page["model"].state_dict(), model.state_dict())
    assert_same(page["average"].state_dict(), average.state_dict())


def test_labels_of_mixed_images_are_refused_by_canl():
    with pytest.raises(UserError, match=r"needs class labels, \(N,\) int64, got \(8, 4\) torch.float32"):
        run(TRAINING, model=net(), noise=KINDS["CANL"], dataset=TensorDataset(*images(16)))
