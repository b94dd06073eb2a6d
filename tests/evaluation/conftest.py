"""A trained network for the tests of attacks."""

import pytest
from networks import trained
from torch import nn


@pytest.fixture(scope="module")
def model() -> nn.Sequential:
    return trained()
