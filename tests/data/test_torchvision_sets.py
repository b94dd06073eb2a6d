"""torchvision's four sets: read whole, or refused with the reason."""

import gzip
import hashlib
import pickle
import subprocess
from pathlib import Path

import numpy as np
import pytest
from small_sets import make_idx, write_idx
from torchvision import datasets

from noiseutils import provenance
from noiseutils.config import Data
from noiseutils.data import load, torchvision_sets
from noiseutils.data.availability import check, fetch
from noiseutils.errors import UserError


def own(root, label="fashion-subset"):
    return Data(name="fashion_mnist", root=str(root), label=label)


@pytest.mark.parametrize("below", ["FashionMNIST/raw", "raw", "."])
def test_idx_files_with_a_label_of_their_own_are_read_whole_from_every_layout(tmp_path, below):
    arrays = make_idx(tmp_path / below)
    data = load(own(tmp_path))
    assert data.label == "fashion-subset"
    assert (data.train.pixels.squeeze(1).numpy() == arrays["train"][0]).all()
    assert (data.test.pixels.squeeze(1).numpy() == arrays["t10k"][0]).all()
    assert data.test.labels.tolist() == arrays["t10k"][1].tolist()
    assert data.classes[9] == "Ankle boot"


def test_idx_files_that_are_not_the_official_ones_are_refused_under_the_official_name(tmp_path):
    make_idx(tmp_path / "MNIST" / "raw")
    for look in (load, check):
        with pytest.raises(UserError, match=r"label(.|\n)*train-images-idx3-ubyte: not the official file"):
            look(Data(name="mnist", root=str(tmp_path)))


def test_idx_files_with_the_official_sums_need_no_label(tmp_path, monkeypatch):
    make_idx(tmp_path / "MNIST" / "raw")
    sums = tuple(
        hashlib.md5((tmp_path / "MNIST" / "raw" / f"{name}-ubyte").read_bytes()).hexdigest()
        for name in torchvision_sets.IDX_FILES
    )
    monkeypatch.setitem(torchvision_sets.IDX_MD5, "mnist", sums)
    data = load(Data(name="mnist", root=str(tmp_path)))
    assert data.label == "mnist"
    assert data.classes == tuple("0123456789")
    assert "checksum right" in check(Data(name="mnist", root=str(tmp_path)))


def test_torn_idx_file_is_named(tmp_path):
    make_idx(tmp_path)
    torn = tmp_path / "t10k-images-idx3-ubyte"
    torn.write_bytes(torn.read_bytes()[:-100])
    with pytest.raises(UserError, match=f"{torn} is not a whole IDX file"):
        load(own(tmp_path))


def test_idx_labels_that_do_not_fit_the_images_are_refused(tmp_path):
    make_idx(tmp_path)
    write_idx(tmp_path / "train-labels-idx1-ubyte", np.arange(19) % 10)
    with pytest.raises(UserError, match="20 images and 19 labels"):
        load(own(tmp_path))
    write_idx(tmp_path / "train-labels-idx1-ubyte", np.full(20, 10))
    with pytest.raises(UserError, match="labels up to 10"):
        load(own(tmp_path))


@pytest.mark.parametrize("below", ["MNIST/raw", "raw", "."])
def test_packed_idx_files_are_named_with_the_command_that_unpacks_them(tmp_path, monkeypatch, below):
    root = tmp_path / "my data"
    make_idx(root / below)
    monkeypatch.setitem(
        torchvision_sets.IDX_MD5,
        "mnist",
        tuple(
            hashlib.md5((root / below / f"{name}-ubyte").read_bytes()).hexdigest()
            for name in torchvision_sets.IDX_FILES
        ),
    )
    for path in (root / below).glob("t10k-*"):
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    data = Data(name="mnist", root=str(root))
    with pytest.raises(UserError, match="there, but packed; to unpack them: gunzip --keep ") as error:
        load(data)
    command = str(error.value).split("unpack them: ")[1].splitlines()[0]
    subprocess.run(command, shell=True, check=True)
    assert len(load(data).test) == 10


def test_packed_cifar_is_named_with_the_command_that_unpacks_it(tmp_path):
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"")
    with pytest.raises(
        UserError, match=f"unpack them: tar -xzf {tmp_path}/cifar-10-python.tar.gz -C {tmp_path}"
    ):
        check(Data(name="cifar10", root=str(tmp_path)))


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "mnist", "fashion_mnist"])
def test_missing_files_name_the_path_the_layout_and_the_command(tmp_path, name):
    where = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}
    expected = tmp_path / where.get(name, f"{torchvision_sets.TORCHVISION[name]}/raw")
    for look in (load, check):
        with pytest.raises(UserError) as error:
            look(Data(name=name, root=str(tmp_path)))
        for part in (str(expected), ": missing", "expected", f"noiseutils data make {name}"):
            assert part in str(error.value)


def test_default_root_is_the_environment_variable_then_the_cache_folder(tmp_path, monkeypatch):
    assert provenance.data_root() == tmp_path / "nothing here"
    with pytest.raises(UserError, match="nothing here"):
        load(Data(name="mnist"))
    monkeypatch.delenv("NOISEUTILS_DATA")
    assert provenance.data_root() == Path.home() / ".cache" / "noiseutils" / "data"


@pytest.fixture
def small_cifar(tmp_path, monkeypatch):
    """A CIFAR-10 of 60 images in torchvision's layout, with the sums that torchvision expects of it."""
    base, draws = tmp_path / "cifar-10-batches-py", np.random.RandomState(3)
    base.mkdir()

    def write(name, content):
        (base / name).write_bytes(pickle.dumps(content))
        return [name, hashlib.md5((base / name).read_bytes()).hexdigest()]

    def batch(n):
        return {
            "data": draws.randint(0, 256, (n, 3072)).astype(np.uint8),
            "labels": [i % 10 for i in range(n)],
        }

    train = [write(f"data_batch_{i}", batch(10)) for i in range(1, 6)]
    test = [write("test_batch", batch(10))]
    meta = write("batches.meta", {"label_names": list("abcdefghij")})
    monkeypatch.setattr(datasets.CIFAR10, "train_list", train)
    monkeypatch.setattr(datasets.CIFAR10, "test_list", test)
    monkeypatch.setattr(datasets.CIFAR10, "meta", {"filename": meta[0], "md5": meta[1], "key": "label_names"})
    return tmp_path


def test_cifar_is_read_whole_in_the_order_of_its_files(small_cifar):
    data = load(Data(name="cifar10", root=str(small_cifar)))
    assert (len(data.train), len(data.test), data.classes) == (50, 10, tuple("abcdefghij"))
    second = pickle.loads((small_cifar / "cifar-10-batches-py" / "data_batch_2").read_bytes())
    assert (data.train.pixels[10:20].reshape(10, -1).numpy() == second["data"]).all()
    assert data.train.labels[10:20].tolist() == second["labels"]


def test_cifar_file_with_a_wrong_checksum_is_named_whatever_the_label(small_cifar):
    path = small_cifar / "cifar-10-batches-py" / "data_batch_3"
    path.write_bytes(path.read_bytes() + b" ")
    for label in ("", "mine"):
        with pytest.raises(UserError, match="data_batch_3: not the official file: MD5") as error:
            load(Data(name="cifar10", root=str(small_cifar), label=label))
        assert "data_batch_2: there" in str(error.value)


def test_fetch_asks_torchvision_and_then_checks_what_came(tmp_path, monkeypatch):
    calls = []

    def download(self):
        calls.append(self.root)
        raw = Path(self.raw_folder)
        make_idx(raw)
        (raw / "extra.gz").write_bytes(gzip.compress(b""))

    monkeypatch.setattr(datasets.MNIST, "download", download)
    with pytest.raises(UserError, match="not the official file"):
        fetch(Data(name="mnist", root=str(tmp_path)))
    assert [Path(root) for root in calls] == [tmp_path]


def test_failed_download_says_where_to(tmp_path, monkeypatch):
    def download(self):
        raise RuntimeError("no route to host")

    monkeypatch.setattr(datasets.CIFAR10, "download", download)
    with pytest.raises(UserError, match=f"could not be fetched to {tmp_path}: no route to host"):
        fetch(Data(name="cifar10", root=str(tmp_path)))
