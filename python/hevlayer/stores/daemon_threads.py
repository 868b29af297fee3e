"""A pool of threads that keep no process from ending.

One of them may stand in a call of the system for as long as another process does, which nothing can interrupt. Python
waits at its end for the threads of other pools.
"""

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from queue import Empty, SimpleQueue
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
_Work = tuple[Future[T], Callable[[], T]]


class DaemonThreads(Executor):
    """At most `count` threads, started when they are needed."""

    def __init__(self, count: int, name: str) -> None:
        self._count = count
        self._name = name
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._idle = 0
        self._threads: list[threading.Thread] = []
        self._queue: SimpleQueue[_Work[object] | None] = SimpleQueue()
        self._is_shut = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Raises: RuntimeError: after `shutdown`."""
        future: Future[T] = Future()
        with self._lock:
            if self._is_shut:
                raise RuntimeError("the threads are shut down")
            self._queue.put((future, lambda: fn(*args, **kwargs)))  # type: ignore[arg-type]
            # Each piece of work that is queued takes an idle thread.
            self._idle -= 1
            if self._idle < 0 and len(self._threads) < self._count:
                self._idle += 1
                name = f"{self._name}_{next(self._numbers)}"
                thread = threading.Thread(target=self._run, name=name, daemon=True)
                self._threads.append(thread)
                thread.start()
        return future

    def _run(self) -> None:
        while (work := self._queue.get()) is not None:
            future, call = work
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(call())
                except BaseException as error:
                    future.set_exception(error)
            # Nothing of it lives on while this thread waits.
            del work, future, call
            with self._lock:
                self._idle += 1

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Takes no more work; what is queued is done, unless it is cancelled."""
        with self._lock:
            if not self._is_shut:
                self._is_shut = True
                while cancel_futures:
                    try:
                        work = self._queue.get_nowait()
                    except Empty:
                        break
                    if work is not None:
                        work[0].cancel()
                for _ in self._threads:
                    self._queue.put(None)
        if wait:
            for thread in self._threads:
                thread.join()

    @property
    def have_ended(self) -> bool:
        """Whether every thread is gone, after `shutdown`."""
        return not any(thread.is_alive() for thread in self._threads)
