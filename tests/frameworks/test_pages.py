"""The how-to pages and what their tests hold."""

import re

import pytest
import torch
from pages import HOW_TO, KINDS, batches, net, plain_loop


def test_every_page_is_in_the_index_and_every_link_leads_somewhere():
    index = (HOW_TO / "README.md").read_text()
    for page in HOW_TO.glob("*.md"):
        assert page.name == "README.md" or f"({page.name})" in index, page.name
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text()):
            assert (HOW_TO / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("kind", KINDS)
def test_two_steps_with_noise_end_elsewhere_than_two_without(kind):
    """Where a page's training equals a plain loop with noise, noise has acted in it."""
    noisy = plain_loop(net(), KINDS[kind], batches(2))
    clean = plain_loop(net(), KINDS["GaussianNoise"].replace(std=0.0), batches(2))
    assert not torch.allclose(noisy["6.weight"], clean["6.weight"], rtol=1e-3)
