"""docs/how-to/hugging-face.md, run as it stands, against plain loops."""

import pytest
import torch
import torch.nn.functional as F
from pages import KINDS, ON_OPTIMIZER, Images, assert_same, blocks, plain_epochs, plain_loop, resnet, run

transformers = pytest.importorskip("transformers", reason="needs the frameworks extra")

TRAINING, GRADIENTS = blocks("hugging-face")
# the loader's own, where there is no GPU
pytestmark = pytest.mark.filterwarnings("ignore:.pin_memory. argument is set as true:UserWarning")


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_two_steps_of_two_batches_equal_a_plain_loop(kind):
    data = Images(32)
    page = run(TRAINING, model=resnet(), noise=KINDS[kind], dataset=data)
    expected = plain_loop(resnet().train(), KINDS[kind], data.batches(), page["criterion"], accumulate=2)
    assert page["trainer"].state.global_step == 2
    assert_same(page["model"].state_dict(), expected)


@pytest.mark.parametrize("kind", ON_OPTIMIZER)
def test_noise_on_gradients_and_weights_follows_the_validation_losses_as_in_a_plain_loop(kind):
    data, model = Images(16), resnet()
    arguments = transformers.TrainingArguments(
        "out", num_train_epochs=3, eval_strategy="epoch", max_grad_norm=0
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    constant = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
    trainer = transformers.Trainer(
        model,
        arguments,
        train_dataset=data,
        eval_dataset=Images(8),
        optimizers=(optimizer, constant),
        callbacks=[run(GRADIENTS)["AdaptiveCallback"](ON_OPTIMIZER[kind])],
    )
    trainer.train()
    losses = [row["eval_loss"] for row in trainer.state.log_history if "eval_loss" in row]
    taken = data.batches()
    epochs = [taken[:2], taken[2:4], taken[4:]]

    def criterion(output, y):
        return F.cross_entropy(output.logits, y)

    expected = plain_epochs(resnet().train(), ON_OPTIMIZER[kind], epochs, losses, criterion)
    assert_same(model.state_dict(), expected)
