"""What the README shows works as it stands there."""

import re
from pathlib import Path

import torch
from torch import nn

from noiseutils.markdown import between_marks
from noiseutils.studies import findings

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def test_the_two_lines_train_a_network_of_ones_own():
    blocks = re.findall(r"```python\n(.*?)```", README, re.S)
    two_lines = next(block for block in blocks if "attach(" in block)
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 4)
    )
    x, y = torch.rand(16, 3, 8, 8), torch.arange(16) % 4
    before = [p.detach().clone() for p in model.parameters()]
    names = {
        "model": model,
        "loader": [(x, y)] * 3,
        "criterion": nn.CrossEntropyLoss(),
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.1),
    }
    exec(two_lines, names)
    assert all(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert all(not module._forward_hooks for module in model.modules()), "handle.remove() is shown"


def test_the_two_lines_run_with_the_four_names_that_stand_above_them():
    section = README.partition("## In a training loop")[2]
    given, two_lines, *_ = re.findall(r"```python\n(.*?)```", section, re.S)
    names: dict = {}
    exec(given, names)
    before = [p.detach().clone() for p in names["model"].parameters()]
    exec(two_lines, names)
    changed = [not torch.equal(a, b) for a, b in zip(before, names["model"].parameters(), strict=True)]
    assert len(changed) == 4
    assert all(changed)


def test_noise_through_the_optimizer_follows_a_training_of_ones_own():
    blocks = re.findall(r"```python\n(.*?)```", README, re.S)
    (block,) = (block for block in blocks if "attach_to_optimizer(" in block)
    weight = nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([weight], lr=0.0)
    weights = []

    def train_and_validate():
        weight.grad = torch.ones(3)
        optimizer.step()
        weights.append(weight.detach().clone())
        return 1.0

    exec(block, {"optimizer": optimizer, "train_and_validate": train_and_validate})
    still = [torch.equal(w, torch.ones(3)) for w in weights]
    assert still == [True] * 70 + [False] * 230, "a loss that never falls: noise after MinEpochs"


def test_what_was_found_is_what_the_committed_results_give():
    """After new results: `noiseutils claims --readme`."""
    assert between_marks(README, "in short") == findings.first_words()
    assert between_marks(README, "claims") == findings.in_readme()
    assert (ROOT / "outputs" / "reference" / findings.LISTED).read_text() == findings.page()


def test_python_blocks_run():
    for block in re.findall(r"```python\n(.*?)```", README, re.S):
        if not re.search(r"attach(_to_optimizer)?\(", block):
            exec(block, {})


def test_every_file_of_the_package_stands_in_the_tree():
    tree = README[README.index("noiseutils/\n") :]
    for path in sorted((ROOT / "noiseutils").rglob("*.py")):
        if path.name not in ("__init__.py", "__main__.py"):
            assert re.search(rf"\b{re.escape(path.name)}\b", tree), (
                f"{path.name} is missing in the README's tree"
            )


def test_links_lead_somewhere():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_nothing_is_left_to_fill_in():
    assert "@@" not in README
