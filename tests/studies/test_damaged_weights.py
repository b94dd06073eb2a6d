"""Weights are verified when they are needed: those found damaged then are made again, bit for bit."""

import pytest

from noiseutils.book.pipeline import status_of, sweep_study
from noiseutils.studies import RENDERED, live_lab
from noiseutils.studies.noisy_dropout.left_on import LEFT_ON
from noiseutils.studies.profiles import study_params
from noiseutils.studies.study import open_store

CHANGES = ["train_size=64", "test_size=50", "width=0.1", "epochs=1", "seeds=1", "noise_levels=[0.5]"]
CHANGES += ["readings=[dropped]", "unscaled_levels=[]", "probabilities=[0.25]", "input_noise=[]"]


def flip(path) -> bytes:
    """Flip a bit in the last of a file's bytes; return what was there."""
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    return content


def ask_again(run) -> bytes:
    """Damage the weights of a run, and forget what was found out about them."""
    folder = open_store().root / run.key
    (folder / f"extra-{LEFT_ON}.json").unlink()
    return flip(folder / "weights.safetensors")


@pytest.fixture
def swept(tmp_path, monkeypatch):
    monkeypatch.setenv("NOISEUTILS_OUTPUTS", str(tmp_path))
    params = study_params("noisy_dropout", "smoke", CHANGES)
    sweep_study(params, "inline")
    return params


def test_a_sweep_makes_damaged_networks_again_where_they_are_asked(swept, caplog):
    runs = RENDERED["noisy_dropout"].runs(swept)
    before = ask_again(runs[0])
    assert status_of(swept)[0] == {"finished": len(runs)}, "weights are not read for that"
    done = sweep_study(swept, "inline")
    assert "weights.safetensors is incomplete or edited" in caplog.text
    assert not done.missing
    store = open_store()
    assert (store.root / runs[0].key / "weights.safetensors").read_bytes() == before
    assert all(store.load_extra(run, LEFT_ON) is not None for run in runs)


def test_a_notebook_makes_damaged_networks_again_where_they_are_asked(swept, caplog):
    study = RENDERED["noisy_dropout"]
    runs = study.runs(swept)
    before = ask_again(runs[0])
    results = study.collect(swept, "inline")
    assert "weights.safetensors is incomplete or edited" in caplog.text
    assert len(results.stored) == len(runs)
    assert len(results.answers) == len(runs)
    assert (open_store().root / runs[0].key / "weights.safetensors").read_bytes() == before


def test_the_attack_lab_makes_damaged_networks_again(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("NOISEUTILS_OUTPUTS", str(tmp_path))
    params = study_params("live_lab", "smoke")
    first = live_lab.networks(params)
    runs = list(live_lab.attacked(params).values())
    before = flip(open_store().root / runs[0].key / "weights.safetensors")
    again = live_lab.networks(params)
    assert again.keys() == first.keys()
    assert "weights.safetensors is incomplete or edited" in caplog.text
    assert (open_store().root / runs[0].key / "weights.safetensors").read_bytes() == before
