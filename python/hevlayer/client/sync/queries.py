"""Queries and counts."""

# Written by scripts/make_client.py from hevlayer/client/aio; change that, then run it again.

from collections.abc import Mapping, Sequence
from typing import Any, Literal, overload

from hevlayer.client import models
from hevlayer.client.api import OPERATIONS
from hevlayer.client.perf import LayerResponse
from hevlayer.client.sync.caller import Caller


class Queries(Caller):
    """Queries and counts."""

    @overload
    def query_namespace(
        self,
        namespace: str,
        body: models.QueryRequest | Mapping[str, Any],
        *,
        raw_query: str | None = None,
        tags: Sequence[str] | None = None,
        traceparent: str | None = None,
        with_perf: Literal[False] = False,
        timeout_seconds: float | None = None,
    ) -> models.QueryResponse: ...

    @overload
    def query_namespace(
        self,
        namespace: str,
        body: models.QueryRequest | Mapping[str, Any],
        *,
        raw_query: str | None = None,
        tags: Sequence[str] | None = None,
        traceparent: str | None = None,
        with_perf: Literal[True],
        timeout_seconds: float | None = None,
    ) -> LayerResponse[models.QueryResponse]: ...

    def query_namespace(
        self,
        namespace: str,
        body: models.QueryRequest | Mapping[str, Any],
        *,
        raw_query: str | None = None,
        tags: Sequence[str] | None = None,
        traceparent: str | None = None,
        with_perf: bool = False,
        timeout_seconds: float | None = None,
    ) -> models.QueryResponse | LayerResponse[models.QueryResponse]:
        """Searches a namespace: a native query, or the Layer dialect (`vector` or `nearest_to_id`, and `top_k`).

        `POST /v2/namespaces/{namespace}/query`

        Args:
            raw_query: what the person typed; goes into the search history.
            tags: labels for the record, without commas.
            traceparent: the W3C trace that this belongs to.
        """
        answer: LayerResponse[models.QueryResponse] = self._call(
            OPERATIONS["query_namespace"],
            path={"namespace": namespace},
            body=body,
            context={"raw_query": raw_query, "tags": tags, "traceparent": traceparent},
            timeout_seconds=timeout_seconds,
        )
        return answer if with_perf else answer.data

    @overload
    def batch_query_namespace(
        self,
        namespace: str,
        body: models.BatchQueryRequest | Mapping[str, Any],
        *,
        raw_query: str | None = None,
        tags: Sequence[str] | None = None,
        traceparent: str | None = None,
        with_perf: Literal[False] = False,
        timeout_seconds: float | None = None,
    ) -> models.BatchQueryResponse: ...

    @overload
    def batch_query_namespace(
        self,
        namespace: str,
        body: models.BatchQueryRequest | Mapping[str, Any],
        *,
        raw_query: str | None = None,
        tags: Sequence[str] | None = None,
        traceparent: str | None = None,
        with_perf: Literal[True],
        timeout_seconds: float | None = None,
    ) -> LayerResponse[models.BatchQueryResponse]: ...

    def batch_query_namespace(
        self,
        namespace: str,
        body: models.BatchQueryRequest | Mapping[str, Any],
        *,
        raw_query: str | None = None,
        tags: Sequence[str] | None = None,
        traceparent: str | None = None,
        with_perf: bool = False,
        timeout_seconds: float | None = None,
    ) -> models.BatchQueryResponse | LayerResponse[models.BatchQueryResponse]:
        """Asks up to 16 native queries that see the same data.

        `POST /v2/namespaces/{namespace}/query`

        Args:
            raw_query: what the person typed; goes into the search history.
            tags: labels for the record, without commas.
            traceparent: the W3C trace that this belongs to.
        """
        answer: LayerResponse[models.BatchQueryResponse] = self._call(
            OPERATIONS["batch_query_namespace"],
            path={"namespace": namespace},
            body=body,
            context={"raw_query": raw_query, "tags": tags, "traceparent": traceparent},
            timeout_seconds=timeout_seconds,
        )
        return answer if with_perf else answer.data

    @overload
    def query_turbopuffer_namespace(
        self,
        namespace: str,
        body: models.TurbopufferQueryRequest | Mapping[str, Any],
        *,
        raw_query: str | None = None,
        tags: Sequence[str] | None = None,
        traceparent: str | None = None,
        with_perf: Literal[False] = False,
        timeout_seconds: float | None = None,
    ) -> models.TurbopufferQueryResponse: ...

    @overload
    def query_turbopuffer_namespace(
        self,
        namespace: str,
        body: models.TurbopufferQueryRequest | Mapping[str, Any],
        *,
        raw_query: str | None = None,
        tags: Sequence[str] | None = None,
        traceparent: str | None = None,
        with_perf: Literal[True],
        timeout_seconds: float | None = None,
    ) -> LayerResponse[models.TurbopufferQueryResponse]: ...

    def query_turbopuffer_namespace(
        self,
        namespace: str,
        body: models.TurbopufferQueryRequest | Mapping[str, Any],
        *,
        raw_query: str | None = None,
        tags: Sequence[str] | None = None,
        traceparent: str | None = None,
        with_perf: bool = False,
        timeout_seconds: float | None = None,
    ) -> models.TurbopufferQueryResponse | LayerResponse[models.TurbopufferQueryResponse]:
        """Searches through the upstream's older route, without a watermark.

        `POST /v1/namespaces/{namespace}/query`

        Args:
            raw_query: what the person typed; goes into the search history.
            tags: labels for the record, without commas.
            traceparent: the W3C trace that this belongs to.
        """
        answer: LayerResponse[models.TurbopufferQueryResponse] = self._call(
            OPERATIONS["query_turbopuffer_namespace"],
            path={"namespace": namespace},
            body=body,
            context={"raw_query": raw_query, "tags": tags, "traceparent": traceparent},
            timeout_seconds=timeout_seconds,
        )
        return answer if with_perf else answer.data

    @overload
    def explain_turbopuffer_query(
        self,
        namespace: str,
        body: models.TurbopufferQueryRequest | Mapping[str, Any],
        *,
        with_perf: Literal[False] = False,
        timeout_seconds: float | None = None,
    ) -> models.TurbopufferExplainQueryResponse: ...

    @overload
    def explain_turbopuffer_query(
        self,
        namespace: str,
        body: models.TurbopufferQueryRequest | Mapping[str, Any],
        *,
        with_perf: Literal[True],
        timeout_seconds: float | None = None,
    ) -> LayerResponse[models.TurbopufferExplainQueryResponse]: ...

    def explain_turbopuffer_query(
        self,
        namespace: str,
        body: models.TurbopufferQueryRequest | Mapping[str, Any],
        *,
        with_perf: bool = False,
        timeout_seconds: float | None = None,
    ) -> models.TurbopufferExplainQueryResponse | LayerResponse[models.TurbopufferExplainQueryResponse]:
        """Tells how the upstream would carry a native query out.

        `POST /v2/namespaces/{namespace}/explain_query`
        """
        answer: LayerResponse[models.TurbopufferExplainQueryResponse] = self._call(
            OPERATIONS["explain_turbopuffer_query"],
            path={"namespace": namespace},
            body=body,
            timeout_seconds=timeout_seconds,
        )
        return answer if with_perf else answer.data

    @overload
    def evaluate_turbopuffer_recall(
        self,
        namespace: str,
        body: models.TurbopufferRecallRequest | Mapping[str, Any] | None = None,
        *,
        with_perf: Literal[False] = False,
        timeout_seconds: float | None = None,
    ) -> models.TurbopufferRecallResponse: ...

    @overload
    def evaluate_turbopuffer_recall(
        self,
        namespace: str,
        body: models.TurbopufferRecallRequest | Mapping[str, Any] | None = None,
        *,
        with_perf: Literal[True],
        timeout_seconds: float | None = None,
    ) -> LayerResponse[models.TurbopufferRecallResponse]: ...

    def evaluate_turbopuffer_recall(
        self,
        namespace: str,
        body: models.TurbopufferRecallRequest | Mapping[str, Any] | None = None,
        *,
        with_perf: bool = False,
        timeout_seconds: float | None = None,
    ) -> models.TurbopufferRecallResponse | LayerResponse[models.TurbopufferRecallResponse]:
        """Measures how many of the true nearest neighbours the index finds.

        `POST /v1/namespaces/{namespace}/_debug/recall`
        """
        answer: LayerResponse[models.TurbopufferRecallResponse] = self._call(
            OPERATIONS["evaluate_turbopuffer_recall"],
            path={"namespace": namespace},
            body=body,
            timeout_seconds=timeout_seconds,
        )
        return answer if with_perf else answer.data

    @overload
    def result_count(
        self,
        namespace: str,
        body: models.ResultCountRequest | Mapping[str, Any],
        *,
        with_perf: Literal[False] = False,
        timeout_seconds: float | None = None,
    ) -> models.ResultCountResponse: ...

    @overload
    def result_count(
        self,
        namespace: str,
        body: models.ResultCountRequest | Mapping[str, Any],
        *,
        with_perf: Literal[True],
        timeout_seconds: float | None = None,
    ) -> LayerResponse[models.ResultCountResponse]: ...

    def result_count(
        self,
        namespace: str,
        body: models.ResultCountRequest | Mapping[str, Any],
        *,
        with_perf: bool = False,
        timeout_seconds: float | None = None,
    ) -> models.ResultCountResponse | LayerResponse[models.ResultCountResponse]:
        """Counts the rows of a ranked query.

        `POST /v2/namespaces/{namespace}/result-count`
        """
        answer: LayerResponse[models.ResultCountResponse] = self._call(
            OPERATIONS["result_count"],
            path={"namespace": namespace},
            body=body,
            timeout_seconds=timeout_seconds,
        )
        return answer if with_perf else answer.data
