import pytest

from noiseutils.config import Data, Model, Optimizer, Run, ScriptedNoise
from noiseutils.data import load
from noiseutils.sweeps import planning
from noiseutils.sweeps.planning import Plan, plans
from noiseutils.sweeps.store import Store
from noiseutils.sweeps.sweep import sweep

DATA = Data(train_size=40, test_size=10)
LONG = Run(data=DATA, model=Model(name="babycnn", width=0.5), epochs=10**9, batch_size=10)
SHORT = LONG.replace(epochs=1)


@pytest.fixture(autouse=True)
def _nothing_remembered(tmp_path, monkeypatch):
    monkeypatch.setenv("NOISEUTILS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def sets():
    return {DATA: load(DATA)}  # pyright: ignore[reportUnhashable]


def answers(monkeypatch, *, alone=1.0, together=1.5, eager=1.0, compiled=1.0):
    asked = []
    monkeypatch.setitem(
        planning.SIDE_BY_SIDE,
        "cpu",
        lambda *a: asked.append("side by side") or {"alone": alone, "side by side": together},
    )
    monkeypatch.setattr(
        planning,
        "_compiled",
        lambda *a: asked.append("compiled") or {"auto": eager, "compiled": compiled, "compiling": 30.0},
    )
    return asked


def test_short_runs_are_not_tried(monkeypatch, sets):
    asked = answers(monkeypatch)
    runs = [SHORT, SHORT.replace(seed=1)]
    assert plans(runs, sets, 2, "cpu") == {run.key: Plan(side_by_side=True) for run in runs}
    assert not asked


@pytest.mark.parametrize("together", [0.9, 1.1])
def test_runs_go_side_by_side_where_that_was_faster_and_it_is_remembered(monkeypatch, sets, together):
    asked = answers(monkeypatch, together=together)
    runs = [LONG, LONG.replace(seed=1)]
    for _ in range(2):
        found = plans(runs, sets, 2, "cpu")
        assert {plan.side_by_side for plan in found.values()} == {together > 1}
    assert asked == ["compiled", "side by side"]


def test_a_run_is_compiled_where_that_pays_within_it(monkeypatch, sets):
    answers(monkeypatch, eager=0.010, compiled=0.008)
    assert plans([LONG], sets, 2, "cpu")[LONG.key].engine == "compiled"
    answers(monkeypatch, eager=0.010, compiled=0.009999999)
    few = LONG.replace(epochs=10**8, optimizer=Optimizer(name="adam"))  # another kind, measured for itself
    answers(monkeypatch, eager=0.010, compiled=0.00999999999)
    assert plans([few], sets, 2, "cpu")[few.key].engine == "auto"


def test_kinds_are_planned_apart(monkeypatch, sets):
    answers(monkeypatch, together=0.5)
    runs = [LONG, LONG.replace(seed=1), SHORT.replace(model=Model(name="tinycnn", width=0.1))]
    assert [plans(runs, sets, 2, "cpu")[run.key].side_by_side for run in runs] == [False, False, True]


def test_a_step_is_timed_by_training(sets):
    step, beyond = planning.seconds_per_step(LONG, sets[DATA], "auto", "cpu")
    assert step > 0
    assert beyond >= 0


def test_a_run_whose_noise_follows_a_script_can_be_tried(sets):
    silent = (0.0,) * 4
    run = LONG.replace(epochs=4, parameter_noise=ScriptedNoise(gradient=silent, weight=silent))
    step, _ = planning.seconds_per_step(run, sets[DATA], "auto", "cpu")
    assert step > 0


def test_compiling_that_fails_is_never_chosen(monkeypatch, sets):
    def broken(run, **how):
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(planning, "train", broken)
    ways = planning._compiled(LONG, sets[DATA], "cpu")
    assert ways == {"auto": 0.0, "compiled": 0.0, "compiling": float("inf")}


@pytest.mark.slow
def test_processes_side_by_side_are_measured(sets):
    found = planning.in_processes(LONG, sets[DATA], 2, "auto")
    assert found.keys() == {"alone", "side by side"}
    assert min(found.values()) > 0


def test_threads_side_by_side_are_measured(sets):
    found = planning.in_threads(LONG, sets[DATA], 2, "auto", device="cpu")
    assert min(found.values()) > 0


@pytest.mark.slow
def test_a_sweep_follows_the_plan(monkeypatch, tmp_path):
    from noiseutils.sweeps import sweep as module

    runs = [SHORT.replace(seed=seed) for seed in range(3)]
    did = []
    chosen = {runs[0].key: Plan(True, "eager"), runs[1].key: Plan(True), runs[2].key: Plan(False, "eager")}
    monkeypatch.setattr(module, "plans", lambda *a: chosen)
    monkeypatch.setattr(module, "default_workers", lambda: 2)
    for name in ("local", "inline"):
        ordinary = getattr(module, name)
        monkeypatch.setattr(
            module, name, lambda job, name=name, run=ordinary: (did.append((name, len(job.todo))), run(job))
        )
    done = sweep(runs, Store(tmp_path), device="cpu", progress=False)
    assert did == [("local", 2), ("inline", 1)]
    assert not done.failed
    assert [result.info["engine"] for result in done.results] == ["eager", "blocked", "eager"]


@pytest.mark.slow
def test_a_short_budget_is_for_training(monkeypatch, tmp_path):
    from noiseutils.sweeps import sweep as module

    monkeypatch.setattr(module, "plans", lambda *a: pytest.fail("it was tried what is faster"))
    done = sweep([SHORT, SHORT.replace(seed=1)], Store(tmp_path), device="cpu", budget=60.0, progress=False)
    assert len(done.results) == 2
