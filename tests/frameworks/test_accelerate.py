"""docs/how-to/accelerate.md, run as it stands, against plain loops."""

import pytest
from pages import (
    KINDS,
    ON_OPTIMIZER,
    assert_same,
    batches,
    blocks,
    images,
    net,
    plain_epochs,
    plain_loop,
    run,
)
from torch.utils.data import DataLoader, TensorDataset

accelerate = pytest.importorskip("accelerate", reason="needs the frameworks extra")

TRAINING, GRADIENTS = blocks("accelerate")


@pytest.fixture(autouse=True)
def _its_own_accelerator():
    """Accelerate keeps its settings for the whole process."""
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    yield
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)


def loader() -> DataLoader:
    return DataLoader(TensorDataset(*images(32)), batch_size=8)


@pytest.mark.parametrize("kind", KINDS)
def test_two_steps_of_two_batches_in_bf16_equal_a_plain_loop(kind):
    page = run(TRAINING, model=net(), noise=KINDS[kind], loader=loader())
    expected = plain_loop(net(), KINDS[kind], batches(4), accumulate=2, bfloat16=True)
    assert_same(page["model"].state_dict(), expected)


@pytest.mark.parametrize("kind", ["ANL", "CANL"])
def test_noise_may_be_attached_after_prepare(kind):
    page = run(attached_after_prepare(TRAINING), model=net(), noise=KINDS[kind], loader=loader())
    expected = plain_loop(net(), KINDS[kind], batches(4), accumulate=2, bfloat16=True)
    assert_same(page["model"].state_dict(), expected)


def attached_after_prepare(code: str) -> str:
    lines = code.splitlines()
    [attached] = (i for i, line in enumerate(lines) if line.startswith("handle = attach("))
    lines[attached : attached + 2] = lines[attached : attached + 2][::-1]
    assert lines[attached].startswith("model, optimizer, loader = accelerator.prepare(")
    return "\n".join(lines)


@pytest.mark.parametrize("kind", ON_OPTIMIZER)
def test_noise_on_gradients_and_weights_of_a_prepared_optimiser_is_that_of_a_plain_loop(kind):
    page = run(TRAINING, model=net(), noise=KINDS["GaussianNoise"], loader=loader())
    page["handle"].remove()
    page["model"].load_state_dict(net().state_dict())
    run(GRADIENTS, **page | {"parameter_noise": ON_OPTIMIZER[kind], "validate": lambda: 1.0})
    expected = plain_epochs(
        net(), ON_OPTIMIZER[kind], [batches(4)] * 3, [1.0] * 3, accumulate=2, bfloat16=True
    )
    assert_same(page["model"].state_dict(), expected)
