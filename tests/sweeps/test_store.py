import copy
import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

import noiseutils
from noiseutils.config import Data, Evaluation, GaussianNoise, Model, Run
from noiseutils.sweeps.records import checksum
from noiseutils.sweeps.store import Store, StoreError
from noiseutils.training.checkpoint import Checkpoint
from noiseutils.training.loop import Result, train

RUN = Run(
    data=Data(train_size=60, test_size=30),
    model=Model(name="babycnn", width=0.5),
    noise=GaussianNoise(std=0.1),
    after=("relu1",),
    epochs=2,
    evaluation=Evaluation(),
)


@pytest.fixture(scope="module")
def result() -> Result:
    return train(RUN)


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "runs")


def folder(store: Store):
    return store.root / RUN.key


def test_what_is_found_later_about_a_network_is_kept_checked_and_published(tmp_path, caplog):
    result, store = train(RUN), Store(tmp_path / "here")
    store.save(result)
    assert store.load_extra(RUN, "attacks") is None
    store.save_extra(RUN, "attacks", {"pgd20": 0.25})
    store.publish(RUN, tmp_path / "there")
    assert Store(tmp_path / "there").load_extra(RUN, "attacks") == {"pgd20": 0.25}
    path = tmp_path / "here" / RUN.key / "extra-attacks.json"
    path.write_text(path.read_text().replace("0.25", "0.75"))
    assert store.load_extra(RUN, "attacks") is None
    assert "extra-attacks.json is incomplete or edited" in caplog.text


def snapshot() -> Checkpoint:
    return Checkpoint(
        [{"epoch": 1, "train_loss": 0.1 + 0.2}], {"model/w": torch.rand(3, 4)}, threads=1, device="cpu"
    )


def test_what_is_saved_is_what_is_loaded(store, result):
    assert store.load(RUN) is None
    store.save(result)
    found = Store(store.root).load(RUN, weights=True)
    assert found is not None
    assert found.metrics == result.metrics
    assert found.status == "finished"
    pd.testing.assert_frame_equal(found.history, result.history, check_exact=True)
    assert found.model is not None
    x = torch.rand(4, 3, 32, 32)
    trained = copy.deepcopy(result.model).to(
        memory_format=torch.contiguous_format
    )  # other layouts round apart
    assert torch.equal(found.model(x), trained(x))


def test_the_record_says_where_pixels_came_from_and_with_what_it_was_made(store, result):
    store.save(result)
    record = json.loads((folder(store) / "run.json").read_text())
    assert record["run"]["noise"] == {"kind": "gaussian_noise", "std": 0.1}
    assert record["info"]["data"]["label"] == "shapes"
    assert len(record["info"]["data"]["fingerprint"]) == 64
    assert {"noiseutils", "commit", "python", "torch"} <= record["info"]["versions"].keys()
    assert "root" not in record["run"]["data"], "paths belong to a machine"


@pytest.mark.parametrize("name", ["run.json", "history.csv", "metrics.json", "weights.safetensors"])
@pytest.mark.parametrize("how", ["torn", "edited", "missing"])
def test_a_damaged_file_is_named_and_its_run_set_aside(store, result, caplog, name, how):
    if (name, how) == ("run.json", "missing"):
        pytest.skip("without run.json a run is unfinished, not damaged")
    store.save(result)
    path = folder(store) / name
    content = path.read_bytes()
    if how == "missing":
        path.unlink()
    else:
        middle = len(content) // 2
        flipped = bytes([content[middle] ^ 1])
        path.write_bytes(
            content[:middle] if how == "torn" else content[:middle] + flipped + content[middle + 1 :]
        )
    fresh = Store(store.root)
    # weights are read, and a flipped bit of theirs is found, when they are asked for
    assert fresh.load(RUN, weights=(name, how) == ("weights.safetensors", "edited")) is None
    assert not fresh.finished(RUN)
    assert name in caplog.text
    assert "set aside" in caplog.text
    assert [p.name.startswith("damaged-") for p in store.root.iterdir()] == [True]
    fresh.save(result)
    assert Store(store.root).finished(RUN)


def test_a_result_under_another_key_is_damage(store, result):
    store.save(result)
    other = RUN.replace(seed=7)
    folder(store).rename(store.root / other.key)
    assert store.load(other) is None


def test_a_checkpoint_survives_and_a_torn_one_is_set_aside(store, caplog):
    saved = snapshot()
    store.save_checkpoint(RUN, saved)
    assert store.state(RUN) == "interrupted"
    found = store.load_checkpoint(RUN)
    assert found is not None
    assert found.rows == saved.rows
    assert found.threads == 1
    assert torch.equal(found.tensors["model/w"], saved.tensors["model/w"])
    path = folder(store) / "checkpoint"
    path.write_bytes(path.read_bytes()[:-5])
    assert store.load_checkpoint(RUN) is None
    assert "checkpoint" in caplog.text
    assert "starts anew" in caplog.text


def test_states_of_a_run(store, result):
    assert store.state(RUN) == "missing"
    store.record_failure(RUN, "Traceback\nValueError: no")
    assert store.state(RUN) == "failed"
    assert store.failure(RUN) == "Traceback\nValueError: no"
    store.save(result)
    assert store.state(RUN) == "finished"
    assert store.failure(RUN) is None


def test_a_diverged_run_is_stored_as_such(store, result):
    store.save(Result(RUN, "diverged", {}, result.history, result.model, result.info))
    assert store.state(RUN) == "diverged"
    assert not (folder(store) / "weights.safetensors").exists()


def test_a_full_disk_is_a_clear_error_and_harms_nothing(store, result, monkeypatch):
    other = RUN.replace(seed=1)
    store.save(result)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match=r"cannot write .*No space left on device.*Finished runs are kept"):
        store.save(Result(other, "finished", {}, result.history, result.model, result.info))
    with pytest.raises(StoreError, match="No space left"):
        store.save_checkpoint(other, snapshot())
    monkeypatch.undo()
    assert not list(store.root.glob("*/.partial-*"))
    assert Store(store.root).load(RUN, weights=True) is not None
    assert store.state(other) == "missing"


def test_a_really_full_disk(tmp_path, result):
    mount = tmp_path / "small"
    mount.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "none", mount]).returncode:
        pytest.skip("needs the right to mount a small file system")
    try:
        with pytest.raises(StoreError, match=r"cannot write .*No space left"):
            Store(mount / "runs").save(result)
        assert not list(mount.rglob(".partial-*"))
        assert not list(mount.rglob("run.json"))
    finally:
        subprocess.run(["umount", mount], check=True)


@pytest.mark.slow
def test_only_one_process_can_claim_a_run(store):
    code = (
        "import sys; from noiseutils.config import Run; from noiseutils.sweeps.store import Store\n"
        "run = Run.model_validate_json(sys.argv[2])\n"
        "with Store(sys.argv[1]).claim(run) as mine: print(mine)"
    )
    command = [sys.executable, "-c", code, str(store.root), RUN.model_dump_json()]
    with store.claim(RUN) as mine:
        assert mine
        inside = subprocess.run(command, capture_output=True, text=True, check=True)
    outside = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (inside.stdout.strip(), outside.stdout.strip()) == ("False", "True")


def test_a_claim_sweeps_up_what_a_killed_writer_left(store):
    folder(store).mkdir(parents=True)
    torn = folder(store) / ".partial-abc"
    torn.write_bytes(b"half")
    with store.claim(RUN):
        assert not torn.exists()


def test_a_published_result_is_whole_without_its_weights(store, result, tmp_path):
    store.save(result)
    store.publish(RUN, tmp_path / "published")
    assert not (tmp_path / "published" / RUN.key / "weights.safetensors").exists()
    elsewhere = Store(tmp_path / "empty", reference=(tmp_path / "published",))
    found = elsewhere.load(RUN, weights=True)
    assert found is not None
    assert found.model is None
    assert found.metrics == result.metrics
    assert not (tmp_path / "empty").exists()


def test_publishing_again_leaves_the_record_of_an_older_version_as_it_is(store, result, tmp_path):
    store.save(result)
    store.publish(RUN, tmp_path / "published")
    place = tmp_path / "published" / RUN.key / "run.json"
    record = json.loads(place.read_text())
    del record["run"]["label_smoothing"], record["checksum"]  # before there was such a field
    older = json.dumps({**record, "checksum": checksum(record)})
    place.write_text(older)
    store.publish(RUN, tmp_path / "published")
    assert place.read_text() == older
    place.write_text(older.replace('"finished"', '"diverged"'))  # edited by hand: written anew
    store.publish(RUN, tmp_path / "published")
    assert json.loads(place.read_text())["status"] == "finished"
    assert Store(tmp_path / "published").finished(RUN)


def test_a_damaged_published_result_is_not_used_and_not_moved(store, result, tmp_path, caplog):
    store.save(result)
    store.publish(RUN, tmp_path / "published")
    metrics = tmp_path / "published" / RUN.key / "metrics.json"
    metrics.write_text("{}")
    assert Store(tmp_path / "empty", reference=(tmp_path / "published",)).load(RUN) is None
    assert metrics.exists()
    assert "not used" in caplog.text


def test_nothing_in_the_package_unpickles():
    files = list(Path(noiseutils.__file__).parent.rglob("*.py"))
    assert len(files) > 20
    unsafe = re.compile(r"(?<!safetensors\.)torch\.load\(|import pickle|allow_pickle=True")
    assert not [path.name for path in files if unsafe.search(path.read_text())]
