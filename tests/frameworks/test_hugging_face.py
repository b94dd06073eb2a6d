"""docs/how-to/hugging-face.md, run as it stands, against plain loops."""

import copy

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
    trainer = page["trainer"]
    assert trainer.state.global_step == 2
    assert_same(page["model"].state_dict(), expected)
    judged = Images(8)
    with torch.no_grad():
        clean = page["criterion"](page["model"].eval()(judged.x), judged.y)
    assert trainer.evaluate(judged)["eval_loss"] == pytest.approx(clean.item())


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
    losses = iter([row["eval_loss"] for row in trainer.state.log_history if "eval_loss" in row])
    taken = data.batches()
    epochs = [taken[:2], taken[2:4], taken[4:]]

    def criterion(output, y):
        return F.cross_entropy(output.logits, y)

    expected = plain_epochs(
        resnet().train(), ON_OPTIMIZER[kind], epochs, lambda model: next(losses), criterion
    )
    assert_same(model.state_dict(), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_activation_checkpointing_of_a_vit_changes_no_weight(kind):
    config = transformers.ViTConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=16,
        patch_size=8,
        num_labels=4,
    )
    found = []
    for checkpointed in (False, True):
        model = transformers.ViTForImageClassification(config)
        model.load_state_dict(found[0][0] if found else model.state_dict())
        before = copy.deepcopy(model.state_dict())
        code = TRAINING.replace('"ReLU"', '"GELUActivation"').replace(
            'output_dir="out"', f'output_dir="out", activation_checkpointing={checkpointed}'
        )
        run(code, model=model, noise=KINDS[kind], dataset=Images(32))
        found.append((before, model.state_dict()))
    assert_same(found[0][1], found[1][1])
    assert not torch.equal(*(state["classifier.weight"] for state in found[0]))
