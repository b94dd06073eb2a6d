"""Stored files besides the store's: whatever stands in their place is named, and stops nothing."""

import errno
import gc
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from odd_files import ODD, no_waiting, put
from PIL import Image

from noiseutils.bench import table
from noiseutils.book.notebooks import read_notebook
from noiseutils.config import Data
from noiseutils.data import image_trees, load
from noiseutils.errors import UserError
from noiseutils.files import Unusable, not_written, obstacle, read_bytes, read_json, size_of, write_atomically
from noiseutils.provenance import reference_root
from noiseutils.studies import evidence
from noiseutils.studies.output import read_figure_runs, read_table
from noiseutils.studies.profiles import read_yaml

__all__ = ["no_waiting"]  # for every test here

NOT_FILES = (
    "a folder",
    "a full folder",
    "a link to itself",
    "a link to nothing",
    "a link to a device",
    "a FIFO",
)


@pytest.mark.parametrize("odd", ODD)
def test_json_is_read_or_is_unusable(tmp_path, odd):
    path = tmp_path / "stored.json"
    path.write_text('{"something": [1, 2, 3], "else": "words"}')
    put(path, odd)
    if odd == "null":
        assert read_json(path) is None
        return
    with pytest.raises(Unusable, match=r"stored\.json"):
        read_json(path)


def test_nothing_is_no_file_and_no_damage(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_bytes(tmp_path / "none")
    assert size_of(tmp_path / "none") is None


def test_reading_leaves_no_file_open(tmp_path):
    gc.collect()  # what other tests left open is closed now, and not between the two counts
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with pytest.raises(Unusable):
            read_bytes(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("odd", NOT_FILES)
def test_what_is_written_takes_the_place_of_anything(tmp_path, odd):
    path = tmp_path / "stored"
    ODD[odd](path, b"")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert not path.is_symlink()


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (errno.ENOSPC, "MiB left): make room"),
        (errno.EDQUOT, "MiB left): make room"),
        (errno.EISDIR, "is a folder; remove or rename"),
        (errno.EEXIST, "remove or rename what stands there"),
        (errno.EROFS, "allow writing there"),
        (errno.EACCES, "allow writing there"),
        (errno.EIO, "name another place"),
    ],
)
def test_the_remedy_fits_the_error(tmp_path, code, remedy):
    said = not_written(tmp_path, OSError(code, os.strerror(code)))
    assert remedy in said
    assert ("make room" in remedy) == ("make room" in said)


def test_the_first_thing_in_the_way_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    assert obstacle(tmp_path / "file" / "a" / "b") == f"{tmp_path / 'file'} is a file, not a folder"
    assert obstacle(tmp_path / "none" / "a") == ""


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_image_cache_is_named_and_made_again(tmp_path, caplog, odd):
    for split in ("train", "test"):
        for name in ("x", "y"):
            (tmp_path / "set" / split / name).mkdir(parents=True)
            Image.new("RGB", (8, 8), (len(split), len(name), 0)).save(
                tmp_path / "set" / split / name / "1.png"
            )
    data = Data.parse(str(tmp_path / "set"))
    before = load(data)
    (cache,) = (tmp_path / "set" / image_trees.CACHE).iterdir()
    put(cache, odd)
    assert load(data).fingerprint == before.fingerprint
    assert cache.name in caplog.text or odd == "a flipped bit"  # in a part that nobody reads
    caplog.clear()
    assert load(data).fingerprint == before.fingerprint
    assert not caplog.text


def test_a_cache_with_other_pixels_is_not_used(tmp_path, caplog):
    file = tmp_path / "8-all-all.npz"
    for pixels in (np.zeros((3, 8, 8, 3)), np.zeros(3, np.uint8), np.zeros((2, 8, 8, 3), np.uint8)):
        np.savez(file, key=np.array("key"), train=pixels, test=pixels)
        assert image_trees._read_cache(file, "key", (3, 3)) is None
    assert caplog.text.count("decoded again") == 3


def test_images_without_a_place_for_their_cache_are_still_read(tmp_path, caplog, monkeypatch):
    monkeypatch.setenv("NOISEUTILS_DATA", str(tmp_path / "file"))
    (tmp_path / "file").write_text("")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / image_trees.CACHE).write_text("")
    assert image_trees._cache_file(Data.parse(str(tmp_path / "set")), tmp_path / "set") is None
    assert "not cached" in caplog.text
    assert f"{tmp_path / 'file'} is a file, not a folder" in caplog.text


@pytest.mark.parametrize("odd", [*(odd for odd in ODD if odd != "a flipped bit"), "a list", "numbers"])
def test_an_odd_list_of_runs_behind_figures_is_named(tmp_path, caplog, odd):
    path = tmp_path / "runs.json"
    path.write_text('{"figure_01": ["some key", "another key"]}')
    if odd in ODD:
        put(path, odd)
    else:
        path.write_text({"a list": "[1]", "numbers": '{"figure_01": 3}'}[odd])
    assert read_figure_runs(path) == {}
    assert "runs.json" in caplog.text


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize(
    ("read", "name"),
    [(read_table, "a.csv"), (table.read, "a.json"), (read_notebook, "a.ipynb"), (read_yaml, "a.yaml")],
)
def test_what_is_no_table_benchmark_notebook_or_profile_is_an_error(tmp_path, read, name, odd):
    if read in (read_table, read_yaml) and odd in ("null", "a flipped bit", "half of it", "a huge number"):
        pytest.skip("a text like others")
    path = tmp_path / name
    path.write_text("a text of more than twenty characters\n")
    put(path, odd)
    with pytest.raises(UserError, match=name):
        read(path)


@pytest.mark.parametrize(
    "text",
    [
        '{"nbformat": 4, "cells": 3, "metadata": {}}',
        '{"nbformat": 4, "cells": [3], "metadata": {}}',
        '{"nbformat": 4, "cells": [], "metadata": []}',
        '{"nbformat": 4, "cells": [], "metadata": {"papermill": 1}}',
    ],
)
def test_a_notebook_of_other_parts_is_an_error(tmp_path, text):
    (tmp_path / "a.ipynb").write_text(text)
    with pytest.raises(UserError, match=r"a\.ipynb"):
        read_notebook(tmp_path / "a.ipynb")


@pytest.mark.parametrize("odd", ["a FIFO", "a folder", "brackets", "not UTF-8", "nothing in it"])
def test_odd_parameters_of_committed_results_leave_out_these_alone(tmp_path, caplog, odd):
    source = reference_root() / "adversarial_noise_layer" / "mnist"
    for name in ("one", "two"):
        folder = tmp_path / "adversarial_noise_layer" / name
        shutil.copytree(source, folder, ignore=shutil.ignore_patterns("figures", "tables"))
    put(tmp_path / "adversarial_noise_layer" / "one" / "params.yaml", odd)
    assert list(evidence.committed(tmp_path)["set"]) == ["two"]
    assert "these results are left out" in caplog.text
    claims = evidence.evidence(["adversarial_noise_layer"], tmp_path)
    assert "two" in set(claims.profile)


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_table_beside_the_papers_is_left_out_of_the_live_view(tmp_path, caplog, odd):
    from noiseutils.live.stored import _beside

    for name in ("reported_a", "reported_b"):
        pd.DataFrame({"value": [1.0, 2.0], "ours": [1.5, 2.5]}).to_csv(tmp_path / f"{name}.csv", index=False)
    put(tmp_path / "reported_a.csv", odd)
    assert {"reported_b"} <= set(_beside(tmp_path)["table"]) <= {"reported_a", "reported_b"}


def test_a_folder_in_the_place_of_a_figure_is_an_error_that_says_so(tmp_path, monkeypatch):
    from noiseutils import plots
    from noiseutils.studies import output
    from noiseutils.studies.params import StudyParams

    monkeypatch.setenv("NOISEUTILS_OUTPUTS", str(tmp_path))
    folder = tmp_path / "noisy_dropout" / "quick" / "figures"
    (folder / "figure_01.png").mkdir(parents=True)
    writer = output.OutputWriter(StudyParams(study="noisy_dropout", profile="quick"), "shapes")
    figure, _ = plots.canvas(size=(2, 2))
    with pytest.raises(UserError, match=r"figure_01\.png is a folder; remove or rename"):
        writer.show([output.Drawn("figure_01", figure, "nothing")])


def test_the_command_line_meets_a_full_disk_anywhere_with_one_sentence(monkeypatch, capsys):
    from noiseutils import cli

    def full():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/tmp/somewhere/file")

    monkeypatch.setattr(cli, "app", full)
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2
    assert "cannot write /tmp/somewhere/file: No space left on device" in capsys.readouterr().err


def test_every_sentence_about_room_is_about_a_full_disk():
    """`make room` helps where a disk is full, and is said in one place."""
    package = Path(image_trees.__file__).parents[1]
    said = [path.name for path in sorted(package.rglob("*.py")) if "make room" in path.read_text()]
    assert said == ["files.py"]
