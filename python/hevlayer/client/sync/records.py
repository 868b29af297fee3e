"""What was searched and what was fetched."""

# Written by scripts/make_client.py from hevlayer/client/aio; change that, then run it again.

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, overload

from hevlayer.client import models
from hevlayer.client.api import OPERATIONS
from hevlayer.client.perf import LayerResponse
from hevlayer.client.sync.caller import Caller


class Records(Caller):
    """What was searched and what was fetched."""

    @overload
    def list_search_history(
        self,
        namespace: str,
        *,
        tags: Sequence[str] | None = None,
        trace_id: str | None = None,
        from_: str | datetime | None = None,
        to: str | datetime | None = None,
        before: str | None = None,
        limit: int | None = None,
        with_perf: Literal[False] = False,
        timeout_seconds: float | None = None,
    ) -> models.SearchHistoryListResponse: ...

    @overload
    def list_search_history(
        self,
        namespace: str,
        *,
        tags: Sequence[str] | None = None,
        trace_id: str | None = None,
        from_: str | datetime | None = None,
        to: str | datetime | None = None,
        before: str | None = None,
        limit: int | None = None,
        with_perf: Literal[True],
        timeout_seconds: float | None = None,
    ) -> LayerResponse[models.SearchHistoryListResponse]: ...

    def list_search_history(
        self,
        namespace: str,
        *,
        tags: Sequence[str] | None = None,
        trace_id: str | None = None,
        from_: str | datetime | None = None,
        to: str | datetime | None = None,
        before: str | None = None,
        limit: int | None = None,
        with_perf: bool = False,
        timeout_seconds: float | None = None,
    ) -> models.SearchHistoryListResponse | LayerResponse[models.SearchHistoryListResponse]:
        """Lists the queries that were served, newest first.

        `GET /v2/namespaces/{namespace}/search-history`

        Args:
            tags: only what carries all of these.
            trace_id: only what belongs to this trace.
            from_: nothing older than this time, RFC 3339 if it is text.
            to: nothing younger.
            before: `next_cursor` of the page before.
            limit: at most so many; 50 by default, 500 at most.
        """
        answer: LayerResponse[models.SearchHistoryListResponse] = self._call(
            OPERATIONS["list_search_history"],
            path={"namespace": namespace},
            query={"tags": tags, "trace_id": trace_id, "from_": from_, "to": to, "before": before, "limit": limit},
            timeout_seconds=timeout_seconds,
        )
        return answer if with_perf else answer.data

    @overload
    def list_clickstream(
        self,
        namespace: str,
        *,
        trace_id: str | None = None,
        tags: Sequence[str] | None = None,
        from_: str | datetime | None = None,
        to: str | datetime | None = None,
        before: str | None = None,
        limit: int | None = None,
        with_perf: Literal[False] = False,
        timeout_seconds: float | None = None,
    ) -> models.ClickstreamListResponse: ...

    @overload
    def list_clickstream(
        self,
        namespace: str,
        *,
        trace_id: str | None = None,
        tags: Sequence[str] | None = None,
        from_: str | datetime | None = None,
        to: str | datetime | None = None,
        before: str | None = None,
        limit: int | None = None,
        with_perf: Literal[True],
        timeout_seconds: float | None = None,
    ) -> LayerResponse[models.ClickstreamListResponse]: ...

    def list_clickstream(
        self,
        namespace: str,
        *,
        trace_id: str | None = None,
        tags: Sequence[str] | None = None,
        from_: str | datetime | None = None,
        to: str | datetime | None = None,
        before: str | None = None,
        limit: int | None = None,
        with_perf: bool = False,
        timeout_seconds: float | None = None,
    ) -> models.ClickstreamListResponse | LayerResponse[models.ClickstreamListResponse]:
        """Lists the documents that were fetched with tags or a trace, newest first.

        `GET /v2/namespaces/{namespace}/clickstream`

        Args:
            trace_id: only what belongs to this trace.
            tags: only what carries all of these.
            from_: nothing older than this time, RFC 3339 if it is text.
            to: nothing younger.
            before: `next_cursor` of the page before.
            limit: at most so many; 50 by default, 500 at most.
        """
        answer: LayerResponse[models.ClickstreamListResponse] = self._call(
            OPERATIONS["list_clickstream"],
            path={"namespace": namespace},
            query={"trace_id": trace_id, "tags": tags, "from_": from_, "to": to, "before": before, "limit": limit},
            timeout_seconds=timeout_seconds,
        )
        return answer if with_perf else answer.data
