"""Sweeps on a Ray cluster: the results of an inline sweep, whatever is lost on the way.

A cluster takes its time to find that something is gone. So what is slowest is tried where
NOISEUTILS_TEST_RAY=long says so; `kill_ray.py` is the long form of what is killed here.
"""

import asyncio
import functools
import importlib.util
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch
from left_over import LIMIT, LOAD, descendants, left_after, usual_signals
from ray_stores import Deadly, Elsewhere, Full, Hungry
from small_runs import BASE, RUNS, equal, finished, same_result, stored_weights

from noiseutils.data import load
from noiseutils.errors import UserError
from noiseutils.sweeps import ray_queues
from noiseutils.sweeps.budget import Clock
from noiseutils.sweeps.execution import attempt
from noiseutils.sweeps.gpu_shares import GpuShares
from noiseutils.sweeps.jobs import Cluster, Job, Sweep
from noiseutils.sweeps.ray import _Driver
from noiseutils.sweeps.ray_connection import connected
from noiseutils.sweeps.ray_delivery import Delivery
from noiseutils.sweeps.ray_images import packed, unpacked
from noiseutils.sweeps.ray_losses import Losses
from noiseutils.sweeps.records import checkpoint_content, files_of
from noiseutils.sweeps.store import Store, StoreError
from noiseutils.sweeps.sweep import sweep
from noiseutils.training.loop import train

# a log that Ray leaves to the garbage collector
LEFT_OPEN = "ignore:Exception ignored in. <_io.FileIO name='/tmp/ray:pytest.PytestUnraisableExceptionWarning"
pytestmark = pytest.mark.filterwarnings(LEFT_OPEN)

slowest = pytest.mark.skipif(
    os.environ.get("NOISEUTILS_TEST_RAY") != "long", reason="slow: NOISEUTILS_TEST_RAY=long asks for it"
)
PORT = 20000 + os.getpid() % 10000  # of the server for ray://
LONG = [BASE.replace(seed=seed, epochs=80) for seed in range(3)]  # killed while they train


@pytest.fixture(scope="module")
def cluster():
    pytest.importorskip("ray", reason="needs Ray: pip install 'noiseutils[ray]'")
    from ray_cluster import ray_cluster

    with ray_cluster(nodes=2, ray_client_server_port=PORT) as found:
        yield found


@pytest.fixture(scope="module")
def inline(tmp_path_factory):
    """The folder of an inline sweep's results, with one thread, as each task has."""
    root = tmp_path_factory.mktemp("inline")
    done = sweep([*RUNS, *LONG], Store(root), "inline", device="cpu", progress=False)
    assert not done.missing
    return root


def on_cluster(runs, store, cluster, **options):
    return sweep(runs, store, "ray", cluster=Cluster(cluster.address), progress=False, **options)


def assert_equal(root: Path, inline: Path, runs) -> None:
    for run in runs:
        assert same_result(run, root, inline)
    assert len(list(root.glob("*/run.json"))) == len(runs)
    assert not list(root.glob("*/checkpoint")) + list(root.glob("*/failure.txt"))
    assert not list(root.glob(".locks/seen-*"))


# --- without a cluster


def test_without_ray_the_error_says_how_to_install_it(tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ray" else find(name))
    with pytest.raises(UserError, match=r"pip install 'noiseutils\[ray\]'"):
        sweep(RUNS, Store(tmp_path), "ray", progress=False)


@pytest.mark.parametrize("values", [{"cpus": 0.0}, {"cpus": float("nan")}, {"gpus": -0.5}, {"gpus": 1.5}])
def test_a_run_takes_what_a_machine_has(values):
    with pytest.raises(UserError, match="allowed"):
        Cluster(**values)


def test_a_cluster_goes_with_the_executor_ray_alone(tmp_path):
    with pytest.raises(UserError, match="go with executor 'ray', not 'local'"):
        sweep(RUNS, Store(tmp_path), "local", cluster=Cluster("auto"))


def test_packed_images_are_the_same_in_the_memory_of_their_arrays():
    data = load(BASE.data)
    content = packed(data)
    content["train"][0].flags.writeable = False  # as in Ray's object store
    found = unpacked(content)
    assert torch.equal(found.train.pixels, data.train.pixels)
    assert torch.equal(found.test.labels, data.test.labels)
    assert (found.classes, found.label, found.fingerprint) == (data.classes, data.label, data.fingerprint)
    assert (found.mean, found.std) == (data.mean, data.std)
    assert found.train.pixels.data_ptr() == data.train.pixels.data_ptr()


def test_a_run_is_given_up_after_three_workers_or_ten_nodes_in_a_row():
    exceptions = pytest.importorskip("ray.exceptions", reason="needs Ray: pip install 'noiseutils[ray]'")
    losses, worker, node = Losses(), exceptions.WorkerCrashedError(), exceptions.NodeDiedError("node gone")
    assert [bool(losses.count("a", worker)) for _ in range(3)] == [False, False, True]
    reasons = [losses.count("b", node) for _ in range(10)]
    assert not any(reasons[:9])
    assert reasons[9].startswith("10 nodes in a row were lost")
    assert reasons[9].endswith("The last error: node gone")


def test_a_run_that_gets_on_between_losses_is_not_given_up():
    exceptions = pytest.importorskip("ray.exceptions", reason="needs Ray: pip install 'noiseutils[ray]'")
    losses = Losses()
    for epoch in range(1, 20):
        losses.reach("a", epoch)
        assert not losses.count("a", exceptions.WorkerCrashedError())
    losses.reach("a", 3)  # said late: no progress
    assert not losses.count("a", exceptions.WorkerCrashedError())
    assert losses.count("a", exceptions.WorkerCrashedError())


def test_the_last_checkpoint_of_a_lost_worker_is_kept(tmp_path, monkeypatch):
    exceptions = pytest.importorskip("ray.exceptions", reason="needs Ray: pip install 'noiseutils[ray]'")
    run, other = RUNS[:2]
    taken = []
    train(run, device="cpu", on_epoch=lambda row, snapshot: taken.append(snapshot()))
    waiting = {run.key: checkpoint_content(run, taken[0]), other.key: b"of a run that nobody waits for"}
    store = Store(tmp_path)
    driver = object.__new__(_Driver)
    driver.store, driver.submitted, driver.pending, driver.losses = store, {}, deque(), Losses()
    driver.delivery = Delivery(store, SimpleNamespace(waiting_checkpoints=lambda: waiting))
    driver._lose(run, exceptions.WorkerCrashedError())
    assert list(driver.pending) == [run]
    assert store.load_checkpoint(run) is not None
    assert store.load_checkpoint(other) is None


def test_a_result_from_elsewhere_is_adopted_whole_or_not_at_all(tmp_path):
    run = BASE.replace(epochs=1)
    result = train(run, device="cpu")
    files, store = files_of(result), Store(tmp_path / "runs")
    torn = {**files, "metrics.json": files["metrics.json"][:-1]}
    without = {name: content for name, content in files.items() if name != "history.csv"}
    edited = {**files, "run.json": files["run.json"].replace(b"finished", b"diverged", 1)}
    for damaged in (torn, without, edited, {}):
        with pytest.raises(UserError, match="from node 7"):
            store.adopt(run, damaged, "node 7")
    with pytest.raises(UserError, match="from node 7"):
        store.adopt(run.replace(seed=5), files, "node 7")
    assert not list(tmp_path.rglob("run.json"))
    store.adopt(run, files, "node 7")
    assert Store(tmp_path / "runs").load(run).metrics == result.metrics
    weights = stored_weights(tmp_path / "runs", run)
    assert equal(weights, {name: value.cpu() for name, value in result.model.state_dict().items()})


def test_a_run_takes_what_runs_like_it_have_reserved_of_a_gpu():
    shares, wide = GpuShares(), BASE.replace(batch_size=BASE.batch_size * 2)
    assert shares.of(BASE) == 0.125
    shares.learn(BASE, 0.125, reserved=0.01, lacked=False)
    assert shares.of(BASE) == 0.125, "no more than eight compute on one GPU"
    shares.learn(wide, 0.125, reserved=0.2, lacked=False)
    assert shares.of(wide.replace(seed=5)) == 0.25
    assert shares.of(BASE) == 0.125
    shares.learn(wide, 0.25, reserved=0.2, lacked=True)
    assert shares.of(wide) == 0.5
    for _ in range(3):
        shares.learn(wide, shares.of(wide), reserved=0.9, lacked=True)
    assert shares.of(wide) == 1.0
    given = GpuShares(0.5)
    given.learn(BASE, 0.5, reserved=0.9, lacked=True)
    assert given.of(BASE) == 0.5


@pytest.mark.parametrize("shared", [True, False])
def test_to_lack_memory_on_a_shared_gpu_is_no_failure_of_the_run(tmp_path, shared):
    class Lacking(Store):
        def load_checkpoint(self, run):
            raise torch.OutOfMemoryError("CUDA out of memory")

    done = Sweep([BASE], Lacking(tmp_path))
    sets = dict.fromkeys([BASE.data], load(BASE.data))
    job = Job([BASE], sets, done, lambda *event: None, device="cpu", shared=shared)
    assert attempt(BASE, job, Clock(None)) == ("memory" if shared else "failed")
    assert done.store.state(BASE) == ("missing" if shared else "failed")


# --- on a cluster of two nodes, and a head without CPUs


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Store, Elsewhere])
def test_results_are_those_of_an_inline_sweep_seen_by_the_workers_or_sent_back(
    tmp_path, cluster, inline, kind
):
    done = on_cluster(RUNS, kind(tmp_path / "runs"), cluster)
    assert not done.failed
    assert_equal(tmp_path / "runs", inline, RUNS)
    assert not Path(f"{tmp_path / 'runs'}-elsewhere").exists()


@pytest.mark.slow
def test_runs_of_a_lost_node_go_on_elsewhere(tmp_path, cluster, inline):
    """With checkpoints that are sent back; `kill_ray.py` has them in a shared folder."""
    from ray_cluster import add_node, lose_node, training_on, wait_for

    root = tmp_path / "runs"

    def lose() -> None:
        node = next(iter(cluster.worker_nodes))
        wait_for(lambda: training_on(node) and len(list(root.glob("*/checkpoint"))) == 2)
        lose_node(cluster, node)

    thread = threading.Thread(target=lose)
    thread.start()
    done = on_cluster(LONG, Elsewhere(root), cluster)
    thread.join()
    add_node(cluster)  # not by the thread: Ray sets signal handlers
    assert not done.failed
    assert_equal(root, inline, LONG)
    assert list(root.glob("resumed/*"))


@slowest
@pytest.mark.slow
def test_a_run_that_costs_three_workers_fails_and_no_other_does(tmp_path, cluster, inline):
    done = on_cluster(RUNS, Deadly(tmp_path), cluster)
    assert done.failed.keys() == {RUNS[1].key}
    assert "3 workers in a row were lost while they trained it" in done.failed[RUNS[1].key]
    assert Store(tmp_path).state(RUNS[1]) == "failed"
    on_cluster(RUNS, Store(tmp_path), cluster)  # a new sweep is a new attempt
    assert_equal(tmp_path, inline, RUNS)


@slowest
@pytest.mark.slow
def test_runs_that_lack_memory_are_sent_again_with_more_of_a_gpu(tmp_path, cluster, inline):
    from ray_cluster import add_node

    node = add_node(cluster, num_gpus=1)  # as Ray counts: nothing here computes on it
    try:
        done = on_cluster(RUNS, Hungry(tmp_path), cluster)
    finally:
        cluster.remove_node(node)
    assert not done.failed
    assert_equal(tmp_path, inline, RUNS)
    tried = [path.name.partition(" ")[0] for path in (tmp_path / "shares").iterdir()]
    assert set(tried) >= {"0.125", "0.25", "0.5"}
    assert set(tried) <= {"0.125", "0.25", "0.5", "1"}


@pytest.mark.slow
def test_a_full_disk_ends_the_sweep_and_is_no_runs_failure(tmp_path, cluster):
    with pytest.raises(StoreError, match="No space left"):
        on_cluster(RUNS, Full(tmp_path), cluster)
    assert not list(tmp_path.glob("*/failure.txt"))


SWEEP = """
import sys
sys.path.insert(0, {tests!r})
import torch
from ray_stores import Eager
from small_runs import BASE
from noiseutils.cli_exits import STOP
from noiseutils.sweeps.jobs import Cluster
from noiseutils.sweeps.store import Store
from noiseutils.sweeps.sweep import sweep

torch.set_num_threads(1)
runs = [BASE.replace(seed=seed, epochs={epochs}) for seed in range(3)]
options = {{"cluster": Cluster({address!r}), "device": "cpu", "progress": False}}
try:
    with STOP.handling():
        done = sweep(runs, Eager({root!r}), "ray", **options)
except KeyboardInterrupt:
    sys.exit(STOP.code)
print(len(done.results), "done", len(done.failed), "failed")
"""


def driver(tmp_path: Path, root: Path, address: str | None, epochs: int) -> subprocess.Popen:
    script = tmp_path / "sweep_it.py"
    script.write_text(
        SWEEP.format(tests=str(Path(__file__).parent), root=str(root), address=address, epochs=epochs)
    )
    return subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, preexec_fn=usual_signals, text=True
    )


@slowest
@pytest.mark.slow
def test_no_task_outlives_its_driver_and_the_next_driver_goes_on(tmp_path, cluster, inline):
    from ray_cluster import training_on, wait_for

    root = tmp_path / "runs"

    def tasks() -> list[psutil.Process]:
        return [process for node in cluster.worker_nodes for process in training_on(node)]

    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
        process = driver(tmp_path, root, cluster.address, epochs=80)
        left = wait_for(lambda: list(root.glob("*/checkpoint")) and tasks())
        process.send_signal(number)
        with process.stdout or nullcontext():
            assert process.wait(timeout=30) == (-9 if number == signal.SIGKILL else 128 + number)
        ended = time.monotonic()
        wait_for(lambda: not tasks(), LIMIT + LOAD)
        assert not left_after(left, max(0.0, ended + LIMIT + LOAD - time.monotonic()))
        before = finished(root)
    process = driver(tmp_path, root, cluster.address, epochs=80)
    out, _ = process.communicate(timeout=240)
    assert out.strip() == "3 done 0 failed"
    assert before.items() <= finished(root).items()
    assert list(root.glob("resumed/*"))
    assert_equal(root, inline, LONG)


@pytest.mark.slow
def test_ray_that_a_sweep_started_goes_with_the_sweep_also_a_stopped_worker(tmp_path):
    pytest.importorskip("ray", reason="needs Ray: pip install 'noiseutils[ray]'")
    from ray_cluster import wait_for

    def training() -> list[psutil.Process]:
        found = []
        for other in descendants(process.pid):
            try:
                if "ray::noiseutils run" in " ".join(other.cmdline()):
                    found.append(other)
            except psutil.Error:
                continue
        return found

    process = driver(tmp_path, tmp_path / "runs", None, epochs=100_000)
    worker = wait_for(training, 240)[0]
    others = descendants(process.pid)
    assert len(others) > 3
    worker.suspend()
    process.kill()
    with process.stdout or nullcontext():
        process.wait(timeout=30)
    assert not left_after(others)


@slowest
@pytest.mark.slow
def test_a_sweep_through_a_server_of_ray(tmp_path, cluster, inline):
    """ray://: a driver that is no part of the cluster."""
    out = ""
    for _ in range(3):  # on a busy machine Ray's server gives up on the process that it has started
        address = f"ray://{cluster.head_node.node_ip_address}:{PORT}"
        process = driver(tmp_path, tmp_path / "runs", address, epochs=80)
        out, _ = process.communicate(timeout=240)
        if process.returncode == 0:
            break
    assert out.strip() == "3 done 0 failed"
    assert_equal(tmp_path / "runs", inline, LONG)


@pytest.mark.slow
def test_a_sweep_goes_on_where_ray_never_starts_the_process_of_its_progress(
    tmp_path, cluster, inline, monkeypatch
):
    monkeypatch.setattr(ray_queues, "ANSWER_SECONDS", 0.2)
    without = functools.partial(ray_queues.Queues, num_cpus=1000, scheduling_strategy="DEFAULT")
    monkeypatch.setattr("noiseutils.sweeps.ray.Queues", without)
    done = on_cluster(RUNS, Store(tmp_path), cluster)
    assert not done.failed
    assert_equal(tmp_path, inline, RUNS)


@pytest.mark.slow
def test_a_full_queue_says_so_in_the_error_that_a_worker_expects(cluster):
    import ray
    from ray.util.queue import Queue

    with connected(Cluster(cluster.address)):
        queue = Queue(1, actor_options={"num_cpus": 0})
        ray.get(queue.actor.qsize.remote(), timeout=120)  # its process has started
        ray_queues.asked(queue, "put_nowait", 1)
        with pytest.raises(asyncio.QueueFull):
            ray_queues.asked(queue, "put_nowait", 2)


@pytest.mark.slow
def test_the_pages_lines_sweep_on_the_cluster_of_the_environment(tmp_path, cluster, monkeypatch, capsys):
    page = Path(__file__).parents[2] / "docs" / "how-to" / "cluster.md"
    [block] = re.findall(r"```python\n(.*?)```", page.read_text(), re.S)
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    monkeypatch.setenv("NOISEUTILS_OUTPUTS", str(tmp_path))
    exec(compile(block, str(page), "exec"), {"__name__": "__main__"})
    assert "3 of 3" in capsys.readouterr().out
    assert len(list(tmp_path.glob("runs/*/run.json"))) == 3


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_budget_ends_a_sweep_with_all_that_was_done(tmp_path, cluster):
    store = Store(tmp_path)
    long = [BASE.replace(seed=seed, epochs=100_000) for seed in range(3)]
    for budget in (15, 60, 180):  # on a loaded machine the first may end while workers still import torch
        begun = time.monotonic()
        done = on_cluster(long, store, cluster, budget=budget)
        assert time.monotonic() - begun < budget + 30
        assert done.out_of_time
        assert not done.failed
        if (interrupted := [store.state(run) for run in long].count("interrupted")) >= 2:
            break
    assert interrupted >= 2
