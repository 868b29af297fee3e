"""The document cache as the gateway uses it: soft in every failure, never out of date in silence.

The policy around an engine: a breaker and counters, debts for what the engine could not be told, and when a namespace
is complete. No method raises for a cache that fails. `docs/cache-protocol.md` says why what it does is enough.
"""

import asyncio
import contextlib
import itertools
import logging
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Literal, TypeVar

from hevlayer.clock import Clock
from hevlayer.errors import CacheUnavailableError
from hevlayer.kernels.doccache import DocProjection, DocRows, FetchHits
from hevlayer.kernels.filters import CancelFlag
from hevlayer.kernels.http import RequestHead
from hevlayer.stores.doccache_breaker import Breaker, State
from hevlayer.stores.doccache_columns import KeepsColumns, NamespaceColumns
from hevlayer.stores.doccache_debts import Debts, Repayment
from hevlayer.stores.doccache_engine import (
    MARK_SECONDS_MAX,
    UNKNOWN_WRITE_SECONDS,
    Engine,
    EngineStats,
    NamespaceFacts,
    NamespaceScan,
    ScansRows,
    TakesOver,
    Ticket,
    WriteOutcome,
)
from hevlayer.stores.doccache_shared import SharedDebts
from hevlayer.stores.doccache_values import (
    MARKED,
    UNAVAILABLE,
    Batch,
    CacheObserver,
    CacheStats,
    Miss,
    WriteToken,
)
from hevlayer.stores.doccache_warming import Warming, is_complete, warming_note

__all__ = [
    "MARKED",
    "Batch",
    "CacheObserver",
    "CacheStats",
    "DocumentCache",
    "Miss",
    "Warming",
    "WriteOutcome",
    "WriteToken",
]

T = TypeVar("T")

log = logging.getLogger("hevlayer.doccache")

MAINTAIN_SECONDS = 1.0
CLOSE_REPAY_SECONDS = 5.0
HELD_SECONDS = 5.0
TTL_SECONDS = 86_400.0
NOTHING = DocProjection([])
# A write of more ids than this marks its whole namespace.
MARKED_IDS_MAX = 100_000
# Settles that failed and are tried again; beyond them a mark runs out by itself.
UNSETTLED_MAX = 10_000


class DocumentCache:
    """The port. With `engine` None nothing is cached and everything else works."""

    def __init__(
        self,
        engine: Engine | None,
        clock: Clock,
        *,
        observer: CacheObserver | None = None,
        unknown_write_seconds: float = UNKNOWN_WRITE_SECONDS,
        ttl_seconds: float = TTL_SECONDS,
        shared_debts: SharedDebts | None = None,
    ) -> None:
        """`shared_debts`: where gateways that share the engine tell what it cannot be told."""
        self._engine = engine
        self._shared = shared_debts
        # Asked for with every scan, and no quick question.
        self._keeper = engine if isinstance(engine, KeepsColumns) else None
        self._ttl_seconds = ttl_seconds
        self._clock = clock
        self._observer = observer
        self._unknown_write_seconds = unknown_write_seconds
        self._breaker = Breaker(clock)
        self._debts = Debts()
        self._stated: tuple[str, ...] | Literal["unknown"] | None = ()
        self._stating = asyncio.Lock()
        self._turns = itertools.count(1)
        self._stated_turn = 0
        self._known_at = 0.0
        self._owner = secrets.randbits(62) if shared_debts is None else shared_debts.owner
        # Tokens outlive the process in the engine, and other gateways' stand beside them, so all must differ.
        self._tokens = itertools.count(secrets.randbits(62))
        self._orphans: deque[WriteToken] = deque()
        self._unsettled: dict[int, tuple[WriteToken, WriteOutcome]] = {}
        self._errors: dict[str, int] = {}
        self._held_at = float("-inf")
        self.held = EngineStats()
        """The engine's sizes when it was last looked at, at most `HELD_SECONDS` ago while `run` runs."""
        self.epochs = 0
        """Namespaces that this process made void."""
        self.written_rows = 0
        """Rows that its writes left."""

    @property
    def enabled(self) -> bool:
        return self._engine is not None

    @property
    def debts(self) -> int:
        """Ids owed, a whole namespace counting as one."""
        return len(self._debts)

    @property
    def breaker(self) -> str:
        """`closed`, `open` or `probing`."""
        return self._breaker.state.value

    def _touches(self, namespace: str) -> bool:
        """Whether anything of a namespace is owed, by this gateway or as far as another one has told."""
        return self._debts.touches(namespace) or (self._shared is not None and self._shared.hides(namespace))

    def _hides(self, namespace: str, key: bytes) -> bool:
        """Whether the cache may be out of date about an id."""
        if self._shared is not None and self._shared.hides(namespace):
            return True
        return bool(self._debts) and self._debts.covers(namespace, key)

    # --- reads -------------------------------------------------------------------------------------------------------

    async def lookup(self, namespace: str, key: bytes, projection: DocProjection, id_type: str | None) -> bytes | Miss:
        """One document's JSON text, or why not."""
        engine = self._engine
        if engine is None:
            return MARKED
        if self._hides(namespace, key):
            return UNAVAILABLE
        if not self._breaker.allows():
            return UNAVAILABLE
        started = self._clock.monotonic()
        try:
            found = await engine.lookup(namespace, key, projection, id_type)
        except CacheUnavailableError as error:
            self._failed("lookup", error)
            return UNAVAILABLE
        self._breaker.succeeded()
        if type(found) is bytes:
            # A write whose mark failed meanwhile may have been acknowledged before this read got its row.
            if self._hides(namespace, key):
                return UNAVAILABLE
            self._observe(namespace, started, 1, 0, len(found))
            return found
        self._observe(namespace, started, 0, 1, 0)
        assert isinstance(found, int)
        return Miss(found, failed=False) if found else MARKED

    def lookup_now(self, namespace: str, key: bytes, projection: DocProjection, id_type: str | None) -> bytes | None:
        """A document that is there and can be had without waiting; None: ask `lookup`, which tells why not."""
        engine = self._engine
        if engine is None or self._debts or self._breaker.state is not State.CLOSED:
            return None
        if self._shared is not None and self._shared.hides(namespace):
            return None
        started = self._clock.monotonic()
        found = engine.lookup_now(namespace, key, projection, id_type)
        if found is None:
            return None
        self._breaker.succeeded()
        self._observe(namespace, started, 1, 0, len(found))
        return found

    def answer_now(
        self, hits: FetchHits, head: RequestHead, now: float, date_line: bytes
    ) -> tuple[bytes, object, int, str, str] | None:
        """As `lookup_now`, for the head of a fetch that has come; see `FetchHits.answer`. The caller measures it."""
        engine = self._engine
        if engine is None or self._debts or self._breaker.state is not State.CLOSED:
            return None
        if self._shared is not None and self._shared.hides_any:
            # Which namespace it is for is not known yet.
            return None
        found = engine.answer_now(hits, head, now, date_line)
        if found is not None:
            self._breaker.succeeded()
        return found

    async def lookup_many(self, namespace: str, keys: Sequence[bytes], projection: DocProjection) -> Batch:
        """Documents, and tickets for what is missing."""
        engine = self._engine
        count = len(keys)
        if engine is None:
            return Batch([None] * count, [0] * count, failed=False)
        if not self._breaker.allows():
            return Batch([None] * count, [0] * count, failed=True)
        started = self._clock.monotonic()
        try:
            found = await engine.lookup_many(namespace, keys, projection)
        except CacheUnavailableError as error:
            self._failed("lookup", error)
            return Batch([None] * count, [0] * count, failed=True)
        self._breaker.succeeded()
        batch = Batch(
            [each if type(each) is bytes else None for each in found],
            [each if isinstance(each, int) else 0 for each in found],
            failed=False,
        )
        if self._touches(namespace):
            for index, key in enumerate(keys):
                if self._hides(namespace, key):
                    batch.documents[index] = None
                    batch.tickets[index] = 0
                    batch.failed = True
        hits = sum(each is not None for each in batch.documents)
        self._observe(namespace, started, hits, count - hits, sum(map(len, filter(None, batch.documents))))
        return batch

    async def fill(self, namespace: str, keys: Sequence[bytes], tickets: Sequence[Ticket], rows: DocRows) -> None:
        """Keeps the answer of a strongly consistent read for `keys` that was asked after their look-ups.

        Keys without a row among `rows` do not exist.
        """
        await self._fill("fill", namespace, len(rows), lambda engine: engine.fill(namespace, rows, keys, tickets))

    async def _fill(
        self, operation: str, namespace: str, count: int, call: Callable[[Engine], Awaitable[T]]
    ) -> T | None:
        engine = self._engine
        if engine is None or self._touches(namespace) or not self._breaker.allows():
            return None
        started = self._clock.monotonic()
        try:
            result = await call(engine)
        except CacheUnavailableError as error:
            self._failed(operation, error)
            if self._observer is not None:
                self._observer.observe_backfill(self._clock.monotonic() - started, count, ok=False)
            return None
        self._breaker.succeeded()
        put = result[0] if isinstance(result, tuple) else result
        if self._observer is not None and isinstance(put, int) and put:
            self._observer.observe_backfill(self._clock.monotonic() - started, put)
        return result

    # --- warming -----------------------------------------------------------------------------------------------------

    async def begin_warm(self, namespace: str) -> Warming | None:
        """A warm that will put every row, before its first page is asked for; None: the cache cannot take one now."""
        facts = await self.facts(namespace)
        if facts is None or facts.closed or self._touches(namespace):
            return None
        return Warming(namespace, facts.epoch, facts.lost, self._clock.now_ms())

    async def page_ticket(self, warming: Warming) -> Ticket:
        """Before a page of rows is asked for, strongly consistent; 0: what it answers cannot be kept."""
        engine = self._engine
        ticket: Ticket = 0
        if engine is not None and self._breaker.allows() and not self._touches(warming.namespace):
            try:
                ticket = await engine.begin_fill(warming.namespace)
                self._breaker.succeeded()
            except CacheUnavailableError as error:
                self._failed("fill", error)
        return ticket

    async def put_page(self, warming: Warming, ticket: Ticket, rows: DocRows) -> int:
        """Keeps a page; rows that could not be kept become the warming's `absent`. Returns: rows put."""
        namespace = warming.namespace
        result = None
        if ticket > 0:
            result = await self._fill(
                "fill", namespace, len(rows), lambda engine: engine.fill_page(namespace, rows, ticket)
            )
        put, absent = (0, rows.keys()) if result is None else result
        warming.add(rows=len(rows), absent=absent)
        return put

    async def missing(self, warming: Warming, limit: int) -> list[bytes]:
        """Ids that the warm must read by themselves before it can end: look them up, read what is missing, `refill`."""
        holes = await self._ask("facts", lambda engine: engine.holes(warming.namespace, limit))
        return list(dict.fromkeys([*warming.absent, *(holes or [])]))[:limit]

    async def refill(self, warming: Warming, keys: Sequence[bytes], tickets: Sequence[Ticket], rows: DocRows) -> None:
        """Keeps the answer of a strongly consistent read for ids that the pages left absent, asked after the look-up
        that gave `tickets`."""
        namespace = warming.namespace
        await self.fill(namespace, keys, tickets, rows)
        held = await self.lookup_many(namespace, keys, NOTHING)
        there = set(rows.keys())
        for key, ticket, document in zip(keys, tickets, held.documents, strict=True):
            # An id that nobody wrote when it was looked up, and that did not exist after that, is accounted for.
            if document is not None or (ticket > 0 and key not in there):
                warming.absent.pop(key, None)

    async def end_warm(self, warming: Warming, through_ms: int) -> bool:
        """After the last page: whether the cache is now complete through the stamp `through_ms`, which was the
        watermark before the first page was asked for. False: rows are missing; see `missing`, or warm again."""
        engine = self._engine
        namespace = warming.namespace
        facts = await self.facts(namespace)
        if engine is None or facts is None or self._touches(namespace) or not warming.is_whole(facts):
            return False
        note = warming_note(through_ms, warming.began_ms + int(self._ttl_seconds * 1000))
        return await self._try("note", lambda: engine.note(namespace, note, facts.epoch, facts.lost))

    async def warmed_through(self, namespace: str, watermark_ms: int | None) -> int | None:
        """The stamp through which every row is cached; None while one may be missing.

        Args:
            watermark_ms: the namespace's watermark; what was complete before is complete up to here, as long as
                nothing is missing.
        """
        if self._touches(namespace):
            return None
        facts = await self.facts(namespace)
        if facts is None or self._touches(namespace):
            return None
        return is_complete(facts, self._clock.now_ms(), watermark_ms)

    # --- scans -------------------------------------------------------------------------------------------------------

    async def scan(self, namespace: str, seconds: float, cancel: CancelFlag | None = None) -> NamespaceScan | None:
        """All rows that are cached of a namespace now; None when the cache cannot say, or not within `seconds`.

        They are the whole namespace only if `scanned_through`, asked after they were read, says so.
        """
        engine = self._engine
        if not isinstance(engine, ScansRows):
            return None
        return await self._shown("scan", namespace, lambda: engine.scan(namespace, seconds, cancel))

    @property
    def keeps_columns(self) -> KeepsColumns | None:
        """The engine, if it keeps columns."""
        return self._keeper

    async def columns(self, namespace: str, seconds: float) -> NamespaceColumns | None:
        """The columns of a namespace as of now; None when there are none that can be used, or not within `seconds`.

        They are the whole namespace only if `shown_through` says so.
        """
        engine = self.keeps_columns
        if engine is None:
            return None
        return await self._shown("columns", namespace, lambda: engine.columns(namespace, seconds))

    async def _shown(self, operation: str, namespace: str, call: Callable[[], Awaitable[T | None]]) -> T | None:
        if self._touches(namespace) or not self._breaker.allows():
            return None
        try:
            shown = await call()
        except CacheUnavailableError as error:
            # Not the breaker's: too little time for a large namespace says nothing of the cache.
            self._errors[operation] = self._errors.get(operation, 0) + 1
            if self._observer is not None:
                self._observer.count_cache_error(operation)
            fields = {"namespace": namespace, "operation": operation, "cause": error.message}
            log.info("document cache not scanned", extra=fields)
            return None
        self._breaker.succeeded()
        # A write whose mark failed meanwhile may have been acknowledged before the scan began.
        return None if self._touches(namespace) else shown

    def shown_through(self, facts: NamespaceFacts, watermark_ms: int | None) -> int | None:
        """The stamp through which columns with these facts show every row; as `scanned_through`."""
        return is_complete(facts, self._clock.now_ms(), watermark_ms)

    def scanned_through(self, scan: NamespaceScan, watermark_ms: int | None) -> int | None:
        """The stamp through which a scan shows every row; None while one may be missing. See `warmed_through`.

        Rows with an open write are not in it, as if the write had been made already; with `rows.with_marked()` those
        whose row from before is known are in it, as if it had not.
        """
        if scan.rows.missing:
            return None
        return is_complete(scan.facts, self._clock.now_ms(), watermark_ms)

    # --- writes ------------------------------------------------------------------------------------------------------

    async def begin_write(
        self, namespace: str, keys: Sequence[bytes] | None, seconds: float = MARK_SECONDS_MAX
    ) -> WriteToken:
        """Before a write goes upstream that has ended, or counts as unknown, after `seconds`.

        `keys` None: the ids are not all known (by-filter, copy, branch, …).
        """
        if keys is not None and len(keys) > MARKED_IDS_MAX:
            keys = None
        token = WriteToken(next(self._tokens), namespace, keys, self._orphans)
        engine = self._engine
        if engine is None or (keys is not None and not keys):
            return token
        lasts = seconds + self._unknown_write_seconds
        token.marked = await self._try("mark", lambda: _done(engine.mark(token.token, namespace, keys, lasts)))
        if not token.marked:
            self._debts.open(namespace, keys)
            await self._state_debts()
        return token

    async def beneath(self, token: WriteToken) -> DocRows | None:
        """The rows that a write's marks cover, for the patches in it; None when the cache cannot say."""
        keys, engine = token.keys, self._engine
        if engine is None or engine.loses_marks or keys is None or not token.marked or token.settled:
            return None
        return await self._ask("settle", lambda engine: engine.beneath(token.token, token.namespace, keys))

    async def settle(
        self,
        token: WriteToken,
        outcome: WriteOutcome,
        *,
        changed: Sequence[bytes] | None = None,
        rows: DocRows | None = None,
        deleted: Sequence[bytes] = (),
    ) -> None:
        """After the upstream's definite answer, before the caller sees it; or when there will be none. Once: later
        calls change nothing.

        Args: as `Engine.settle` has them.
        """
        if token.settled:
            return
        token.settled = True
        namespace, keys = token.namespace, token.keys
        engine = self._engine
        if engine is None or (keys is not None and not keys):
            return
        due = self._clock.monotonic()
        if outcome is WriteOutcome.UNKNOWN:
            due += self._unknown_write_seconds
        if not token.marked:
            self._debts.close(namespace, keys, None if outcome is WriteOutcome.REFUSED else due)
            # A mark that comes late, after other writes of the id came and went, must not bring this one's rows.
            changed = rows = None
        try:
            ended = await self._guarded(
                "settle",
                lambda: engine.settle(
                    token.token, namespace, keys, outcome, changed=changed, rows=rows, deleted=deleted
                ),
            )
        except CacheUnavailableError:
            if len(self._unsettled) < UNSETTLED_MAX:
                self._unsettled[token.token] = (token, outcome)
            ended = False
        else:
            if token.marked and ended and outcome is WriteOutcome.APPLIED:
                self.epochs += keys is None and changed is None
                self.written_rows += 0 if rows is None else len(rows)
            if token.marked and not ended:
                # The mark was lost while the write was under way, and a reader may have filled the id since.
                ended = outcome is WriteOutcome.REFUSED or await self._void(namespace, keys, outcome)
        if token.marked and not ended and outcome is not WriteOutcome.REFUSED:
            self._debts.owe(namespace, keys, due)
            await self._state_debts()

    async def _void(self, namespace: str, keys: Sequence[bytes] | None, outcome: WriteOutcome) -> bool:
        """Leaves ids missing whose write was not marked: a mark that is settled at once, with the write's outcome."""
        engine = self._engine
        assert engine is not None
        token = next(self._tokens)
        seconds = self._unknown_write_seconds
        marked = await self._try("mark", lambda: _done(engine.mark(token, namespace, keys, seconds)))
        return marked and await self._try("settle", lambda: engine.settle(token, namespace, keys, outcome))

    async def new_epoch(self, namespace: str) -> None:
        """Every row of the namespace is void: it was deleted, recreated, or its schema lost an attribute."""
        engine = self._engine
        if engine is None:
            return
        # Owed first, so that nothing is served or filled from here on, however long the engine takes.
        self._debts.owe(namespace, None, self._clock.monotonic())
        await self._repay(Repayment(namespace, None, self._debts.serial))
        await self._state_debts()

    # --- debts and upkeep --------------------------------------------------------------------------------------------

    async def maintain(self) -> None:
        """Repays what is due and evicts what is over the capacity; called every `MAINTAIN_SECONDS`."""
        while self._orphans:
            await self.settle(self._orphans.popleft(), WriteOutcome.UNKNOWN)
        engine = self._engine
        if engine is None:
            return
        for number, (token, outcome) in list(self._unsettled.items()):
            # Not for safety, which the debt takes care of: the mark would keep its ids out until its own deadline.
            settle = partial(engine.settle, number, token.namespace, token.keys, outcome)
            if not await self._try("settle", lambda: _done(settle())):  # noqa: B023
                break
            del self._unsettled[number]
        for repayment in self._debts.due(self._clock.monotonic()):
            await self._repay(repayment)
        await self._state_debts()
        await self._tidy_shared()
        await self._try("maintain", lambda: _done(engine.maintain()))
        if self._clock.monotonic() - self._held_at >= HELD_SECONDS:
            self._held_at = self._clock.monotonic()
            self.held = await self._ask("stats", lambda engine: engine.stats()) or self.held

    async def run(self) -> None:
        """The upkeep loop; ends only by cancellation."""
        while True:
            await self._clock.sleep(MAINTAIN_SECONDS)
            await self.maintain()

    async def _repay(self, repayment: Repayment) -> None:
        now = self._clock.monotonic()
        # A whole namespace is marked and settled, not just cleared: a write that is under way then brings no row.
        if await self._void(repayment.namespace, repayment.keys, WriteOutcome.APPLIED):
            self.epochs += repayment.keys is None
            self._debts.repaid(repayment, now)

    async def _state_debts(self) -> None:
        """Keeps others, and a later process, from serving what this one owes. One at a time, since the last one holds;
        who waited takes the outcome of a statement that began after it came."""
        engine = self._engine
        if engine is None or self._debts.namespaces() == self._stated:
            return
        came = next(self._turns)
        async with self._stating:
            if self._stated_turn < came:
                turn = next(self._turns)
                await self._state_now(engine)
                self._stated_turn = turn
            known_at = self._known_at
        # Until each of the others has looked, or has not for so long that it believes nothing.
        await self._clock.sleep(max(0.0, known_at - self._clock.monotonic()))

    async def _state_now(self, engine: Engine) -> None:
        owed, shared = self._debts.namespaces(), self._shared
        self._stated, self._known_at = "unknown", 0.0
        # Also when the breaker is open: it spares a failing cache our calls, but here other processes depend on one.
        try:
            await engine.owe(self._owner, owed)
        except CacheUnavailableError as error:
            self._failed("owe", error)
            if shared is not None:
                self._known_at = await shared.publish(owed)
        else:
            self._stated = owed
            if shared is not None:
                await shared.withdraw()

    async def _tidy_shared(self) -> None:
        """Takes back what stands on the board though the cache knows it, and tells the cache what gateways owed that
        died before they could."""
        shared, engine = self._shared, self._engine
        if shared is None:
            return
        async with self._stating:
            if self._stated != "unknown":
                await shared.withdraw()
        if not isinstance(engine, TakesOver):
            return
        for debt in shared.silent:
            take_over = partial(engine.take_over, debt.owner, debt.namespaces)
            if not await self._try("owe", lambda: _done(take_over())):  # noqa: B023
                return
            await shared.remove(debt)

    async def _try(self, operation: str, call: Callable[[], Awaitable[bool]]) -> bool:
        try:
            return await self._guarded(operation, call)
        except CacheUnavailableError:
            return False

    async def _guarded(self, operation: str, call: Callable[[], Awaitable[T]]) -> T:
        """A call under the breaker, with its failure counted. Raises: CacheUnavailableError."""
        if not self._breaker.allows():
            raise CacheUnavailableError("the document cache is left alone for a while")
        try:
            result = await call()
        except CacheUnavailableError as error:
            self._failed(operation, error)
            raise
        self._breaker.succeeded()
        return result

    async def _ask(self, operation: str, call: Callable[[Engine], Awaitable[T]]) -> T | None:
        engine = self._engine
        if engine is None:
            return None
        try:
            return await self._guarded(operation, lambda: call(engine))
        except CacheUnavailableError:
            return None

    def _failed(self, operation: str, error: CacheUnavailableError) -> None:
        was = self._breaker.state
        self._breaker.failed()
        self._errors[operation] = self._errors.get(operation, 0) + 1
        if self._observer is not None:
            self._observer.count_cache_error(operation)
        if was is State.CLOSED and self._breaker.state is State.OPEN:
            log.warning("document cache left alone for a while", extra={"operation": operation, "cause": error.message})

    def _observe(self, namespace: str, started: float, hits: int, misses: int, payload_bytes: int) -> None:
        if self._observer is not None:
            seconds = self._clock.monotonic() - started
            self._observer.observe_cache_lookup(namespace, seconds, hits, misses, payload_bytes)

    # --- what it holds -----------------------------------------------------------------------------------------------

    async def facts(self, namespace: str) -> NamespaceFacts | None:
        """What is held of a namespace; None when the cache cannot say."""
        return await self._ask("facts", lambda engine: engine.facts(namespace))

    async def stats(self) -> CacheStats:
        """Never fails; `engine` is None when the cache cannot say."""
        engine = self._engine
        sizes = None
        problem = ""
        if engine is not None and self._breaker.allows():
            try:
                sizes = await engine.stats()
                self._breaker.succeeded()
            except CacheUnavailableError as error:
                self._failed("stats", error)
                problem = error.message
        available = engine is not None and self._breaker.state is State.CLOSED
        if self._shared is not None and not self._shared.is_trusted:
            available, problem = False, problem or "what other gateways owe the cache is not known"
        return CacheStats(available, self._breaker.state.value, len(self._debts), dict(self._errors), sizes, problem)

    async def close(self) -> None:
        """Repays what it can, if that is quick, and closes the engine; what is still owed makes the next start
        begin empty."""
        engine = self._engine
        if engine is None:
            return
        # Another process that stands still may hold what this one waits for.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_REPAY_SECONDS):
                await self.maintain()
                await self._state_debts()
        self._engine = None
        try:
            await engine.close()
        except CacheUnavailableError as error:
            log.warning("document cache did not close cleanly", extra={"cause": error.message})


async def _done(call: Awaitable[object]) -> bool:
    await call
    return True
