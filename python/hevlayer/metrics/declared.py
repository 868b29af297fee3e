"""Every metric that the gateway exports, each declared once. The catalog is this list.

Label values: `pipeline_id` is empty outside pipelines; `namespace` is bounded (later names are `other`); `status` is
`ok` (2xx, 3xx), `throttled` (429), `client_error` (other 4xx) or `error` (5xx); `store_kind` is `turbopuffer`.
"""

from hevlayer.metrics.declaration import Alert, Declaration, Family

STORE_KIND = "turbopuffer"

DURATION_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
# What the gateway itself adds, and what the local cache answers: microseconds when all is well.
FINE_BUCKETS = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5)
JOB_BUCKETS = (0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 21_600.0)
ROWS_BUCKETS = (1.0, 10.0, 100.0, 500.0, 1_000.0, 5_000.0, 10_000.0, 50_000.0, 100_000.0)
SCAN_BUCKETS = (1.0, 10.0, 100.0, 1_000.0, 10_000.0, 100_000.0, 1_000_000.0, 10_000_000.0)
LEGS_BUCKETS = (1.0, 2.0, 4.0, 8.0, 16.0)
BYTES_BUCKETS = (256.0, 1_024.0, 4_096.0, 16_384.0, 65_536.0, 262_144.0, 1_048_576.0, 8_388_608.0)

_PER_SCAN = ("namespace", "store_kind", "mode", "selector", "served_by", "status")
_PER_REQUEST = ("pipeline_id", "namespace", "status")


def _p99(name: str) -> str:
    return f"histogram_quantile(0.99, sum by (le) (rate({name}_bucket[5m])))"


def _timing(
    name: str,
    family: Family,
    labels: tuple[str, ...],
    text: str,
    *,
    fine: bool = False,
    buckets: tuple[float, ...] = DURATION_BUCKETS,
    alert: Alert | None = None,
) -> Declaration:
    return Declaration(name, "histogram", family, labels, text, _p99(name), alert, FINE_BUCKETS if fine else buckets)


def _size(
    name: str, family: Family, labels: tuple[str, ...], text: str, buckets: tuple[float, ...] = ROWS_BUCKETS
) -> Declaration:
    return Declaration(name, "histogram", family, labels, text, _p99(name), None, buckets)


def _count(name: str, family: Family, labels: tuple[str, ...], text: str, alert: Alert | None = None) -> Declaration:
    by = f" by ({labels[-1]})" if labels else ""
    return Declaration(name, "counter", family, labels, text, f"sum{by} (rate({name}[5m]))", alert)


def _level(
    name: str, family: Family, labels: tuple[str, ...], text: str, promql: str, alert: Alert | None = None
) -> Declaration:
    return Declaration(name, "gauge", family, labels, text, promql, alert)


QUERY_DURATION = _timing(
    "layer_query_duration_seconds",
    "query",
    _PER_REQUEST,
    "Wall-clock time of a query, from the request's last byte to the answer's first.",
    alert=Alert("Query p99 above 1 s", _p99("layer_query_duration_seconds") + " > 1", "10m"),
)
QUERY_UPSTREAM = _timing(
    "layer_query_tpuf_seconds", "query", _PER_REQUEST, "Time that queries waited for the upstream, retries included."
)
QUERY_OVERHEAD = _timing(
    "layer_query_overhead_seconds", "query", _PER_REQUEST, "Time that the gateway itself added to a query.", fine=True
)
QUERY_SHAPE = _count(
    "layer_query_shape_total",
    "query",
    ("pipeline_id", "namespace", "has_filter", "has_rank_by", "status"),
    "Queries by what their body uses.",
)
HEAD_DURATION = _timing(
    "layer_head_duration_seconds", "query", _PER_REQUEST, "Wall-clock time of a read of one namespace's metadata."
)
LIST_DURATION = _timing(
    "layer_list_duration_seconds",
    "query",
    _PER_REQUEST,
    "Wall-clock time of a namespace listing; its namespace is empty.",
)
MULTI_QUERY = _count(
    "hevlayer_multi_query_total", "query", ("namespace", "store_kind", "status"), "Queries with several legs."
)
MULTI_QUERY_LEGS = _size(
    "hevlayer_multi_query_legs", "query", ("namespace", "store_kind"), "Legs of a multi-query.", LEGS_BUCKETS
)
MULTI_QUERY_CALLS = _size(
    "hevlayer_multi_query_upstream_calls",
    "query",
    ("namespace", "store_kind"),
    "Upstream requests that one multi-query took.",
    LEGS_BUCKETS,
)
BYTES_QUERIED = _count(
    "hevlayer_tpuf_billable_bytes_queried_total",
    "query",
    ("namespace", "store_kind"),
    "Logical bytes that the upstream bills as queried.",
)
BYTES_RETURNED = _count(
    "hevlayer_tpuf_billable_bytes_returned_total",
    "query",
    ("namespace", "store_kind"),
    "Logical bytes that the upstream bills as returned.",
)
READ_CONSISTENCY = _count(
    "layer_consistency_reads_total",
    "query",
    ("namespace", "consistency"),
    "Queries by how they were read: stable, filtered, eventual, upstream or stale-watermark.",
    Alert(
        "Reads run without their watermark because it is too old",
        'sum(increase(layer_consistency_reads_total{consistency="stale-watermark"}[5m])) > 0',
        "10m",
    ),
)
THROTTLE_RETRIES = _count(
    "layer_consistency_throttle_retries_total",
    "query",
    ("namespace", "status"),
    "Queries repeated once with the watermark after the upstream's 429, by the status of the second answer.",
)
WATERMARK_AGE = _level(
    "layer_consistency_watermark_age_seconds",
    "query",
    ("namespace",),
    "Age of a namespace's watermark; of the oldest one for `other`.",
    "max by (namespace) (layer_consistency_watermark_age_seconds)",
    Alert("A watermark has stood still for 5 minutes", "max(layer_consistency_watermark_age_seconds) > 300", "5m"),
)

UPSERT_DURATION = _timing(
    "layer_upsert_duration_seconds",
    "upsert",
    _PER_REQUEST,
    "Wall-clock time of a write.",
    alert=Alert("Write p99 above 2 s", _p99("layer_upsert_duration_seconds") + " > 2", "10m"),
)
UPSERT_UPSTREAM = _timing(
    "layer_upsert_tpuf_seconds", "upsert", _PER_REQUEST, "Time that writes waited for the upstream."
)
UPSERT_OVERHEAD = _timing(
    "layer_upsert_overhead_seconds", "upsert", _PER_REQUEST, "Time that the gateway itself added to a write.", fine=True
)
UPSERT_BATCH = _size(
    "layer_upsert_batch_size",
    "upsert",
    ("pipeline_id", "namespace"),
    "Rows that a write names: upserts, patches and deletes.",
)
UNKNOWN_WRITES = _count(
    "layer_consistency_unknown_writes_total",
    "upsert",
    (),
    "Writes without a definite answer; each holds the watermark back for a while.",
    Alert("Writes end without an answer", "sum(increase(layer_consistency_unknown_writes_total[5m])) > 0", "10m"),
)

FETCH_DURATION = _timing(
    "layer_fetch_duration_seconds",
    "fetch",
    ("operation", "namespace", "cache_result"),
    "Wall-clock time of a document fetch; operation is single or batch.",
    fine=True,
)
FETCH_BATCH = _size("layer_fetch_batch_size", "fetch", ("operation",), "Ids that a fetch asks for.")

CACHE_LOOKUPS = _count(
    "layer_cache_lookups_total", "cache", ("set", "namespace", "result"), "Look-ups in the document cache, by record."
)
CACHE_LOOKUP_DURATION = _timing(
    "layer_cache_lookup_duration_seconds",
    "cache",
    ("set", "result"),
    "Time of one look-up call in the document cache.",
    fine=True,
)
CACHE_BACKFILLS = _count(
    "layer_cache_backfills_total", "cache", ("set", "status"), "Records put into the document cache after a read."
)
CACHE_BACKFILL_DURATION = _timing(
    "layer_cache_backfill_duration_seconds",
    "cache",
    ("set", "status"),
    "Time to put the records of one read into the document cache.",
    fine=True,
)
CACHE_PAYLOAD = _size(
    "layer_cache_payload_bytes",
    "cache",
    ("set", "result"),
    "Bytes that one look-up call answered from the document cache.",
    BYTES_BUCKETS,
)
CACHE_ERRORS = _count(
    "layer_cache_errors_total",
    "cache",
    ("operation",),
    "Document cache operations that failed or ran over their time; the request went on without the cache.",
    Alert("The document cache fails", "sum(rate(layer_cache_errors_total[5m])) > 0", "10m"),
)

CACHE_WRITTEN_ROWS = _count(
    "layer_cache_written_rows_total", "cache", (), "Rows that acknowledged writes left in the document cache."
)
CACHE_EPOCHS = _count(
    "layer_cache_epochs_total",
    "cache",
    (),
    "New epochs: every row of a namespace became void, after a deletion or a write that did not tell its ids.",
)
CACHE_EVICTED_ROWS = _count(
    "layer_cache_evicted_rows_total", "cache", (), "Rows that the document cache let go of for space or age."
)
CACHE_REFUSED_FILLS = _count(
    "layer_cache_refused_fills_total", "cache", (), "Rows of reads that were not kept, since a write came between."
)
CACHE_ROWS = _level(
    "layer_cache_rows", "cache", (), "Rows in the document cache, of every namespace.", "sum(layer_cache_rows)"
)
CACHE_BYTES = _level("layer_cache_bytes", "cache", (), "Bytes that the document cache holds.", "sum(layer_cache_bytes)")
CACHE_CAPACITY = _level(
    "layer_cache_capacity_bytes",
    "cache",
    (),
    "Bytes that the document cache may hold; 0 when its server decides.",
    "sum(layer_cache_capacity_bytes)",
)
CACHE_NAMESPACE_CAPACITY = _level(
    "layer_cache_namespace_capacity_bytes",
    "cache",
    (),
    "Bytes that one namespace may hold in the document cache; 0 without such a bound.",
    "max(layer_cache_namespace_capacity_bytes)",
)
CACHE_OPEN_WRITES = _level(
    "layer_cache_open_writes",
    "cache",
    (),
    "Writes whose marks stand in the document cache.",
    "sum(layer_cache_open_writes)",
)
CACHE_CONNECTIONS = _level(
    "layer_cache_connections",
    "cache",
    (),
    "Connections to the document cache's server; 0 for an engine without one.",
    "sum(layer_cache_connections)",
)
CACHE_DEBTS = _level(
    "layer_cache_debts",
    "cache",
    (),
    "Ids that bypass the document cache because it could not be told of a write; a whole namespace counts as one.",
    "sum(layer_cache_debts)",
    Alert("The document cache is in debt", "max(layer_cache_debts) > 0", "10m"),
)
CACHE_BREAKER_OPEN = _level(
    "layer_cache_breaker_open",
    "cache",
    (),
    "1 while the document cache is left alone because most of its calls fail.",
    "max(layer_cache_breaker_open)",
)

BYTES_WRITTEN = _count(
    "hevlayer_tpuf_billable_bytes_written_total",
    "storage",
    ("namespace", "store_kind"),
    "Logical bytes that the upstream bills as written.",
)
LOGICAL_BYTES = _level(
    "hevlayer_tpuf_logical_bytes",
    "storage",
    ("namespace", "store_kind"),
    "Size of a namespace as the upstream last reported it.",
    "sum by (namespace) (hevlayer_tpuf_logical_bytes)",
)
SCATTERED_QUERIES = _count(
    "layer_scattered_queries_total",
    "query",
    ("namespace",),
    "Queries of sharded namespaces that went upstream as one leg a shard.",
)
OBJECT_OPERATION = _timing(
    "layer_s3_op_duration_seconds",
    "storage",
    ("operation", "status"),
    "Time of an operation on durable objects, in a bucket or a directory; status is ok or what failed: timeout, "
    "unreachable, busy, full, denied, refused, error, cancelled.",
    alert=Alert(
        "The object store fails",
        'sum(increase(layer_s3_op_duration_seconds_count{status!~"ok|cancelled"}[5m])) > 0',
        "10m",
    ),
)
COLUMNS = _level(
    "layer_columns", "cache", (), "Typed columns of cached rows, of every namespace.", "max(layer_columns)"
)
COLUMNS_BYTES = _level(
    "layer_columns_bytes", "cache", (), "Bytes that columns take on the disk.", "max(layer_columns_bytes)"
)
COLUMNS_CAPACITY = _level(
    "layer_columns_capacity_bytes",
    "cache",
    (),
    "Bytes that columns may take; 0 when none are built.",
    "max(layer_columns_capacity_bytes)",
)
COLUMNS_CHANGED_ROWS = _level(
    "layer_columns_changed_rows",
    "cache",
    (),
    "Rows that changed since their columns were built and are read one by one.",
    "sum(layer_columns_changed_rows)",
)
COLUMNS_BUILD = _timing(
    "layer_columns_build_seconds",
    "cache",
    ("status",),
    "Time of building the columns of a namespace; status is ok or failed.",
    buckets=JOB_BUCKETS,
)
COLUMNS_DROPPED = _count(
    "layer_columns_dropped_total",
    "cache",
    ("reason",),
    "Namespaces whose columns were given up; reason is budget, unused or types.",
)
COLUMNS_ANSWERS = _count(
    "layer_columns_answers_total",
    "cache",
    ("mode", "source"),
    "Scans that the cache answered; source is columns, or rows where a column was missing.",
)
SCANS = _count(
    "hevlayer_scan_total",
    "cache",
    _PER_SCAN,
    "Scans and result counts; mode is ids, count, values or result_count; selector filter, fts or ann; served_by "
    "cache, origin or snapshot; status ok, timed_out, cancelled or the error's code.",
)
SCAN_DURATION = _timing("hevlayer_scan_duration_seconds", "cache", _PER_SCAN, "Time of a scan or a result count.")
SCAN_DOCUMENTS = _size(
    "hevlayer_scan_documents_scanned", "cache", _PER_SCAN, "Rows that a scan or a result count found.", SCAN_BUCKETS
)
JOB_DURATION = _timing(
    "layer_job_duration_seconds",
    "cache",
    ("kind", "status"),
    "Time of a job, from its start to its end; kind is scan, snapshot or warm, status completed, failed or cancelled.",
    buckets=JOB_BUCKETS,
)
SNAPSHOT_DURATION = _timing(
    "layer_snapshot_duration_seconds",
    "storage",
    ("namespace", "outcome"),
    "Time of a look of the automatic snapshot writer at a namespace; outcome is written, unchanged, unsettled (rows "
    "were written meanwhile) or failed.",
    buckets=JOB_BUCKETS,
    alert=Alert(
        "Snapshots fail",
        'sum(increase(layer_snapshot_duration_seconds_count{outcome="failed"}[15m])) > 0',
        "30m",
    ),
)
JOBS_RUNNING = _level(
    "layer_jobs_running", "cache", (), "Jobs of this process that have not ended.", "sum(layer_jobs_running)"
)
HISTORY_RECORDS = _count(
    "layer_history_records_total",
    "storage",
    ("feed", "outcome"),
    "Records of searches and fetches: written to the object store, retried after a failed write, or dropped because a "
    "queue was full; feed is search-history or clickstream.",
    Alert("History is being dropped", 'sum(increase(layer_history_records_total{outcome="dropped"}[5m])) > 0', "10m"),
)
HISTORY_PENDING = _level(
    "layer_history_pending_bytes",
    "saturation",
    (),
    "Records of searches and fetches that the object store does not have yet.",
    "sum(layer_history_pending_bytes)",
)
CLEANUP_STEPS = _count(
    "layer_namespace_cleanup_steps_total",
    "storage",
    ("step", "status"),
    "Steps that remove the gateway's own state of a deleted namespace; status is done or failed.",
    Alert(
        "State of deleted namespaces is left behind",
        'sum(increase(layer_namespace_cleanup_steps_total{status="failed"}[1h])) > 0',
        "15m",
    ),
)

UPSTREAM_INFLIGHT = _level(
    "layer_tpuf_inflight", "saturation", (), "Requests that wait for the upstream.", "sum(layer_tpuf_inflight)"
)
PERMITS_HELD = _level(
    "layer_upstream_permits_held",
    "saturation",
    ("lane",),
    "Permits of the upstream that our own reads hold; lane is foreground or background.",
    "sum by (lane) (layer_upstream_permits_held)",
)
PERMIT_WAIT = _timing(
    "layer_upstream_permit_wait_seconds",
    "saturation",
    ("lane", "status"),
    "Time that our own reads waited for a permit of the upstream; status is granted or given_up.",
)
HTTP_REQUESTS = _count(
    "layer_http_requests_total",
    "saturation",
    ("operation", "status"),
    "Requests answered, by operation and HTTP status code.",
)
HTTP_CONNECTIONS = _level(
    "layer_http_connections", "saturation", (), "Open client connections.", "sum(layer_http_connections)"
)
HTTP_INFLIGHT = _level(
    "layer_http_inflight", "saturation", (), "Client requests being served.", "sum(layer_http_inflight)"
)
ACCESS_LOG_DROPPED = _count(
    "layer_access_log_dropped_lines_total",
    "saturation",
    (),
    "Lines of the access log that nobody read in time.",
    Alert("Access log lines are lost", "sum(increase(layer_access_log_dropped_lines_total[5m])) > 0", "10m"),
)
POLLS = _count(
    "layer_consistency_polls_total",
    "saturation",
    ("result",),
    "Metadata polls of the consistency watcher: stable, updating, unknown, gone, or why a poll failed.",
)
POLL_DURATION = _timing(
    "layer_consistency_poll_duration_seconds", "saturation", (), "Time of one metadata poll of the consistency watcher."
)
NAMESPACES = _level(
    "layer_consistency_namespaces",
    "saturation",
    (),
    "Namespaces that the consistency watcher polls.",
    "sum(layer_consistency_namespaces)",
)
PROCESS_CPU = _count("process_cpu_seconds_total", "saturation", (), "User and system CPU time of the process.")
PROCESS_MEMORY = _level(
    "process_resident_memory_bytes",
    "saturation",
    (),
    "Resident memory of the process.",
    "max(process_resident_memory_bytes)",
)
PROCESS_FDS = _level(
    "process_open_fds", "saturation", (), "Open file descriptors of the process.", "max(process_open_fds)"
)
