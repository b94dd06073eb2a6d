"""The connection to a Ray cluster, or to Ray that is started on this machine and ends with its sweep."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import secrets
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from noiseutils.errors import UserError, clipped, one_line
from noiseutils.sweeps.jobs import Cluster, cores
from noiseutils.sweeps.signals import SIGNALS
from noiseutils.training.orphans import Guardian

PROCESS_MARK = "NOISEUTILS_RAY"  # in the environment of Ray's processes that a sweep has started
ATTEMPTS, SLOW = 3, "timed out during startup"  # on a busy machine Ray gives itself too little time to start
GRACE_SECONDS = "3"  # seconds that a server of ray:// waits for a driver that has gone


@contextlib.contextmanager
def connected(cluster: Cluster) -> Iterator[None]:
    """Connect to a cluster, or start Ray on this machine, for as long as the block lasts.

    Where the process is connected to Ray already, that connection is used, and stays.
    """
    if importlib.util.find_spec("ray") is None:
        raise UserError("executor 'ray' needs Ray: pip install 'noiseutils[ray]'")
    import ray

    if ray.is_initialized():
        if cluster.address is not None:
            raise UserError(
                "this process is connected to Ray already: leave the address out, or call ray.shutdown()"
            )
        yield
        return
    address = cluster.address or os.environ.get("RAY_ADDRESS") or "local"
    options: dict[str, Any] = {"logging_level": logging.WARNING}
    if address == "local":
        if cluster.cpus > cores():
            raise UserError(f"a run of {cluster.cpus:g} CPUs does not fit this machine's {cores()}")
        options |= {"num_cpus": cores(), "include_dashboard": None if _has_dashboard() else False}
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent to anybody
    elif address.startswith("ray://"):
        os.environ.setdefault("RAY_CLIENT_RECONNECT_GRACE_PERIOD", GRACE_SECONDS)
    with ExitStack() as started:
        for left in reversed(range(ATTEMPTS)):
            try:
                # Ray leaves the interpreter at SIGTERM; what a command does then is the command's to say
                with ExitStack() as starting, _kept_handlers():
                    if address == "local":
                        starting.enter_context(_marked())
                    ray.init(address, **options)
                    started.push(starting.pop_all())
                break
            except Exception as error:  # of many kinds, a bare Exception among them
                if left and SLOW in str(error):
                    continue
                raise UserError(
                    f"no Ray cluster at {clipped(address)}: {type(error).__name__}: "
                    f"{one_line(error, 300)}; allowed: auto, HOST:PORT or ray://HOST:PORT of one that runs, "
                    "or none for this machine alone"
                ) from error
        try:
            yield
        finally:
            ray.shutdown()


@contextlib.contextmanager
def _marked() -> Iterator[None]:
    """Let processes that are started inside, and all that those start, end with this one at the latest.

    Ray's own processes see to that, too, but in their own time, and not while they are stopped.
    """
    value = secrets.token_hex(16)
    with Guardian(value):
        os.environ[PROCESS_MARK] = value
        try:
            yield
        finally:
            del os.environ[PROCESS_MARK]


def _has_dashboard() -> bool:
    """Return whether Ray was installed with its dashboard: without, its server has nothing to show."""
    return importlib.util.find_spec("aiohttp_cors") is not None


@contextlib.contextmanager
def _kept_handlers() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
