"""What the gateway's code calls to measure. Every method observes on bound children; none allocates labels when hot."""

from typing import NamedTuple

from hevlayer.metrics import declared
from hevlayer.metrics.registry import Counter, Histogram, MetricRegistry, NamespaceLabels

NAMESPACE_LABELS_MAX = 100
NO_PIPELINE = ""


def _status_label(code: int) -> str:
    if code == 429:
        return "throttled"
    if code >= 500:
        return "error"
    return "client_error" if code >= 400 else "ok"


_STATUS_LABELS = tuple(_status_label(code) for code in range(600))
_FLAG = ("false", "true")


def status_label(code: int) -> str:
    """The bounded label of an HTTP status."""
    return _STATUS_LABELS[code] if 0 <= code < 600 else "error"


class _QueryChildren(NamedTuple):
    total: Histogram
    upstream: Histogram
    overhead: Histogram
    shape: Counter
    consistency: Counter


class _WriteChildren(NamedTuple):
    total: Histogram
    upstream: Histogram
    overhead: Histogram
    batch: Histogram


class _BillingChildren(NamedTuple):
    written: Counter
    queried: Counter
    returned: Counter


class HitMeter(NamedTuple):
    """What one such fetch is counted by, bound once: the same as `observe_request`, `observe_fetch` and
    `observe_cache_lookup` count."""

    requests: Counter
    duration: Histogram
    batch: Histogram
    lookups: Counter
    lookup_duration: Histogram
    payload: Histogram

    def observe(self, seconds: float, payload_bytes: int) -> None:
        """One fetch: it is its look-up, and all of its request."""
        requests, duration, batch, lookups, lookup_duration, payload = self
        requests.value += 1
        duration.observe(seconds)
        batch.observe(1)
        lookups.value += 1
        lookup_duration.observe(seconds)
        payload.observe(payload_bytes)


class QueryMeter(NamedTuple):
    """What one kind of query, answered with 200, is counted by, bound once: the same as `observe_request` and
    `observe_query` count."""

    requests: Counter
    total: Histogram
    upstream: Histogram
    overhead: Histogram
    shape: Counter
    consistency: Counter

    def observe(self, seconds: float, upstream_seconds: float) -> None:
        """One query."""
        requests, total, upstream, overhead, shape, consistency = self
        requests.value += 1
        total.observe(seconds)
        upstream.observe(upstream_seconds)
        overhead.observe(seconds - upstream_seconds if seconds > upstream_seconds else 0.0)
        shape.value += 1
        consistency.value += 1


class Metrics:
    """All metrics of one gateway process. Seconds are floats; `status` is the HTTP status answered to the client."""

    def __init__(self, *, namespaces_max: int = NAMESPACE_LABELS_MAX) -> None:
        self.registry = registry = MetricRegistry()
        self.namespaces = NamespaceLabels(namespaces_max)
        self._query_duration = registry.histogram(declared.QUERY_DURATION)
        self._query_upstream = registry.histogram(declared.QUERY_UPSTREAM)
        self._query_overhead = registry.histogram(declared.QUERY_OVERHEAD)
        self._query_shape = registry.counter(declared.QUERY_SHAPE)
        self._read_consistency = registry.counter(declared.READ_CONSISTENCY)
        self._throttle_retries = registry.counter(declared.THROTTLE_RETRIES)
        self._head_duration = registry.histogram(declared.HEAD_DURATION)
        self._list_duration = registry.histogram(declared.LIST_DURATION)
        self._multi_query = registry.counter(declared.MULTI_QUERY)
        self._multi_query_legs = registry.histogram(declared.MULTI_QUERY_LEGS)
        self._multi_query_calls = registry.histogram(declared.MULTI_QUERY_CALLS)
        self._bytes_queried = registry.counter(declared.BYTES_QUERIED)
        self._bytes_returned = registry.counter(declared.BYTES_RETURNED)
        self.watermark_age = registry.gauge(declared.WATERMARK_AGE)
        self._upsert_duration = registry.histogram(declared.UPSERT_DURATION)
        self._upsert_upstream = registry.histogram(declared.UPSERT_UPSTREAM)
        self._upsert_overhead = registry.histogram(declared.UPSERT_OVERHEAD)
        self._upsert_batch = registry.histogram(declared.UPSERT_BATCH)
        self.unknown_writes = registry.counter(declared.UNKNOWN_WRITES)
        self._fetch_duration = registry.histogram(declared.FETCH_DURATION)
        self._fetch_batch = registry.histogram(declared.FETCH_BATCH)
        self._cache_lookups = registry.counter(declared.CACHE_LOOKUPS)
        self._cache_lookup_duration = registry.histogram(declared.CACHE_LOOKUP_DURATION)
        self._cache_backfills = registry.counter(declared.CACHE_BACKFILLS)
        self._cache_backfill_duration = registry.histogram(declared.CACHE_BACKFILL_DURATION)
        self._cache_payload = registry.histogram(declared.CACHE_PAYLOAD)
        self._cache_errors = registry.counter(declared.CACHE_ERRORS)
        self.cache_written_rows = registry.counter(declared.CACHE_WRITTEN_ROWS)
        self.cache_epochs = registry.counter(declared.CACHE_EPOCHS)
        self.cache_evicted_rows = registry.counter(declared.CACHE_EVICTED_ROWS)
        self.cache_refused_fills = registry.counter(declared.CACHE_REFUSED_FILLS)
        self.cache_rows = registry.gauge(declared.CACHE_ROWS)
        self.cache_bytes = registry.gauge(declared.CACHE_BYTES)
        self.cache_capacity = registry.gauge(declared.CACHE_CAPACITY)
        self.cache_namespace_capacity = registry.gauge(declared.CACHE_NAMESPACE_CAPACITY)
        self.columns = registry.gauge(declared.COLUMNS)
        self.columns_bytes = registry.gauge(declared.COLUMNS_BYTES)
        self.columns_capacity = registry.gauge(declared.COLUMNS_CAPACITY)
        self.columns_changed_rows = registry.gauge(declared.COLUMNS_CHANGED_ROWS)
        self._columns_build = registry.histogram(declared.COLUMNS_BUILD)
        self._columns_dropped = registry.counter(declared.COLUMNS_DROPPED)
        self._columns_answers = registry.counter(declared.COLUMNS_ANSWERS)
        self.cache_open_writes = registry.gauge(declared.CACHE_OPEN_WRITES)
        self.cache_connections = registry.gauge(declared.CACHE_CONNECTIONS)
        self.cache_debts = registry.gauge(declared.CACHE_DEBTS)
        self.cache_breaker_open = registry.gauge(declared.CACHE_BREAKER_OPEN)
        self._bytes_written = registry.counter(declared.BYTES_WRITTEN)
        self._logical_bytes = registry.gauge(declared.LOGICAL_BYTES)
        self._scattered_queries = registry.counter(declared.SCATTERED_QUERIES)
        self._object_operation = registry.histogram(declared.OBJECT_OPERATION)
        self._snapshot_duration = registry.histogram(declared.SNAPSHOT_DURATION)
        self._scans = registry.counter(declared.SCANS)
        self._scan_duration = registry.histogram(declared.SCAN_DURATION)
        self._scan_documents = registry.histogram(declared.SCAN_DOCUMENTS)
        self._job_duration = registry.histogram(declared.JOB_DURATION)
        self.jobs_running = registry.gauge(declared.JOBS_RUNNING)
        self._history_records = registry.counter(declared.HISTORY_RECORDS)
        self.history_pending = registry.gauge(declared.HISTORY_PENDING)
        self._cleanup_steps = registry.counter(declared.CLEANUP_STEPS)
        self._upstream_inflight = registry.gauge(declared.UPSTREAM_INFLIGHT)
        self.upstream_inflight = self._upstream_inflight.bind()
        self.permits_held = registry.gauge(declared.PERMITS_HELD)
        self._permit_wait = registry.histogram(declared.PERMIT_WAIT)
        self._http_requests = registry.counter(declared.HTTP_REQUESTS)
        self.http_connections = registry.gauge(declared.HTTP_CONNECTIONS)
        self.http_inflight = registry.gauge(declared.HTTP_INFLIGHT)
        self.access_log_dropped = registry.counter(declared.ACCESS_LOG_DROPPED)
        self._polls = registry.counter(declared.POLLS)
        self._poll_duration = registry.histogram(declared.POLL_DURATION).bind()
        self.watched_namespaces = registry.gauge(declared.NAMESPACES)
        self.process_cpu = registry.counter(declared.PROCESS_CPU)
        self.process_memory = registry.gauge(declared.PROCESS_MEMORY)
        self.process_fds = registry.gauge(declared.PROCESS_FDS)
        # Keyed by bounded labels, so these are bounded too.
        self._query_children: dict[tuple[str, int, bool, bool, str], _QueryChildren] = {}
        self._write_children: dict[tuple[str, int], _WriteChildren] = {}
        self._billing_children: dict[str, _BillingChildren] = {}
        self._request_children: dict[tuple[str, int], Counter] = {}

    # --- requests ----------------------------------------------------------------------------------------------------

    def observe_request(self, operation: str, status: int) -> None:
        """One answered request. `operation` is the route's metric name, never a path."""
        key = (operation, status)
        counter = self._request_children.get(key)
        if counter is None:
            counter = self._request_children[key] = self._http_requests.bind(operation, str(status))
        counter.value += 1

    def observe_query(
        self,
        namespace: str,
        status: int,
        seconds: float,
        upstream_seconds: float,
        has_filter: bool,
        has_rank_by: bool,
        consistency: str,
    ) -> None:
        """One query. `consistency` is the value of the answer's `x-layer-consistency`."""
        label = self.namespaces.label(namespace, admit=status < 300)
        children = self._children_of_query(label, status, has_filter, has_rank_by, consistency)
        children.total.observe(seconds)
        children.upstream.observe(upstream_seconds)
        children.overhead.observe(seconds - upstream_seconds if seconds > upstream_seconds else 0.0)
        children.shape.value += 1
        children.consistency.value += 1

    def query_meter(
        self, operation: str, namespace: str, has_filter: bool, has_rank_by: bool, consistency: str
    ) -> QueryMeter:
        """For queries on one namespace, of one kind, that are answered with 200."""
        label = self.namespaces.label(namespace)
        requests = self._http_requests.bind(operation, "200")
        return QueryMeter(requests, *self._children_of_query(label, 200, has_filter, has_rank_by, consistency))

    def _children_of_query(
        self, label: str, status: int, has_filter: bool, has_rank_by: bool, consistency: str
    ) -> _QueryChildren:
        key = (label, status, has_filter, has_rank_by, consistency)
        children = self._query_children.get(key)
        if children is None:
            children = self._query_children[key] = self._bind_query(*key)
        return children

    def _bind_query(
        self, namespace: str, status: int, has_filter: bool, has_rank_by: bool, consistency: str
    ) -> _QueryChildren:
        labels = (NO_PIPELINE, namespace, status_label(status))
        flags = (_FLAG[has_filter], _FLAG[has_rank_by])
        return _QueryChildren(
            self._query_duration.bind(*labels),
            self._query_upstream.bind(*labels),
            self._query_overhead.bind(*labels),
            self._query_shape.bind(NO_PIPELINE, namespace, *flags, labels[-1]),
            self._read_consistency.bind(namespace, consistency or "none"),
        )

    def observe_multi_query(self, namespace: str, status: int, legs: int, upstream_calls: int) -> None:
        """One query with several legs, beside its `observe_query`."""
        label = self.namespaces.label(namespace, admit=status < 300)
        self._multi_query.bind(label, declared.STORE_KIND, status_label(status)).inc()
        self._multi_query_legs.bind(label, declared.STORE_KIND).observe(legs)
        self._multi_query_calls.bind(label, declared.STORE_KIND).observe(upstream_calls)

    def observe_write(self, namespace: str, status: int, seconds: float, upstream_seconds: float, rows: int) -> None:
        """One write. `rows` is how many upserts, patches and deletes the body names."""
        label = self.namespaces.label(namespace, admit=status < 300)
        key = (label, status)
        children = self._write_children.get(key)
        if children is None:
            labels = (NO_PIPELINE, label, status_label(status))
            children = self._write_children[key] = _WriteChildren(
                self._upsert_duration.bind(*labels),
                self._upsert_upstream.bind(*labels),
                self._upsert_overhead.bind(*labels),
                self._upsert_batch.bind(NO_PIPELINE, label),
            )
        children.total.observe(seconds)
        children.upstream.observe(upstream_seconds)
        children.overhead.observe(seconds - upstream_seconds if seconds > upstream_seconds else 0.0)
        children.batch.observe(rows)

    def observe_head(self, namespace: str, status: int, seconds: float) -> None:
        """One read of a namespace's metadata or schema."""
        label = self.namespaces.label(namespace, admit=status < 300)
        self._head_duration.bind(NO_PIPELINE, label, status_label(status)).observe(seconds)

    def observe_list(self, status: int, seconds: float) -> None:
        """One listing of namespaces."""
        self._list_duration.bind(NO_PIPELINE, "", status_label(status)).observe(seconds)

    def count_throttle_retry(self, namespace: str, status: int) -> None:
        """One query was repeated with the watermark after a 429; `status` is the second answer's."""
        self._throttle_retries.bind(self.namespaces.label(namespace, admit=status < 300), status_label(status)).inc()

    def add_billing(self, namespace: str, *, written: int = 0, queried: int = 0, returned: int = 0) -> None:
        """Logical bytes from the `billing` of one upstream answer."""
        label = self.namespaces.label(namespace)
        children = self._billing_children.get(label)
        if children is None:
            children = self._billing_children[label] = _BillingChildren(
                self._bytes_written.bind(label, declared.STORE_KIND),
                self._bytes_queried.bind(label, declared.STORE_KIND),
                self._bytes_returned.bind(label, declared.STORE_KIND),
            )
        children.written.value += written
        children.queried.value += queried
        children.returned.value += returned

    # --- documents ---------------------------------------------------------------------------------------------------

    def observe_fetch(self, operation: str, namespace: str, cache_result: str, seconds: float, ids: int = 1) -> None:
        """One fetch. `operation` is `single` or `batch`; `cache_result` the value of the answer's `x-layer-cache`."""
        label = self.namespaces.label(namespace, admit=cache_result != "")
        self._fetch_duration.bind(operation, label, cache_result or "none").observe(seconds)
        self._fetch_batch.bind(operation).observe(ids)

    def hit_meter(self, operation: str, namespace: str) -> "HitMeter":
        """For fetches of single documents from one namespace that the cache answers at once."""
        label = self.namespaces.label(namespace)
        return HitMeter(
            self._http_requests.bind(operation, "200"),
            self._fetch_duration.bind("single", label, "hit"),
            self._fetch_batch.bind("single"),
            self._cache_lookups.bind("documents", label, "hit"),
            self._cache_lookup_duration.bind("documents", "hit"),
            self._cache_payload.bind("documents", "hit"),
        )

    def observe_cache_lookup(
        self, namespace: str, seconds: float, hits: int, misses: int, payload_bytes: int, set_name: str = "documents"
    ) -> None:
        """One look-up call in the document cache, for any number of records."""
        label = self.namespaces.label(namespace)
        if hits:
            self._cache_lookups.bind(set_name, label, "hit").inc(hits)
        if misses:
            self._cache_lookups.bind(set_name, label, "miss").inc(misses)
        result = "hit" if not misses else "partial" if hits else "miss"
        self._cache_lookup_duration.bind(set_name, result).observe(seconds)
        self._cache_payload.bind(set_name, result).observe(payload_bytes)

    def observe_backfill(self, seconds: float, records: int, *, ok: bool = True, set_name: str = "documents") -> None:
        """One attempt to put the rows of a read into the document cache."""
        status = "ok" if ok else "error"
        self._cache_backfills.bind(set_name, status).inc(records)
        self._cache_backfill_duration.bind(set_name, status).observe(seconds)

    def count_cache_error(self, operation: str) -> None:
        """A soft failure of the document cache. `operation` is the port's method name."""
        self._cache_errors.bind(operation).inc()

    # --- background --------------------------------------------------------------------------------------------------

    def observe_poll(self, result: str, seconds: float) -> None:
        self._polls.bind(result).inc()
        self._poll_duration.observe(seconds)

    def set_logical_bytes(self, namespace: str, logical_bytes: int) -> None:
        label = self.namespaces.label(namespace)
        # A sum over the others would need each one's last value; the gauge is for the namespaces that have a label.
        if label is not NamespaceLabels.OTHER:
            self._logical_bytes.bind(label, declared.STORE_KIND).set(logical_bytes)

    def observe_permit_wait(self, lane: str, seconds: float, *, granted: bool) -> None:
        """One wait for permits of the upstream, also one that was not needed."""
        self._permit_wait.bind(lane, "granted" if granted else "given_up").observe(seconds)

    def count_scatter(self, namespace: str) -> None:
        """One query that is sent as legs."""
        self._scattered_queries.bind(self.namespaces.label(namespace)).inc()

    def observe_object_operation(self, operation: str, status: str, seconds: float) -> None:
        """One operation of the object store. `status` is `ok` or the kind of its error."""
        self._object_operation.bind(operation, status).observe(seconds)

    def observe_scan(
        self, namespace: str, mode: str, selector: str, served_by: str, status: str, seconds: float, documents: int
    ) -> None:
        """One scan or result count that is over. `status` is ok, timed_out, cancelled or the error's code."""
        label = self.namespaces.label(namespace, admit=status == "ok")
        labels = (label, declared.STORE_KIND, mode, selector, served_by, status)
        self._scans.bind(*labels).inc()
        self._scan_duration.bind(*labels).observe(seconds)
        self._scan_documents.bind(*labels).observe(documents)

    def observe_columns_build(self, seconds: float, *, ok: bool) -> None:
        """One build of a namespace's columns."""
        self._columns_build.bind("ok" if ok else "failed").observe(seconds)

    def count_columns_dropped(self, reason: str) -> None:
        """The columns of one namespace were given up."""
        self._columns_dropped.bind(reason).inc()

    def count_columns_answer(self, mode: str, source: str) -> None:
        """One scan that the cache answers, from columns or from rows."""
        self._columns_answers.bind(mode, source).inc()

    def observe_job(self, kind: str, status: str, seconds: float) -> None:
        """One job that has ended. `status` is completed, failed or cancelled."""
        self._job_duration.bind(kind, status).observe(seconds)

    def observe_snapshot(self, namespace: str, outcome: str, seconds: float) -> None:
        """One look of the snapshot writer that came to something."""
        self._snapshot_duration.bind(self.namespaces.label(namespace), outcome).observe(seconds)

    def count_history(self, feed: str, outcome: str, records: int) -> None:
        """Records that were written, will be tried again, or were dropped."""
        self._history_records.bind(feed, outcome).inc(records)

    def count_cleanup(self, step: str, *, ok: bool) -> None:
        """One cleanup step of a namespace's delete."""
        self._cleanup_steps.bind(step, "done" if ok else "failed").inc()
