"""One line of a feed: what is written, and what a list reads of it.

A line is a JSON object whose first members are its times, so that a record can be given another nanosecond without
being written anew.
"""

import functools
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from enum import Enum

import msgspec
import orjson

from hevlayer.wire.bodies import UNREADABLE_JSON
from hevlayer.wire.names import encode_name

NANOS_PER_MS = 1_000_000
NANOS_PER_SECOND = 1_000_000_000
NANOS_PER_DAY = 86_400 * NANOS_PER_SECOND
NANOS_DIGITS = 19
# The last digits of a nanosecond tell the gateway that gave it.
WRITERS = 1_000
# Lines of one object are not further apart; a list looks back so far for objects that reach a moment.
SPAN_NANOS = 300 * NANOS_PER_SECOND
_SUFFIX = ".jsonl"
SOURCE_FETCH = "fetch"


class Feed(Enum):
    """A kind of record; the value is the first part of its object keys."""

    SEARCHES = "search-history"
    CLICKS = "clickstream"


def prefix_of(feed: Feed, namespace: str) -> str:
    """What the keys of a namespace's objects start with; they sort by time."""
    return f"{feed.value}/{encode_name(namespace)}/"


def object_name(feed: Feed, namespace: str, nanos: int) -> str:
    """`search-history/{namespace}/{YYYY-MM-DD}/{timestamp_nanos}.jsonl`."""
    return f"{prefix_of(feed, namespace)}{day_of(nanos)}/{nanos:0{NANOS_DIGITS}}{_SUFFIX}"


def read_name(name: str) -> int:
    """The nanosecond in an object's name; 0: the object is not ours, and lies where nobody looks."""
    digits = name.rpartition("/")[2].removesuffix(_SUFFIX)
    return int(digits) if len(digits) == NANOS_DIGITS and digits.isascii() and digits.isdigit() else 0


def writer_of(nanos: int) -> int:
    """Which of the gateways gave it."""
    return nanos % WRITERS


@functools.lru_cache(maxsize=16)
def _second(seconds: int) -> bytes:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}".encode()


class Line(msgspec.Struct, frozen=True):
    """A record as it is written. `rest` is its JSON text after the times, from the comma on."""

    nanos: int
    rest: bytes

    def text(self) -> bytes:
        moment = _second(self.nanos // NANOS_PER_SECOND)
        thousandth = self.nanos // NANOS_PER_MS % 1000
        return b'{"timestamp":"%b.%03dZ","timestamp_nanos":%d%b' % (moment, thousandth, self.nanos, self.rest)


class _Facts(msgspec.Struct):
    timestamp_nanos: int
    tags: list[str] = []
    trace_id: str = ""
    scope: str = ""


_FACTS = msgspec.json.Decoder(_Facts)
# The last member, since no caller's text can hold an unescaped quote; it is not told.
_SCOPE = re.compile(rb',"scope":"[0-9a-f]*"\}$')


class Entry(msgspec.Struct, frozen=True):
    """A record as a list sees it; `told` is its JSON text for callers."""

    nanos: int
    tags: frozenset[str]
    trace_id: str
    scope: str
    told: bytes


def read_entry(line: bytes) -> Entry | None:
    """None: not a record of ours; somebody wrote something else into the bucket."""
    try:
        facts = _FACTS.decode(line)
    except UNREADABLE_JSON:
        return None
    told = _SCOPE.sub(b"}", line) if facts.scope else line
    return Entry(facts.timestamp_nanos, frozenset(facts.tags), facts.trace_id, facts.scope, told)


def search_rest(
    *,
    namespace: str,
    trace_id: str,
    raw_query: str | None,
    stable_as_of_ms: int | None,
    query: orjson.Fragment,
    top_result_ids: orjson.Fragment,
    tags: Sequence[str],
    scope: str,
) -> bytes:
    """A search's members after its times."""
    members: dict[str, object] = {"namespace": printable(namespace), "trace_id": trace_id}
    if raw_query is not None:
        members["raw_query"] = raw_query
    if stable_as_of_ms is not None:
        members["stable_as_of"] = stable_as_of_ms
    return _rest({**members, "query": query, "top_result_ids": top_result_ids, "tags": tags}, scope)


def click_rest(
    *, namespace: str, trace_id: str, doc_id: str, tags: Sequence[str], served_from: str, scope: str
) -> bytes:
    """A fetch's members after its times."""
    members: dict[str, object] = {
        "trace_id": trace_id,
        "namespace": printable(namespace),
        "doc_id": printable(doc_id),
        "tags": tags,
        "source": SOURCE_FETCH,
        "served_from": served_from,
    }
    return _rest(members, scope)


def _rest(members: dict[str, object], scope: str) -> bytes:
    return b"," + orjson.dumps({**members, "scope": scope} if scope else members)[1:]


def printable(text: str) -> str:
    """Without lone surrogates, which JSON text in UTF-8 cannot hold."""
    return text.encode("utf-8", "replace").decode()


def day_of(nanos: int) -> str:
    """`2026-05-22`, in UTC."""
    return _day(nanos // NANOS_PER_DAY)


@functools.lru_cache(maxsize=64)
def _day(days: int) -> str:
    return f"{datetime.fromtimestamp(days * 86_400, UTC):%Y-%m-%d}"
