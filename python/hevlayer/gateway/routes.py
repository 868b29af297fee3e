"""The route table: every route of the gateway, one row each. A path that is not here is a 404."""

from hevlayer.gateway.router import Access, Family, RouteSpec

_NS1 = "/v1/namespaces/{namespace}"
_NS2 = "/v2/namespaces/{namespace}"

_R, _K, _H, _O = Access.RELAY, Access.KEYED, Access.HELD, Access.OBSERVE

ROUTES: tuple[RouteSpec, ...] = (
    # Queries and writes.
    RouteSpec("POST", f"{_NS2}/query", "query", "query", _R, Family.QUERY),
    RouteSpec("POST", _NS2, "write", "write", _R, Family.WRITE),
    RouteSpec("PATCH", _NS2, "write", "write", _R, Family.WRITE),
    RouteSpec("POST", f"{_NS2}/explain_query", "relay", "explain_query", _R),
    RouteSpec("POST", f"{_NS1}/query", "relay_query", "query_v1", _R, Family.QUERY),
    RouteSpec("POST", "/v1/vectors/{namespace}/query", "relay_query", "query_v1", _R, Family.QUERY),
    # Namespaces.
    RouteSpec("GET", "/v1/namespaces", "relay", "list_namespaces", _R, Family.LIST),
    RouteSpec("GET", "/v2/namespaces", "list_namespaces", "list_namespaces_layer", _R),
    RouteSpec("GET", f"{_NS2}/metadata", "metadata", "metadata", _R),
    RouteSpec("GET", f"{_NS1}/metadata", "metadata", "metadata_v1", _R),
    RouteSpec("PATCH", f"{_NS1}/metadata", "update_metadata", "update_metadata", _R),
    RouteSpec("GET", f"{_NS1}/schema", "schema", "schema", _R, Family.HEAD),
    RouteSpec("POST", f"{_NS1}/schema", "update_schema", "update_schema", _R),
    RouteSpec("POST", f"{_NS2}/init", "init_namespace", "init_namespace", _R),
    RouteSpec("DELETE", _NS2, "delete_namespace", "delete_namespace", _R),
    RouteSpec("GET", f"{_NS1}/hint_cache_warm", "hint_cache_warm", "hint_cache_warm", _R),
    # Long operations and debugging, as the upstream has them.
    RouteSpec("POST", f"{_NS2}/async", "write", "start_copy", _R, Family.WRITE),
    RouteSpec("GET", f"{_NS1}/operations/{{token}}", "relay", "poll_operation", _R),
    RouteSpec("POST", f"{_NS1}/_debug/recall", "relay_slow", "recall", _R),
    RouteSpec("GET", f"{_NS1}/_debug/purge_cache", "relay", "purge_cache", _R),
    RouteSpec("GET", f"{_NS1}/_debug/warm_cache", "relay", "warm_cache", _R),
    RouteSpec("POST", f"{_NS2}/read_only_optimize", "relay_slow", "read_only_optimize", _R),
    # The older API.
    RouteSpec("GET", _NS1, "relay_slow", "export", _R),
    RouteSpec("HEAD", _NS1, "relay", "head", _R, Family.HEAD),
    RouteSpec("POST", _NS1, "write_legacy", "write_v1", _R, Family.WRITE),
    # Documents that we may hold.
    RouteSpec("GET", f"{_NS2}/documents/{{doc_id*}}", "fetch_document", "fetch", _H),
    RouteSpec("POST", f"{_NS2}/documents", "fetch_documents", "fetch_batch", _H),
    # Jobs.
    RouteSpec("POST", f"{_NS2}/warm", "warm", "warm", _H),
    RouteSpec("GET", f"{_NS2}/warm-jobs", "list_warm_jobs", "list_warm_jobs", _H),
    RouteSpec("GET", f"{_NS2}/warm-jobs/{{job_id}}", "warm_job", "warm_job", _H),
    RouteSpec("DELETE", f"{_NS2}/warm-jobs/{{job_id}}", "delete_warm_job", "delete_warm_job", _H),
    # What was searched and fetched; `/v1` are aliases for older clients.
    RouteSpec("GET", f"{_NS2}/search-history", "list_search_history", "list_search_history", _H),
    RouteSpec("GET", f"{_NS1}/search-history", "list_search_history", "list_search_history_v1", _H),
    RouteSpec("GET", f"{_NS2}/clickstream", "list_clickstream", "list_clickstream", _H),
    RouteSpec("GET", f"{_NS1}/clickstream", "list_clickstream", "list_clickstream_v1", _H),
    RouteSpec("POST", f"{_NS2}/scans", "create_scan", "create_scan", _H),
    RouteSpec("GET", f"{_NS2}/scans", "list_scans", "list_scans", _H),
    RouteSpec("GET", f"{_NS2}/scans/{{job_id}}", "scan", "scan", _H),
    RouteSpec("GET", f"{_NS2}/scans/{{job_id}}/results", "scan_results", "scan_results", _H),
    RouteSpec("DELETE", f"{_NS2}/scans/{{job_id}}", "delete_scan", "delete_scan", _H),
    RouteSpec("POST", f"{_NS2}/result-count", "result_count", "result_count", _H),
    # Snapshots.
    RouteSpec("POST", f"{_NS2}/snapshots", "create_snapshot", "create_snapshot", _H),
    RouteSpec("GET", f"{_NS2}/snapshots/{{sha}}", "snapshot_body", "snapshot_body", _H),
    RouteSpec("GET", f"{_NS2}/snapshot-jobs", "list_snapshot_jobs", "list_snapshot_jobs", _H),
    RouteSpec("GET", f"{_NS2}/snapshot-jobs/{{job_id}}", "snapshot_job", "snapshot_job", _H),
    RouteSpec("DELETE", f"{_NS2}/snapshot-jobs/{{job_id}}", "delete_snapshot_job", "delete_snapshot_job", _H),
    RouteSpec("GET", f"{_NS2}/history", "snapshot_history", "snapshot_history", _H),
    RouteSpec("GET", f"{_NS2}/snapshot-policy", "snapshot_policy", "snapshot_policy", _H),
    RouteSpec("PUT", f"{_NS2}/snapshot-policy", "put_snapshot_policy", "put_snapshot_policy", _H),
    # It asks for a grant itself, on the namespace that is named in the query.
    RouteSpec("GET", "/v2/activity/snapshots", "snapshot_activity", "snapshot_activity", _R),
    # The process itself.
    RouteSpec("GET", "/health", "health", "health", Access.OPEN),
    RouteSpec("GET", "/ready", "ready", "ready", Access.OPEN),
    RouteSpec("GET", "/metrics", "metrics", "metrics", _O),
    RouteSpec("GET", "/v2/metrics/catalog", "metrics_catalog", "metrics_catalog", _O),
    RouteSpec("GET", "/v2/metrics/catalog/{name}", "metrics_catalog_entry", "metrics_catalog_entry", _O),
    RouteSpec("GET", "/v2/metrics/api/v1/query", "promql", "promql", _K),
    RouteSpec("POST", "/v2/metrics/api/v1/query", "promql", "promql", _K),
    RouteSpec("GET", "/v2/metrics/query", "promql", "promql", _K),
    RouteSpec("POST", "/v2/metrics/query", "promql", "promql", _K),
    RouteSpec("GET", "/v2/metrics/api/v1/query_range", "promql_range", "promql_range", _K),
    RouteSpec("POST", "/v2/metrics/api/v1/query_range", "promql_range", "promql_range", _K),
    RouteSpec("GET", "/v2/metrics/query_range", "promql_range", "promql_range", _K),
    RouteSpec("POST", "/v2/metrics/query_range", "promql_range", "promql_range", _K),
    RouteSpec("GET", "/openapi.json", "openapi", "openapi", Access.OPEN),
)
