"""The embedded engine: the Rust engine on a local directory that processes share, with a time budget around every call.

Look-ups of what is in memory are made in place: a thread would cost ten times what they do. Changes are handed to the
engine's own writer and waited for a moment in place if nothing else is under way, else until it rings
(`doccache_changes.py`); what would wait for the disk is given to a thread. No call is awaited for longer than its
budget.

A directory that cannot be used is no reason to stop: every call fails softly until it can be, and is tried again.
"""

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from hevlayer.clock import Clock
from hevlayer.errors import CacheUnavailableError
from hevlayer.kernels.doccache import (
    DocCacheEngine,
    DocCacheError,
    DocCachePending,
    DocProjection,
    DocRows,
    FetchHits,
    distrust_doccache,
)
from hevlayer.kernels.filters import CancelFlag, FilterRefusedError, FilterSchema, ScanStoppedError
from hevlayer.kernels.http import RequestHead
from hevlayer.stores.daemon_threads import DaemonThreads
from hevlayer.stores.doccache_changes import Changes
from hevlayer.stores.doccache_columns import BUILD_SECONDS_MAX, BuiltColumns, ColumnFile, NamespaceColumns
from hevlayer.stores.doccache_engine import (
    UNKNOWN_WRITE_SECONDS,
    EngineStats,
    NamespaceFacts,
    NamespaceScan,
    Ticket,
    WriteOutcome,
)

T = TypeVar("T")

log = logging.getLogger("hevlayer.doccache")

TIMEOUT_SECONDS = 0.2
TTL_SECONDS = 86_400.0
CAPACITY_BYTES = 4 << 30
THREADS = 4
SCAN_THREADS = 2
# What looks at the files of columns may take, in seconds.
COLUMN_FILES_SECONDS = 30.0
# Calls in threads at one time; beyond them the cache counts as failed rather than queueing without bound.
WAITING_CALLS_MAX = 256
# Larger batches, fills and marks are worth a thread, or are not waited for in place.
IN_PLACE_KEYS_MAX = 64
# A thread's way there and back costs as much as a hundred look-ups.
IN_PLACE_LOOKUPS_MAX = 128
IN_PLACE_FILL_BYTES_MAX = 128 * 1024
# One budget covers this many ids of a batch.
BUDGET_KEYS = 500
CLOSE_SECONDS = 15.0
# For threads that are at work when it is closed.
THREADS_END_SECONDS = 2.0
THREADS_LOOK_SECONDS = 0.001
# How often a directory that could not be used is tried again.
REOPEN_SECONDS = 5.0
# A ticket is the engine's own, which has so many bits, under the number of the directory's opening in this process.
TICKET_BITS = 63
_OPENINGS = itertools.count(1)


class EmbeddedEngine:
    """See `Engine`. Made with `open`; several, in this and other processes, may share one directory."""

    def __init__(
        self,
        directory: Path,
        clock: Clock,
        *,
        upstream: str,
        capacity_bytes: int,
        namespace_capacity_bytes: int,
        ttl_seconds: float,
        timeout_seconds: float,
        unknown_write_seconds: float,
    ) -> None:
        self._directory = directory
        self._clock = clock
        self._now_ms = clock.now_ms
        self._upstream = upstream
        self._capacity_bytes = capacity_bytes
        self._namespace_capacity_bytes = namespace_capacity_bytes
        self._ttl_ms = int(ttl_seconds * 1000)
        self._timeout_seconds = timeout_seconds
        self._unknown_write_ms = int(unknown_write_seconds * 1000)
        self._threads = DaemonThreads(THREADS, "doccache")
        # A scan's beginning looks at every row's entry, so that point operations must not wait behind it.
        self._scan_threads = DaemonThreads(SCAN_THREADS, "doccache-scan")
        self._build_thread = DaemonThreads(1, "doccache-columns")
        self._waiting = 0
        self._changing = 0
        """Changes that the engine has been given and that are waited for."""
        self._writes: set[int] = set()
        """Tokens of writes between their mark and their settle."""
        self._closed = False
        self._native: DocCacheEngine | None = None
        self._changes: Changes | None = None
        self._problem = ""
        self._tried = float("-inf")
        self._connects = 0
        self._opening = 0
        """Stands in every ticket: a directory that was opened again may have lost what the ticket was given for."""
        self._owed: dict[int, list[str] | None] = {}
        self._upkeep: asyncio.Future[None] | None = None

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
        namespace_capacity_bytes: int = 0,
        ttl_seconds: float = TTL_SECONDS,
        timeout_seconds: float = TIMEOUT_SECONDS,
        unknown_write_seconds: float = UNKNOWN_WRITE_SECONDS,
    ) -> "EmbeddedEngine":
        """Opens or makes the directory. Never fails: one that cannot be used is tried again by `maintain`.

        Args:
            upstream: whose rows these are; those of another upstream are thrown away.
            namespace_capacity_bytes: what each namespace may hold that `limit` gave no bound; 0: all of it.
        """
        engine = cls(
            directory,
            clock,
            upstream=upstream,
            capacity_bytes=capacity_bytes,
            namespace_capacity_bytes=namespace_capacity_bytes,
            ttl_seconds=ttl_seconds,
            timeout_seconds=timeout_seconds,
            unknown_write_seconds=unknown_write_seconds,
        )
        engine._try_to_open()
        return engine

    def _try_to_open(self) -> None:
        """Blocks for the disk."""
        self._tried = self._clock.monotonic()
        try:
            native = DocCacheEngine(
                str(self._directory),
                identity=self._upstream,
                capacity_bytes=self._capacity_bytes,
                ttl_ms=self._ttl_ms,
                unknown_write_ms=self._unknown_write_ms,
                now_ms=self._now_ms(),
                namespace_capacity_bytes=self._namespace_capacity_bytes,
            )
            changes = Changes(native)
        except (DocCacheError, OSError) as error:
            # Without a descriptor to be told through it cannot be used either.
            cause = str(error.args[1]) if isinstance(error, DocCacheError) else str(error)
            if not self._problem:
                # Once until it works: the reason is in each call's error and in /health.
                log.warning(
                    "the cache directory cannot be used; nothing is cached until it can be",
                    extra={"directory": str(self._directory), "cause": cause},
                )
            self._problem = cause
            return
        if self._problem:
            log.warning("the cache directory is used again", extra={"directory": str(self._directory)})
        self._problem = ""
        for owner, namespaces in self._owed.items():
            native.owe(owner, namespaces)
        self._connects += 1
        self._opening = next(_OPENINGS) << TICKET_BITS
        self._changes = changes
        self._native = native
        if self._closed:
            # Meanwhile; nobody else would let go of the directory. If it cannot be left well, it is left as by a death.
            self._native = None
            self._end_changes()
            with contextlib.suppress(DocCacheError):
                native.close(self._now_ms())

    def _door(self) -> DocCacheEngine:
        native = self._native
        if native is None:
            if self._closed:
                raise CacheUnavailableError("the document cache is closed", fields={"cause": "closed"})
            message = f"the cache directory cannot be used: {self._problem}"
            raise CacheUnavailableError(message, fields={"cause": "unopened"})
        return native

    def _failed(self, error: DocCacheError) -> CacheUnavailableError:
        if error.args[0] == "broken" and not self._closed:
            self._problem = str(error.args[1])
            broken, self._native = self._native, None
            self._end_changes()
            if broken is not None:
                # Its end waits for its writer; the directory is opened again once everyone has let go of it.
                self._threads.submit(broken.close, self._now_ms())
        return CacheUnavailableError(str(error.args[1]), fields={"cause": error.args[0]})

    def _end_changes(self) -> None:
        changes, self._changes = self._changes, None
        if changes is not None:
            changes.close()

    # --- reads -------------------------------------------------------------------------------------------------------

    async def lookup(
        self, namespace: str, key: bytes, projection: DocProjection, id_type: str | None
    ) -> bytes | Ticket:
        now_ms, opening = self._now_ms(), self._opening
        native = self._native or self._door()
        try:
            found = native.lookup(namespace, key, projection, id_type, now_ms, wait=False)
        except DocCacheError as error:
            raise self._failed(error) from error
        if found is None:
            found = await self._in_thread(lambda: native.lookup(namespace, key, projection, id_type, now_ms, wait=True))
        return found + opening if isinstance(found, int) and found > 0 else found or 0

    def lookup_now(self, namespace: str, key: bytes, projection: DocProjection, id_type: str | None) -> bytes | None:
        native = self._native
        if native is None:
            return None
        try:
            found = native.lookup(namespace, key, projection, id_type, self._now_ms(), wait=False)
        except DocCacheError:
            return None
        return found if type(found) is bytes else None

    def answer_now(
        self, hits: FetchHits, head: RequestHead, now: float, date_line: bytes
    ) -> tuple[bytes, object, int, str, str] | None:
        native = self._native
        if native is None:
            return None
        try:
            return hits.answer(native, head, now, self._now_ms(), date_line)
        except DocCacheError:
            return None

    async def lookup_many(
        self, namespace: str, keys: Sequence[bytes], projection: DocProjection
    ) -> list[bytes | Ticket]:
        now_ms, opening = self._now_ms(), self._opening
        native = self._door()
        wanted = list(keys)
        if len(wanted) <= IN_PLACE_LOOKUPS_MAX:
            try:
                found = native.lookup_many(namespace, wanted, projection, now_ms, wait=False)
            except DocCacheError as error:
                raise self._failed(error) from error
            if found is not None:
                return _opened(found, opening)
        waited = await self._in_thread(
            lambda: native.lookup_many(namespace, wanted, projection, now_ms, wait=True), keys=len(wanted)
        )
        return [0] * len(wanted) if waited is None else _opened(waited, opening)

    def _is_good(self, ticket: Ticket) -> bool:
        return ticket > 0 and ticket >> TICKET_BITS == self._opening >> TICKET_BITS

    async def fill(self, namespace: str, rows: DocRows, keys: Sequence[bytes], tickets: Sequence[Ticket]) -> int:
        good = [(key, ticket) for key, ticket in zip(keys, tickets, strict=True) if self._is_good(ticket)]
        if not good:
            return 0
        return await self._change(
            partial(
                self._door().fill,
                namespace,
                rows,
                [key for key, _ in good],
                [ticket - self._opening for _, ticket in good],
                self._now_ms(),
            ),
            keys=len(good),
            is_small=rows.record_bytes <= IN_PLACE_FILL_BYTES_MAX,
        )

    async def begin_fill(self, namespace: str) -> Ticket:
        try:
            began: Ticket = self._door().begin_fill(namespace, self._now_ms())
        except DocCacheError as error:
            raise self._failed(error) from error
        return began + self._opening if began > 0 else began

    async def fill_page(self, namespace: str, rows: DocRows, ticket: Ticket) -> tuple[int, list[bytes]]:
        if not len(rows):
            return 0, []
        seen = ticket - self._opening if self._is_good(ticket) else 0
        call = partial(self._door().fill_page, namespace, rows, seen, self._now_ms())
        return await self._change(call, keys=len(rows), is_small=False)

    # --- writes ------------------------------------------------------------------------------------------------------

    async def mark(self, token: int, namespace: str, keys: Sequence[bytes] | None, seconds: float) -> None:
        deadline_ms = self._now_ms() + int(seconds * 1000)
        wanted = None if keys is None else list(keys)
        count = len(wanted or ())
        self._writes.add(token)
        try:
            await self._change(
                partial(self._door().mark, token, namespace, wanted, deadline_ms),
                keys=count,
                is_small=count <= IN_PLACE_KEYS_MAX,
            )
        except BaseException:
            # Nobody need settle what is not known to be marked.
            self._writes.discard(token)
            raise

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
        count = len(keys or ()) + len(changed or ())
        self._writes.discard(token)
        return await self._change(
            partial(
                self._door().settle,
                token,
                namespace,
                outcome.value,
                self._now_ms(),
                changed=None if changed is None else list(changed),
                rows=rows,
                deleted=list(deleted),
            ),
            keys=count,
            is_small=count <= IN_PLACE_KEYS_MAX,
        )

    async def beneath(self, token: int, namespace: str, keys: Sequence[bytes]) -> DocRows:
        native, wanted = self._door(), list(keys)
        return await self._in_thread(lambda: native.beneath(namespace, wanted), keys=len(wanted))

    async def clear(self, namespace: str) -> None:
        await self._change(partial(self._door().clear, namespace))

    async def owe(self, owner: int, namespaces: Sequence[str] | None) -> None:
        owed = None if namespaces is None else list(namespaces)
        if owed == []:
            self._owed.pop(owner, None)
        else:
            self._owed[owner] = owed
        if self._native is not None:
            # In memory that all processes share: this works also when nothing can be written.
            self._native.owe(owner, owed)
        elif owed != []:
            # Others may have the directory open; they find that it is not to be trusted any more.
            await self._in_thread(lambda: distrust_doccache(str(self._directory)))

    # --- completeness ------------------------------------------------------------------------------------------------

    async def facts(self, namespace: str) -> NamespaceFacts:
        try:
            return NamespaceFacts(**self._door().facts(namespace))
        except DocCacheError as error:
            raise self._failed(error) from error

    async def scan(self, namespace: str, seconds: float, cancel: CancelFlag | None = None) -> NamespaceScan:
        native, now_ms = self._door(), self._now_ms()

        def begin() -> NamespaceScan:
            scan, facts = native.scan(namespace, now_ms, timeout_ms=int(seconds * 1000), cancel=cancel)
            return NamespaceScan(scan, NamespaceFacts(**facts))

        try:
            return await self._in_thread(begin, threads=self._scan_threads, seconds=seconds)
        except ScanStoppedError as error:
            raise CacheUnavailableError(str(error), fields={"cause": "stopped"}) from error

    # --- columns -----------------------------------------------------------------------------------------------------

    async def columns(self, namespace: str, seconds: float) -> NamespaceColumns | None:
        native, now_ms = self._door(), self._now_ms()
        shown = native.columns_at_once(namespace, now_ms)
        if shown is None:
            shown = await self._in_thread(
                lambda: native.columns(namespace, now_ms), threads=self._scan_threads, seconds=seconds
            )
        if shown is None:
            return None
        table, facts = shown
        return NamespaceColumns(table, frozenset(table.attributes), NamespaceFacts(**facts))

    async def build_columns(
        self, namespace: str, schema: FilterSchema, attributes: Sequence[str], cancel: CancelFlag
    ) -> BuiltColumns | None:
        native, now_ms, wanted = self._door(), self._now_ms(), list(attributes)
        timeout_ms = int(BUILD_SECONDS_MAX * 1000)

        def build() -> BuiltColumns | None:
            built = native.build_columns(namespace, schema, wanted, now_ms, timeout_ms=timeout_ms, cancel=cancel)
            if built is None:
                return None
            return BuiltColumns(built["rows"], built["bytes"], tuple(built["left_out"]), built["seconds"])

        try:
            return await self._in_thread(build, threads=self._build_thread, seconds=BUILD_SECONDS_MAX)
        except (ScanStoppedError, FilterRefusedError, ValueError) as error:
            raise CacheUnavailableError(str(error), fields={"cause": "stopped"}) from error

    async def cached_rows(self, namespace: str) -> int:
        return (await self.facts(namespace)).rows

    async def column_files(self) -> list[ColumnFile]:
        found = await self._of_columns(self._door().column_files)
        return [ColumnFile(**{**file, "columns": tuple(file["columns"])}) for file in found]

    async def drop_columns(self, namespace: str) -> None:
        native = self._door()
        await self._of_columns(lambda: native.drop_columns(namespace))

    async def tidy_columns(self) -> None:
        await self._of_columns(self._door().tidy_columns)

    async def _of_columns(self, work: Callable[[], T]) -> T:
        return await self._in_thread(work, threads=self._build_thread, seconds=COLUMN_FILES_SECONDS)

    async def holes(self, namespace: str, limit: int) -> list[bytes]:
        native = self._door()
        return await self._in_thread(lambda: native.holes(namespace, limit))

    async def note(self, namespace: str, text: str, epoch: int, lost: int) -> bool:
        if epoch < 0 or lost < 0:
            return False
        return await self._change(partial(self._door().note, namespace, text, epoch, lost))

    # --- limits and upkeep -------------------------------------------------------------------------------------------

    async def limit(self, namespace: str, capacity_bytes: int | None) -> None:
        await self._change(partial(self._door().limit, namespace, capacity_bytes))

    async def set_ttl(self, seconds: float) -> None:
        self._ttl_ms = int(seconds * 1000)
        self._door().set_ttl(self._ttl_ms)

    async def maintain(self) -> None:
        loop = asyncio.get_running_loop()
        if self._native is None and not self._closed and self._clock.monotonic() - self._tried >= REOPEN_SECONDS:
            await loop.run_in_executor(self._threads, self._try_to_open)
        native = self._door()
        if self._upkeep is not None and not self._upkeep.done():
            return
        try:
            # Evicting is no point operation: it takes what it takes, in a thread, one at a time.
            self._upkeep = loop.run_in_executor(self._threads, native.maintain, self._now_ms())
            # Whoever waited for it may have gone.
            self._upkeep.add_done_callback(lambda done: done.cancelled() or done.exception())
            await asyncio.shield(self._upkeep)
        except DocCacheError as error:
            raise self._failed(error) from error

    async def stats(self) -> EngineStats:
        sizes = await self._in_thread(self._door().stats)
        return EngineStats(
            connects=self._connects, notes=(), namespace_capacity_bytes=self._namespace_capacity_bytes, **sizes
        )

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        native, self._native = self._native, None
        try:
            if native is not None:
                await self._in_thread(lambda: native.close(self._now_ms()), seconds=CLOSE_SECONDS)
        finally:
            self._end_changes()
            await self._end_threads()

    async def _end_threads(self) -> None:
        """Waits for them, but not for one that stands still because another process does."""
        pools = (self._threads, self._scan_threads, self._build_thread)
        for pool in pools:
            pool.shutdown(wait=False, cancel_futures=True)
        for _ in range(int(THREADS_END_SECONDS / THREADS_LOOK_SECONDS)):
            if all(pool.have_ended for pool in pools):
                break
            await asyncio.sleep(THREADS_LOOK_SECONDS)

    # --- how calls are made ------------------------------------------------------------------------------------------

    def _budget(self, keys: int) -> float:
        return self._timeout_seconds * (1 + keys // BUDGET_KEYS)

    async def _change(
        self, call: "Callable[..., T | DocCachePending[T]]", *, keys: int = 1, is_small: bool = True
    ) -> T:
        """A change, which the engine's writer makes; one that outlives its budget is made all the same.

        One that is small is waited for in place while nothing else is under way. Else that would stop the others, which
        have better to do, and could not be made together with it.
        """
        try:
            made = call(in_place=is_small and not self._changing and len(self._writes) <= 1)
            if not isinstance(made, DocCachePending):
                return made
            native, changes = self._native, self._changes
            if native is None or changes is None:
                raise CacheUnavailableError("the document cache is closed", fields={"cause": "closed"})
            self._changing += 1
            try:
                return await changes.made(native, made, self._budget(keys))
            finally:
                self._changing -= 1
        except DocCacheError as error:
            raise self._failed(error) from error

    async def _in_thread(
        self,
        work: Callable[[], T],
        *,
        keys: int = 1,
        seconds: float | None = None,
        threads: DaemonThreads | None = None,
    ) -> T:
        if self._waiting >= WAITING_CALLS_MAX:
            raise CacheUnavailableError("the document cache has too many calls waiting")
        self._waiting += 1
        try:
            future = asyncio.get_running_loop().run_in_executor(threads or self._threads, work)
        except RuntimeError as error:
            self._waiting -= 1
            raise CacheUnavailableError("the document cache is closed") from error
        # A call that ran over its budget still occupies a thread, so it counts until it is over.
        future.add_done_callback(self._over)
        await _until_done(future, seconds or self._budget(keys))
        if not future.done():
            raise CacheUnavailableError("the document cache did not answer within its time budget")
        try:
            return future.result()
        except DocCacheError as error:
            raise self._failed(error) from error

    def _over(self, future: "asyncio.Future[T]") -> None:
        self._waiting -= 1
        if not future.cancelled():
            future.exception()


async def _until_done(future: "asyncio.Future[T]", seconds: float) -> None:
    """Waits for a future, at most for so long; it goes on in any case."""
    loop = asyncio.get_running_loop()
    waiter = loop.create_future()

    def wake(_: object = None) -> None:
        if not waiter.done():
            waiter.set_result(None)

    timer = loop.call_later(seconds, wake)
    future.add_done_callback(wake)
    try:
        await waiter
    finally:
        timer.cancel()
        future.remove_done_callback(wake)


def _opened(found: "tuple[list[bytes | Ticket], int]", opening: int) -> list[bytes | Ticket]:
    looked, hits = found
    if hits == len(looked):
        return looked
    return [each + opening if isinstance(each, int) and each > 0 else each for each in looked]
