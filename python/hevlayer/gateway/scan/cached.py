"""Scans that the document cache answers: the native engine over the rows of a namespace that is complete there.

They show the namespace as of a stamp: rows that were written later are left out, and a row whose write is open counts
as it was before.
"""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import orjson

from hevlayer.errors import ServiceUnavailableError, Source
from hevlayer.gateway.scan.bodies import GROUPS_MAX, Cut, ValueCount, conditions
from hevlayer.gateway.scan.columns import Columns
from hevlayer.gateway.scan.filters import has_patterns
from hevlayer.gateway.scan.origin import Counted
from hevlayer.gateway.scan.request import Filter, FilterSelector
from hevlayer.gateway.scan.results import ResultWriter
from hevlayer.gateway.scan.schemas import KnownSchema
from hevlayer.kernels.doccache import DocScan
from hevlayer.kernels.filters import CancelFlag, ColumnTable, CompiledFilter, FilterRefusedError, ScanStoppedError
from hevlayer.stores.doccache_engine import NamespaceFacts, NamespaceScan

T = TypeVar("T")

# Scans that evaluate at one time in this process; each has threads of its own beside.
SCANS_AT_ONCE = 2
THREADS_DEFAULT = 2
THREADS_MOST = 8
PART_IDS = 10_000
# Filters of so many bytes are compiled in a moment; longer ones in a thread.
IN_PLACE_FILTER_BYTES = 512
# A count over columns that ends within so many milliseconds is not worth a thread, which is waited for longer.
IN_PLACE_MS = 1
# What a job may take to evaluate; it is also stopped with its job.
JOB_SCAN_SECONDS = 3_600.0


class CachedScanError(ServiceUnavailableError):
    """The cached rows could not be read to the end."""

    source = Source.STORE


class ScannableCache(Protocol):
    """The part of the document cache that scans need."""

    async def warmed_through(self, namespace: str, watermark_ms: int | None) -> int | None: ...

    async def scan(self, namespace: str, seconds: float, cancel: CancelFlag | None = None) -> NamespaceScan | None: ...

    def scanned_through(self, scan: NamespaceScan, watermark_ms: int | None) -> int | None: ...

    def shown_through(self, facts: NamespaceFacts, watermark_ms: int | None) -> int | None: ...


def place_of(pointer: str) -> str:
    """`filters[1][0]` of the JSON pointer `/1/0`."""
    if pointer == "/field":
        return "field"
    return "filters" + "".join(f"[{step}]" for step in pointer.split("/")[1:])


def told(error: FilterRefusedError) -> str:
    """Why the native engine does not answer, with the place."""
    return f"{place_of(error.pointer)}: {error.message}"


@dataclass(frozen=True, slots=True)
class Question:
    """A filter and, in mode values, a field, both known to be such that the native engine can answer."""

    compiled: CompiledFilter
    field: str | None
    schema: KnownSchema
    attributes: frozenset[str]
    """The attributes that it reads."""
    is_short: bool
    """See `is_short`."""

    def at(self, through_ms: int) -> CompiledFilter:
        """The filter over rows that were written through a stamp."""
        # Beside the question's own filter, which may be as large as a filter can be.
        cut = orjson.dumps(conditions(FilterSelector(), None, Cut(None, through_ms)))
        return self.compiled.narrowed(CompiledFilter(cut, self.schema.cuts))


def is_short(filters: Filter | None) -> bool:
    """Whether it is compiled in a moment, and evaluated over columns in steps that are each a moment."""
    if filters is None:
        return True
    return len(orjson.dumps(filters)) <= IN_PLACE_FILTER_BYTES and not has_patterns(filters)


def check_question(filters: Filter | None, field: str | None, schema: KnownSchema) -> Question:
    """Raises: FilterRefusedError."""
    compiled = CompiledFilter(None if filters is None else orjson.dumps(filters), schema.filters)
    attributes = frozenset(compiled.attributes)
    read = attributes if field is None else attributes | {field}
    return Question(compiled, field, schema, read, is_short(filters))


RowsInstead = Callable[[], Awaitable[tuple[DocScan, int] | None]]
"""Opens a scan of the rows, and tells the stamp it shows, for columns that cannot answer. None: it cannot be had."""


class CachedScan:
    """One scan of the rows that a namespace has in the cache, or of columns of them.

    Attributes:
        watermark_ms: the stamp that it shows the namespace as of; final once it has answered.
        on_answer: told once, when it has answered for the first time, whether columns did.
    """

    def __init__(
        self,
        pool: ThreadPoolExecutor,
        rows: DocScan | ColumnTable,
        through_ms: int,
        question: Question,
        threads: int,
        rows_instead: RowsInstead | None = None,
    ) -> None:
        self._pool = pool
        self._rows_instead = rows_instead
        self._rows = rows
        self._question = question
        self.watermark_ms = through_ms
        self.threads = threads
        self.from_columns = isinstance(rows, ColumnTable)
        self.on_answer: Callable[[bool], None] | None = None

    async def count(self, seconds: float) -> Counted:
        """How many rows meet the filter. Raises: CachedScanError."""
        if (found := self._count_at_once(seconds)) is not None:
            self._answered()
            return Counted(found)

        def count(cancel: CancelFlag) -> tuple[int, int] | None:
            return self._filter().count(self._rows, threads=self.threads, timeout_ms=int(seconds * 1000), cancel=cancel)

        try:
            async with asyncio.timeout(seconds):
                counted, _ = await self._answer(count)
        except (TimeoutError, _TimedOutError):
            return Counted(bounded=True, timed_out=True)
        return Counted(counted)

    def _count_at_once(self, seconds: float) -> int | None:
        """The count over columns, if it ends in a moment. None says nothing, also of a failure."""
        if not self.from_columns or not self._question.is_short:
            return None
        try:
            timeout_ms = min(IN_PLACE_MS, int(seconds * 1000))
            found = self._filter().count(self._rows, threads=self.threads, timeout_ms=timeout_ms)
        except (FilterRefusedError, ScanStoppedError):
            return None
        return None if found is None else found[0]

    async def ids(self, writer: ResultWriter, report: Callable[[float, int], None]) -> None:
        """Writes the ids of the rows that meet the filter, in ascending order. Raises: CachedScanError;
        ObjectStoreError."""
        found = await self._answer(
            lambda cancel: self._filter().ids(
                self._rows, threads=self.threads, timeout_ms=int(JOB_SCAN_SECONDS * 1000), cancel=cancel
            )
        )
        total = len(found)
        for offset in range(0, total, PART_IDS):
            part = await asyncio.to_thread(found.page, offset, PART_IDS)
            done = min(offset + PART_IDS, total)
            await writer.add_page(part, done - offset)
            report(done / total, done)

    async def values(self) -> tuple[list[ValueCount], bool]:
        """The most frequent values of the field among the rows that meet the filter, and whether there are more.

        Raises: CachedScanError.
        """
        field = self._question.field
        assert field is not None
        answer = await self._answer(
            lambda cancel: self._filter().values(
                self._rows,
                field,
                groups_max=GROUPS_MAX,
                threads=self.threads,
                timeout_ms=int(JOB_SCAN_SECONDS * 1000),
                cancel=cancel,
            )
        )
        histogram: dict[str, Any] = orjson.loads(answer)
        if not histogram["exact"]:
            raise CachedScanError(f"'{field}' has more different values than are counted here")
        groups = [ValueCount(value, count) for value, count in histogram["groups"]]
        return groups, histogram["observed"] > len(groups)

    def _filter(self) -> CompiledFilter:
        return self._question.at(self.watermark_ms)

    async def _answer(self, work: Callable[[CancelFlag], T | None]) -> T:
        """The answer of the columns; of the rows when the columns have other types than the schema now says.

        Raises: CachedScanError.
        """
        found = await self._run(work)
        if found is None and self._rows_instead is not None:
            opened = await self._rows_instead()
            if opened is None:
                raise CachedScanError("a row of the cached namespace may be missing")
            (self._rows, self.watermark_ms), self.from_columns = opened, False
            found = await self._run(work)
        if found is None:
            raise CachedScanError("the cached rows cannot be evaluated")
        self._answered()
        return found

    def _answered(self) -> None:
        told, self.on_answer = self.on_answer, None
        if told is not None:
            told(self.from_columns)

    async def _run(self, work: Callable[[CancelFlag], T]) -> T:
        """Works in the pool; stops the work when nobody waits for it any more."""
        cancel = CancelFlag()
        try:
            done = await asyncio.get_running_loop().run_in_executor(self._pool, work, cancel)
        except asyncio.CancelledError:
            cancel.set()
            raise
        except FilterRefusedError as error:
            raise CachedScanError(told(error)) from error
        except ScanStoppedError as error:
            if error.code == "timed_out":
                raise _TimedOutError("the scan of the cache took too long") from error
            raise CachedScanError(f"the cached rows cannot be evaluated: {error}") from error
        if isinstance(self._rows, DocScan) and self._rows.missing:
            raise CachedScanError("cached rows were found unreadable")
        return done


class _TimedOutError(CachedScanError):
    """The evaluation took longer than it may."""


class CachedScans:
    """Opens scans of the document cache."""

    def __init__(self, cache: ScannableCache, columns: Columns) -> None:
        self._cache = cache
        self._columns = columns
        self._pool = ThreadPoolExecutor(SCANS_AT_ONCE, thread_name_prefix="scan")

    async def open(
        self, namespace: str, watermark_ms: int | None, question: Question, *, seconds: float, threads: int | None
    ) -> CachedScan | None:
        """A scan of the namespace as of now; None: a row of it may be missing, or the cache does not answer.

        `watermark_ms` was read before this call, so that what it covers is there.
        """
        # Quick, while the beginning of a scan looks at every row's entry.
        if await self._cache.warmed_through(namespace, watermark_ms) is None:
            self._columns.note_cold(namespace, question.attributes, question.schema.cuts)
            return None
        most = min(threads or THREADS_DEFAULT, THREADS_MOST)
        columns = await self._columns.find(namespace, question.attributes, question.schema.cuts, seconds)
        through_ms = None if columns is None else self._cache.shown_through(columns.facts, watermark_ms)

        async def rows_instead() -> tuple[DocScan, int] | None:
            self._columns.mistyped(namespace)
            return await self._open_rows(namespace, watermark_ms, seconds)

        if columns is not None and through_ms is not None:
            return CachedScan(self._pool, columns.table, through_ms, question, most, rows_instead)
        opened = await self._open_rows(namespace, watermark_ms, seconds)
        return None if opened is None else CachedScan(self._pool, *opened, question, most)

    async def _open_rows(self, namespace: str, watermark_ms: int | None, seconds: float) -> tuple[DocScan, int] | None:
        held = await self._scan(namespace, seconds)
        through_ms = None if held is None else self._cache.scanned_through(held, watermark_ms)
        return None if held is None or through_ms is None else (held.rows.with_marked(), through_ms)

    async def _scan(self, namespace: str, seconds: float) -> NamespaceScan | None:
        cancel = CancelFlag()
        try:
            return await self._cache.scan(namespace, seconds, cancel)
        except asyncio.CancelledError:
            cancel.set()
            raise

    @property
    def columns(self) -> Columns:
        return self._columns

    def close(self) -> None:
        """Evaluations that run are let go; their callers are gone."""
        self._pool.shutdown(wait=False, cancel_futures=True)
