"""Which attributes of which namespaces get columns, within a budget, and their upkeep.

Attributes that questions read again and again get a column. Columns are built in the background, rebuilt when too many
rows changed, and given up when they were not used for longest and the budget is short.
"""

import asyncio
import contextlib
import logging
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from hevlayer.clock import Clock
from hevlayer.errors import CacheUnavailableError
from hevlayer.kernels.filters import CancelFlag, FilterSchema
from hevlayer.stores.doccache_columns import ColumnFile, KeepsColumns, NamespaceColumns
from hevlayer.wire.reserved import STAMP_ATTRIBUTE

log = logging.getLogger("hevlayer.columns")

UPKEEP_SECONDS = 2.0
# An attribute that was asked for this often gets a column; a while without a question makes it begin again.
ASKS_MIN = 2
FORGOTTEN_SECONDS = 3_600.0
NAMESPACES_MAX = 1_000
COLUMNS_MAX = 32
# Rows are read as quickly without columns below this.
ROWS_MIN = 500
# Columns are built anew when one row in so many has changed, and more than a few.
CHANGED_SHARE = 8
CHANGED_ROWS_MIN = 1_000
# And when the changes take so much memory in this process.
CHANGED_BYTES_MAX = 16 << 20
# Columns that no process read for so long go, whatever the budget: their upkeep costs every write a little.
UNUSED_MS_MAX = 24 * 3_600_000
# The next build of a namespace waits for so many times what the last one took, and after a failure for a while.
AGAIN_TIMES = 20.0
AGAIN_SECONDS_MIN = 0.5
RETRY_SECONDS = 60.0
# Columns that were read this lately are kept up to date without a question.
ACTIVE_SECONDS = 300.0
CATCH_UP_SECONDS = 10.0
# What a row takes in a file before anything is known: its id, and its code in one column.
ID_BYTES = 16
CODE_BYTES = 4
# What a build may take of memory, and what a row takes of it: its id, and its value in one column.
BUILD_MEMORY_BYTES_MAX = 1 << 30
BUILD_ID_BYTES = 24
BUILD_VALUE_BYTES = 20


class ColumnMetrics(Protocol):
    """What columns count."""

    def observe_columns_build(self, seconds: float, *, ok: bool) -> None: ...

    def count_columns_dropped(self, reason: str) -> None: ...

    def count_columns_answer(self, mode: str, source: str) -> None: ...


class ColumnCache(Protocol):
    """The part of the document cache that columns need."""

    @property
    def keeps_columns(self) -> KeepsColumns | None: ...

    async def columns(self, namespace: str, seconds: float) -> NamespaceColumns | None: ...

    async def warmed_through(self, namespace: str, watermark_ms: int | None) -> int | None: ...


@dataclass(slots=True)
class Demand:
    """What questions asked of one namespace. Times are seconds of the monotonic clock."""

    schema: FilterSchema
    asked_at: float
    asks: dict[str, int] = field(default_factory=dict)
    not_before: float = float("-inf")
    """No build begins earlier."""
    left_out: frozenset[str] = frozenset()
    """Attributes that cannot have a column."""
    rows: int = 0
    """As many as the last build saw, or the cache holds."""

    def wanted(self) -> list[str]:
        """The attributes that are asked for often enough, those asked for most first."""
        often = [name for name, asks in self.asks.items() if asks >= ASKS_MIN and name not in self.left_out]
        return sorted(often, key=lambda name: -self.asks[name])[:COLUMNS_MAX]


@dataclass(frozen=True, slots=True)
class Drop:
    """Give up the columns of a namespace."""

    namespace: str
    reason: str


@dataclass(frozen=True, slots=True)
class Build:
    """Build columns of these attributes."""

    namespace: str
    attributes: tuple[str, ...]


Step: TypeAlias = Drop | Build


def plan_columns(
    files: Sequence[ColumnFile], demands: Mapping[str, Demand], now: float, now_ms: int, bytes_max: int
) -> list[Step]:
    """What to do next: at most one build, and before it what makes room for it. Pure.

    Args:
        now: seconds of the monotonic clock, as in the demands.
        now_ms: epoch milliseconds, as in the files.
    """
    held = {file.namespace: file for file in files}
    wanted = _next_build(held, demands, now, bytes_max)
    others = [file for file in files if wanted is None or file.namespace != wanted.namespace]
    unused = [file for file in others if now_ms - file.used_ms > UNUSED_MS_MAX]
    staying = [file for file in others if file not in unused]
    room = bytes_max - (0 if wanted is None else _size(wanted, held, demands))
    steps: list[Step] = [Drop(file.namespace, "unused") for file in unused]
    taken = sum(file.bytes for file in staying)
    for file in sorted(staying, key=lambda file: file.used_ms):
        if taken <= room:
            break
        steps.append(Drop(file.namespace, "budget"))
        taken -= file.bytes
    return steps if wanted is None else [*steps, wanted]


def _next_build(
    held: Mapping[str, ColumnFile], demands: Mapping[str, Demand], now: float, bytes_max: int
) -> Build | None:
    for namespace, demand in sorted(demands.items(), key=lambda item: -item[1].asked_at):
        file = held.get(namespace)
        rows = max(demand.rows, file.rows if file else 0)
        columns_max = columns_that_fit(rows)
        wanted = demand.wanted()[:columns_max]
        if not wanted or now < demand.not_before or rows < ROWS_MIN:
            continue
        if file is not None and set(wanted) <= set(file.columns) and not is_worn(file):
            continue
        build = Build(namespace, _attributes(wanted, file, columns_max))
        if _size(build, held, demands) > bytes_max:
            # What others asked for once goes before what is asked for now.
            build = Build(namespace, _attributes(wanted, None, columns_max))
        if _size(build, held, demands) <= bytes_max:
            return build
    return None


def columns_that_fit(rows: int) -> int:
    """How many columns beside the stamp's a build of so many rows has memory for."""
    bytes_of_row = BUILD_MEMORY_BYTES_MAX // max(1, rows)
    return min(COLUMNS_MAX, max(0, (bytes_of_row - BUILD_ID_BYTES) // BUILD_VALUE_BYTES - 1))


def _attributes(wanted: Iterable[str], file: ColumnFile | None, columns_max: int) -> tuple[str, ...]:
    kept = () if file is None else file.columns
    named = dict.fromkeys((STAMP_ATTRIBUTE, *wanted, *kept))
    return tuple(named)[: columns_max + 1]


def is_worn(file: ColumnFile) -> bool:
    """Whether so many rows changed that building anew pays."""
    changed = max(file.changed_rows, file.superseded_rows)
    return file.changed_bytes > CHANGED_BYTES_MAX or changed > max(CHANGED_ROWS_MIN, file.rows // CHANGED_SHARE)


def _size(build: Build, held: Mapping[str, ColumnFile], demands: Mapping[str, Demand]) -> int:
    """Bytes that a build will take, guessed from what is there."""
    file = held.get(build.namespace)
    rows = max(demands[build.namespace].rows, 0 if file is None else file.rows)
    guessed = rows * (ID_BYTES + CODE_BYTES * len(build.attributes))
    if file is None or not file.columns or not file.rows:
        return guessed
    return file.bytes * max(1, rows) * len(build.attributes) // (file.rows * len(file.columns))


class Columns:
    """Notes what is asked for, finds columns that can answer, and keeps them up in `run`."""

    def __init__(self, cache: ColumnCache, metrics: ColumnMetrics, clock: Clock, *, bytes_max: int) -> None:
        self._cache = cache
        self._metrics = metrics
        self._clock = clock
        self._bytes_max = bytes_max
        self._demands: OrderedDict[str, Demand] = OrderedDict()
        self._mistyped: set[str] = set()
        self._woken = asyncio.Event()
        self.files: tuple[ColumnFile, ...] = ()
        """As of the last upkeep."""

    @property
    def bytes_max(self) -> int:
        """The budget; 0: there are no columns."""
        return self._bytes_max if self._cache.keeps_columns is not None else 0

    async def find(
        self, namespace: str, attributes: frozenset[str], schema: FilterSchema, seconds: float
    ) -> NamespaceColumns | None:
        """Columns of all these attributes as of now; None: the rows have to be read.

        What is asked for is noted either way.
        """
        if not self.bytes_max:
            return None
        self._note(namespace, attributes, schema)
        held = await self._cache.columns(namespace, seconds)
        if held is None or not (attributes | {STAMP_ATTRIBUTE}) - {"id"} <= held.attributes:
            demand = self._demands[namespace]
            if self._clock.monotonic() >= demand.not_before and not attributes & demand.left_out:
                self._woken.set()
            return None
        return held

    def answered(self, mode: str, from_columns: bool) -> None:
        """One question was answered by the cache."""
        self._metrics.count_columns_answer(mode, "columns" if from_columns else "rows")

    def note_cold(self, namespace: str, attributes: frozenset[str], schema: FilterSchema) -> None:
        """A question that the cache could not answer yet: its attributes get columns as soon as it can."""
        if self.bytes_max:
            self._note(namespace, attributes, schema, asks=ASKS_MIN)

    def mistyped(self, namespace: str) -> None:
        """Its columns could not answer: they are of other types than its schema. They are given up, and built anew."""
        self._mistyped.add(namespace)
        self._woken.set()

    def forget(self, namespace: str) -> None:
        """The namespace was deleted or made anew. Its columns go with their epoch."""
        self._demands.pop(namespace, None)

    def _note(self, namespace: str, attributes: frozenset[str], schema: FilterSchema, asks: int = 1) -> None:
        now = self._clock.monotonic()
        demand = self._demands.get(namespace)
        if demand is None or now - demand.asked_at > FORGOTTEN_SECONDS:
            demand = self._demands[namespace] = Demand(schema, now)
        demand.schema, demand.asked_at = schema, now
        self._demands.move_to_end(namespace)
        if len(self._demands) > NAMESPACES_MAX:
            self._demands.popitem(last=False)
        # Also a question without attributes is answered from columns: it reads the stamp.
        for name in attributes | {STAMP_ATTRIBUTE}:
            if name != "id" and (name in demand.asks or len(demand.asks) < 4 * COLUMNS_MAX):
                demand.asks[name] = demand.asks.get(name, 0) + asks

    # --- upkeep ------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Builds and drops, again and again."""
        keeper = self._cache.keeps_columns
        if keeper is None:
            return
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(UPKEEP_SECONDS):
                    await self._woken.wait()
            self._woken.clear()
            try:
                await self.keep_up(keeper)
            except CacheUnavailableError as error:
                log.info("columns were not kept up", extra={"cause": error.message})
                if any(demand.wanted() for demand in self._demands.values()):
                    self._metrics.observe_columns_build(0.0, ok=False)
                await self._clock.sleep(UPKEEP_SECONDS)

    async def keep_up(self, keeper: KeepsColumns) -> None:
        """One round. Raises: CacheUnavailableError."""
        try:
            await keeper.tidy_columns()
        except CacheUnavailableError as error:
            # What cannot be tidied may be read all the same, and a build that fails as well is counted.
            log.info("columns were not tidied", extra={"cause": error.message})
        while self._mistyped:
            await self._drop(keeper, Drop(self._mistyped.pop(), "types"))
        await self._catch_up(await keeper.column_files())
        files = await keeper.column_files()
        await self._look_at_rows(keeper, files)
        for step in plan_columns(files, self._demands, self._clock.monotonic(), self._clock.now_ms(), self._bytes_max):
            if isinstance(step, Drop):
                await self._drop(keeper, step)
            else:
                await self._build(keeper, step)
        self.files = tuple(await keeper.column_files())

    async def _drop(self, keeper: KeepsColumns, step: Drop) -> None:
        await keeper.drop_columns(step.namespace)
        self._metrics.count_columns_dropped(step.reason)
        log.info("columns dropped", extra={"namespace": step.namespace, "reason": step.reason})

    async def _catch_up(self, files: Sequence[ColumnFile]) -> None:
        """Takes what changed in columns that are in use, so that the next question need not."""
        now = self._clock.monotonic()
        for file in files:
            demand = self._demands.get(file.namespace)
            if demand is not None and now - demand.asked_at < ACTIVE_SECONDS:
                await self._cache.columns(file.namespace, CATCH_UP_SECONDS)

    async def _look_at_rows(self, keeper: KeepsColumns, files: Sequence[ColumnFile]) -> None:
        """How many rows the cache holds of namespaces that wait for columns."""
        held = {file.namespace for file in files}
        for namespace, demand in self._demands.items():
            if namespace not in held and demand.wanted():
                complete = await self._cache.warmed_through(namespace, None) is not None
                demand.rows = await keeper.cached_rows(namespace) if complete else 0

    async def _build(self, keeper: KeepsColumns, step: Build) -> None:
        demand = self._demands.get(step.namespace)
        if demand is None or await self._cache.warmed_through(step.namespace, None) is None:
            return
        cancel = CancelFlag()
        started = self._clock.monotonic()
        demand.not_before = started + RETRY_SECONDS
        try:
            built = await keeper.build_columns(step.namespace, demand.schema, step.attributes, cancel)
        except asyncio.CancelledError:
            cancel.set()
            raise
        except CacheUnavailableError as error:
            self._metrics.observe_columns_build(self._clock.monotonic() - started, ok=False)
            log.warning("columns not built", extra={"namespace": step.namespace, "cause": error.message})
            return
        if built is None:
            demand.not_before = self._clock.monotonic() + UPKEEP_SECONDS
            return
        self._metrics.observe_columns_build(built.seconds, ok=True)
        demand.not_before = self._clock.monotonic() + max(AGAIN_SECONDS_MIN, AGAIN_TIMES * built.seconds)
        demand.rows, demand.left_out = built.rows, demand.left_out | frozenset(built.left_out)
        fields = {"namespace": step.namespace, "rows": built.rows, "bytes": built.bytes, "seconds": built.seconds}
        log.info("columns built", extra={**fields, "left_out": ",".join(built.left_out)})
        if built.bytes > self._bytes_max:
            demand.not_before = self._clock.monotonic() + FORGOTTEN_SECONDS
            await keeper.drop_columns(step.namespace)
            self._metrics.count_columns_dropped("budget")
