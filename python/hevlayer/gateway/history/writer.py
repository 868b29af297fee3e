"""Lines on their way to the object store: one object a flush and namespace, under a bounded rate at any number of
namespaces, in bounded memory, never in anybody's way.

A namespace's lines wait one second for company. Objects go out oldest first, at most `OBJECTS_PER_SECOND` of them, so
with many active namespaces each waits longer. What the store does not take stays, up to a bound in bytes; beyond it the
oldest lines are dropped and counted.
"""

import asyncio
import logging
import random
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from hevlayer.clock import Backoff, Clock
from hevlayer.errors import LayerError
from hevlayer.gateway.history.entry import NANOS_PER_DAY, SPAN_NANOS, WRITERS, Feed, Line, object_name
from hevlayer.stores.objects import ObjectStore

FLUSH_SECONDS = 1.0
# In any second, also in the one after a silence.
OBJECTS_PER_SECOND = 9
OBJECT_BYTES_MAX = 4 << 20
PENDING_BYTES_MAX = 64 << 20
PUTS_CONCURRENT_MAX = 8
TICK_SECONDS = 0.1
STOP_SECONDS = 10.0
RETRY_BACKOFF = Backoff(initial_seconds=0.5, cap_seconds=10.0)
# Another gateway's object has the name; the next one is as good.
NAME_ATTEMPTS_MAX = 100
LINE_OVERHEAD_BYTES = 80

log = logging.getLogger("hevlayer.history")


class WriterMetrics(Protocol):
    """What writing counts."""

    def count_history(self, feed: str, outcome: str, records: int) -> None: ...


Key = tuple[Feed, str]
"""A feed and a namespace."""


@dataclass(slots=True)
class _Waiting:
    """A namespace's lines that no object holds yet."""

    since: float
    lines: list[Line] = field(default_factory=list)
    size: int = 0


@dataclass(slots=True, eq=False)
class Batch:
    """Lines of one object."""

    key: Key
    lines: Sequence[Line]
    size: int

    @property
    def name(self) -> str:
        return object_name(*self.key, self.lines[0].nanos)

    def body(self) -> bytes:
        return b"".join([line.text() + b"\n" for line in self.lines])

    def renamed(self) -> "Batch":
        """Its first line a step later; lines keep their order and their gateway."""
        lines, last = [], self.lines[0].nanos
        for line in self.lines:
            last = max(line.nanos, last + WRITERS)
            lines.append(Line(last, line.rest))
        return Batch(self.key, lines, self.size)


def _keep_nothing(_name: str, _body: bytes) -> None:
    pass


class Writer:
    """Run `run` under a supervisor, `stop` after the last record."""

    def __init__(
        self,
        objects: ObjectStore,
        clock: Clock,
        metrics: WriterMetrics,
        *,
        rng: random.Random,
        written: Callable[[str, bytes], None] = _keep_nothing,
        pending_bytes_max: int = PENDING_BYTES_MAX,
    ) -> None:
        """`written` is told of every object that the store has taken, by name and body."""
        self._objects = objects
        self._clock = clock
        self._metrics = metrics
        self._rng = rng
        self._written = written
        self._pending_bytes_max = pending_bytes_max
        # By the age of their first line.
        self._waiting: OrderedDict[Key, _Waiting] = OrderedDict()
        self._sealed: deque[Batch] = deque()
        self._writing: dict[asyncio.Task[None], Batch] = {}
        self._pending_bytes = 0
        # When the last objects were begun.
        self._begun: deque[float] = deque(maxlen=OBJECTS_PER_SECOND)
        self._failures = 0
        self._retry_at = 0.0

    @property
    def pending_bytes(self) -> int:
        """Bytes of lines that the store does not have."""
        return self._pending_bytes

    def add(self, feed: Feed, namespace: str, line: Line) -> None:
        """A new line, younger than every earlier one of its namespace."""
        key = (feed, namespace)
        size = len(line.rest) + LINE_OVERHEAD_BYTES
        waiting = self._waiting.get(key)
        if waiting is not None and self._is_full(waiting, line, size):
            self._seal(key)
            waiting = None
        if waiting is None:
            waiting = self._waiting[key] = _Waiting(self._clock.monotonic())
        waiting.lines.append(line)
        waiting.size += size
        self._pending_bytes += size
        while self._pending_bytes > self._pending_bytes_max and self._drop_oldest():
            pass

    @staticmethod
    def _is_full(waiting: _Waiting, line: Line, size: int) -> bool:
        first = waiting.lines[0].nanos
        return (
            waiting.size + size > OBJECT_BYTES_MAX
            or line.nanos - first > SPAN_NANOS
            or line.nanos // NANOS_PER_DAY != first // NANOS_PER_DAY
        )

    def pending(self, feed: Feed, namespace: str) -> list[Line]:
        """Lines that the store may not have yet."""
        key = (feed, namespace)
        lines: list[Line] = []
        for batch in (*self._writing.values(), *self._sealed):
            if batch.key == key:
                lines.extend(batch.lines)
        waiting = self._waiting.get(key)
        return lines + waiting.lines if waiting is not None else lines

    def forget(self, feed: Feed, namespace: str) -> None:
        """Drops what the store does not have of a namespace, save for what is on its way there."""
        key = (feed, namespace)
        if key in self._waiting:
            self._seal(key)
        for batch in [each for each in self._sealed if each.key == key]:
            self._sealed.remove(batch)
            self._pending_bytes -= batch.size

    # --- the loop ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        while True:
            await self._clock.sleep(TICK_SECONDS)
            self.tick()

    def tick(self) -> None:
        """Starts the puts that are due, as far as the rate allows."""
        now = self._clock.monotonic()
        if now < self._retry_at:
            return
        while self._may_begin(now) and len(self._writing) < PUTS_CONCURRENT_MAX:
            if not self._sealed:
                key = next(iter(self._waiting), None)
                if key is None or now - self._waiting[key].since < FLUSH_SECONDS:
                    return
                self._seal(key)
            self._begun.append(now)
            self._start(self._sealed.popleft())

    def _may_begin(self, now: float) -> bool:
        return len(self._begun) < OBJECTS_PER_SECOND or now - self._begun[0] >= 1.0

    def _seal(self, key: Key) -> None:
        waiting = self._waiting.pop(key)
        self._sealed.append(Batch(key, waiting.lines, waiting.size))

    def _start(self, batch: Batch) -> None:
        task = asyncio.get_running_loop().create_task(self._put(batch), name="history put")
        self._writing[task] = batch

    async def _put(self, batch: Batch) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            for _ in range(NAME_ATTEMPTS_MAX):
                body = batch.body()
                if await self._objects.put_if_absent(batch.name, body):
                    break
                # An earlier attempt of ours may have been written after its deadline.
                if await self._objects.get(batch.name) == body:
                    break
                batch = self._writing[task] = batch.renamed()
        except LayerError as error:
            self._failed(batch, error)
        else:
            self._failures = 0
            self._pending_bytes -= batch.size
            self._written(batch.name, body)
            self._metrics.count_history(batch.key[0].value, "written", len(batch.lines))
        finally:
            del self._writing[task]

    def _failed(self, batch: Batch, error: LayerError) -> None:
        if self._failures == 0:
            log.warning("cannot write history, it is kept in memory", extra={"reason": error.message})
        self._retry_at = self._clock.monotonic() + RETRY_BACKOFF.delay(min(self._failures, 16), self._rng)
        self._failures += 1
        self._metrics.count_history(batch.key[0].value, "retried", len(batch.lines))
        # It goes out first, and is the first to be dropped.
        self._sealed.appendleft(batch)

    def _drop_oldest(self) -> bool:
        if not self._sealed:
            key = next(iter(self._waiting), None)
            if key is None:
                # All of it is being written.
                return False
            self._seal(key)
        batch = self._sealed.popleft()
        self._pending_bytes -= batch.size
        self._metrics.count_history(batch.key[0].value, "dropped", len(batch.lines))
        return True

    async def stop(self) -> None:
        """Writes everything that is left, within `STOP_SECONDS`; what cannot be written is dropped and counted."""
        for key in list(self._waiting):
            self._seal(key)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                while self._sealed or self._writing:
                    while self._sealed and len(self._writing) < PUTS_CONCURRENT_MAX:
                        self._start(self._sealed.popleft())
                    await asyncio.wait(list(self._writing), return_when=asyncio.FIRST_COMPLETED)
                    if self._failures:
                        # Each attempt has its own deadline; between them the store gets a moment.
                        await self._clock.sleep(RETRY_BACKOFF.initial_seconds)
        except TimeoutError:
            await self._give_up()

    async def _give_up(self) -> None:
        left = [*self._writing.values(), *self._sealed]
        tasks = list(self._writing)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._sealed.clear()
        for batch in left:
            self._metrics.count_history(batch.key[0].value, "dropped", len(batch.lines))
        log.warning("history was lost at the stop", extra={"records": sum(len(batch.lines) for batch in left)})
