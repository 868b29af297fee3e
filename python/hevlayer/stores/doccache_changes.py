"""Waits for changes that an embedded engine's writer was given: it rings a bell after each of its transactions.

Changes that are asked for in one turn of the event loop are given to the writer together, so that they share a
transaction; who looked again every millisecond instead would wait for half of one, and keep the loop from its work.
"""

import asyncio
import contextlib
import os
from collections import deque
from typing import Any, TypeVar

from hevlayer.errors import CacheUnavailableError
from hevlayer.kernels.doccache import DocCacheEngine, DocCacheError, DocCachePending

T = TypeVar("T")


class Changes:
    """Of one native engine, for as long as that is used. One event loop's thread uses it."""

    def __init__(self, native: DocCacheEngine) -> None:
        """Raises: OSError, when there is no descriptor left."""
        self._bell = -1
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        native.set_bell(self._bell)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._beginning = False
        # The writer makes them in this order.
        self._waiting: deque[tuple[DocCachePending[Any], asyncio.Future[Any]]] = deque()

    async def made(self, native: DocCacheEngine, pending: "DocCachePending[T]", seconds: float) -> T:
        """What a change that was given to the engine answers with. The engine is not held beyond that.

        Raises: DocCacheError. CacheUnavailableError: it took longer than `seconds`; it is made all the same.
        """
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._listen(loop)
        future: asyncio.Future[T] = loop.create_future()
        self._waiting.append((pending, future))
        if not self._beginning:
            self._beginning = True
            loop.call_soon(self._begin, native)
        timer = loop.call_later(seconds, _give_up, future)
        try:
            return await future
        except DocCacheError as error:
            # The loop holds the future for a while, which holds its error, which must not hold frames and with them the
            # engine: another may be opened on the directory next.
            error.__traceback__ = None
            raise DocCacheError(*error.args) from None
        finally:
            timer.cancel()

    def close(self) -> None:
        """Whoever waits still gets an error."""
        if self._bell < 0:
            return
        if self._loop is not None and not self._loop.is_closed():
            self._loop.remove_reader(self._bell)
        os.close(self._bell)
        self._bell = -1
        while self._waiting:
            _, future = self._waiting.popleft()
            if _is_awaited(future):
                future.set_exception(CacheUnavailableError("the document cache is closed", fields={"cause": "closed"}))

    def __del__(self) -> None:
        if self._bell >= 0:
            os.close(self._bell)

    def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.remove_reader(self._bell)
        self._loop, self._beginning = loop, False
        if self._bell >= 0:
            loop.add_reader(self._bell, self._look)

    def _begin(self, native: DocCacheEngine) -> None:
        self._beginning = False
        native.begin()

    def _look(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._bell)
        while self._waiting:
            pending, future = self._waiting[0]
            try:
                found = pending.result()
            except DocCacheError as error:
                self._waiting.popleft()
                if _is_awaited(future):
                    future.set_exception(error)
                continue
            if found is None:
                return
            self._waiting.popleft()
            if _is_awaited(future):
                future.set_result(found)


def _is_awaited(future: "asyncio.Future[Any]") -> bool:
    """Who waited in an event loop that was closed cannot be told, which must not keep the others from it."""
    return not future.done() and not future.get_loop().is_closed()


def _give_up(future: "asyncio.Future[Any]") -> None:
    if not future.done():
        future.set_exception(CacheUnavailableError("the document cache did not answer within its time budget"))
