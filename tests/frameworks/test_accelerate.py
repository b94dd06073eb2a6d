"""docs/how-to/accelerate.md, run as it stands, against plain loops."""

import pytest
import torch
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


def swapped(code: str) -> str:
    """Return the code with `attach` before `prepare`."""
    lines = code.splitlines()
    [prepared] = (i for i, line in enumerate(lines) if "accelerator.prepare(" in line)
    assert "attach(" in lines[prepared + 1]
    lines[prepared : prepared + 2] = lines[prepared + 1], lines[prepared]
    return "\n".join(lines)


@pytest.mark.parametrize("kind", ["ANL", "CANL"])
def test_noise_may_be_attached_before_prepare(kind):
    page = run(swapped(TRAINING), model=net(), noise=KINDS[kind], loader=loader())
    expected = plain_loop(net(), KINDS[kind], batches(4), accumulate=2, bfloat16=True)
    assert_same(page["model"].state_dict(), expected)


@pytest.mark.filterwarnings("ignore")  # the compiler's own
@pytest.mark.parametrize("kind", ["ANL", "LAT"])
def test_a_model_that_accelerate_compiles_takes_the_same_steps(kind):
    code = TRAINING.replace('mixed_precision="bf16"', 'mixed_precision="no", dynamo_backend="aot_eager"')
    page = run(code, model=net(), noise=KINDS[kind], loader=loader())
    assert isinstance(page["handle"].network, torch._dynamo.OptimizedModule)
    expected = plain_loop(net(), KINDS[kind], batches(4), accumulate=2)
    assert_same(page["model"]._orig_mod.state_dict(), expected)


@pytest.mark.parametrize("kind", ON_OPTIMIZER)
def test_noise_on_gradients_and_weights_of_a_prepared_optimiser_is_that_of_a_plain_loop(kind):
    page = run(TRAINING, model=net(), noise=KINDS["GaussianNoise"], loader=loader())
    page["handle"].remove()
    page["model"].load_state_dict(net().state_dict())
    run(GRADIENTS, **page | {"parameter_noise": ON_OPTIMIZER[kind], "validate": lambda: 1.0})
    expected = plain_epochs(
        net(), ON_OPTIMIZER[kind], [batches(4)] * 3, lambda model: 1.0, accumulate=2, bfloat16=True
    )
    assert_same(page["model"].state_dict(), expected)
