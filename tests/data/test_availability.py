"""What the commands say of sets that are there, and where others are looked for."""

from small_sets import make_idx

from noiseutils.config import Data
from noiseutils.data.availability import check, fetch, overview


def test_embedded_sets_have_nothing_to_fetch():
    assert "made in memory" in fetch(Data(name="digits"))
    assert "made in memory" in check(Data(name="shapes"))


def test_overview_names_every_set_and_where_it_is_looked_for(tmp_path):
    make_idx(tmp_path / "nothing here" / "MNIST" / "raw")
    lines = overview().splitlines()
    for name in ("shapes", "digits", "cifar10", "cifar100", "mnist", "fashion_mnist"):
        assert any(line.startswith(f"{name} ") for line in lines), name
    found = next(line for line in lines if line.startswith("mnist "))
    assert found.endswith("MNIST/raw: there")
    assert "data make cifar10" in overview()
