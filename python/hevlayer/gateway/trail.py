"""Who is told of served queries and fetches.

One call an answer, made where the answer is handed to the server, in the quick ways and the general ways alike. The
call happens on the request's own time: it keeps the facts and returns, and reads what it needs of them (headers of the
request, rows of the answer) later, in bounded number. It must not raise.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from hevlayer.gateway.router import RouteContext
from hevlayer.kernels.splice import QueryScan
from hevlayer.stores.turbopuffer import Answer

FROM_CACHE = "cache"
FROM_UPSTREAM = "upstream"


class ServedQuery(NamedTuple):
    """A query that was answered with 200.

    `body` is the query as the caller meant it, inflated; `scan` is what was read in it. On the older route, which is
    relayed unread, `scan` is None and `body` is as it came. `answer` is the upstream's, after what we changed in its
    rows: its `body` is None when it is streamed and may be compressed (`content-encoding`). `stable_as_of_ms` is the
    watermark that the caller was told, if any.
    """

    scan: QueryScan | None
    body: bytes
    answer: Answer
    stable_as_of_ms: int | None


class Trail(Protocol):
    """What keeps a record of what was served. The context has the namespace, trace id, request and times."""

    def queried(self, context: RouteContext, served: ServedQuery) -> None:
        """A query was answered with 200."""

    def fetched(self, context: RouteContext, doc_ids: Sequence[str], served_from: str) -> None:
        """Documents were given, by their ids as the caller spelled them, from `FROM_CACHE` or `FROM_UPSTREAM`."""
