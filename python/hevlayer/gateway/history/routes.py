"""GET …/search-history and …/clickstream: the feeds of a namespace, newest first."""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Protocol

import msgspec

from hevlayer.errors import ValidationError
from hevlayer.gateway.history.entry import NANOS_DIGITS, NANOS_PER_SECOND, Feed
from hevlayer.gateway.history.reader import NANOS_MAX, Page, Reader, Wanted
from hevlayer.gateway.history.tags import TAG_PARAMETER, parse_tags
from hevlayer.gateway.router import RouteContext
from hevlayer.http.messages import Response
from hevlayer.wire.bodies import JSON_CONTENT_TYPE

LIMIT = 50
LIMIT_MAX = 500
_MEMBER = {Feed.SEARCHES: "entries", Feed.CLICKS: "events"}
_RFC3339 = re.compile(
    r"(\d{4}-\d{2}-\d{2})[Tt ](\d{2}:\d{2}:\d{2})(?:\.(\d{1,9})\d*)?"
    r"(?:[Zz]|([+\- ])([01]\d|2[0-3]):([0-5]\d))",
    re.ASCII,
)
# A trace id as W3C writes it, or with the hyphens of a UUID.
_TRACE_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Settling(Protocol):
    """What is recorded later."""

    def settle(self, feed: Feed, namespace: str) -> None:
        """Writes out what is recorded of a namespace so far."""


IdTypes = Callable[[str, bytes], str | None]
"""A namespace's id type under a scope, when it is known."""


def read_moment(text: str, field: str) -> int:
    """Nanoseconds since 1970 of an RFC 3339 time. Raises: ValidationError."""
    found = _RFC3339.fullmatch(text)
    if found is not None:
        day, clock, fraction, sign, hours, minutes = found.groups()
        try:
            moment = datetime.fromisoformat(f"{day}T{clock}+00:00")
            if sign is not None:
                # A plus sign that was not percent-encoded arrives as a space.
                offset = timedelta(hours=int(hours), minutes=int(minutes))
                moment = moment + offset if sign == "-" else moment - offset
        except (ValueError, OverflowError):
            found = None
        else:
            since = moment - _EPOCH
            seconds = since.days * 86_400 + since.seconds
            nanos = seconds * NANOS_PER_SECOND + int((fraction or "").ljust(9, "0"))
            return int(max(0, min(nanos, NANOS_MAX)))
    raise ValidationError(f"{field} must be an RFC 3339 time such as 2026-05-22T08:00:00Z")


def read_wanted(feed: Feed, namespace: str, scope: str, parameters: Mapping[str, str]) -> Wanted:
    """What a list asks for. An empty parameter counts as one that is not there.

    Raises: ValidationError: a parameter breaks a rule.
    """
    given = {name: value for name, value in parameters.items() if value}
    start = read_moment(given["from"], "from") if "from" in given else 0
    # The moment itself is within the bounds.
    until = read_moment(given["to"], "to") + 1 if "to" in given else NANOS_MAX
    if start >= until:
        raise ValidationError("from must not be later than to")
    if "before" in given:
        until = min(until, _digits(given["before"], "before", "the next_cursor of a list, or a timestamp_nanos"))
    limit = (
        _digits(given["limit"], "limit", f"an integer of at least 1; at most {LIMIT_MAX} are given")
        if ("limit" in given)
        else LIMIT
    )
    if limit < 1:
        raise ValidationError(f"limit must be an integer of at least 1; at most {LIMIT_MAX} are given")
    trace_id = given.get("trace_id", "").replace("-", "").lower()
    if trace_id and _TRACE_ID.fullmatch(trace_id) is None:
        raise ValidationError("trace_id must be 32 hexadecimal digits")
    return Wanted(
        feed,
        namespace,
        frozenset(parse_tags(given.get(TAG_PARAMETER, ""), TAG_PARAMETER)),
        trace_id,
        start,
        max(until, start),
        min(limit, LIMIT_MAX),
        scope,
    )


def _digits(text: str, field: str, rule: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= NANOS_DIGITS):
        raise ValidationError(f"{field} must be {rule}")
    return int(text)


def render_page(feed: Feed, page: Page, id_type: str | None) -> bytes:
    """The answer's JSON text: the lines as they were written."""
    told = b",".join([entry.told for entry in page.entries])
    more = b"null" if page.next_nanos is None else b'"%d"' % page.next_nanos
    kind = b"" if id_type is None else b',"id_type":' + msgspec.json.encode(id_type)
    return b'{"%b":[%b],"next_cursor":%b%b}' % (_MEMBER[feed].encode(), told, more, kind)


class HistoryRoutes:
    """The two lists."""

    def __init__(self, reader: Reader, settling: Settling, id_types: IdTypes) -> None:
        self._reader = reader
        self._settling = settling
        self._id_types = id_types

    async def list_search_history(self, context: RouteContext) -> Response:
        return await self._list(context, Feed.SEARCHES)

    async def list_clickstream(self, context: RouteContext) -> Response:
        return await self._list(context, Feed.CLICKS)

    async def _list(self, context: RouteContext, feed: Feed) -> Response:
        scope = context.credential.scope
        parameters = context.query_parameters()
        if TAG_PARAMETER in parameters:
            # Repeated, it is one list: a filter that was sent must not be lost.
            parameters[TAG_PARAMETER] = ",".join(context.query_values(TAG_PARAMETER))
        wanted = read_wanted(feed, context.namespace, scope.hex(), parameters)
        self._settling.settle(feed, context.namespace)
        page = await self._reader.page(wanted)
        id_type = self._id_types(context.namespace, scope)
        return Response(200, [JSON_CONTENT_TYPE], render_page(feed, page, id_type))
