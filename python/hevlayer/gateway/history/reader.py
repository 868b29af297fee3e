"""Lists of a feed, newest first: what is in memory and what is in the store, in bounded work.

Objects are named by their first line's nanosecond, whose last digits tell the gateway. One gateway's objects of a
namespace do not overlap; those of several do. So what is at or above a moment is known when every object named from
there on has been read, and of each gateway the one before, if it is near enough to reach there.
"""

import asyncio
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from hevlayer.gateway.history.entry import (
    NANOS_DIGITS,
    NANOS_PER_SECOND,
    SPAN_NANOS,
    Entry,
    Feed,
    Line,
    object_name,
    prefix_of,
    read_entry,
    read_name,
    writer_of,
)
from hevlayer.stores.objects import LIST_KEYS_MAX, ObjectStore

OBJECTS_READ_MAX = 200
READS_CONCURRENT_MAX = 8
# Objects that a list reads before it looks whether they were enough; twice as many the next time.
ROUND_OBJECTS = 8
# Requests for names that one list makes, and that one step back makes before it becomes a smaller one.
LISTINGS_MAX = 64
LISTINGS_OF_A_STEP_MAX = 8
STEP_SECONDS = 60.0
STEP_SECONDS_MIN = 1.0
STEP_GROWTH = 4
# Objects found by a step after which the next one is as long, and not longer.
STEP_OBJECTS = 50
BODIES_BYTES_MAX = 32 << 20
NANOS_MAX = 10**NANOS_DIGITS - 1


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a list asks for. Bounds are nanoseconds, `from_nanos` inclusive, `until_nanos` exclusive."""

    feed: Feed
    namespace: str
    tags: frozenset[str] = frozenset()
    trace_id: str = ""
    from_nanos: int = 0
    until_nanos: int = NANOS_MAX
    limit: int = 50
    scope: str = ""

    def takes(self, entry: Entry) -> bool:
        return (
            self.from_nanos <= entry.nanos < self.until_nanos
            and self.tags <= entry.tags
            and (not self.trace_id or entry.trace_id == self.trace_id)
            and (not self.scope or entry.scope == self.scope)
        )


@dataclass(frozen=True, slots=True)
class Page:
    """Entries newest first. `next_nanos`: older ones may be below it; None: there are none."""

    entries: Sequence[Entry]
    next_nanos: int | None


class Pending(Protocol):
    """Lines that the store may not have yet."""

    def pending(self, feed: Feed, namespace: str) -> list[Line]: ...


class Bodies:
    """Objects read or written lately; they never change. Bounded in bytes, the one not used for longest goes first."""

    def __init__(self, bytes_max: int = BODIES_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._bodies: OrderedDict[str, bytes] = OrderedDict()

    def get(self, name: str) -> bytes | None:
        body = self._bodies.get(name)
        if body is not None:
            self._bodies.move_to_end(name)
        return body

    def put(self, name: str, body: bytes) -> None:
        if name in self._bodies or len(body) > self._bytes_max:
            return
        self._bodies[name] = body
        self._bytes += len(body)
        while self._bytes > self._bytes_max:
            _, old = self._bodies.popitem(last=False)
            self._bytes -= len(old)


def plan_reads(names: Sequence[int], have: Collection[int], bottom_nanos: int, room: int) -> tuple[list[int], int]:
    """Which objects to read so that everything at or above a floor is known, and that floor.

    Args:
        names: nanoseconds of all objects from `SPAN_NANOS` below the bottom on, ascending.
        have: those that were read.
        room: objects that may be read; at least one of those that are needed is, so that every list gets on.
    """
    inside = [each for each in names[bisect_left(names, bottom_nanos) :] if each not in have]
    writers = len({writer_of(each) for each in names})
    taken = inside[-max(1, room - writers) :] if inside else []
    floor = bottom_nanos if len(taken) == len(inside) else taken[0]
    before: dict[int, int] = {}
    for each in names[bisect_left(names, floor - SPAN_NANOS) : bisect_left(names, floor)]:
        before[writer_of(each)] = each
    return taken + [each for each in before.values() if each not in have], floor


class Reader:
    """Answers lists."""

    def __init__(
        self,
        objects: ObjectStore,
        pending: Pending,
        bodies: Bodies,
        now_nanos: Callable[[], int],
        *,
        objects_max: int = OBJECTS_READ_MAX,
    ) -> None:
        self._objects = objects
        self._pending = pending
        self._bodies = bodies
        self._now_nanos = now_nanos
        self._objects_max = objects_max

    async def page(self, wanted: Wanted) -> Page:
        """Raises: ObjectStoreError."""
        found = _Found(wanted)
        # Before the store is asked: a line on its way there is then seen here or there.
        found.add(line.text() for line in self._pending.pending(wanted.feed, wanted.namespace))
        names = _Names(self._objects, wanted, self._now_nanos())
        have: set[int] = set()
        round_max = ROUND_OBJECTS
        while len(have) < self._objects_max and not names.is_over and found.certain(names.floor) < wanted.limit:
            bottom = await names.step()
            if bottom is None:
                break
            reads, floor = plan_reads(names.known, have, bottom, min(round_max, self._objects_max - len(have)))
            if len(reads) >= round_max:
                round_max *= 2
            await self._read(found, reads)
            have.update(reads)
            names.stepped(floor, bottom, len(reads))
        return found.page(None if names.is_over else names.floor)

    async def _read(self, found: "_Found", names: Sequence[int]) -> None:
        gate = asyncio.Semaphore(READS_CONCURRENT_MAX)
        wanted = found.wanted

        async def one(nanos: int) -> bytes:
            name = object_name(wanted.feed, wanted.namespace, nanos)
            body = self._bodies.get(name)
            if body is None:
                async with gate:
                    body = await self._objects.get(name)
                if body is None:
                    # Removed since it was listed, with its namespace.
                    return b""
                self._bodies.put(name, body)
            return body

        tasks = [asyncio.ensure_future(one(each)) for each in names]
        try:
            for body in await asyncio.gather(*tasks):
                found.add(body.splitlines())
        finally:
            for task in tasks:
                task.cancel()


@dataclass(slots=True)
class _Found:
    """Entries so far, each once."""

    wanted: Wanted
    entries: dict[bytes, Entry] = field(default_factory=dict)

    def add(self, lines: Iterable[bytes]) -> None:
        for line in lines:
            if line not in self.entries and (entry := read_entry(line)) is not None and self.wanted.takes(entry):
                self.entries[line] = entry

    def certain(self, floor: int) -> int:
        """Entries above which nothing is missing."""
        return sum(entry.nanos >= floor for entry in self.entries.values())

    def page(self, floor: int | None) -> Page:
        """`floor`: of what may be missing below it; None: nothing is."""
        certain = sorted(
            (entry for entry in self.entries.values() if floor is None or entry.nanos >= floor),
            key=lambda entry: entry.nanos,
            reverse=True,
        )
        told = certain[: self.wanted.limit]
        if len(certain) > len(told):
            return Page(told, told[-1].nanos)
        return Page(told, floor)


class _Names:
    """The names of a feed's objects as far back as they are known, and how far back all entries are."""

    def __init__(self, objects: ObjectStore, wanted: Wanted, now_nanos: int) -> None:
        self._objects = objects
        self._wanted = wanted
        self._prefix = prefix_of(wanted.feed, wanted.namespace)
        self._step = int(STEP_SECONDS * NANOS_PER_SECOND)
        self._listings = 0
        self._oldest: int | None = None
        self.known: list[int] = []
        """Ascending, without a gap from `_low` on."""
        # A clock may be ahead, or have been until it was set back: the first step takes in all that is above this.
        self._ceiling = now_nanos + SPAN_NANOS
        self._low = self.floor = wanted.until_nanos
        """No entry at or above it is missing."""
        self.is_over = False

    async def step(self) -> int | None:
        """Gets to know the names that a bottom further down needs. None: not within the bounds of one list.

        Raises: ObjectStoreError.
        """
        if self._oldest is None:
            first = await self._list("", 1)
            self._oldest = first[0] if first else self.floor
        while True:
            top = min(self.floor, self._ceiling)
            bottom = max(top - self._step, self._wanted.from_nanos, min(self._oldest, self.floor), 0)
            low = max(0, bottom - SPAN_NANOS)
            if low >= self._low or await self._extend(low):
                return bottom
            if self._listings >= LISTINGS_MAX:
                return None
            self._step = max(self._step // 8, int(STEP_SECONDS_MIN * NANOS_PER_SECOND))

    async def _extend(self, low: int) -> bool:
        """Whether the names from `low` on are known now."""
        found: list[int] = []
        after = object_name(self._wanted.feed, self._wanted.namespace, low)[: -len(".jsonl")]
        is_smallest = self._step <= STEP_SECONDS_MIN * NANOS_PER_SECOND
        for number in range(LISTINGS_MAX):
            if self._listings >= LISTINGS_MAX or (number >= LISTINGS_OF_A_STEP_MAX and not is_smallest):
                return False
            names = await self._list(after, LIST_KEYS_MAX)
            new = [each for each in names if each < self._low]
            found += new
            if len(names) < LIST_KEYS_MAX or len(new) < len(names):
                self.known = found + self.known
                self._low = low
                return True
            after = object_name(self._wanted.feed, self._wanted.namespace, names[-1])
        return False

    async def _list(self, after: str, limit: int) -> list[int]:
        self._listings += 1
        keys = await self._objects.list_keys(self._prefix, after=after, limit=limit)
        return [read_name(key) for key in keys]

    def stepped(self, floor: int, bottom: int, objects: int) -> None:
        """All entries from the floor on have been read."""
        self.floor = floor
        assert self._oldest is not None
        self.is_over = floor == bottom and bottom <= max(self._wanted.from_nanos, self._oldest)
        if objects <= STEP_OBJECTS:
            self._step *= STEP_GROWTH
