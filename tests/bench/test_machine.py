import pytest

from noiseutils.bench import machine
from noiseutils.bench.ratios import Side


def test_the_description_names_the_machine_and_the_software():
    description = machine.description()
    assert description.keys() >= {"cpu", "cores", "threads", "memory_gib", "gpu", "torch", "commit"}
    assert description["cpu"]
    assert description["threads"] == 1, "as conftest set it"


def test_a_rate_is_operations_over_seconds(monkeypatch):
    monkeypatch.setattr(machine, "SAMPLE_OPERATIONS", 1e6)
    monkeypatch.setitem(machine.MATRIX_SIDES, "cpu", (16,))
    monkeypatch.setattr(machine, "CONVOLUTIONS", ((2, 3, 4, 3, 8),))
    # so a sample is so many calls that it has a million operations, in what is said to be two seconds
    monkeypatch.setattr(machine, "seconds", lambda work: work() or 2.0)
    product, convolution = (way() for way in machine.rates().values())
    assert product == round(1e6 / (2 * 16**3)) * 2 * 16**3 / 2
    one = 2 * 2 * 8 * 8 * 4 * 3 * 9
    assert convolution == round(1e6 / one) * one / 2


def test_a_copy_reads_and_writes(monkeypatch):
    monkeypatch.setattr(machine, "seconds", lambda work: work() is None and 4.0)
    assert machine.bandwidth(size=1024)() == 2 * 1024 / 4


def test_a_roofline_takes_the_fastest_sample_where_a_ratio_takes_the_best_median():
    found = machine.peaks(
        {
            "product 1": Side("product 1", (3.0, 4.0, 9.0)),
            "product 2": Side("product 2", (5.0, 5.0, 6.0)),
            "convolution 1": Side("convolution 1", (1.0, 2.0, 12.0)),
            "copy": Side("copy", (7.0, 8.0, 3.0)),
        }
    )
    assert found["product"] == {"name": "product 2", "median": 5.0, "fastest": 6.0}
    assert found["rate"] == pytest.approx(12.0)
    assert found["bandwidth"] == pytest.approx(8.0)
