"""docs/how-to/lightning.md, run as it stands, against plain loops."""

import pytest
import torch
import torch.nn.functional as F
from pages import (
    KINDS,
    ON_OPTIMIZER,
    assert_same,
    batches,
    blocks,
    clean_loss,
    images,
    net,
    plain_epochs,
    plain_loop,
    run,
)
from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn
from torch.utils.data import DataLoader, TensorDataset

from noiseutils.errors import UserError
from noiseutils.noise import attach

L = pytest.importorskip("lightning", reason="needs the frameworks extra")

TRAINING, GRADIENTS, FABRIC = blocks("lightning")
# the Trainer's advice on workers, logging, a missing logger and sizes; and what torch deprecates
pytestmark = [
    pytest.mark.filterwarnings("ignore::lightning.fabric.utilities.warnings.PossibleUserWarning"),
    pytest.mark.filterwarnings("ignore:Starting from v1.9.0, `tensorboardX`:UserWarning"),
    pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings(
        "ignore:Precision bf16-mixed is not supported by the model summary:UserWarning"
    ),
]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def loader(n: int = 64) -> DataLoader:
    return DataLoader(TensorDataset(*images(n)), batch_size=8)


def train(kind: str) -> dict:
    return run(TRAINING, model=net(), noise=KINDS[kind], loader=loader(), validation_loader=loader(8))


@pytest.mark.parametrize("kind", KINDS)
def test_two_steps_of_four_batches_in_bf16_and_their_average_equal_a_plain_loop(kind):
    page = train(kind)
    model = net()
    average = AveragedModel(model, avg_fn=get_ema_avg_fn(0.99), use_buffers=True)
    plain_loop(
        model,
        KINDS[kind],
        batches(8),
        accumulate=4,
        bfloat16=True,
        after_step=lambda: average.update_parameters(model),
    )
    assert page["trainer"].global_step == 2
    # the Trainer leaves the average in the model
    assert_same(page["model"].state_dict(), average.module.state_dict())


IMPORTS, _, _ = TRAINING.partition("class ")


@pytest.mark.parametrize("kind", ON_OPTIMIZER)
def test_noise_on_gradients_and_weights_follows_the_validation_losses_and_is_not_in_the_best_weights(kind):
    noise, judged = ON_OPTIMIZER[kind], images(8)
    names = {"parameter_noise": noise, "loader": loader(16), "validation_loader": loader(8)}
    page = run(IMPORTS, GRADIENTS, model=net(), **names)
    losses = []

    def validate(model):
        losses.append(clean_loss(model, *judged))
        return losses[-1]

    assert_same(page["model"].state_dict(), plain_epochs(net(), noise, [batches(2)] * 3, validate))
    stored = torch.load(page["best"].best_model_path, weights_only=True)["state_dict"]
    model = net()
    model.load_state_dict({name.removeprefix("model."): value for name, value in stored.items()})
    assert clean_loss(model, *judged) == pytest.approx(min(losses))


@pytest.mark.parametrize("kind", ON_OPTIMIZER)
def test_a_training_with_noise_on_gradients_resumes_from_what_was_stored_last(kind, monkeypatch):
    page = run(IMPORTS, GRADIENTS.partition("best = ")[0])

    def train(stop: bool = False, checkpoint: str | None = None):
        module = page["Adaptive"](net(), ON_OPTIMIZER[kind])
        callbacks = [L.pytorch.callbacks.LambdaCallback(on_validation_end=stopping)] if stop else []
        trainer = L.Trainer(max_epochs=3, enable_checkpointing=False, callbacks=callbacks)
        trainer.fit(module, loader(16), loader(8), ckpt_path=checkpoint)
        return trainer, module.model.state_dict()

    def stopping(trainer, module):
        trainer.should_stop = not trainer.sanity_checking

    stopped, _ = train(stop=True)
    assert stopped.current_epoch == 1
    stopped.save_checkpoint("last.ckpt")
    assert_same(train(checkpoint="last.ckpt")[1], train()[1])


@pytest.mark.parametrize("kind", KINDS)
def test_a_training_resumed_from_a_trainers_checkpoint_ends_as_an_uninterrupted_one(kind):
    page = run(TRAINING.partition("average = ")[0])

    def train(epochs: int, checkpoint: str | None = None):
        module = page["Classifier"](net(), KINDS[kind])
        trainer = L.Trainer(max_epochs=epochs, enable_checkpointing=False)
        trainer.fit(module, loader(16), loader(8), ckpt_path=checkpoint)
        return trainer, module.model.state_dict()

    train(1)[0].save_checkpoint("stored.ckpt")
    assert_same(train(2, "stored.ckpt")[1], train(2)[1])


@pytest.mark.parametrize("kind", KINDS)
def test_two_steps_under_fabric_equal_a_plain_loop(kind):
    names = {"L": L, "torch": torch, "F": F, "attach": attach}
    page = run(FABRIC, **names, model=net(), noise=KINDS[kind], loader=loader(16))
    expected = plain_loop(net(), KINDS[kind], batches(2), bfloat16=True)
    assert_same(page["model"].state_dict(), expected)


def test_anl_on_a_network_that_fabric_has_set_up_says_where_it_belongs():
    model = L.Fabric(precision="bf16-mixed").setup(net())
    handle = attach(model, KINDS["ANL"], after="ReLU")
    with pytest.raises(UserError, match=r"attach to the network itself, before fabric\.setup"):
        handle.loss(F.cross_entropy, *batches(1)[0])
