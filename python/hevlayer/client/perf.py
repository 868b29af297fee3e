"""What a call was like: `with_perf=True` gives it beside the data."""

from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from hevlayer.client.errors import RawAnswer, request_id_of, trace_id_of

DataT = TypeVar("DataT")

CACHE_HEADER = "x-layer-cache"
CONSISTENCY_HEADER = "x-layer-consistency"
SHARDS_HEADER = "x-layer-shards"
STABLE_AS_OF_HEADER = "x-layer-stable-as-of"
NEXT_CURSOR_HEADER = "x-layer-next-cursor"


@dataclass(frozen=True, slots=True)
class LayerPerf:
    """How a call went.

    Attributes:
        latency_ms: from the call to its last byte, retries and their pauses included.
        cache_status: of fetches, `hit`, `partial`, `miss` or `miss-on-error`.
        fallback: `turbopuffer_direct` when the gateway could not be reached and Turbopuffer answered instead.
        attempts: how many requests it took.
        consistency: of queries, `stable`, `filtered`, `eventual`, `upstream` or `stale-watermark`.
        stable_as_of: epoch milliseconds; every write up to then is in the answer.
        shards: how many legs the query went up as.
        next_cursor: where the next page begins.
        trace_id: of the W3C trace; ties fetches to the query that they follow.
        request_id: finds the request in the server's log.
    """

    latency_ms: float
    cache_status: str | None = None
    fallback: Literal["turbopuffer_direct"] | None = None
    attempts: int = 1
    consistency: str | None = None
    stable_as_of: int | None = None
    shards: int | None = None
    next_cursor: str | None = None
    trace_id: str | None = None
    request_id: str | None = None


@dataclass(frozen=True)
class LayerResponse(Generic[DataT]):
    """An answer and how the call went."""

    data: DataT
    perf: LayerPerf


def perf_of(answer: RawAnswer, *, latency_ms: float, attempts: int, direct: bool) -> LayerPerf:
    """Reads the headers of an answer."""
    headers = answer.headers
    return LayerPerf(
        latency_ms=latency_ms,
        cache_status=headers.get(CACHE_HEADER),
        fallback="turbopuffer_direct" if direct else None,
        attempts=attempts,
        consistency=headers.get(CONSISTENCY_HEADER),
        stable_as_of=_whole(headers.get(STABLE_AS_OF_HEADER)),
        shards=_whole(headers.get(SHARDS_HEADER)),
        next_cursor=headers.get(NEXT_CURSOR_HEADER),
        trace_id=trace_id_of(answer),
        request_id=request_id_of(answer),
    )


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() else None
