"""A Ray cluster of several nodes on this machine, for tests: nodes can be added, and lost."""

from __future__ import annotations

import contextlib
import gc
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from ray.cluster_utils import Cluster

# Ray gives a node seconds to start, and says one of these
ATTEMPTS, SLOW = 6, ("timed out during startup", "while waiting for node to startup")
NODES = 3  # one CPU each; the head, where drivers connect, has none

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_memory_monitor_refresh_ms", "0")  # what others take is no reason to kill a run
os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's 15 starves beside other tests


@contextlib.contextmanager
def ray_cluster(nodes: int = NODES, **options: Any) -> Iterator[Cluster]:
    """A cluster of a head without CPUs and nodes of one; all its processes go with the block."""
    here = str(Path(__file__).parent)
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([here, *([before] if before else [])])  # for stores of tests
    head = {"num_cpus": 0, "include_dashboard": False, **options}
    cluster = Cluster(initialize_head=False, shutdown_at_exit=True)
    try:
        _started(cluster, **head)
        for _ in range(nodes):
            add_node(cluster)
        yield cluster
    finally:
        cluster.shutdown()
        gc.collect()  # Ray leaves logs open, which is said here, and not in another module's test
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def add_node(cluster: Cluster, **options: Any) -> Any:
    return _started(cluster, num_cpus=1, **options)


def _started(cluster: Cluster, **options: Any) -> Any:
    """Start a node; again where the machine is so busy that Ray has given up on it."""
    for left in reversed(range(ATTEMPTS)):
        before, known = set(psutil.Process().children()), set(cluster.worker_nodes)
        try:
            return cluster.add_node(**options)
        except Exception as error:
            if not left or not any(words in str(error) for words in SLOW):
                raise
            cluster.worker_nodes &= known
            for process in set(psutil.Process().children()) - before:
                _kill([*process.children(recursive=True), process])
    return None


def lose_node(cluster: Cluster, node: Any) -> None:
    """Kill a node's processes, the workers too, as the loss of a machine would."""
    found = processes_of(node)
    cluster.worker_nodes.discard(node)
    _kill(found)
    node.kill_all_processes(check_alive=False, allow_graceful=False, wait=True)


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()


def processes_of(node: Any) -> list[psutil.Process]:
    """The raylet of a node and all that it has started."""
    found = []
    for infos in node.all_processes.values():
        for info in infos:
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(info.process.pid)
                found += [process, *process.children(recursive=True)]
    return found


def workers_of(node: Any) -> list[psutil.Process]:
    """The processes of a node that train, or wait for a task: Ray names them by what they do."""
    return [process for process in processes_of(node) if _title(process).startswith("ray::")]


def training_on(node: Any) -> list[psutil.Process]:
    """The processes of a node that have a run in hand."""
    return [process for process in processes_of(node) if _title(process).startswith("ray::noiseutils run")]


def wait_for(what: Any, seconds: float = 120) -> Any:
    """Call `what` until it returns something true, and return that."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.02)
    return found


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
