"""Records what was served. A request pays for one append; everything else happens later, in small steps."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple, Protocol

from hevlayer.clock import Clock
from hevlayer.errors import ValidationError
from hevlayer.gateway.history.entry import WRITERS, Feed, Line, click_rest, search_rest
from hevlayer.gateway.history.summary import summarize_query, top_ids
from hevlayer.gateway.history.tags import TAGS_HEADER, header_tags
from hevlayer.gateway.history.writer import Writer
from hevlayer.gateway.router import RouteContext
from hevlayer.gateway.trail import ServedQuery

QUEUE_RECORDS_MAX = 20_000
QUEUE_BYTES_MAX = 32 << 20
DRAIN_SECONDS = 0.1
# Records written out in one step of the loop, so that requests wait for none of them longer than that.
STEP_RECORDS = 8
RAW_QUERY_BYTES_MAX = 8 << 10
SEARCH_QUERY_HEADER = b"x-hevlayer-search-query"
TRACEPARENT_HEADER = b"traceparent"


class RecorderMetrics(Protocol):
    """What recording counts."""

    def count_history(self, feed: str, outcome: str, records: int) -> None: ...


class _Search(NamedTuple):
    nanos: int
    context: RouteContext
    served: ServedQuery
    size: int


class _Click(NamedTuple):
    nanos: int
    context: RouteContext
    doc_ids: Sequence[str]
    served_from: str
    size: int


class Recorder:
    """The trail that ends in the feeds. Run `run` under a supervisor; `drain` before the writer stops."""

    def __init__(
        self,
        writer: Writer,
        clock: Clock,
        metrics: RecorderMetrics,
        *,
        writer_number: int,
        off: Collection[str] = (),
        now_nanos: Callable[[], int] = time.time_ns,
        queue_records_max: int = QUEUE_RECORDS_MAX,
        queue_bytes_max: int = QUEUE_BYTES_MAX,
    ) -> None:
        """
        Args:
            writer_number: in 0..999, of this process among the gateways; a random one will do.
            off: namespaces of which nothing is recorded.
        """
        self._writer = writer
        self._clock = clock
        self._metrics = metrics
        self._off = frozenset(off)
        self._now_nanos = now_nanos
        self._queue_records_max = queue_records_max
        self._queue_bytes_max = queue_bytes_max
        self._queue: deque[_Search | _Click] = deque()
        self._records = 0
        self._bytes = 0
        self._writer_number = writer_number
        # In steps of `WRITERS` nanoseconds.
        self._last_step = 0

    def queried(self, context: RouteContext, served: ServedQuery) -> None:
        body = served.answer.body
        size = len(served.body) + (0 if body is None else len(body))
        if self._is_taken(Feed.SEARCHES, context, 1, size):
            self._queue.append(_Search(self._next_nanos(1), context, served, size))

    def fetched(self, context: RouteContext, doc_ids: Sequence[str], served_from: str) -> None:
        request = context.request
        if request.header(TAGS_HEADER) is None and request.header(TRACEPARENT_HEADER) is None:
            return
        count = len(doc_ids)
        size = sum(map(len, doc_ids))
        if count and self._is_taken(Feed.CLICKS, context, count, size):
            self._queue.append(_Click(self._next_nanos(count), context, doc_ids, served_from, size))

    def _is_taken(self, feed: Feed, context: RouteContext, records: int, size: int) -> bool:
        if self._off and context.namespace in self._off:
            return False
        if self._records + records > self._queue_records_max or self._bytes + size > self._queue_bytes_max:
            self._metrics.count_history(feed.value, "dropped", records)
            return False
        self._records += records
        self._bytes += size
        return True

    def _next_nanos(self, count: int) -> int:
        """The first of `count` nanoseconds, `WRITERS` apart, that no other record has."""
        step = max(self._now_nanos() // WRITERS, self._last_step + 1)
        self._last_step = step + count - 1
        return step * WRITERS + self._writer_number

    # --- later -------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        while True:
            await self._clock.sleep(DRAIN_SECONDS)
            await self.drain()

    async def drain(self) -> None:
        """Writes out what is queued now, a few records at a time."""
        for number in range(len(self._queue)):
            if not self._queue:
                return
            self._write_out(self._queue.popleft())
            if number % STEP_RECORDS == STEP_RECORDS - 1:
                await asyncio.sleep(0)

    def settle(self, feed: Feed, namespace: str) -> None:
        """Writes out everything of a namespace, for a list that begins now."""
        if any(each.context.namespace == namespace for each in self._queue):
            while self._queue:
                self._write_out(self._queue.popleft())

    def _write_out(self, record: _Search | _Click) -> None:
        self._bytes -= record.size
        if isinstance(record, _Search):
            self._records -= 1
            self._write_search(record)
        else:
            self._records -= len(record.doc_ids)
            self._write_clicks(record)

    def _write_search(self, record: _Search) -> None:
        context, served = record.context, record.served
        raw = context.request.header(SEARCH_QUERY_HEADER)
        rest = search_rest(
            namespace=context.namespace,
            trace_id=context.trace_id,
            raw_query=None if raw is None else raw[:RAW_QUERY_BYTES_MAX].decode("utf-8", "replace"),
            stable_as_of_ms=served.stable_as_of_ms,
            query=summarize_query(served.body),
            top_result_ids=top_ids(served.answer.body, served.answer.header(b"content-encoding")),
            tags=_tags(context),
            scope=context.credential.scope.hex(),
        )
        self._writer.add(Feed.SEARCHES, context.namespace, Line(record.nanos, rest))

    def _write_clicks(self, record: _Click) -> None:
        context = record.context
        tags = _tags(context)
        for number, doc_id in enumerate(record.doc_ids):
            rest = click_rest(
                namespace=context.namespace,
                trace_id=context.trace_id,
                doc_id=doc_id,
                tags=tags,
                served_from=record.served_from,
                scope=context.credential.scope.hex(),
            )
            self._writer.add(Feed.CLICKS, context.namespace, Line(record.nanos + number * WRITERS, rest))


def _tags(context: RouteContext) -> tuple[str, ...]:
    try:
        return header_tags(context.request.header(TAGS_HEADER))
    except ValidationError:
        # Such a request is refused before it is served; a way around that must not stop the loop.
        return ()
