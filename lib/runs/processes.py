"""Worker processes: one that dies or takes too long costs what it was doing and no more; none outlives its parent.

Nothing of the study is imported here, so that a worker watches its parent before it loads the libraries.
"""

import math
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

T = TypeVar("T")
AN_HOUR = 3600  # systems limit how long one call may wait; the next call goes on waiting
_SPAWN = multiprocessing.get_context("spawn")


class WorkerDied(Exception):
    """The process that did something ended before it was done."""


class OutOfTime(Exception):
    """Something took longer than it may, and its process was ended."""


class Worker:
    """A process that does one thing after another, as it is given them."""

    def __init__(self) -> None:
        self.connection, there = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=_work, args=(there,), daemon=True)
        self._process.start()
        there.close()  # so that the worker's death ends the connection

    def give(self, do: Callable[[T], Any], item: T, seconds: float | None) -> None:
        """Begin `do(item)`; what it comes to is sent back over the connection."""
        self.item, self.ends = item, time.monotonic() + (seconds or math.inf)
        with suppress(OSError):  # it died meanwhile, as reading from it will tell
            self.connection.send((do, item))

    def taken(self) -> Future:
        """What came back, or that nothing did."""
        done: Future = Future()
        try:
            answer, error = self.connection.recv()
        except (EOFError, OSError):
            answer, error = None, WorkerDied("its process died; was it killed for using too much memory?")
        done.set_exception(error) if error else done.set_result(answer)
        return done

    def stop(self) -> None:
        """End the process at once."""
        self._process.kill()
        self._process.join()
        self.connection.close()


def spread(
    do: Callable[[T], Any],
    items: Iterable[T],
    workers: int,
    fresh: bool = False,
    seconds: float | None = None,
    idle: list[Worker] | None = None,
) -> Iterator[tuple[T, Future]]:
    """Do every item in a worker process, and yield each when it is done, with what it came to.

    When the caller stops, so do the workers.

    Args:
        do: what is done; a function of a module, as it is sent to the workers.
        items: what it is done with.
        workers: how many at a time.
        fresh: each item has a process of its own.
        seconds: how long an item may take; None for no limit. The result is then `OutOfTime`.
        idle: workers to begin with; in the end those that live are left there, and are the caller's to stop. A worker
            imports the libraries once.

    Returns:
        Pairs of an item and its future, which holds `WorkerDied` where the process died.
    """
    waiting, busy, left = deque(items), dict[Connection, Worker](), idle is not None
    idle = [] if idle is None else idle
    try:
        while waiting or busy:
            while waiting and len(busy) < workers:
                worker = idle.pop() if idle and not fresh else Worker()
                busy[worker.connection] = worker
                worker.give(do, waiting.popleft(), seconds)
            for worker, done in _next(busy):
                del busy[worker.connection]
                lost = isinstance(done.exception(), WorkerDied | OutOfTime)
                worker.stop() if fresh or lost else idle.append(worker)
                yield worker.item, done
    finally:
        for worker in [*([] if left else idle), *busy.values()]:
            worker.stop()


def _next(busy: dict[Connection, Worker]) -> list[tuple[Worker, Future]]:
    """Wait for the workers that are done next, or out of time."""
    left = min(worker.ends for worker in busy.values()) - time.monotonic()
    ready = [busy[connection] for connection in wait([*busy], min(max(left, 0), AN_HOUR))]
    if ready:
        return [(worker, worker.taken()) for worker in ready]
    late: Future = Future()
    late.set_exception(OutOfTime())
    return [(worker, late) for worker in busy.values() if worker.ends <= time.monotonic()]


def _work(connection: Connection) -> None:
    """Do what comes until the connection ends."""
    threading.Thread(target=end_with_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # an interrupt ends it without a traceback of its own
    with suppress(EOFError):
        while True:
            do, item = connection.recv()
            try:
                answer = do(item), None
            except Exception as error:
                answer = None, error
            connection.send(answer)


def end_with_parent() -> None:
    """End this process when its parent is gone, killed even, whatever it is doing."""
    multiprocessing.parent_process().join()
    os._exit(1)
