"""What each operation takes and answers. `document` puts this beside the route table."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hevlayer.gateway.openapi.answers import (
    ANYWHERE,
    CACHE,
    CONSISTENCY,
    ETAG,
    JSON,
    NOT_MODIFIED,
    STABLE_AS_OF,
    TEXT,
    TRACE,
    UPSTREAM,
    refusals,
    response,
)
from hevlayer.gateway.openapi.shapes import Schema, boolean, integer, ref, string, words
from hevlayer.metrics.catalog import FAMILIES

_FORM = "application/x-www-form-urlencoded"
_QUERIES, _WRITES, _NAMESPACES = "Queries", "Writes", "Namespaces"
_JOBS, _HISTORY = "Jobs", "History"
_DOCUMENTS, _DEBUG, _PROCESS, _METRICS = "Documents", "Older routes and debugging", "Process", "Metrics"


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation. `statuses` are its own error statuses; `relayed`: some of them may be the upstream's.

    `body` is a schema by media type; `answers` are response objects by success status, whose headers are filled in.
    """

    summary: str
    tag: str
    answers: Mapping[int, Any]
    statuses: tuple[int, ...] = UPSTREAM
    relayed: bool = True
    parameters: tuple[Any, ...] = ()
    body: Mapping[str, Schema] = field(default_factory=dict)
    body_required: bool = True
    text: str = ""

    def responses(self) -> dict[str, Any]:
        """Every response by status, those that any route may give included."""
        answers = {str(status): _traced(answer) for status, answer in self.answers.items()}
        errors = refusals(*{*self.statuses, *ANYWHERE}, relayed=self.relayed)
        return {**answers, **errors}


def _traced(answer: Any) -> Any:
    return {**answer, "headers": {**answer.get("headers", {}), **TRACE}}


def _json(name: str) -> Mapping[str, Schema]:
    return {JSON: ref(name)}


def _ok(name: str, text: str = "As asked.", headers: Mapping[str, Any] | None = None) -> dict[int, Any]:
    return {200: response(text, _json(name), headers)}


def _query_parameter(name: str, schema: Schema, text: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "description": text, "schema": schema}


_PREFER = {
    "name": "Prefer",
    "in": "header",
    "required": False,
    "description": "`respond-async` allows the upstream to answer 202 and go on by itself.",
    "schema": {"type": "string", "enum": ["respond-async"]},
}
_OVERLOAD = _query_parameter("stainless_overload", string(), "Sent by clients and ignored: the body decides.")
_INCLUDE = _query_parameter(
    "include_attributes",
    string(maxLength=8_192),
    "Names joined by commas. Without it all attributes but vectors; vectors come only when they are named.",
)
_PAGE = (
    _query_parameter("prefix", string(), "Only names that begin like this."),
    _query_parameter("cursor", string(), "`next_cursor` of the page before."),
    _query_parameter("page_size", integer(minimum=1, maximum=1_000), "Names on a page; 100 by default."),
)
_WARM_PAGE = _query_parameter(
    "page_size", integer(minimum=1, maximum=10_000), "Rows of one page; chosen by their size when it is not given."
)
_HISTORY_PARAMETERS = (
    _query_parameter("tag", string(), "Tags, separated by commas; only what carries all of them."),
    _query_parameter("trace_id", string(), "Only what belongs to this trace."),
    _query_parameter("from", string(format="date-time"), "Nothing older."),
    _query_parameter("to", string(format="date-time"), "Nothing younger."),
    _query_parameter("before", string(), "`next_cursor` of the page before: only what is strictly older."),
    _query_parameter("limit", integer(minimum=1), "At most so many; 50 by default, 500 at most."),
)
_STEPS = tuple(
    _query_parameter(name, boolean(), f"`false` switches the {name} step off.")
    for name in ("turbopuffer", "documents", "snapshots")
)
_IF_NONE_MATCH = {
    "name": "if-none-match",
    "in": "header",
    "description": "ETags that the caller holds.",
    "schema": string(),
}
_PROMQL_PARAMETERS = tuple(
    _query_parameter(name, string(), text)
    for name, text in (("query", "PromQL."), ("time", "Of an instant query."), ("timeout", "A duration."))
)
_RANGE_PARAMETERS = (
    _PROMQL_PARAMETERS[0],
    _PROMQL_PARAMETERS[2],
    *(_query_parameter(name, string(), f"The range's {name}.") for name in ("start", "end", "step")),
)

_ACCEPTED = response(
    "Accepted; poll the operation at `Location`.",
    _json("OperationStarted"),
    {
        "Location": {"description": "A path of this gateway.", "schema": string()},
        "Preference-Applied": {"description": "`respond-async`.", "schema": string()},
    },
)
_QUERY_HEADERS = {"x-layer-consistency": CONSISTENCY, "x-layer-stable-as-of": STABLE_AS_OF}
_WRITE_STATUSES = (*UPSTREAM, 413, 422)
_OWN_READ_STATUSES = (*UPSTREAM, 422)


def _promql(summary: str, parameters: tuple[Any, ...], *, form: bool) -> Operation:
    return Operation(
        summary,
        _METRICS,
        _ok("PromqlAnswer", "The metrics store's answer."),
        (401, 404, 422, 502, 504, *((413,) if form else ())),
        parameters=parameters,
        body={_FORM: ref("PromqlForm")} if form else {},
        body_required=False,
        text="Passed to the server of `METRICS_BACKEND_URL` as it is; 503 while that is not set. Errors have "
        "Prometheus's shape.",
    )


def _legacy(summary: str, answer: Mapping[int, Any], **more: Any) -> Operation:
    return Operation(summary, _DEBUG, answer, (*UPSTREAM, 405, *more.pop("also", ())), **more)


def _history(summary: str, name: str) -> Operation:
    return Operation(
        summary,
        _HISTORY,
        _ok(name, "Newest first."),
        _OWN_READ_STATUSES,
        parameters=_HISTORY_PARAMETERS,
        text="A page may hold fewer than asked for and still have a `next_cursor`.",
    )


OPERATIONS: dict[str, Operation] = {
    "query": Operation(
        "Query a namespace",
        _QUERIES,
        _ok("QueryAnswer", "The documents or aggregates.", _QUERY_HEADERS),
        (*UPSTREAM, 413, 422),
        parameters=(_OVERLOAD,),
        body=_json("QueryRequest"),
        text="Any native query, several at once, or the Layer dialect. Rows are in the upstream's order.",
    ),
    "query_v1": Operation(
        "Query, older route",
        _QUERIES,
        _ok("LegacyQueryAnswer"),
        (*UPSTREAM, 413, 422),
        body=_json("LegacyQuery"),
        text="Relayed untouched: no watermark.",
    ),
    "explain_query": Operation(
        "Explain a query",
        _QUERIES,
        _ok("ExplainAnswer", "The upstream's plan."),
        (*UPSTREAM, 413, 422),
        body=_json("QueryRequest"),
    ),
    "recall": Operation(
        "Measure recall",
        _QUERIES,
        {**_ok("RecallAnswer"), 202: _ACCEPTED},
        (*UPSTREAM, 413, 422),
        parameters=(_PREFER,),
        body=_json("RecallRequest"),
        body_required=False,
    ),
    "write": Operation(
        "Write documents",
        _WRITES,
        {**_ok("WriteAnswer", "Written, and durable."), 202: _ACCEPTED},
        _WRITE_STATUSES,
        parameters=(_OVERLOAD, _PREFER),
        body=_json("WriteRequest"),
        text="Upserts, patches, deletes, writes by filter, copy, branch. Up to 512 MB. Goes on when its client leaves.",
    ),
    "write_patch": Operation(
        "Patch documents",
        _WRITES,
        _ok("WriteAnswer", "Written, and durable."),
        _WRITE_STATUSES,
        body=_json("PatchRequest"),
    ),
    "write_v1": _legacy(
        "Write, older route", _ok("WriteAnswer"), also=(413, 422), body=_json("LegacyWrite"), text="Not stamped."
    ),
    "start_copy": Operation(
        "Start a copy",
        _WRITES,
        _ok("OperationStarted", "Started; poll it by its token."),
        _WRITE_STATUSES,
        parameters=(_OVERLOAD,),
        body=_json("CopyRequest"),
    ),
    "poll_operation": Operation(
        "Ask how far a long operation is", _WRITES, _ok("OperationState"), parameters=(_OVERLOAD,)
    ),
    "schema": Operation(
        "Read the schema", _NAMESPACES, _ok("AttributeSchemas", "Every attribute but the reserved ones.")
    ),
    "update_schema": Operation(
        "Change the schema",
        _NAMESPACES,
        _ok("AttributeSchemas", "The whole new schema."),
        _WRITE_STATUSES,
        body=_json("SchemaChange"),
    ),
    "list_namespaces": Operation(
        "List namespaces, as upstream", _NAMESPACES, _ok("NamespaceNames"), _OWN_READ_STATUSES, parameters=_PAGE
    ),
    "list_namespaces_layer": Operation(
        "List namespaces with their state",
        _NAMESPACES,
        _ok("NamespaceList"),
        _OWN_READ_STATUSES,
        parameters=_PAGE,
        text="Kept for a short time per credential.",
    ),
    "metadata": Operation("Read metadata", _NAMESPACES, _ok("NamespaceMetadata")),
    "metadata_v1": Operation("Read metadata, older route", _NAMESPACES, _ok("NamespaceMetadata")),
    "update_metadata": Operation(
        "Pin, unpin, or make read-only",
        _NAMESPACES,
        _ok("NamespaceMetadata", "The new metadata."),
        _WRITE_STATUSES,
        body=_json("MetadataChange"),
    ),
    "delete_namespace": Operation(
        "Delete a namespace",
        _NAMESPACES,
        _ok("NamespaceDeleted", "Gone upstream; `layer` tells what was removed here."),
        (*UPSTREAM, 422),
        parameters=(
            _query_parameter("purge_history", boolean(), "`true` removes what was recorded of its searches as well."),
        ),
        text="The upstream first, then our own state. May be repeated.",
    ),
    "hint_cache_warm": Operation(
        "Hint that the namespace will be queried",
        _NAMESPACES,
        {
            200: response("The upstream was not asked.", _json("WarmReport")),
            202: response("Accepted by the upstream.", _json("WarmReport")),
        },
        _OWN_READ_STATUSES,
        parameters=(*_STEPS, _WARM_PAGE),
    ),
    "fetch": Operation(
        "Fetch a document",
        _DOCUMENTS,
        _ok("Document", headers={"x-layer-cache": CACHE}),
        _OWN_READ_STATUSES,
        parameters=(_INCLUDE,),
        text="From the document cache when it is there, else from the upstream, and then kept.",
    ),
    "fetch_batch": Operation(
        "Fetch documents",
        _DOCUMENTS,
        _ok("FetchedDocuments", headers={"x-layer-cache": CACHE}),
        (*UPSTREAM, 413, 422),
        body=_json("FetchRequest"),
    ),
    "init_namespace": Operation(
        "Make a namespace sharded",
        _NAMESPACES,
        _ok("InitAnswer", "Its shards, also when it had them already."),
        (*UPSTREAM, 413, 422),
        body=_json("InitRequest"),
        body_required=False,
        text="409 when it has another number of shards. Rows that are there get their shards from a job; meanwhile "
        "every query finds every row. Without `shard_count` it tells what is.",
    ),
    "warm": Operation(
        "Warm the document cache",
        _JOBS,
        {202: response("The job, or the one that runs already, or one that had nothing to do.", _json("WarmJob"))},
        (*UPSTREAM, 422),
        parameters=(_WARM_PAGE,),
        text="Puts every row of the namespace into the document cache. One at a time.",
    ),
    "list_warm_jobs": Operation("List warm jobs", _JOBS, _ok("WarmJobList", "Newest first.")),
    "warm_job": Operation("Ask how far a warm is", _JOBS, _ok("WarmJob")),
    "create_snapshot": Operation(
        "Count the values of a field",
        _JOBS,
        {202: response("The job; the body comes when it is completed.", _json("SnapshotJob"))},
        (*UPSTREAM, 413, 422),
        body=_json("SnapshotRequest"),
        text="From the latest kept snapshot when it has the field and no filter is given, else from the document cache "
        "while every row is in it, else from the upstream.",
    ),
    "list_snapshot_jobs": Operation("List snapshot jobs", _JOBS, _ok("SnapshotJobList", "Newest first.")),
    "snapshot_job": Operation("Ask how far a snapshot is", _JOBS, _ok("SnapshotJob")),
    "delete_snapshot_job": Operation("Stop and forget a snapshot job", _JOBS, _ok("Acknowledged")),
    "snapshot_history": Operation(
        "List snapshots",
        _HISTORY,
        _ok("SnapshotHistory", "Newest first."),
        _OWN_READ_STATUSES,
        parameters=(
            _query_parameter("limit", integer(minimum=1), "50 by default, 500 at most."),
            _query_parameter(
                "before",
                string(),
                "Only those older than the newest with this hash, or than `{watermark_ms}-{sha}`.",
            ),
        ),
    ),
    "snapshot_body": Operation("Read a snapshot", _HISTORY, _ok("SnapshotBody"), _OWN_READ_STATUSES),
    "snapshot_policy": Operation("Read the snapshot policy", _NAMESPACES, _ok("SnapshotPolicy")),
    "put_snapshot_policy": Operation(
        "Set the snapshot policy",
        _NAMESPACES,
        _ok("SnapshotPolicy"),
        (*UPSTREAM, 413, 422),
        body=_json("SnapshotPolicy"),
    ),
    "snapshot_activity": Operation(
        "List snapshots of all namespaces",
        _HISTORY,
        _ok("SnapshotActivity", "Newest first."),
        _OWN_READ_STATUSES,
        parameters=(
            _query_parameter("since", integer(minimum=0), "Required: epoch milliseconds."),
            _query_parameter("limit", integer(minimum=1), "50 by default, 500 at most."),
            _query_parameter("namespace", string(), "Only of this one; required without a gateway key."),
            _query_parameter("cursor", string(), "`next_cursor` of the page before."),
        ),
    ),
    "list_search_history": _history("List served queries", "SearchHistory"),
    "list_search_history_v1": _history("List served queries, older route", "SearchHistory"),
    "list_clickstream": _history("List tagged fetches", "Clickstream"),
    "list_clickstream_v1": _history("List tagged fetches, older route", "Clickstream"),
    "delete_warm_job": Operation("Stop and forget a warm", _JOBS, _ok("Acknowledged", "What it has put stays.")),
    "create_scan": Operation(
        "Scan a namespace",
        _JOBS,
        {
            200: response("The count.", _json("ScanCount")),
            202: response("The job; its results come when it is completed.", _json("ScanJob")),
        },
        (*UPSTREAM, 412, 413, 422),
        body=_json("ScanRequest"),
        body_required=False,
        text="Counts rows while the caller waits; lists their ids, or counts an attribute's values, by a job.",
    ),
    "list_scans": Operation("List scans", _JOBS, _ok("ScanJobList", "Newest first.")),
    "scan": Operation("Ask how far a scan is", _JOBS, _ok("ScanJob")),
    "scan_results": Operation(
        "Read the results of a scan",
        _JOBS,
        _ok("ScanResults", "A slice of them."),
        (*UPSTREAM, 422),
        parameters=(
            _query_parameter("limit", integer(minimum=1, maximum=10_000), "1,000 when it is not given."),
            _query_parameter("offset", integer(minimum=0), "How many to pass over."),
        ),
        text="409 before the scan is completed, or when it has failed.",
    ),
    "delete_scan": Operation("Stop and forget a scan", _JOBS, _ok("Acknowledged", "Its results are gone.")),
    "result_count": Operation(
        "Count the rows of a ranked query",
        _JOBS,
        _ok("ResultCount", "The count, or a lower bound of it."),
        (*UPSTREAM, 413, 422),
        body=_json("ResultCountRequest"),
    ),
    "purge_cache": _legacy("Drop the upstream's caches of a namespace", _ok("Acknowledged")),
    "warm_cache": _legacy("Warm the upstream's caches of a namespace", _ok("Acknowledged")),
    "read_only_optimize": _legacy("Optimise a read-only namespace", _ok("Acknowledged"), also=(413, 422)),
    "export": _legacy("Export, older route", _ok("Export")),
    "head": _legacy("Whether a namespace exists, older route", {200: response("It exists.")}),
    "health": Operation(
        "Liveness", _PROCESS, _ok("Health", "The process answers; whatever else it has to say."), (), relayed=False
    ),
    "ready": Operation(
        "Readiness",
        _PROCESS,
        {
            200: response("Send requests here.", _json("Readiness")),
            503: response("Do not send requests here.", _json("Readiness")),
        },
        (),
        relayed=False,
    ),
    "openapi": Operation("This document", _PROCESS, _ok("OpenApiDocument"), (), relayed=False),
    "metrics": Operation(
        "Metrics",
        _METRICS,
        {200: response("The Prometheus text exposition.", {TEXT: string()})},
        (401,),
        relayed=False,
    ),
    "metrics_catalog": Operation(
        "The catalog of metrics",
        _METRICS,
        {**_ok("MetricCatalog", headers={"etag": ETAG}), 304: NOT_MODIFIED},
        (401, 404, 422),
        relayed=False,
        parameters=(_query_parameter("family", words(*FAMILIES), "Only this family."), _IF_NONE_MATCH),
    ),
    "metrics_catalog_entry": Operation(
        "One metric of the catalog",
        _METRICS,
        {**_ok("MetricCatalogEntry", headers={"etag": ETAG}), 304: NOT_MODIFIED},
        (401, 404),
        relayed=False,
        parameters=(_IF_NONE_MATCH,),
    ),
    "promql": _promql("Instant query", _PROMQL_PARAMETERS, form=False),
    "promql_form": _promql("Instant query by form", _PROMQL_PARAMETERS, form=True),
    "promql_range": _promql("Range query", _RANGE_PARAMETERS, form=False),
    "promql_range_form": _promql("Range query by form", _RANGE_PARAMETERS, form=True),
}
"""By the description's key: the operation of the route table, with a suffix where methods differ."""
