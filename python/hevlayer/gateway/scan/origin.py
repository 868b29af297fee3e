"""Scans that the upstream answers: counts and values as aggregates, ids as pages."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hevlayer.clock import Clock
from hevlayer.errors import ValidationError
from hevlayer.gateway.consistency import NamespaceView
from hevlayer.gateway.permits import AGGREGATE_COST, BACKGROUND_PERMITS, QUERY_COST
from hevlayer.gateway.query.plan import Filtered, plan_read
from hevlayer.gateway.query.plan import Mode as ReadMode
from hevlayer.gateway.reads import Id, PageEnd, Reads, ReadTarget, RefusedReadError, Span, Walk, read_object
from hevlayer.gateway.scan import bodies
from hevlayer.gateway.scan.bodies import Cut, ValueCount, conditions
from hevlayer.gateway.scan.request import Filter, Selector, VectorSelector
from hevlayer.gateway.scan.results import IDS_MAX, ResultWriter
from hevlayer.gateway.scan.vector import LEG_ROWS_MAX, ReadLeg, Row, VectorSearch
from hevlayer.gateway.warm.pages import span_filters

PAGE_ROWS = 10_000
EVENTUAL: Mapping[str, object] = {"level": "eventual", "max_staleness_seconds": 1}
_TOO_MANY = 429
_REFUSED_STATUSES = frozenset({400, 422})
_OFF_LOOP_BYTES = 1 << 20

ReportPage = Callable[[float, int], None]
"""Told after each page: the share that is done, 0..1, and the rows found so far."""

MakeBody = Callable[[Cut, Filter | None], bytes]


@dataclass(frozen=True, slots=True)
class ReadPlan:
    """How a scan reads the upstream. `retry` is tried once in the place of `cut` when that is refused with 429."""

    cut: Cut
    retry: Cut | None = None


def plan_cut(view: NamespaceView, mode: ReadMode, now_ms: int, watermark_age_ms_max: int) -> ReadPlan:
    """The same rules as for a query without a consistency of its own."""
    read = plan_read(False, view, mode, now_ms, watermark_age_ms_max)
    if isinstance(read, Filtered):
        return ReadPlan(Cut(EVENTUAL, read.watermark_ms))
    retry = None if read.retry_watermark_ms is None else Cut(EVENTUAL, read.retry_watermark_ms)
    return ReadPlan(Cut(EVENTUAL if read.eventual else None), retry)


@dataclass(slots=True)
class Counted:
    """A count, or as much of it as there was time for."""

    count: int = 0
    bounded: bool = False
    timed_out: bool = False
    saturated: int = 0
    approximate: bool = False


class OriginScan:
    """One scan of one namespace. `target` says whose reads these are: a request's or a job's."""

    def __init__(
        self, reads: Reads, clock: Clock, target: ReadTarget, plan: ReadPlan, selector: Selector, filters: Filter | None
    ) -> None:
        self._reads = reads
        self._clock = clock
        self._target = target
        self._plan = plan
        self._selector = selector
        self._filters = filters

    @property
    def watermark_ms(self) -> int | None:
        """The stamp after which rows were hidden; None when none were."""
        return self._plan.cut.watermark_ms

    async def count(self, timeout_seconds: float, *, exhaustive: bool) -> Counted:
        """How many rows are selected, as far as the time allows.

        Raises: ValidationError: the upstream refuses the filter, or what else the caller chose. RefusedReadError: it
            answered another error. UpstreamError; PermitTimeoutError.
        """
        if isinstance(self._selector, VectorSelector):
            return await self._count_near(self._selector, timeout_seconds, exhaustive=exhaustive)
        try:
            async with asyncio.timeout(timeout_seconds):
                answer = await self._ask(lambda cut, where: bodies.count_body(where, cut), cost=AGGREGATE_COST)
        except TimeoutError:
            return Counted(bounded=True, timed_out=True)
        return Counted(bodies.read_count(answer))

    async def _count_near(self, selector: VectorSelector, timeout_seconds: float, *, exhaustive: bool) -> Counted:
        search = VectorSearch(self._read_leg(selector), selector.distance_max, exhaustive=exhaustive)
        timed_out = False
        try:
            async with asyncio.timeout(timeout_seconds):
                await search.run()
        except TimeoutError:
            timed_out = True
        tally = search.tally
        return Counted(tally.count, tally.bounded, timed_out, tally.saturated, approximate=True)

    async def values(self, field: str, *, is_array: bool) -> tuple[list[ValueCount], bool]:
        """The values of an attribute among the selected rows, and whether there are more than the upstream groups.

        Raises: as `count`.
        """
        if isinstance(self._selector, VectorSelector):
            return await self._values_near(self._selector, field)
        answer = await self._ask(
            lambda cut, where: bodies.values_body(field, is_array=is_array, condition=where, cut=cut),
            cost=AGGREGATE_COST,
        )
        return bodies.read_values(answer, field, is_array=is_array)

    async def _values_near(self, selector: VectorSelector, field: str) -> tuple[list[ValueCount], bool]:
        counts: dict[tuple[type, Any], int] = {}

        async def take(rows: Sequence[Row]) -> None:
            for row in rows:
                held = row.get(field)
                each = {(type(one), one) for one in (held if isinstance(held, list) else [held]) if one is not None}
                for value in each:
                    counts[value] = counts.get(value, 0) + 1

        search = VectorSearch(
            self._read_leg(selector, include=(field,)), selector.distance_max, exhaustive=True, take=take
        )
        await search.run()
        found = [ValueCount(value, count) for (_, value), count in counts.items()]
        return found[: bodies.GROUPS_MAX], len(found) > bodies.GROUPS_MAX

    async def ids(
        self, writer: ResultWriter, report: ReportPage, *, id_type: str, page_rows: int | None, readers: int
    ) -> bool:
        """Writes the ids of the selected rows. Returns: whether the limit on their number cut them off.

        Raises: as `count`; ObjectStoreError.
        """
        if isinstance(self._selector, VectorSelector):
            return await self._ids_near(self._selector, writer, report)
        rows = page_rows or PAGE_ROWS
        truncated = False

        async def read_page(span: Span) -> PageEnd:
            nonlocal truncated
            if writer.total >= IDS_MAX:
                truncated = True
                return PageEnd(0, None, None, more=False)
            answer = await self._ask(lambda cut, where: bodies.ids_body(rows, where, cut), span=span)
            ids = bodies.row_ids(bodies.read_rows(answer))
            await writer.add_ids(ids)
            if not ids:
                return PageEnd(0, None, None, more=False)
            return PageEnd(len(ids), ids[0], ids[-1], more=len(ids) >= rows)

        walk = Walk(
            read_page,
            self._highest,
            report,
            id_type=id_type,
            readers_max=min(readers, BACKGROUND_PERMITS),
        )
        await walk.run()
        report(1.0, walk.rows)
        return truncated

    async def _ids_near(self, selector: VectorSelector, writer: ResultWriter, report: ReportPage) -> bool:
        async def take(rows: Sequence[Row]) -> None:
            await writer.add_ids(sorted(bodies.row_ids(rows)))
            report(0.0, writer.total)

        search = VectorSearch(self._read_leg(selector), selector.distance_max, exhaustive=True, take=take)
        await search.run()
        return search.tally.bounded

    async def _highest(self) -> Id | None:
        answer = await self._ask(lambda cut, where: bodies.highest_body(where, cut))
        ids = bodies.row_ids(bodies.read_rows(answer))
        return ids[0] if ids else None

    def _read_leg(self, selector: VectorSelector, include: Sequence[str] = ()) -> ReadLeg:
        async def read(span: Span) -> Sequence[Row]:
            answer = await self._ask(
                lambda cut, where: bodies.vector_body(selector, LEG_ROWS_MAX, where, cut, include), span=span
            )
            return bodies.read_rows(answer)

        return read

    async def _ask(self, body: MakeBody, *, span: Span | None = None, cost: int = QUERY_COST) -> dict[str, Any]:
        bounds = [] if span is None else span_filters(span)

        async def send(cut: Cut) -> bytes:
            where = conditions(self._selector, self._filters, cut, *bounds)
            return await self._reads.query(self._target, body(cut, where), cost=cost)

        try:
            try:
                answer = await send(self._plan.cut)
            except RefusedReadError as refusal:
                if refusal.answered != _TOO_MANY or self._plan.retry is None:
                    raise
                # From here on the whole scan reads at one cut.
                self._plan = ReadPlan(self._plan.retry)
                answer = await send(self._plan.cut)
        except RefusedReadError as refusal:
            if refusal.answered in _REFUSED_STATUSES:
                raise ValidationError(refusal.message) from refusal
            raise
        return await asyncio.to_thread(read_object, answer) if len(answer) > _OFF_LOOP_BYTES else read_object(answer)
