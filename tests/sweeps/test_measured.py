import json

import pytest

from noiseutils.sweeps import measured as module
from noiseutils.sweeps.measured import measured


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NOISEUTILS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "measured.json"


def test_a_question_is_measured_once(cache):
    asked = []
    for _ in range(2):
        assert measured({"model": "tinycnn"}, lambda: asked.append(1) or {"a": 1.5}) == {"a": 1.5}
    assert measured({"model": "babycnn"}, lambda: {"a": 2.0}) == {"a": 2.0}
    assert len(asked) == 1
    assert len(json.loads(cache.read_text())) == 2


def test_another_machine_measures_for_itself(monkeypatch):
    measured({"model": "tinycnn"}, lambda: {"a": 1.0})
    monkeypatch.setattr(module, "processor", lambda: "another")
    assert measured({"model": "tinycnn"}, lambda: {"a": 2.0}) == {"a": 2.0}


def test_what_was_not_found_is_asked_again():
    assert measured({}, lambda: None) is None
    assert measured({}, lambda: {"a": 1.0}) == {"a": 1.0}


@pytest.mark.parametrize("torn", [b"{", b"[]", b"\xff"])
def test_a_torn_file_costs_a_measurement(cache, torn):
    cache.parent.mkdir()
    cache.write_bytes(torn)
    assert measured({}, lambda: {"a": 1.0}) == {"a": 1.0}
    assert measured({}, lambda: {"a": 2.0}) == {"a": 1.0}


def test_a_folder_that_cannot_be_made_is_a_warning(cache, caplog):
    cache.parent.write_text("a file where the folder would be")
    assert measured({}, lambda: {"a": 1.0}) == {"a": 1.0}
    assert "could not be written" in caplog.text
