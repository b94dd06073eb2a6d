"""Fixtures of the tests of the views."""

import pytest
from views import PARAMS, wait

from noiseutils.widgets import TrainingLab, view


@pytest.fixture(autouse=True)
def _own_outputs(tmp_path, monkeypatch):
    monkeypatch.setenv("NOISEUTILS_OUTPUTS", str(tmp_path / "outputs"))
    for name in view.FRONTEND_VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def live():
    """A training lab as on a page that answers."""
    lab = TrainingLab(PARAMS, interactive=True)
    yield lab
    lab.close()


@pytest.fixture
def started(live):
    """The same lab some steps into a training."""
    live.start.click()
    wait(lambda: live.session.steps > 3)
    return live
