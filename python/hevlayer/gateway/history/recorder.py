"""Records what was served. A request pays for one append; everything else happens later, in small steps."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple, Protocol

from hevlayer.clock import Clock
from hevlayer.errors import ValidationError
from hevlayer.gateway.history.entry import WRITERS, Feed, Line, click_rest, search_rest
from hevlayer.gateway.history.summary import TOP_IDS_MAX, plain_answer, summarize_query, top_ids
from hevlayer.gateway.history.tags import TAGS_HEADER, header_tags
from hevlayer.gateway.history.writer import Writer
from hevlayer.gateway.router import RouteContext
from hevlayer.gateway.trail import ServedQuery
from hevlayer.kernels.http import RelayedQuery, ResponseHead

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


class _Fetched(NamedTuple):
    doc_ids: Sequence[str]
    served_from: str


# A nanosecond, the namespace, the finished record or what it is made from, and its bytes; a plain tuple, since a query
# pays for it.
_Queued = tuple[int, str, bytes | tuple[RouteContext, ServedQuery | _Fetched] | tuple[RelayedQuery, ResponseHead], int]


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
        self._queue: deque[_Queued] = deque()
        self._records = 0
        self._bytes = 0
        self._writer_number = writer_number
        # In steps of `WRITERS` nanoseconds.
        self._last_step = 0

    def queried(self, context: RouteContext, served: ServedQuery) -> None:
        body = served.answer.body
        size = len(served.body) if body is None else len(served.body) + len(body)
        if self._off and context.namespace in self._off:
            return
        if self._records >= self._queue_records_max or self._bytes + size > self._queue_bytes_max:
            self._metrics.count_history(Feed.SEARCHES.value, "dropped", 1)
            return
        self._records += 1
        self._bytes += size
        self._queue.append((self._next_nanos(1), context.namespace, (context, served), size))

    def relayed(self, namespace: str, query: RelayedQuery, answer: ResponseHead) -> None:
        """As `queried`, of a query that never became a request; its record is made here, while its bytes are at hand,
        and they need not be kept. A compressed answer is kept, and inflated later."""
        if self._off and namespace in self._off:
            return
        if self._records < self._queue_records_max:
            rest = query.record_at_once(answer, TOP_IDS_MAX)
            what = (query, answer) if rest is None else rest
            size = (query.head.length or 0) + len(answer.body or b"") if rest is None else len(rest)
            if self._bytes + size <= self._queue_bytes_max:
                self._records += 1
                self._bytes += size
                self._queue.append((self._next_nanos(1), namespace, what, size))
                return
        self._metrics.count_history(Feed.SEARCHES.value, "dropped", 1)

    def fetched(self, context: RouteContext, doc_ids: Sequence[str], served_from: str) -> None:
        request = context.request
        if request.header(TAGS_HEADER) is None and request.header(TRACEPARENT_HEADER) is None:
            return
        if self._off and context.namespace in self._off:
            return
        count = len(doc_ids)
        size = sum(map(len, doc_ids))
        if self._records + count > self._queue_records_max or self._bytes + size > self._queue_bytes_max:
            self._metrics.count_history(Feed.CLICKS.value, "dropped", count)
            return
        self._records += count
        self._bytes += size
        fetched = _Fetched(doc_ids, served_from)
        self._queue.append((self._next_nanos(count), context.namespace, (context, fetched), size))

    def _next_nanos(self, count: int) -> int:
        """The first of `count` nanoseconds, `WRITERS` apart, that no other record has."""
        step = self._now_nanos() // WRITERS
        if step <= self._last_step:
            step = self._last_step + 1
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
        if any(name == namespace for _, name, _, _ in self._queue):
            while self._queue:
                self._write_out(self._queue.popleft())

    def _write_out(self, queued: _Queued) -> None:
        nanos, namespace, what, size = queued
        self._bytes -= size
        if isinstance(what, bytes):
            self._records -= 1
            self._writer.add(Feed.SEARCHES, namespace, Line(nanos, what))
            return
        context, served = what
        if isinstance(context, RelayedQuery):
            assert isinstance(served, ResponseHead)
            self._records -= 1
            text = plain_answer(served.body, served.header(b"content-encoding"))
            self._writer.add(Feed.SEARCHES, namespace, Line(nanos, context.record(text, TOP_IDS_MAX)))
            return
        assert not isinstance(served, ResponseHead)
        if isinstance(served, _Fetched):
            self._records -= len(served.doc_ids)
            self._write_clicks(nanos, context, served)
        else:
            self._records -= 1
            self._write_search(nanos, context, served)

    def _write_search(self, nanos: int, context: RouteContext, served: ServedQuery) -> None:
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
        self._writer.add(Feed.SEARCHES, context.namespace, Line(nanos, rest))

    def _write_clicks(self, nanos: int, context: RouteContext, served: _Fetched) -> None:
        tags = _tags(context)
        for number, doc_id in enumerate(served.doc_ids):
            rest = click_rest(
                namespace=context.namespace,
                trace_id=context.trace_id,
                doc_id=doc_id,
                tags=tags,
                served_from=served.served_from,
                scope=context.credential.scope.hex(),
            )
            self._writer.add(Feed.CLICKS, context.namespace, Line(nanos + number * WRITERS, rest))


def _tags(context: RouteContext) -> tuple[str, ...]:
    try:
        return header_tags(context.request.header_values(TAGS_HEADER))
    except ValidationError:
        # Such a request is refused before it is served; a way around that must not stop the loop.
        return ()
