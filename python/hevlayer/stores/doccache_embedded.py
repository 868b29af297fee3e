"""The embedded engine: the Rust engine on a local directory, with a time budget around every call.

Calls that need neither the disk nor a wait are made in place: a thread would cost ten times what they do. What would
wait is given to a thread and awaited for no longer than the budget.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from hevlayer.clock import Clock
from hevlayer.errors import CacheUnavailableError, ConfigurationError
from hevlayer.kernels.doccache import DocCacheEngine, DocCacheError, DocProjection, DocRows
from hevlayer.stores.doccache_books import Books
from hevlayer.stores.doccache_engine import (
    UNKNOWN_WRITE_SECONDS,
    EngineStats,
    NamespaceFacts,
    Ticket,
    WriteOutcome,
)

T = TypeVar("T")

TIMEOUT_SECONDS = 0.2
TTL_SECONDS = 86_400.0
CAPACITY_BYTES = 4 << 30
THREADS = 4
# Calls in threads at one time; beyond them the cache counts as failed rather than queueing without bound.
WAITING_CALLS_MAX = 256
# Larger batches, fills and marks are worth a thread.
IN_PLACE_KEYS_MAX = 64
IN_PLACE_FILL_BYTES_MAX = 128 * 1024
# One budget covers this many ids of a batch.
BUDGET_KEYS = 500
CLOSE_SECONDS = 30.0

_WOULD_WAIT = -1
# Begins no id's key, so that looking it up gives a ticket.
_NO_KEY = b"\x00"
_NOTHING = DocProjection([])


class EmbeddedEngine:
    """See `Engine`. Made with `open`; one process has the directory at a time."""

    def __init__(self, native: DocCacheEngine, clock: Clock, *, timeout_seconds: float) -> None:
        self._native = native
        self._now_ms = clock.now_ms
        self._timeout_seconds = timeout_seconds
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="doccache")
        self._waiting = 0
        self._closed = False
        self._owing = False
        self._books = Books()

    @property
    def name(self) -> str:
        return "embedded"

    @property
    def loses_marks(self) -> bool:
        return False

    @classmethod
    def open(
        cls,
        directory: Path,
        clock: Clock,
        *,
        upstream: str,
        capacity_bytes: int = CAPACITY_BYTES,
        ttl_seconds: float = TTL_SECONDS,
        timeout_seconds: float = TIMEOUT_SECONDS,
        unknown_write_seconds: float = UNKNOWN_WRITE_SECONDS,
    ) -> "EmbeddedEngine":
        """Opens or makes the directory; blocks while the log of an earlier run is read.

        Args:
            upstream: whose rows these are; those of another upstream are thrown away.
        Raises: ConfigurationError: the directory cannot be used, or another process uses it.
        """
        try:
            native = DocCacheEngine(
                str(directory),
                identity=upstream,
                capacity_bytes=capacity_bytes,
                ttl_ms=int(ttl_seconds * 1000),
                unknown_write_ms=int(unknown_write_seconds * 1000),
                now_ms=clock.now_ms(),
            )
        except DocCacheError as error:
            raise ConfigurationError([f"LAYER_CACHE_DIR {directory}: {error.args[1]}"]) from error
        return cls(native, clock, timeout_seconds=timeout_seconds)

    async def lookup(
        self, namespace: str, key: bytes, projection: DocProjection, id_type: str | None
    ) -> bytes | Ticket:
        now_ms = self._now_ms()
        try:
            found = self._native.lookup(namespace, key, projection, id_type, now_ms, wait=False)
        except DocCacheError as error:
            raise _unavailable(error) from error
        if found != _WOULD_WAIT:
            return found
        return await self._in_thread(
            lambda: self._native.lookup(namespace, key, projection, id_type, now_ms, wait=True)
        )

    def lookup_now(self, namespace: str, key: bytes, projection: DocProjection, id_type: str | None) -> bytes | None:
        try:
            found = self._native.lookup(namespace, key, projection, id_type, self._now_ms(), wait=False)
        except DocCacheError:
            return None
        return found if type(found) is bytes else None

    async def lookup_many(
        self, namespace: str, keys: Sequence[bytes], projection: DocProjection
    ) -> list[bytes | Ticket]:
        now_ms = self._now_ms()
        wanted = list(keys)
        if len(wanted) <= IN_PLACE_KEYS_MAX:
            try:
                found = self._native.lookup_many(namespace, wanted, projection, now_ms, wait=False)
            except DocCacheError as error:
                raise _unavailable(error) from error
            if _WOULD_WAIT not in found:
                return found
        return await self._in_thread(
            lambda: self._native.lookup_many(namespace, wanted, projection, now_ms, wait=True), keys=len(wanted)
        )

    async def fill(self, namespace: str, rows: DocRows, keys: Sequence[bytes], tickets: Sequence[Ticket]) -> int:
        good = [ticket for ticket in tickets if ticket > 0]
        if not good:
            return 0
        # The oldest ticket is good for every id: the engine refuses those that were touched since.
        put = await self._put(namespace, rows, min(good))
        if put == len(keys):
            self._books.filled(namespace, keys)
        return put

    async def _put(self, namespace: str, rows: DocRows, ticket: Ticket) -> int:
        now_ms = self._now_ms()
        put = None
        if rows.record_bytes <= IN_PLACE_FILL_BYTES_MAX:
            try:
                put = self._native.fill(namespace, rows, ticket, now_ms, wait=False)
            except DocCacheError as error:
                raise _unavailable(error) from error
        if put is None:
            put = await self._in_thread(
                lambda: self._native.fill(namespace, rows, ticket, now_ms, wait=True), keys=len(rows)
            )
        return 0 if put is None else put[0]

    async def begin_fill(self, namespace: str) -> Ticket:
        found = await self.lookup(namespace, _NO_KEY, _NOTHING, None)
        return found if isinstance(found, int) else 0

    async def fill_page(self, namespace: str, rows: DocRows, ticket: Ticket) -> tuple[int, list[bytes]]:
        if ticket <= 0 or not len(rows):
            return 0, rows.keys()
        put = await self._put(namespace, rows, ticket)
        keys = rows.keys()
        held = await self.lookup_many(namespace, keys, _NOTHING)
        absent = [key for key, found in zip(keys, held, strict=True) if type(found) is not bytes]
        self._books.filled(namespace, [key for key in keys if key not in set(absent)])
        return put, absent

    async def mark(self, token: int, namespace: str, keys: Sequence[bytes] | None, seconds: float) -> None:
        deadline_ms = self._now_ms() + int(seconds * 1000)
        wanted = None if keys is None else list(keys)
        if wanted is None or len(wanted) <= IN_PLACE_KEYS_MAX:
            try:
                if self._native.mark(token, namespace, wanted, deadline_ms, wait=False):
                    return
            except DocCacheError as error:
                raise _unavailable(error) from error
        await self._in_thread(
            lambda: self._native.mark(token, namespace, wanted, deadline_ms, wait=True), keys=len(wanted or ())
        )

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
        self._books.settled(namespace, keys, outcome, deleted)
        now_ms = self._now_ms()
        try:
            settled = self._native.settle(token, outcome.value, now_ms, wait=False)
        except DocCacheError as error:
            raise _unavailable(error) from error
        if settled is not None:
            return settled
        return bool(await self._in_thread(lambda: self._native.settle(token, outcome.value, now_ms, wait=True)))

    async def beneath(self, token: int, namespace: str, keys: Sequence[bytes]) -> DocRows:
        return DocRows.joined([])

    async def clear(self, namespace: str) -> None:
        now_ms = self._now_ms()
        self._books.cleared(namespace)
        await self._in_thread(lambda: self._native.clear(namespace, now_ms))

    async def owe(self, owner: int, namespaces: Sequence[str] | None) -> None:
        owing = namespaces is None or len(namespaces) > 0
        if owing == self._owing:
            return
        await self._in_thread(lambda: self._native.owe(owing))
        self._owing = owing

    async def facts(self, namespace: str) -> NamespaceFacts:
        found = await self._in_thread(lambda: self._native.state(namespace))
        stats = await self._in_thread(self._native.stats)
        return self._books.facts(namespace, found, stats["evicted_rows"])

    async def holes(self, namespace: str, limit: int) -> list[bytes]:
        return self._books.holes(namespace, limit)

    async def note(self, namespace: str, text: str, epoch: int, lost: int) -> bool:
        now = await self.facts(namespace)
        return (now.epoch, now.lost) == (epoch, lost) and self._books.note(namespace, text, lost)

    async def limit(self, namespace: str, capacity_bytes: int | None) -> None:
        """The whole cache has one capacity here."""

    async def set_ttl(self, seconds: float) -> None:
        """A row's life is set when the directory is opened."""

    async def maintain(self) -> None:
        try:
            # Trimming is no point operation: it takes what it takes, in a thread of its own. Marks fill the log as rows
            # do, so it is not left to the fills to say when it is due.
            await asyncio.get_running_loop().run_in_executor(self._threads, self._native.trim)
        except DocCacheError as error:
            raise _unavailable(error) from error

    async def stats(self) -> EngineStats:
        sizes: dict[str, Any] = dict(await self._in_thread(self._native.stats))
        return EngineStats(connects=1, **sizes)

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        try:
            await self._in_thread(self._native.close, seconds=CLOSE_SECONDS)
        finally:
            self._threads.shutdown(wait=False, cancel_futures=True)

    async def _in_thread(self, work: Callable[[], T], *, keys: int = 1, seconds: float | None = None) -> T:
        if self._waiting >= WAITING_CALLS_MAX:
            raise CacheUnavailableError("the document cache has too many calls waiting")
        budget = seconds or self._timeout_seconds * (1 + keys // BUDGET_KEYS)
        self._waiting += 1
        try:
            future = asyncio.get_running_loop().run_in_executor(self._threads, work)
        except RuntimeError as error:
            self._waiting -= 1
            raise CacheUnavailableError("the document cache is closed") from error
        # A call that ran over its budget still occupies a thread, so it counts until it is over.
        future.add_done_callback(self._over)
        done, _ = await asyncio.wait((future,), timeout=budget)
        if not done:
            raise CacheUnavailableError("the document cache did not answer within its time budget")
        try:
            return future.result()
        except DocCacheError as error:
            raise _unavailable(error) from error

    def _over(self, future: "asyncio.Future[T]") -> None:
        self._waiting -= 1
        if not future.cancelled():
            future.exception()


def _unavailable(error: DocCacheError) -> CacheUnavailableError:
    return CacheUnavailableError(str(error.args[1]), fields={"cause": error.args[0]})
