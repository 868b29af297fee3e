"""A thread beside the main one that does its waiting.

A signal, such as Ctrl-C, is handled by Python code of the main thread, which does not run while the HTTP library waits.
Waiting for another thread can be interrupted.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Generic, TypeVar

ResultT = TypeVar("ResultT")


class Side(Generic[ResultT]):
    """Runs calls of the main thread one at a time in a thread of its own; calls of other threads where they are."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[tuple[Callable[[], ResultT], Future[ResultT]] | None] | None = None

    def run(self, call: Callable[[], ResultT]) -> ResultT:
        if threading.current_thread() is not threading.main_thread():
            return call()
        # Taken while it is in use: a handler of a signal that calls as well gets a thread of its own.
        calls, self._calls = self._calls or _started(), None
        done: Future[ResultT] = Future()
        calls.put((call, done))
        try:
            result = done.result()
        except BaseException:
            # Interrupted, it may still be busy; it ends by itself after this call.
            calls.put(None)
            raise
        if self._calls is not None:
            calls.put(None)
        else:
            self._calls = calls
        return result

    def close(self) -> None:
        calls, self._calls = self._calls, None
        if calls is not None:
            calls.put(None)

    def __del__(self) -> None:
        self.close()


def _started() -> "SimpleQueue[tuple[Callable[[], ResultT], Future[ResultT]] | None]":
    calls: SimpleQueue[tuple[Callable[[], ResultT], Future[ResultT]] | None] = SimpleQueue()
    threading.Thread(target=_work, args=(calls,), name="hevlayer-client", daemon=True).start()
    return calls


def _work(calls: "SimpleQueue[tuple[Callable[[], ResultT], Future[ResultT]] | None]") -> None:
    for call, done in iter(calls.get, None):
        try:
            done.set_result(call())
        except BaseException as error:
            done.set_exception(error)
        # Else the last answer stays in memory until the next call.
        del call, done
