"""Send events and checkpoints of running Ray tasks to the driver, by queues; each queue is a process."""

from __future__ import annotations

from typing import Any

ANSWER_SECONDS = 5.0  # that the process of a queue may take to answer
MOST_CHECKPOINTS = 8  # waiting for the driver to write them


class Queues:
    """Queues of a sweep.   events: (run key, event, node, detail).   checkpoints: None until they are taken.

    options: of the queues' processes, in Ray's words.
    """

    def __init__(self, **options: Any) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        # beside the driver: not lost with another node
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._options = {"num_cpus": 0, "max_restarts": -1, "scheduling_strategy": here, **options}
        self._all: list[Any] = []
        self.events = self._queue(0)
        self.checkpoints: Any = None

    def _queue(self, size: int) -> Any:
        from ray.util.queue import Queue

        queue = Queue(size, actor_options=self._options)
        self._all.append(queue)
        return queue

    def take_checkpoints(self) -> None:
        """Have a queue for checkpoints, too: the workers do not see the store."""
        self.checkpoints = self._queue(MOST_CHECKPOINTS)

    def waiting_events(self) -> list[tuple[str, str, str, Any]]:
        """Take the events that have come."""
        return _waiting(self.events)

    def waiting_checkpoints(self) -> dict[str, bytes]:
        """Take the checkpoints that have come, by run key; of several of a run, the last."""
        return {} if self.checkpoints is None else dict(_waiting(self.checkpoints))

    def shut_down(self) -> None:
        """End the queues' processes."""
        for queue in self._all:
            queue.shutdown(force=True)


def asked(queue: Any, method: str, *arguments: Any) -> Any:
    """Return what the process of a queue of Ray answers; its own methods would wait for it for ever."""
    import ray

    return ray.get(getattr(queue.actor, method).remote(*arguments), timeout=ANSWER_SECONDS)


def _waiting(queue: Any) -> list[Any]:
    """Take all that is in a queue; nothing while its process is started, again or on a busy machine."""
    from ray import exceptions

    try:
        return asked(queue, "get_nowait_batch", asked(queue, "qsize"))
    except (exceptions.RayActorError, exceptions.GetTimeoutError):
        return []
