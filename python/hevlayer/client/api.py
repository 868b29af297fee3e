"""Every operation of the client, once. The methods of both classes are written from this table."""

from datetime import datetime
from typing import Any

from hevlayer.client import models
from hevlayer.client.operation import Direct, Operation, Param

_NS1 = "/v1/namespaces/{namespace}"
_NS2 = "/v2/namespaces/{namespace}"
_SEARCH = ("raw_query", "tags", "traceparent")
_FETCH = ("tags", "traceparent")

_PREFIX = Param("prefix", str, "only names that begin like this")
_CURSOR = Param("cursor", str, "`next_cursor` of the page before")
_PAGE_SIZE = Param("page_size", int, "names on a page, 1 to 1,000; 100 by default")
_NAMES = (_PREFIX, _CURSOR, _PAGE_SIZE)
_WARM_PAGE = Param("page_size", int, "rows of one upstream page, 1 to 10,000; chosen by their size by default")
_TAGS = Param("tags", list, "only what carries all of these", "tag")
_TRACE_ID = Param("trace_id", str, "only what belongs to this trace")
_TIMES = (
    Param("from_", datetime, "nothing older than this time, RFC 3339 if it is text", "from"),
    Param("to", datetime, "nothing younger"),
    Param("before", str, "`next_cursor` of the page before"),
    Param("limit", int, "at most so many; 50 by default, 500 at most"),
)
_PROMQL = Param("query", str, "PromQL")
_PROMQL_TIMEOUT = Param("timeout", str, "a Prometheus duration")
_INSTANT = (_PROMQL, Param("time", str, "RFC 3339 or Unix seconds"), _PROMQL_TIMEOUT)
_RANGE = (
    _PROMQL,
    Param("start", str, "RFC 3339 or Unix seconds"),
    Param("end", str, "RFC 3339 or Unix seconds"),
    Param("step", str, "a Prometheus duration, or seconds"),
    _PROMQL_TIMEOUT,
)

_QUERIES: tuple[Operation[Any], ...] = (
    Operation(
        "query_namespace",
        "POST",
        f"{_NS2}/query",
        models.QueryResponse,
        "Searches a namespace: a native query, or the Layer dialect (`vector` or `nearest_to_id`, and `top_k`).",
        "queries",
        body=models.QueryRequest,
        context=_SEARCH,
        direct=Direct.BY_BODY,
    ),
    Operation(
        "batch_query_namespace",
        "POST",
        f"{_NS2}/query",
        models.BatchQueryResponse,
        "Asks up to 16 native queries that see the same data.",
        "queries",
        body=models.BatchQueryRequest,
        context=_SEARCH,
        direct=Direct.BY_BODY,
        overload="multiQuery",
    ),
    Operation(
        "query_turbopuffer_namespace",
        "POST",
        f"{_NS1}/query",
        models.TurbopufferQueryResponse,
        "Searches through the upstream's older route, without a watermark.",
        "queries",
        body=models.TurbopufferQueryRequest,
        context=_SEARCH,
        direct=Direct.ALWAYS,
    ),
    Operation(
        "explain_turbopuffer_query",
        "POST",
        f"{_NS2}/explain_query",
        models.TurbopufferExplainQueryResponse,
        "Tells how the upstream would carry a native query out.",
        "queries",
        body=models.TurbopufferQueryRequest,
        direct=Direct.ALWAYS,
    ),
    Operation(
        "evaluate_turbopuffer_recall",
        "POST",
        f"{_NS1}/_debug/recall",
        models.TurbopufferRecallResponse,
        "Measures how many of the true nearest neighbours the index finds.",
        "queries",
        body=models.TurbopufferRecallRequest,
        body_optional=True,
        direct=Direct.ALWAYS,
    ),
    Operation(
        "result_count",
        "POST",
        f"{_NS2}/result-count",
        models.ResultCountResponse,
        "Counts the rows of a ranked query.",
        "queries",
        body=models.ResultCountRequest,
    ),
)

_WRITES: tuple[Operation[Any], ...] = (
    Operation(
        "write_namespace",
        "POST",
        _NS2,
        models.TurbopufferWriteResponse,
        "Writes documents: a native write, or the Layer dialect (`upserts`, `patches`, `deletes`).",
        "writes",
        body=models.TurbopufferWriteRequest,
        direct=Direct.BY_BODY,
    ),
    Operation(
        "copy_namespace",
        "POST",
        _NS2,
        models.TurbopufferWriteResponse,
        "Fills a new namespace with a copy of another one.",
        "writes",
        body=models.TurbopufferCopyFromRequest,
        repeatable=False,
        direct=Direct.ALWAYS,
        overload="copyFrom",
    ),
    Operation(
        "branch_namespace",
        "POST",
        _NS2,
        models.TurbopufferWriteResponse,
        "Makes a new namespace that shares what another one has now.",
        "writes",
        body=models.TurbopufferBranchFromRequest,
        repeatable=False,
        direct=Direct.ALWAYS,
        overload="branchFrom",
    ),
    Operation(
        "start_copy_namespace",
        "POST",
        f"{_NS2}/async",
        models.OperationStarted,
        "Starts a copy that goes on by itself; `get_operation` tells how far it is.",
        "writes",
        body=models.TurbopufferCopyFromRequest,
        repeatable=False,
        direct=Direct.ALWAYS,
        overload="startCopyFrom",
    ),
    Operation(
        "get_operation",
        "GET",
        f"{_NS1}/operations/{{token}}",
        models.OperationState,
        "Asks how far a long operation is.",
        "writes",
        direct=Direct.ALWAYS,
    ),
)

_NAMESPACES: tuple[Operation[Any], ...] = (
    Operation(
        "list_namespaces",
        "GET",
        "/v2/namespaces",
        models.NamespaceList,
        "Lists namespaces with what the gateway knows of each.",
        "namespaces",
        params=_NAMES,
    ),
    Operation(
        "list_turbopuffer_namespaces",
        "GET",
        "/v1/namespaces",
        models.TurbopufferNamespaceList,
        "Lists the names of namespaces, as the upstream does.",
        "namespaces",
        params=_NAMES,
        direct=Direct.ALWAYS,
    ),
    Operation(
        "get_namespace_metadata",
        "GET",
        f"{_NS2}/metadata",
        models.NamespaceMetadata,
        "Reads the upstream's metadata, and under `layer` what the gateway knows.",
        "namespaces",
    ),
    Operation(
        "get_turbopuffer_v1_namespace_metadata",
        "GET",
        f"{_NS1}/metadata",
        models.NamespaceMetadata,
        "Reads metadata through the upstream's older route.",
        "namespaces",
        direct=Direct.ALWAYS,
    ),
    Operation(
        "update_turbopuffer_namespace_metadata",
        "PATCH",
        f"{_NS1}/metadata",
        models.NamespaceMetadata,
        "Pins a namespace, unpins it, or makes it read-only.",
        "namespaces",
        body=models.TurbopufferMetadataPatch,
        direct=Direct.ALWAYS,
    ),
    Operation(
        "get_turbopuffer_namespace_schema",
        "GET",
        f"{_NS1}/schema",
        models.TurbopufferSchema,
        "Reads the schema: every attribute but the reserved ones.",
        "namespaces",
        direct=Direct.ALWAYS,
    ),
    Operation(
        "update_turbopuffer_namespace_schema",
        "POST",
        f"{_NS1}/schema",
        models.TurbopufferSchema,
        "Changes the schema and gives the whole new one.",
        "namespaces",
        body=models.TurbopufferSchema,
        direct=Direct.ALWAYS,
    ),
    Operation(
        "init_namespace",
        "POST",
        f"{_NS2}/init",
        models.InitNamespaceResponse,
        "Makes a namespace sharded, or tells its shards.",
        "namespaces",
        body=models.InitNamespaceRequest,
        body_optional=True,
    ),
    Operation(
        "delete_namespace",
        "DELETE",
        _NS2,
        models.StatusResponse,
        "Deletes a namespace, upstream first, then what the gateway keeps of it.",
        "namespaces",
        params=(Param("purge_history", bool, "what was recorded of its searches goes as well"),),
    ),
    Operation(
        "hint_cache_warm",
        "GET",
        f"{_NS1}/hint_cache_warm",
        models.HintCacheWarmResponse,
        "Says that the namespace will be queried soon.",
        "namespaces",
        params=(
            Param("turbopuffer", bool, "False leaves the upstream's caches alone"),
            Param("documents", bool, "False starts no warm of the document cache"),
            Param("snapshots", bool, "False leaves the latest snapshot where it is"),
            _WARM_PAGE,
        ),
    ),
)

_DOCUMENTS: tuple[Operation[Any], ...] = (
    Operation(
        "fetch_document",
        "GET",
        f"{_NS2}/documents/{{doc_id}}",
        models.Document,
        "Gives a document, from the document cache when it is there.",
        "documents",
        params=(Param("include_attributes", list, "these; all but vectors by default"),),
        context=_FETCH,
    ),
    Operation(
        "fetch_documents",
        "POST",
        f"{_NS2}/documents",
        models.FetchDocumentsResponse,
        "Gives up to 10,000 documents by their ids.",
        "documents",
        body=models.FetchDocumentsRequest,
        context=_FETCH,
    ),
)

_JOBS: tuple[Operation[Any], ...] = (
    Operation(
        "warm_cache",
        "POST",
        f"{_NS2}/warm",
        models.WarmJob,
        "Puts every row into the document cache. While one runs, a second call gives the same job.",
        "jobs",
        params=(_WARM_PAGE,),
    ),
    Operation(
        "list_warm_jobs",
        "GET",
        f"{_NS2}/warm-jobs",
        models.WarmJobList,
        "Lists a namespace's warms, newest first.",
        "jobs",
    ),
    Operation(
        "get_warm_job",
        "GET",
        f"{_NS2}/warm-jobs/{{job_id}}",
        models.WarmJob,
        "Asks how far a warm is.",
        "jobs",
    ),
    Operation(
        "delete_warm_job",
        "DELETE",
        f"{_NS2}/warm-jobs/{{job_id}}",
        models.StatusResponse,
        "Stops and forgets a warm. What it has put stays.",
        "jobs",
    ),
    Operation(
        "create_scan",
        "POST",
        f"{_NS2}/scans",
        models.ScanCountResponse | models.ScanJob,
        "Counts rows at once (mode `count`), or starts a job that lists their ids or counts an attribute's values.",
        "jobs",
        body=models.CreateScanRequest,
        body_optional=True,
        repeatable=False,
    ),
    Operation(
        "list_scans",
        "GET",
        f"{_NS2}/scans",
        models.ScanJobList,
        "Lists a namespace's scans, newest first.",
        "jobs",
    ),
    Operation(
        "get_scan",
        "GET",
        f"{_NS2}/scans/{{scan_id}}",
        models.ScanJob,
        "Asks how far a scan is.",
        "jobs",
    ),
    Operation(
        "get_scan_results",
        "GET",
        f"{_NS2}/scans/{{scan_id}}/results",
        models.ScanIdsResponse | models.ScanValuesResponse,
        "Reads a slice of a completed scan's results.",
        "jobs",
        params=(
            Param("limit", int, "1 to 10,000; 1,000 by default"),
            Param("offset", int, "how many to pass over"),
        ),
    ),
    Operation(
        "delete_scan",
        "DELETE",
        f"{_NS2}/scans/{{scan_id}}",
        models.StatusResponse,
        "Stops and forgets a scan and its results.",
        "jobs",
    ),
)

_SNAPSHOTS: tuple[Operation[Any], ...] = (
    Operation(
        "create_snapshot",
        "POST",
        f"{_NS2}/snapshots",
        models.SnapshotJob,
        "Starts a job that counts the values of an attribute.",
        "snapshots",
        body=models.CreateSnapshotRequest,
        repeatable=False,
    ),
    Operation(
        "list_snapshot_jobs",
        "GET",
        f"{_NS2}/snapshot-jobs",
        models.SnapshotJobList,
        "Lists a namespace's snapshot jobs, newest first.",
        "snapshots",
    ),
    Operation(
        "get_snapshot_job",
        "GET",
        f"{_NS2}/snapshot-jobs/{{job_id}}",
        models.SnapshotJob,
        "Asks how far a snapshot is.",
        "snapshots",
    ),
    Operation(
        "delete_snapshot_job",
        "DELETE",
        f"{_NS2}/snapshot-jobs/{{job_id}}",
        models.StatusResponse,
        "Stops and forgets a snapshot job. A snapshot that it has made stays.",
        "snapshots",
    ),
    Operation(
        "list_namespace_history",
        "GET",
        f"{_NS2}/history",
        list[models.SnapshotHistoryEntry],
        "Lists a namespace's stored snapshots, newest first.",
        "snapshots",
        params=(
            Param("limit", int, "at most so many; 50 by default, 500 at most"),
            Param("before", str, "only what is older than the snapshot with this SHA, whole or its first 7 characters"),
        ),
    ),
    Operation(
        "get_namespace_snapshot",
        "GET",
        f"{_NS2}/snapshots/{{sha}}",
        models.SnapshotBody,
        "Reads a snapshot by its SHA, whole or its first 7 characters.",
        "snapshots",
    ),
    Operation(
        "get_snapshot_policy",
        "GET",
        f"{_NS2}/snapshot-policy",
        models.SnapshotPolicy,
        "Reads which attributes are watched, how often, and how long snapshots are kept.",
        "snapshots",
    ),
    Operation(
        "put_snapshot_policy",
        "PUT",
        f"{_NS2}/snapshot-policy",
        models.SnapshotPolicy,
        "Sets which attributes are watched, how often, and how long snapshots are kept.",
        "snapshots",
        body=models.SnapshotPolicy,
    ),
    Operation(
        "list_snapshot_activity",
        "GET",
        "/v2/activity/snapshots",
        models.SnapshotActivityList,
        "Lists the snapshots that were written, of all namespaces.",
        "snapshots",
        params=(
            Param("since", int, "epoch milliseconds; nothing older"),
            Param("limit", int, "at most so many; 50 by default, 500 at most"),
            Param("namespace", str, "only this one"),
            _CURSOR,
        ),
    ),
)

_RECORDS: tuple[Operation[Any], ...] = (
    Operation(
        "list_search_history",
        "GET",
        f"{_NS2}/search-history",
        models.SearchHistoryListResponse,
        "Lists the queries that were served, newest first.",
        "records",
        params=(_TAGS, _TRACE_ID, *_TIMES),
    ),
    Operation(
        "list_clickstream",
        "GET",
        f"{_NS2}/clickstream",
        models.ClickstreamListResponse,
        "Lists the documents that were fetched with tags or a trace, newest first.",
        "records",
        params=(_TRACE_ID, _TAGS, *_TIMES),
    ),
)

_METRICS: tuple[Operation[Any], ...] = (
    Operation(
        "list_metrics_catalog",
        "GET",
        "/v2/metrics/catalog",
        models.MetricCatalog,
        "Lists every metric of the gateway.",
        "metrics",
        params=(Param("family", models.MetricFamily, "only this family"),),  # type: ignore[arg-type]
    ),
    Operation(
        "get_metric_catalog_entry",
        "GET",
        "/v2/metrics/catalog/{name}",
        models.MetricCatalogEntry,
        "Describes a metric.",
        "metrics",
    ),
    *(
        Operation(name, "GET", path, models.PrometheusResponse, summary, "metrics", params=params)
        for name, path, summary, params in (
            ("query_metrics", "/v2/metrics/query", "Asks the metrics store at one moment.", _INSTANT),
            ("query_metrics_api_v1", "/v2/metrics/api/v1/query", "`query_metrics` by its long path.", _INSTANT),
            ("query_metrics_range", "/v2/metrics/query_range", "Asks the metrics store over a range.", _RANGE),
            (
                "query_metrics_range_api_v1",
                "/v2/metrics/api/v1/query_range",
                "`query_metrics_range` by its long path.",
                _RANGE,
            ),
        )
    ),
    Operation("get_metrics", "GET", "/metrics", str, "Reads the Prometheus text exposition.", "metrics"),
    Operation("get_health", "GET", "/health", models.HealthResponse, "Asks whether the gateway answers.", "metrics"),
)

GROUPS: dict[str, tuple[str, tuple[Operation[Any], ...]]] = {
    "queries": ("Queries and counts.", _QUERIES),
    "writes": ("Writes, copies and branches.", _WRITES),
    "namespaces": ("Namespaces: lists, metadata, schema, shards.", _NAMESPACES),
    "documents": ("Documents by their ids.", _DOCUMENTS),
    "jobs": ("Warms and scans.", _JOBS),
    "snapshots": ("Snapshots of attributes' values.", _SNAPSHOTS),
    "records": ("What was searched and what was fetched.", _RECORDS),
    "metrics": ("Metrics, and the state of the process.", _METRICS),
}
"""What the module of each group is about, and its operations."""

OPERATIONS: dict[str, Operation[Any]] = {each.name: each for _, group in GROUPS.values() for each in group}
