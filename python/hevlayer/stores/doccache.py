"""The document cache as the gateway uses it: soft in every failure, never out of date in silence.

The policy around an engine: a breaker and counters, debts for what the engine could not be told, and the clock of this
process's own writes, by which concurrent reads may share an answer. No method raises for a cache that fails.
"""

import itertools
import logging
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from hevlayer.clock import Clock
from hevlayer.errors import CacheUnavailableError
from hevlayer.kernels.doccache import DocProjection, DocRows, WriteClock
from hevlayer.stores.doccache_breaker import Breaker, State
from hevlayer.stores.doccache_debts import Debts, Repayment
from hevlayer.stores.doccache_engine import (
    UNKNOWN_WRITE_SECONDS,
    CacheState,
    Engine,
    EngineStats,
    WriteOutcome,
)

__all__ = ["CacheObserver", "CacheStats", "DocumentCache", "Miss", "WriteOutcome", "WriteToken"]

T = TypeVar("T")

log = logging.getLogger("hevlayer.doccache")

MAINTAIN_SECONDS = 1.0
# A write of more ids than this marks its whole namespace.
MARKED_IDS_MAX = 100_000
# Settles that failed and are tried again; beyond them a mark runs out by itself.
UNSETTLED_MAX = 10_000


class CacheObserver(Protocol):
    """Where the cache's measurements go. Seconds are floats."""

    def observe_cache_lookup(
        self, namespace: str, seconds: float, hits: int, misses: int, payload_bytes: int
    ) -> None: ...

    def observe_backfill(self, seconds: float, records: int, *, ok: bool = True) -> None: ...

    def count_cache_error(self, operation: str) -> None: ...


class Miss:
    """Nothing to serve. `ticket` lets what is read now be filled (0: it may not be); `failed` says that the cache
    could not be asked, or must not be believed."""

    __slots__ = ("failed", "ticket")

    def __init__(self, ticket: int, *, failed: bool) -> None:
        self.ticket = ticket
        self.failed = failed


MARKED = Miss(0, failed=False)
UNAVAILABLE = Miss(0, failed=True)


class WriteToken:
    """One write between its mark and its settle. One that is dropped without a settle counts as UNKNOWN."""

    __slots__ = ("_orphans", "keys", "marked", "namespace", "settled", "token")

    def __init__(self, token: int, namespace: str, keys: Sequence[bytes] | None, orphans: "deque[WriteToken]") -> None:
        self.token = token
        self.namespace = namespace
        self.keys = keys
        self.marked = False
        self.settled = False
        self._orphans = orphans

    def __del__(self) -> None:
        if not self.settled:
            self._orphans.append(self)


@dataclass(frozen=True, slots=True)
class CacheStats:
    """What `/health` and metrics say of the cache."""

    available: bool
    breaker: str
    debts: int
    errors: dict[str, int] = field(default_factory=dict)
    engine: EngineStats | None = None


class DocumentCache:
    """The port. With `engine` None nothing is cached and everything else works."""

    def __init__(
        self,
        engine: Engine | None,
        clock: Clock,
        *,
        observer: CacheObserver | None = None,
        unknown_write_seconds: float = UNKNOWN_WRITE_SECONDS,
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._observer = observer
        self._unknown_write_seconds = unknown_write_seconds
        self._breaker = Breaker(clock)
        self._debts = Debts()
        self._owing = False
        self._writes = WriteClock()
        # Tokens outlive the process in the engine's log, so they must differ from those of any earlier one.
        self._tokens = itertools.count(secrets.randbits(62))
        self._orphans: deque[WriteToken] = deque()
        self._unsettled: dict[int, WriteOutcome] = {}
        self._errors: dict[str, int] = {}

    @property
    def enabled(self) -> bool:
        return self._engine is not None

    # --- reads -------------------------------------------------------------------------------------------------------

    def generation(self, namespace: str, key: bytes) -> int:
        """Two reads of one id that see one generation had no write of this process between them."""
        return self._writes.generation(namespace, key)

    async def lookup(self, namespace: str, key: bytes, projection: DocProjection, id_type: str | None) -> bytes | Miss:
        """One document's JSON text, or why not."""
        engine = self._engine
        if engine is None:
            return MARKED
        if self._debts and self._debts.covers(namespace, key):
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
            if self._debts and self._debts.covers(namespace, key):
                return UNAVAILABLE
            self._observe(namespace, started, 1, 0, len(found))
            return found
        self._observe(namespace, started, 0, 1, 0)
        return Miss(found, failed=False) if isinstance(found, int) and found else MARKED

    async def lookup_many(
        self, namespace: str, keys: Sequence[bytes], projection: DocProjection
    ) -> tuple[list[bytes | None], Miss]:
        """Documents in the order of the keys, None where missing, and one `Miss` for all that is missing."""
        engine = self._engine
        if engine is None:
            return [None] * len(keys), MARKED
        if not self._breaker.allows():
            return [None] * len(keys), UNAVAILABLE
        started = self._clock.monotonic()
        try:
            found = await engine.lookup_many(namespace, keys, projection)
        except CacheUnavailableError as error:
            self._failed("lookup", error)
            return [None] * len(keys), UNAVAILABLE
        self._breaker.succeeded()
        documents: list[bytes | None] = [each if type(each) is bytes else None for each in found]
        failed = False
        if self._debts.touches(namespace):
            for index, key in enumerate(keys):
                if self._debts.covers(namespace, key):
                    documents[index] = None
                    failed = True
        hits = sum(each is not None for each in documents)
        self._observe(namespace, started, hits, len(keys) - hits, sum(map(len, filter(None, documents))))
        # The oldest ticket is good for every id: the engine refuses those that were touched since.
        tickets = [each for each in found if isinstance(each, int) and each > 0]
        ticket = min(tickets, default=0)
        return documents, Miss(0 if failed else ticket, failed=failed)

    async def fill(self, namespace: str, ticket: int, rows: DocRows) -> None:
        """Keeps the rows of an answer to a strongly consistent read that began with `ticket`."""
        engine = self._engine
        if engine is None or not ticket or not len(rows) or self._debts.touches(namespace):
            return
        if not self._breaker.allows():
            return
        started = self._clock.monotonic()
        try:
            count = await engine.fill(namespace, rows, ticket)
        except CacheUnavailableError as error:
            self._failed("fill", error)
            if self._observer is not None:
                self._observer.observe_backfill(self._clock.monotonic() - started, len(rows), ok=False)
            return
        self._breaker.succeeded()
        if self._observer is not None and count:
            self._observer.observe_backfill(self._clock.monotonic() - started, count)

    # --- writes ------------------------------------------------------------------------------------------------------

    async def begin_write(self, namespace: str, keys: Sequence[bytes] | None) -> WriteToken:
        """Before a write goes upstream. `keys` None: the ids are not all known (by-filter, copy, branch, …)."""
        if keys is not None and len(keys) > MARKED_IDS_MAX:
            keys = None
        token = WriteToken(next(self._tokens), namespace, keys, self._orphans)
        self._touch(namespace, keys)
        engine = self._engine
        if engine is None or (keys is not None and not keys):
            return token
        token.marked = await self._try("mark", lambda: _done(engine.mark(token.token, namespace, keys)))
        if not token.marked:
            self._debts.open(namespace, keys)
            await self._note_owing()
        return token

    async def settle(self, token: WriteToken, outcome: WriteOutcome) -> None:
        """After the upstream's definite answer, before the caller sees it; or when there will be none. Once: later
        calls change nothing."""
        if token.settled:
            return
        token.settled = True
        namespace, keys = token.namespace, token.keys
        self._touch(namespace, keys)
        engine = self._engine
        if engine is None or (keys is not None and not keys):
            return
        due = self._clock.monotonic()
        if outcome is WriteOutcome.UNKNOWN:
            due += self._unknown_write_seconds
        if not token.marked:
            self._debts.close(namespace, keys, None if outcome is WriteOutcome.REFUSED else due)
        ended = await self._try("settle", lambda: engine.settle(token.token, outcome))
        if token.marked and not ended:
            self._debts.owe(namespace, keys, due)
            if len(self._unsettled) < UNSETTLED_MAX:
                self._unsettled[token.token] = outcome
            await self._note_owing()

    async def new_epoch(self, namespace: str) -> None:
        """Every row of the namespace is void: it was deleted, recreated, or its schema lost an attribute."""
        self._touch(namespace, None)
        engine = self._engine
        if engine is None:
            return
        # Owed first, so that nothing is served or filled from here on, however long the engine takes.
        self._debts.owe(namespace, None, self._clock.monotonic())
        await self._repay(engine, Repayment(namespace, None, self._debts.serial))
        if self._debts:
            await self._note_owing()

    def _touch(self, namespace: str, keys: Sequence[bytes] | None) -> None:
        self._writes.touch(namespace, None if keys is None else list(keys))

    # --- debts and upkeep --------------------------------------------------------------------------------------------

    async def maintain(self) -> None:
        """Repays what is due and evicts what is over the capacity; called every `MAINTAIN_SECONDS`."""
        while self._orphans:
            await self.settle(self._orphans.popleft(), WriteOutcome.UNKNOWN)
        engine = self._engine
        if engine is None:
            return
        for number, outcome in list(self._unsettled.items()):
            # Not for safety, which the debt takes care of: the mark would keep its ids out until its own deadline.
            if not await self._try("settle", lambda: _done(engine.settle(number, outcome))):  # noqa: B023
                break
            del self._unsettled[number]
        for repayment in self._debts.due(self._clock.monotonic()):
            await self._repay(engine, repayment)
        if self._owing and not self._debts and await self._try("owe", lambda: _done(engine.owe(False))):
            # What came to be owed during the call has noted it again itself, or will be noted here.
            self._owing = False
            if self._debts:
                await self._note_owing()
        await self._try("maintain", lambda: _done(engine.maintain()))

    async def run(self) -> None:
        """The upkeep loop; ends only by cancellation."""
        while True:
            await self._clock.sleep(MAINTAIN_SECONDS)
            await self.maintain()

    async def _repay(self, engine: Engine, repayment: Repayment) -> None:
        now = self._clock.monotonic()
        if repayment.keys is None:
            made = await self._try("clear", lambda: _done(engine.clear(repayment.namespace)))
        else:
            # A mark that is settled at once leaves the ids missing and refuses every fill that began before it.
            token = next(self._tokens)
            keys = repayment.keys
            marked = await self._try("mark", lambda: _done(engine.mark(token, repayment.namespace, keys)))
            made = marked and await self._try("settle", lambda: engine.settle(token, WriteOutcome.APPLIED))
        if made:
            self._debts.repaid(repayment, now)

    async def _note_owing(self) -> None:
        """Keeps a later process from serving what this one owes, should it end before that is repaid."""
        engine = self._engine
        if engine is None or self._owing:
            return
        # Also when the breaker is open: it spares a failing cache our calls, but here a later process depends on one.
        try:
            await engine.owe(True)
        except CacheUnavailableError as error:
            self._failed("owe", error)
        else:
            self._owing = True

    async def _try(self, operation: str, call: Callable[[], Awaitable[bool]]) -> bool:
        if not self._breaker.allows():
            return False
        try:
            result = await call()
        except CacheUnavailableError as error:
            self._failed(operation, error)
            return False
        self._breaker.succeeded()
        return result

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

    async def state(self, namespace: str) -> CacheState | None:
        """What is held of a namespace; None when the cache cannot say."""
        engine = self._engine
        if engine is None or not self._breaker.allows():
            return None
        try:
            state = await engine.state(namespace)
        except CacheUnavailableError as error:
            self._failed("state", error)
            return None
        self._breaker.succeeded()
        return state

    async def stats(self) -> CacheStats:
        """Never fails; `engine` is None when the cache cannot say."""
        engine = self._engine
        sizes = None
        if engine is not None and self._breaker.allows():
            try:
                sizes = await engine.stats()
                self._breaker.succeeded()
            except CacheUnavailableError as error:
                self._failed("stats", error)
        available = engine is not None and self._breaker.state is State.CLOSED
        return CacheStats(available, self._breaker.state.value, len(self._debts), dict(self._errors), sizes)

    async def close(self) -> None:
        """Repays what it can and closes the engine; what is still owed makes the next start begin empty."""
        engine = self._engine
        if engine is None:
            return
        await self.maintain()
        if self._debts:
            await self._note_owing()
        self._engine = None
        try:
            await engine.close()
        except CacheUnavailableError as error:
            log.warning("document cache did not close cleanly", extra={"cause": error.message})


async def _done(call: Awaitable[object]) -> bool:
    await call
    return True
