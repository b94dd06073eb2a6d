"""Claims of runs, and the mark beside one: the name of the sweep whose worker may die of the run."""

import contextlib

import pytest
from small_runs import BASE

from noiseutils.sweeps.store import Store, StoreError


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "runs")


def mark(store):
    return store.root / ".locks" / f"{BASE.key}.owner"


def test_a_marked_run_that_its_process_died_of_is_for_the_next_sweep_alone(store):
    with store.claim(BASE, "a") as mine:
        assert mine
        store.mark(BASE, "a")
        left = mark(store).read_text()
    assert not mark(store).exists()
    mark(store).write_text(left)  # as a killed process leaves it
    with store.claim(BASE, "a") as mine:
        assert not mine
    for other in ("b", ""):
        mark(store).write_text(left)
        with store.claim(BASE, other) as mine:
            assert mine


@pytest.mark.parametrize("name", [f"{BASE.key}.owner", BASE.key])
def test_a_claim_writes_through_no_link(store, tmp_path, name):
    precious = tmp_path / "precious"
    precious.write_text("precious")
    (store.root / ".locks").mkdir(parents=True)
    (store.root / ".locks" / name).symlink_to(precious)
    with contextlib.suppress(StoreError), store.claim(BASE, "a") as mine:
        assert mine
        store.mark(BASE, "a")
    assert precious.read_text() == "precious"


def test_a_mark_that_cannot_be_written_is_a_stores_error_and_lets_go(store):
    mark(store).mkdir(parents=True)
    with store.claim(BASE, "a"), pytest.raises(StoreError, match=r"cannot write .*\.owner"):
        store.mark(BASE, "a")
    mark(store).rmdir()
    with Store(store.root).claim(BASE, "a") as mine:
        assert mine


def test_a_claim_is_let_go_where_the_locks_have_gone(store):
    with store.claim(BASE, "a"):
        store.mark(BASE, "a")
        (store.root / ".locks").rename(store.root / ".locks.old")
        (store.root / ".locks").write_text("")
    with pytest.raises(StoreError, match=r"cannot write .*\.locks"), store.claim(BASE, "a"):
        pass
    (store.root / ".locks").unlink()
    (store.root / ".locks.old").rename(store.root / ".locks")
    with Store(store.root).claim(BASE, "b") as mine:
        assert mine
