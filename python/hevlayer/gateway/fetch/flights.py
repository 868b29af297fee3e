"""Reads under way, by id: concurrent misses of one id wait for one upstream request."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class Flights(Generic[K, T]):
    """Each key is in at most one read. A read runs in a task of its own, so a caller that leaves stops no other."""

    def __init__(self) -> None:
        self._tasks: dict[K, asyncio.Task[T]] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    def under_way(self, key: K) -> "asyncio.Task[T] | None":
        return self._tasks.get(key)

    def start(self, keys: Sequence[K], read: Callable[[], Awaitable[T]]) -> "asyncio.Task[T]":
        """Starts a read that may be shared under `keys`, none of which is under way."""
        task = asyncio.ensure_future(_invoke(read))
        for key in keys:
            self._tasks[key] = task
        task.add_done_callback(lambda done: self._land(keys, done))
        return task

    def _land(self, keys: Sequence[K], task: "asyncio.Task[T]") -> None:
        for key in keys:
            if self._tasks.get(key) is task:
                del self._tasks[key]
        if not task.cancelled():
            # Retrieved here so that a failure whose every waiter left is not reported as never awaited.
            task.exception()


async def _invoke(read: Callable[[], Awaitable[T]]) -> T:
    return await read()
