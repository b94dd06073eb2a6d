"""Settings of the tests of data sets."""

import pytest


@pytest.fixture(autouse=True)
def _no_data_of_this_machine(monkeypatch, tmp_path):
    monkeypatch.setenv("NOISEUTILS_DATA", str(tmp_path / "nothing here"))
