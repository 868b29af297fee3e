"""Time as an argument: clocks, deadlines, backoff, supervised loops and single flight."""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")
K = TypeVar("K")

log = logging.getLogger("hevlayer.clock")


class Clock(Protocol):
    """What a component may ask of time. Tests pass one that they move."""

    def now_ms(self) -> int:
        """Wall-clock time, epoch milliseconds."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary point; never goes back."""

    async def sleep(self, seconds: float) -> None:
        """Suspends the caller."""


class SystemClock:
    """The machine's clock."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    # Asked several times a request, so without a call between.
    monotonic = staticmethod(time.monotonic)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@dataclass(frozen=True, slots=True)
class Deadline:
    """A point in monotonic time by which something must be over."""

    at: float

    @classmethod
    def after(cls, clock: Clock, seconds: float) -> "Deadline":
        return cls(clock.monotonic() + seconds)

    def remaining(self, clock: Clock) -> float:
        """Seconds left, never negative."""
        return max(0.0, self.at - clock.monotonic())


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential backoff with full jitter towards `cap_seconds`."""

    initial_seconds: float
    cap_seconds: float
    factor: float = 2.0

    def delay(self, attempt: int, rng: random.Random) -> float:
        """Seconds to wait before retry `attempt` (0 is the first retry), in [half, whole] of the step."""
        step = min(self.cap_seconds, self.initial_seconds * self.factor**attempt)
        return step * (0.5 + rng.random() / 2)


class Supervisor:
    """Owns background tasks: restarts a loop that raised after a backoff, and cancels all of them on close."""

    def __init__(self, clock: Clock, *, rng: random.Random | None = None) -> None:
        self._clock = clock
        self._rng = rng or random.Random()  # noqa: S311 -- jitter, not a secret
        self._backoff = Backoff(initial_seconds=0.5, cap_seconds=30.0)
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, name: str, loop: Callable[[], Coroutine[object, object, None]]) -> None:
        """Runs `loop` until it returns; an exception is logged once and the loop starts again after the backoff."""
        self._spawn(name, self._run(name, loop))

    def spawn(self, name: str, work: Coroutine[object, object, None]) -> None:
        """Runs `work` once; an exception is logged, never lost."""
        self._spawn(name, self._once(name, work))

    def _spawn(self, name: str, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _once(self, name: str, work: Coroutine[object, object, None]) -> None:
        try:
            await work
        except Exception:
            log.exception("background task failed", extra={"task": name})

    async def _run(self, name: str, loop: Callable[[], Coroutine[object, object, None]]) -> None:
        attempt = 0
        while True:
            started = self._clock.monotonic()
            try:
                await loop()
            except Exception:
                log.exception("background loop failed, restarting", extra={"task": name})
            else:
                return
            # A loop that ran well for a while starts its backoff afresh.
            attempt = 0 if self._clock.monotonic() - started > self._backoff.cap_seconds else attempt + 1
            await self._clock.sleep(self._backoff.delay(attempt, self._rng))

    @property
    def running(self) -> int:
        return len(self._tasks)

    async def close(self) -> None:
        """Cancels every task and waits for it."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class SingleFlight(Generic[K, T]):
    """Concurrent calls with one key share one execution.

    The work runs in a task of its own: a caller that goes away does not cancel it for the others.
    """

    def __init__(self) -> None:
        self._inflight: dict[K, asyncio.Task[T]] = {}

    def __len__(self) -> int:
        return len(self._inflight)

    async def run(self, key: K, work: Callable[[], Awaitable[T]]) -> T:
        task = self._inflight.get(key)
        if task is None:
            task = asyncio.ensure_future(self._invoke(work))
            self._inflight[key] = task
            task.add_done_callback(lambda done: self._forget(key, done))
        return await asyncio.shield(task)

    @staticmethod
    async def _invoke(work: Callable[[], Awaitable[T]]) -> T:
        return await work()

    def _forget(self, key: K, task: "asyncio.Task[T]") -> None:
        if self._inflight.get(key) is task:
            del self._inflight[key]
        if not task.cancelled():
            # Retrieved here so that a failure whose every waiter left is not reported as never awaited.
            task.exception()
