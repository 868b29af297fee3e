"""A document cache engine of plain dictionaries: what `stores.doccache_engine.Engine` means, for anyone to read.

Slow, in memory, and the judge of the real engines in the property tests. Several engines share one `TwinStore` as
several gateways share a directory or a server.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

from hevlayer.clock import Clock
from hevlayer.errors import CacheUnavailableError
from hevlayer.kernels.doccache import DocProjection, DocRows, DocScan, FetchHits
from hevlayer.kernels.filters import CancelFlag
from hevlayer.kernels.http import RequestHead
from hevlayer.stores.doccache_engine import (
    HOLES_MAX,
    UNKNOWN_WRITE_SECONDS,
    EngineStats,
    NamespaceFacts,
    NamespaceScan,
    Ticket,
    WriteOutcome,
)

TTL_SECONDS = 86_400.0
NOTE_CHARACTERS_MAX = 1_000
EMPTY_ROWS = DocRows(b'{"rows":[]}', [])


@dataclass
class _Row:
    rows: DocRows
    filled: float

    @property
    def bytes(self) -> int:
        return self.rows.record_bytes // len(self.rows)


@dataclass
class _Guard:
    """An id's open marks."""

    tokens: set[int] = field(default_factory=set)
    beneath: _Row | None = None
    contended: bool = False


@dataclass
class _Write:
    namespace: str
    keys: list[bytes] | None
    until: float


@dataclass
class _Namespace:
    epoch: int
    rows: dict[bytes, _Row] = field(default_factory=dict)
    guards: dict[bytes, _Guard] = field(default_factory=dict)
    closed: set[int] = field(default_factory=set)
    touched: dict[bytes, int] = field(default_factory=dict)
    fence: int = 1
    holes: dict[bytes, None] = field(default_factory=dict)
    lost: int = 0
    note: tuple[str, int, int] = ("", 0, 0)
    capacity_bytes: int | None = None

    def generation(self, key: bytes) -> int:
        return max(self.fence, self.touched.get(key, 0))

    def is_marked(self, key: bytes) -> bool:
        return bool(self.closed) or key in self.guards

    def add_hole(self, key: bytes) -> None:
        if len(self.holes) < HOLES_MAX:
            self.holes[key] = None
        else:
            self.lost += 1


class TwinStore:
    """What the gateways share. `lose` and `crash` are for tests."""

    def __init__(
        self, clock: Clock, *, ttl_seconds: float = TTL_SECONDS, unknown_write_seconds: float = UNKNOWN_WRITE_SECONDS
    ) -> None:
        self.now = clock.monotonic
        self.ttl_seconds = ttl_seconds
        self.unknown_write_seconds = unknown_write_seconds
        self.moments = itertools.count(2)
        self.namespaces: dict[str, _Namespace] = {}
        self.writes: dict[int, _Write] = {}
        self.owed: dict[int, Sequence[str] | None] = {}
        self.quiet_until = 0.0
        self.evicted = 0
        self.refused_fills = 0

    def namespace(self, name: str) -> _Namespace:
        self._end_overdue()
        held = self.namespaces.get(name)
        if held is None:
            moment = next(self.moments)
            held = self.namespaces[name] = _Namespace(moment, fence=moment)
        return held

    def is_shut(self, name: str) -> bool:
        """Whether nothing of a namespace may be served or filled: it is owed, or marks of it were lost."""
        return self.is_quiet() or any(each is None or name in each for each in self.owed.values())

    def is_quiet(self) -> bool:
        return self.now() < self.quiet_until

    def _end_overdue(self) -> None:
        for token, write in list(self.writes.items()):
            if write.until <= self.now():
                self.settle(token, WriteOutcome.APPLIED, None, None, ())

    def row(self, held: _Namespace, key: bytes) -> _Row | None:
        found = held.rows.get(key)
        if found is not None and found.filled + self.ttl_seconds <= self.now():
            self.lose(held, key)
            return None
        return found

    def lose(self, held: _Namespace, key: bytes) -> None:
        """A row is gone that was not written."""
        del held.rows[key]
        held.lost += 1
        self.evicted += 1

    def clear(self, held: _Namespace) -> None:
        held.epoch = held.fence = next(self.moments)
        held.rows.clear()
        held.holes.clear()
        held.lost = 0
        for guard in held.guards.values():
            guard.beneath = None

    def mark(self, token: int, name: str, keys: Sequence[bytes] | None, seconds: float) -> None:
        held = self.namespace(name)
        moment = next(self.moments)
        if keys is None:
            held.closed.add(token)
            held.fence = moment
            for guard in held.guards.values():
                guard.contended = True
        else:
            for key in keys:
                guard = held.guards.setdefault(key, _Guard(beneath=self.row(held, key)))
                held.rows.pop(key, None)
                held.touched[key] = moment
                guard.contended = guard.contended or bool(guard.tokens) or bool(held.closed)
                guard.tokens.add(token)
        self.writes[token] = _Write(name, None if keys is None else list(keys), self.now() + seconds)

    def settle(
        self,
        token: int,
        outcome: WriteOutcome,
        changed: Sequence[bytes] | None,
        rows: DocRows | None,
        deleted: Sequence[bytes],
    ) -> bool:
        write = self.writes.get(token)
        if write is None:
            return False
        held = self.namespaces[write.namespace]
        moment = next(self.moments)
        if outcome is WriteOutcome.UNKNOWN:
            write.until = self.now() + self.unknown_write_seconds
            for key in write.keys or ():
                held.guards[key].contended = True
            return True
        del self.writes[token]
        if write.keys is None:
            held.closed.remove(token)
            held.fence = moment
            if outcome is WriteOutcome.REFUSED:
                return True
            if changed is None:
                self.clear(held)
                return True
            for key in changed:
                self._leave_missing(held, key, moment, is_hole=key not in deleted)
            return True
        for key in write.keys:
            guard = held.guards[key]
            guard.tokens.remove(token)
            held.touched[key] = moment
            is_changed = outcome is WriteOutcome.APPLIED and (changed is None or key in changed)
            if guard.tokens:
                continue
            del held.guards[key]
            if guard.contended:
                held.add_hole(key)
            elif not is_changed:
                if guard.beneath is not None:
                    held.rows[key] = guard.beneath
            elif rows is not None and not self.is_quiet() and key in rows.keys():  # noqa: SIM118 -- not a mapping
                held.rows[key] = _Row(rows.only(key), self.now())
                held.holes.pop(key, None)
            else:
                self._leave_missing(held, key, moment, is_hole=key not in deleted)
        return True

    def _leave_missing(self, held: _Namespace, key: bytes, moment: int, *, is_hole: bool) -> None:
        held.touched[key] = moment
        held.rows.pop(key, None)
        guard = held.guards.get(key)
        if guard is not None:
            guard.beneath = None
            guard.contended = True
        held.holes.pop(key, None)
        if is_hole:
            held.add_hole(key)

    def put(self, held: _Namespace, key: bytes, rows: DocRows) -> None:
        held.rows[key] = _Row(rows.only(key), self.now())
        held.holes.pop(key, None)

    def evict(self) -> None:
        for held in self.namespaces.values():
            while (
                held.capacity_bytes is not None and sum(row.bytes for row in held.rows.values()) > held.capacity_bytes
            ):
                self.lose(held, min(held.rows, key=lambda key: held.rows[key].filled))

    def forget(self) -> None:
        """The store lost everything, marks as well: until their writes have ended nothing is kept."""
        self.quiet_until = max([self.quiet_until, *(write.until for write in self.writes.values())])
        self.namespaces.clear()
        self.writes.clear()

    def crash(self, owner: int) -> None:
        """A gateway died in debt, or without."""
        owed = self.owed.pop(owner, ())
        for name in list(self.namespaces) if owed is None else owed:
            self.clear(self.namespace(name))
            # A write that it could not mark may yet take effect.
            self.mark(-next(self.moments), name, None, self.unknown_write_seconds)


class TwinEngine:
    """See `Engine`."""

    def __init__(self, store: TwinStore) -> None:
        self.store = store
        self._closed = False

    @property
    def name(self) -> str:
        return "twin"

    @property
    def loses_marks(self) -> bool:
        return False

    def _open(self) -> TwinStore:
        if self._closed:
            raise CacheUnavailableError("the document cache is closed")
        return self.store

    async def lookup(
        self, namespace: str, key: bytes, projection: DocProjection, id_type: str | None
    ) -> bytes | Ticket:
        return self._look(namespace, key, projection, id_type)

    def lookup_now(self, namespace: str, key: bytes, projection: DocProjection, id_type: str | None) -> bytes | None:
        if self._closed:
            return None
        found = self._look(namespace, key, projection, id_type)
        return found if isinstance(found, bytes) else None

    def answer_now(self, hits: FetchHits, head: RequestHead, now: float, date_line: bytes) -> None:
        """None: it needs the rows of the embedded engine."""

    def _look(self, namespace: str, key: bytes, projection: DocProjection, id_type: str | None) -> bytes | Ticket:
        store = self._open()
        held = store.namespace(namespace)
        if store.is_shut(namespace):
            return 0
        if held.is_marked(key):
            return -held.generation(key)
        row = store.row(held, key)
        document = None if row is None else row.rows.document(key, projection, id_type)
        return held.generation(key) if document is None else document

    async def lookup_many(
        self, namespace: str, keys: Sequence[bytes], projection: DocProjection
    ) -> list[bytes | Ticket]:
        return [await self.lookup(namespace, key, projection, None) for key in keys]

    async def fill(self, namespace: str, rows: DocRows, keys: Sequence[bytes], tickets: Sequence[Ticket]) -> int:
        store = self._open()
        held = store.namespace(namespace)
        there = set(rows.keys())
        put = 0
        for key, ticket in zip(keys, tickets, strict=True):
            if ticket != held.generation(key) or held.is_marked(key) or store.is_shut(namespace):
                store.refused_fills += 1
            elif key not in there:
                held.holes.pop(key, None)
            elif store.row(held, key) is None:
                store.put(held, key, rows)
                put += 1
        return put

    async def begin_fill(self, namespace: str) -> Ticket:
        store = self._open()
        return 0 if store.namespace(namespace).closed or store.is_quiet() else next(store.moments)

    async def fill_page(self, namespace: str, rows: DocRows, ticket: Ticket) -> tuple[int, list[bytes]]:
        store = self._open()
        held = store.namespace(namespace)
        put, absent = 0, []
        for key in rows.keys():  # noqa: SIM118 -- not a mapping
            allowed = ticket > 0 and held.generation(key) <= ticket and not store.is_shut(namespace)
            if allowed and not held.is_marked(key):
                store.put(held, key, rows)
                put += 1
            elif held.is_marked(key) or store.row(held, key) is None:
                absent.append(key)
        return put, absent

    async def mark(self, token: int, namespace: str, keys: Sequence[bytes] | None, seconds: float) -> None:
        self._open().mark(token, namespace, keys, seconds)

    async def settle(
        self,
        token: int,
        namespace: str,
        keys: Sequence[bytes] | None,
        outcome: WriteOutcome,
        *,
        changed: Sequence[bytes] | None = None,
        rows: DocRows | None = None,
        deleted: Sequence[bytes] = (),
    ) -> bool:
        store = self._open()
        store.namespace(namespace)
        return store.settle(token, outcome, changed, rows, deleted)

    async def beneath(self, token: int, namespace: str, keys: Sequence[bytes]) -> DocRows:
        held = self._open().namespace(namespace)
        guards = [(key, held.guards.get(key)) for key in keys]
        return DocRows.joined(
            [
                guard.beneath.rows.only(key)
                for key, guard in guards
                if guard is not None and guard.tokens == {token} and not guard.contended and guard.beneath is not None
            ]
        )

    async def clear(self, namespace: str) -> None:
        store = self._open()
        store.clear(store.namespace(namespace))

    async def owe(self, owner: int, namespaces: Sequence[str] | None) -> None:
        store = self._open()
        store.owed.pop(owner, None)
        if namespaces is None or namespaces:
            store.owed[owner] = namespaces

    async def take_over(self, owner: int, namespaces: Sequence[str] | None) -> None:
        store = self._open()
        store.owed[owner] = namespaces
        store.crash(owner)

    async def scan(self, namespace: str, seconds: float, cancel: CancelFlag | None = None) -> NamespaceScan:
        held = self._open().namespace(namespace)
        shown = {key: row for key in list(held.rows) if (row := self.store.row(held, key)) is not None}
        beneath = {key: guard.beneath for key, guard in held.guards.items() if guard.beneath is not None}
        if held.closed:
            shown, beneath = {}, {**shown, **beneath}
        parts = [DocRows.joined([row.rows.only(key) for key, row in rows.items()]) for rows in (shown, beneath)]
        scan = DocScan.of_rows(parts[0], marked=parts[1], sequence=next(self.store.moments))
        return NamespaceScan(scan, await self.facts(namespace))

    async def facts(self, namespace: str) -> NamespaceFacts:
        store = self._open()
        held = store.namespace(namespace)
        text, epoch, lost = held.note
        return NamespaceFacts(
            epoch=held.epoch,
            rows=len(held.rows),
            bytes=sum(row.bytes for row in held.rows.values()),
            marked=len(held.guards),
            closed=bool(held.closed),
            holes=len(held.holes),
            lost=held.lost,
            note=text if (epoch, lost) == (held.epoch, held.lost) else "",
        )

    async def holes(self, namespace: str, limit: int) -> list[bytes]:
        return list(itertools.islice(self._open().namespace(namespace).holes, limit))

    async def note(self, namespace: str, text: str, epoch: int, lost: int) -> bool:
        held = self._open().namespace(namespace)
        if (epoch, lost) != (held.epoch, held.lost) or len(text) > NOTE_CHARACTERS_MAX:
            return False
        held.note = (text, epoch, lost)
        return True

    async def limit(self, namespace: str, capacity_bytes: int | None) -> None:
        self._open().namespace(namespace).capacity_bytes = capacity_bytes

    async def set_ttl(self, seconds: float) -> None:
        self._open().ttl_seconds = seconds

    async def maintain(self) -> None:
        self._open().evict()

    async def stats(self) -> EngineStats:
        store = self._open()
        held = store.namespaces.values()
        return EngineStats(
            rows=sum(len(each.rows) for each in held),
            bytes=sum(row.bytes for each in held for row in each.rows.values()),
            open_writes=len(store.writes),
            evicted_rows=store.evicted,
            refused_fills=store.refused_fills,
            connects=1,
        )

    async def close(self) -> None:
        self._closed = True
