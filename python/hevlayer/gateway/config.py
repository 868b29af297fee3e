"""The gateway's configuration: one class whose fields are the settings. The command line, the environment and the
documentation are all read from it."""

# `setting` returns a dataclass field, which the rule cannot know.
# ruff: noqa: RUF009

import importlib.util
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hevlayer.errors import ConfigurationError
from hevlayer.gateway.jobs.runner import JOB_SECONDS_MAX
from hevlayer.gateway.jobs.runner import TTL_SECONDS as TTL_SECONDS_OF_JOBS
from hevlayer.gateway.shards.limits import BACKFILL_ROWS_PER_SECOND, SCATTER_PERMITS, SHARDS_MAX
from hevlayer.gateway.snapshots.policy import SNAPSHOT_MIN_INTERVAL_MS, check_configured
from hevlayer.settings import (
    JointRule,
    choice,
    http_url,
    joint_problems,
    path,
    postgres_url,
    read_environment,
    seconds,
    setting,
    settings_of,
    switch,
    text,
    token,
    whole,
)
from hevlayer.stores.doccache_aerospike import CONNECT_SECONDS as AEROSPIKE_CONNECT_SECONDS
from hevlayer.stores.doccache_aerospike import NAMESPACE as AEROSPIKE_NAMESPACE
from hevlayer.stores.doccache_aerospike import SCAN_BYTES_MAX, set_prefix
from hevlayer.stores.doccache_aerospike import SET_PREFIX as AEROSPIKE_SET_PREFIX
from hevlayer.stores.doccache_embedded import CAPACITY_BYTES, TIMEOUT_SECONDS, TTL_SECONDS
from hevlayer.stores.objects.settings import ATTEMPT_SECONDS as S3_ATTEMPT_SECONDS
from hevlayer.stores.objects.settings import CONNECT_SECONDS as S3_CONNECT_SECONDS
from hevlayer.stores.objects.settings import OPERATION_SECONDS
from hevlayer.stores.postgres.settings import CONNECT_SECONDS, CONNECTIONS_MAX, QUERY_SECONDS

MIB = 1 << 20
GIB = 1 << 30
DEFAULT_UPSTREAM_URL = "https://aws-us-east-1.turbopuffer.com"
REGION_PLACEHOLDER = "{region}"
_REGION = re.compile(r"[A-Za-z0-9-]{1,63}")

_LISTEN, _UPSTREAM, _LIMITS, _DEADLINES = "Listening and keys", "Upstream", "Limits", "Deadlines"
_DATABASE, _OBJECTS = "PostgreSQL", "Durable objects"
_CONSISTENCY, _NAMESPACES, _OBSERVE, _CACHE = "Stable reads", "Namespaces", "Metrics and health", "Document cache"
_JOBS, _HISTORY = "Jobs", "History"


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayConfig:
    """Everything that can be set on a gateway. Build it with `read` or by keyword; `check` holds the joint rules."""

    # --- listening and keys ---
    host: str = setting("127.0.0.1", "LAYER_GATEWAY_HOST", text, "address to listen on", section=_LISTEN)
    port: int = setting(
        8080, "LAYER_GATEWAY_PORT", whole(0, 65535), "TCP port to listen on; 0 takes a free one", section=_LISTEN
    )
    gateway_api_key: str = setting(
        "",
        "LAYER_GATEWAY_API_KEY",
        token,
        "key that clients must show; without it their own bearer is passed through",
        section=_LISTEN,
        secret=True,
    )
    metrics_token: str = setting(
        "",
        "LAYER_METRICS_TOKEN",
        token,
        "bearer that /metrics, the catalog and the namespace list in /health then require",
        section=_LISTEN,
        secret=True,
    )
    data_dir: Path | None = setting(
        None,
        "LAYER_DATA_DIR",
        path,
        "directory of all that is kept on this machine; unset: a temporary one",
        section=_LISTEN,
    )

    # --- upstream ---
    upstream_url: str = setting(
        DEFAULT_UPSTREAM_URL,
        "LAYER_UPSTREAM_URL",
        http_url,
        "base URL of the Turbopuffer API; may have a path and the placeholder {region}",
        section=_UPSTREAM,
    )
    upstream_region: str = setting(
        "", "LAYER_UPSTREAM_REGION", text, "region put in the place of {region}", section=_UPSTREAM
    )
    turbopuffer_api_key: str = setting(
        "",
        "TURBOPUFFER_API_KEY",
        token,
        "key for the upstream: of every call with a gateway key, else of background work",
        section=_UPSTREAM,
        secret=True,
    )
    upstream_ca_file: Path | None = setting(
        None, "LAYER_UPSTREAM_CA_FILE", path, "PEM file of the authorities that sign the upstream", section=_UPSTREAM
    )
    upstream_connections_max: int = setting(
        512, "LAYER_UPSTREAM_CONNECTIONS_MAX", whole(1, 65536), "connections to the upstream at once", section=_UPSTREAM
    )

    # --- limits ---
    connections_max: int = setting(
        10_000, "LAYER_CONNECTIONS_MAX", whole(1, 1_000_000), "client connections at once", section=_LIMITS
    )
    body_memory_bytes_max: int = setting(
        16 * MIB,
        "LAYER_BODY_MEMORY_BYTES_MAX",
        whole(1024, 256 * MIB),
        "largest request body kept in memory, in bytes; larger ones are spooled to disk",
        section=_LIMITS,
    )
    body_memory_total_bytes_max: int = setting(
        512 * MIB,
        "LAYER_BODY_MEMORY_TOTAL_BYTES_MAX",
        whole(1024, 1 << 44),
        "bytes that the request bodies kept in memory may take together; beyond them bodies are spooled to disk",
        section=_LIMITS,
    )
    body_bytes_max: int = setting(
        512 * MIB,
        "LAYER_BODY_BYTES_MAX",
        whole(1024, 4 * GIB),
        "largest request body in bytes, also after inflating",
        section=_LIMITS,
    )
    spool_dir: Path | None = setting(
        None,
        "LAYER_SPOOL_DIR",
        path,
        "directory for large bodies; unset: under the system's temporary one",
        section=_LIMITS,
    )
    spool_bytes_max: int = setting(
        4 * GIB, "LAYER_SPOOL_MAX_BYTES", whole(0, 1 << 44), "bytes that all spooled bodies may take", section=_LIMITS
    )

    # --- deadlines ---
    connect_timeout_seconds: float = setting(
        5.0, "LAYER_CONNECT_TIMEOUT_SECONDS", seconds(0.01, 600), "for a connection to the upstream", section=_DEADLINES
    )
    first_byte_timeout_seconds: float = setting(
        60.0,
        "LAYER_FIRST_BYTE_TIMEOUT_SECONDS",
        seconds(0.01, 3600),
        "until the upstream starts to answer a query or a small request",
        section=_DEADLINES,
    )
    total_timeout_seconds: float = setting(
        120.0,
        "LAYER_TOTAL_TIMEOUT_SECONDS",
        seconds(0.01, 7200),
        "for a query or a small request as a whole",
        section=_DEADLINES,
    )
    write_timeout_seconds: float = setting(
        600.0,
        "LAYER_WRITE_TIMEOUT_SECONDS",
        seconds(0.01, 7200),
        "for a write, both until the upstream starts to answer and as a whole",
        section=_DEADLINES,
    )
    slow_timeout_seconds: float = setting(
        3600.0,
        "LAYER_SLOW_TIMEOUT_SECONDS",
        seconds(0.01, 86_400),
        "for copies, branches, recall and exports",
        section=_DEADLINES,
    )
    drain_delay_seconds: float = setting(
        0.0,
        "LAYER_DRAIN_DELAY_SECONDS",
        seconds(0, 600),
        "between /ready turning 503 and the end of accepting, for load balancers to notice",
        section=_DEADLINES,
    )
    drain_seconds: float = setting(
        30.0,
        "LAYER_DRAIN_SECONDS",
        seconds(0, 7200),
        "for requests in flight to finish after SIGTERM",
        section=_DEADLINES,
    )

    # --- stable reads ---
    consistency: str = setting(
        "strong",
        "LAYER_CONSISTENCY",
        choice("strong", "eventual", "upstream"),
        "default mode of queries: strong, eventual or upstream",
        section=_CONSISTENCY,
    )
    consistency_poll_interval_ms: int = setting(
        1000,
        "CONSISTENCY_POLL_INTERVAL_MS",
        whole(10, 600_000),
        "between polls of a namespace that is updating or in use, in milliseconds",
        section=_CONSISTENCY,
    )
    consistency_safety_margin_ms: int = setting(
        500,
        "CONSISTENCY_SAFETY_MARGIN_MS",
        whole(0, 600_000),
        "between a poll and its watermark, for writes that other gateways have in flight, in milliseconds",
        section=_CONSISTENCY,
    )
    consistency_poll_timeout_seconds: float = setting(
        5.0, "LAYER_CONSISTENCY_POLL_TIMEOUT_SECONDS", seconds(0.01, 600), "for one poll", section=_CONSISTENCY
    )
    consistency_polls_concurrent_max: int = setting(
        64, "LAYER_CONSISTENCY_POLLS_MAX", whole(1, 4096), "polls at once", section=_CONSISTENCY
    )
    watermark_age_ms_max: int = setting(
        300_000,
        "LAYER_WATERMARK_AGE_MAX_MS",
        whole(1000, 86_400_000),
        "age at which a watermark that stands still is no longer applied, in milliseconds",
        section=_CONSISTENCY,
    )
    unknown_write_seconds: float = setting(
        120.0,
        "LAYER_UNKNOWN_WRITE_SECONDS",
        seconds(0, 86_400),
        "for which a write without a definite answer counts as in flight",
        section=_CONSISTENCY,
    )
    namespaces_max: int = setting(
        10_000, "LAYER_NAMESPACES_MAX", whole(1, 10_000_000), "namespaces watched at once", section=_CONSISTENCY
    )
    namespace_idle_seconds: float = setting(
        1800.0,
        "LAYER_NAMESPACE_IDLE_SECONDS",
        seconds(1, 604_800),
        "after which an unused namespace is forgotten",
        section=_CONSISTENCY,
    )

    # --- namespaces ---
    namespace_list_cache_ttl_ms: int = setting(
        10_000,
        "NAMESPACE_LIST_CACHE_TTL_MS",
        whole(0, 3_600_000),
        "for which GET /v2/namespaces is answered from memory, in milliseconds",
        section=_NAMESPACES,
    )
    shard_count: int = setting(
        1,
        "LAYER_SHARD_COUNT",
        whole(1, SHARDS_MAX),
        "shards that a namespace gets with its first write; 1: none",
        section=_NAMESPACES,
    )
    scatter_permits: int = setting(
        SCATTER_PERMITS,
        "LAYER_SCATTER_PERMITS",
        whole(2, 16),
        "of the upstream's 16 permits of a namespace that scattered queries take at a time",
        section=_NAMESPACES,
    )
    scatter_text: bool = setting(
        False,
        "LAYER_SCATTER_TEXT",
        switch,
        "also full-text and score rankings are scattered",
        section=_NAMESPACES,
    )
    shard_backfill_rows_per_second: int = setting(
        BACKFILL_ROWS_PER_SECOND,
        "LAYER_SHARD_BACKFILL_ROWS_PER_SECOND",
        whole(1, 1_000_000),
        "at which rows of a namespace that has become sharded get their shards",
        section=_NAMESPACES,
    )
    facet_fields: str = setting(
        "",
        "LAYER_FACET_FIELDS",
        check_configured,
        'JSON object of namespaces and the fields whose snapshots are written, such as {"films": ["genres"]}',
        section=_NAMESPACES,
    )
    snapshot_min_interval_ms: int = setting(
        SNAPSHOT_MIN_INTERVAL_MS,
        "LAYER_SNAPSHOT_MIN_INTERVAL_MS",
        whole(0, 86_400_000),
        "least time between two snapshots of a namespace, in milliseconds",
        section=_NAMESPACES,
    )

    # --- durable objects ---
    objects_dir: Path | None = setting(
        None,
        "LAYER_OBJECTS_DIR",
        path,
        "directory of durable objects; unset: under the data directory",
        section=_OBJECTS,
    )
    s3_bucket: str = setting(
        "", "LAYER_S3_BUCKET", text, "S3 bucket of durable objects, instead of a directory", section=_OBJECTS
    )
    s3_prefix: str = setting(
        "", "LAYER_S3_PREFIX", text, "what every key in the bucket begins with, such as `layer/`", section=_OBJECTS
    )
    s3_region: str = setting(
        "",
        "LAYER_S3_REGION",
        text,
        "the bucket's region; unset: as the AWS tools find it, from AWS_REGION or a profile",
        section=_OBJECTS,
    )
    s3_endpoint_url: str = setting(
        "", "LAYER_S3_ENDPOINT_URL", http_url, "an S3 service that is not AWS's own", section=_OBJECTS
    )
    s3_connect_timeout_seconds: float = setting(
        S3_CONNECT_SECONDS,
        "LAYER_S3_CONNECT_TIMEOUT_SECONDS",
        seconds(0.01, 600),
        "for opening a connection to S3",
        section=_OBJECTS,
    )
    s3_attempt_timeout_seconds: float = setting(
        S3_ATTEMPT_SECONDS,
        "LAYER_S3_ATTEMPT_TIMEOUT_SECONDS",
        seconds(0.01, 600),
        "for one attempt of an operation on S3, before it is tried again; large bodies add to it",
        section=_OBJECTS,
    )
    objects_timeout_seconds: float = setting(
        OPERATION_SECONDS,
        "LAYER_OBJECTS_TIMEOUT_SECONDS",
        seconds(0.01, 600),
        "for one operation on durable objects, with all its attempts; large bodies add to it",
        section=_OBJECTS,
    )

    # --- PostgreSQL ---
    database_url: str = setting(
        "",
        "DATABASE_URL",
        postgres_url,
        "PostgreSQL that the gateways share; unset: what it would keep stays in the process",
        section=_DATABASE,
        secret=True,
    )
    database_connect_timeout_seconds: float = setting(
        CONNECT_SECONDS,
        "LAYER_DATABASE_CONNECT_TIMEOUT_SECONDS",
        seconds(0.01, 600),
        "for a connection to PostgreSQL",
        section=_DATABASE,
    )
    database_timeout_seconds: float = setting(
        QUERY_SECONDS,
        "LAYER_DATABASE_TIMEOUT_SECONDS",
        seconds(0.01, 600),
        "for one query or transaction, the wait for a connection included",
        section=_DATABASE,
    )
    database_connections_max: int = setting(
        CONNECTIONS_MAX,
        "LAYER_DATABASE_CONNECTIONS_MAX",
        whole(1, 1000),
        "connections of the pool; leases use one more",
        section=_DATABASE,
    )

    # --- metrics and health ---
    metrics_namespaces_max: int = setting(
        100,
        "LAYER_METRICS_NAMESPACES_MAX",
        whole(0, 100_000),
        "namespaces with a label of their own in metrics; the rest share `other`",
        section=_OBSERVE,
    )
    metrics_backend_url: str = setting(
        "", "METRICS_BACKEND_URL", http_url, "Prometheus-compatible server behind the PromQL routes", section=_OBSERVE
    )
    otlp_endpoint: str = setting(
        "",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        http_url,
        "OpenTelemetry collector (OTLP over HTTP) that gets a span of every request; needs the extra `otel`",
        section=_OBSERVE,
    )
    access_log: str = setting(
        "stdout",
        "LAYER_ACCESS_LOG",
        choice("stdout", "stderr", "off"),
        "where the access log goes: stdout, stderr or off",
        section=_OBSERVE,
    )
    log_level: str = setting(
        "info",
        "LAYER_LOG_LEVEL",
        choice("debug", "info", "warning", "error"),
        "least severe log line written",
        section=_OBSERVE,
    )

    # --- document cache ---
    cache: str = setting(
        "",
        "LAYER_CACHE",
        choice("embedded", "aerospike", "off"),
        "document cache: embedded, aerospike or off; unset: aerospike if AEROSPIKE_HOSTS is set, else embedded",
        section=_CACHE,
    )
    cache_dir: Path | None = setting(
        None,
        "LAYER_CACHE_DIR",
        path,
        "directory of the document cache; unset: in the data directory",
        section=_CACHE,
    )
    cache_capacity_bytes: int = setting(
        CAPACITY_BYTES,
        "LAYER_CACHE_CAPACITY_BYTES",
        whole(MIB, 1 << 44),
        "disk that the document cache may take, in bytes",
        section=_CACHE,
    )
    cache_namespace_capacity_bytes: int = setting(
        0,
        "LAYER_CACHE_NAMESPACE_CAPACITY_BYTES",
        whole(0, 1 << 44),
        "of them for one namespace, in bytes, so that a large one leaves room for others; 0: all. Embedded cache only",
        section=_CACHE,
    )
    columns_bytes_max: int = setting(
        1 << 30,
        "LAYER_COLUMNS_BYTES_MAX",
        whole(0, 1 << 44),
        "disk for typed columns of cached rows, in bytes, beside the cache's own; 0: none are built",
        section=_CACHE,
    )
    cache_ttl_seconds: float = setting(
        TTL_SECONDS,
        "LAYER_CACHE_TTL_SECONDS",
        seconds(1, 31_536_000),
        "age at which a cached document is read again",
        section=_CACHE,
    )
    cache_timeout_ms: int = setting(
        int(TIMEOUT_SECONDS * 1000),
        "LAYER_CACHE_TIMEOUT_MS",
        whole(1, 60_000),
        "for one operation of the document cache, in milliseconds",
        section=_CACHE,
    )
    aerospike_hosts: str = setting(
        "",
        "AEROSPIKE_HOSTS",
        text,
        "nodes of the Aerospike cluster, as host:port with commas between; the port is 3000 unless given",
        section=_CACHE,
    )
    aerospike_namespace: str = setting(
        AEROSPIKE_NAMESPACE, "AEROSPIKE_NAMESPACE", text, "Aerospike namespace of the document cache", section=_CACHE
    )
    aerospike_set_prefix: str = setting(
        AEROSPIKE_SET_PREFIX,
        "AEROSPIKE_SET_PREFIX",
        set_prefix,
        "beginning of the names of the Aerospike sets that the document cache uses",
        section=_CACHE,
    )
    aerospike_user: str = setting("", "AEROSPIKE_USER", text, "user of an Aerospike with accounts", section=_CACHE)
    aerospike_password: str = setting(
        "", "AEROSPIKE_PASSWORD", token, "the user's password", section=_CACHE, secret=True
    )
    aerospike_connect_timeout_seconds: float = setting(
        AEROSPIKE_CONNECT_SECONDS,
        "LAYER_AEROSPIKE_CONNECT_TIMEOUT_SECONDS",
        seconds(0.01, 60),
        "for a connection to an Aerospike node",
        section=_CACHE,
    )
    aerospike_scan_bytes_max: int = setting(
        SCAN_BYTES_MAX,
        "LAYER_AEROSPIKE_SCAN_BYTES_MAX",
        whole(0, 1 << 40),
        "memory that scans of rows in Aerospike may take together, in bytes; a scan that needs more asks the upstream",
        section=_CACHE,
    )

    @property
    def cache_engine(self) -> str:
        """`embedded`, `aerospike` or `off`."""
        return self.cache or ("aerospike" if self.aerospike_hosts else "embedded")

    # --- history ---
    history: str = setting(
        "on",
        "LAYER_HISTORY",
        choice("on", "off"),
        "record served queries and tagged fetches: on or off",
        section=_HISTORY,
    )
    history_off_namespaces: str = setting(
        "",
        "LAYER_HISTORY_OFF_NAMESPACES",
        text,
        "namespaces of which nothing is recorded, separated by commas",
        section=_HISTORY,
    )

    # --- jobs ---
    job_ttl_seconds: float = setting(
        TTL_SECONDS_OF_JOBS,
        "LAYER_JOB_TTL_SECONDS",
        seconds(1, 31_536_000),
        "for which a job that has ended, and its results, are kept",
        section=_JOBS,
    )
    job_seconds_max: float = setting(
        JOB_SECONDS_MAX,
        "LAYER_JOB_TIMEOUT_SECONDS",
        seconds(1, 604_800),
        "for one job's work; a job that needs more fails",
        section=_JOBS,
    )
    scan_results_bytes_max: int = setting(
        8 << 30,
        "LAYER_SCAN_RESULTS_BYTES_MAX",
        whole(1 << 20, 1 << 50),
        "of results of scans that one process keeps in the object store; the oldest make room",
        section=_JOBS,
    )
    warm_rows_max: int = setting(
        1_000_000,
        "LAYER_WARM_ROWS_MAX",
        whole(0, 1_000_000_000_000),
        "rows of a namespace that a warm hint still warms; a warm that is asked for has no such limit",
        section=_JOBS,
    )

    @property
    def upstream_base_url(self) -> str:
        """The upstream's base URL with the region in place."""
        return self.upstream_url.replace(REGION_PLACEHOLDER, self.upstream_region)

    @property
    def prefix_region(self) -> str | None:
        """The one region that a path prefix may name; None when any prefix is accepted and dropped."""
        return self.upstream_region if REGION_PLACEHOLDER in self.upstream_url else None

    def check(self) -> "GatewayConfig":
        """Raises: ConfigurationError: every joint rule that is broken, at once."""
        problems = joint_problems(JOINT_RULES, {each.field: getattr(self, each.field) for each in SETTINGS})
        if problems:
            raise ConfigurationError(problems)
        return self

    @classmethod
    def problems(cls, environ: Mapping[str, str] = os.environ, /, **overrides: Any) -> list[str]:
        """Every rule that the environment breaks, of one setting or of several; `overrides` (by field) win."""
        values, problems = read_environment(SETTINGS, environ)
        problems = {field: problem for field, problem in problems.items() if field not in overrides}
        complete = {each.field: each.default for each in SETTINGS} | values | overrides
        return [*problems.values(), *joint_problems(JOINT_RULES, complete, problems)]

    @classmethod
    def read(cls, environ: Mapping[str, str] = os.environ, /, **overrides: Any) -> "GatewayConfig":
        """The configuration of an environment; `overrides` (by field) win.

        Raises: ConfigurationError: every broken rule, at once.
        """
        problems = cls.problems(environ, **overrides)
        if problems:
            raise ConfigurationError(problems)
        values, _ = read_environment(SETTINGS, environ)
        return cls(**{**values, **overrides})


SETTINGS = settings_of(GatewayConfig)


def _share(share_bytes: int, capacity_bytes: int, cache: str, aerospike_hosts: str) -> str | None:
    if not share_bytes:
        return None
    if (cache or ("aerospike" if aerospike_hosts else "embedded")) == "aerospike":
        return "LAYER_CACHE_NAMESPACE_CAPACITY_BYTES is for the embedded cache; Aerospike bounds its namespace itself"
    if share_bytes > capacity_bytes:
        return "LAYER_CACHE_NAMESPACE_CAPACITY_BYTES must be at most LAYER_CACHE_CAPACITY_BYTES"
    return None


def _upstream_key(gateway_key: str, upstream_key: str) -> str | None:
    if gateway_key and not upstream_key:
        return "TURBOPUFFER_API_KEY is required with LAYER_GATEWAY_API_KEY: the upstream never sees the gateway's key"
    if gateway_key and gateway_key == upstream_key:
        return "LAYER_GATEWAY_API_KEY must differ from TURBOPUFFER_API_KEY"
    return None


def _region(url: str, region: str) -> str | None:
    if REGION_PLACEHOLDER in url and not _REGION.fullmatch(region):
        return "LAYER_UPSTREAM_REGION is required when LAYER_UPSTREAM_URL contains {region}: letters, digits, hyphens"
    return None


def _bodies_together(in_memory: int, together: int) -> str | None:
    if in_memory > together:
        return "LAYER_BODY_MEMORY_BYTES_MAX must not exceed LAYER_BODY_MEMORY_TOTAL_BYTES_MAX"
    return None


def _bodies(in_memory: int, largest: int) -> str | None:
    return "LAYER_BODY_MEMORY_BYTES_MAX must not exceed LAYER_BODY_BYTES_MAX" if in_memory > largest else None


def _hosts(cache: str, hosts: str) -> str | None:
    return "AEROSPIKE_HOSTS is required with LAYER_CACHE=aerospike" if cache == "aerospike" and not hosts else None


def _account(user: str, password: str) -> str | None:
    if bool(user) != bool(password):
        return "AEROSPIKE_USER and AEROSPIKE_PASSWORD are set together or not at all"
    return None


def _bucket_or_directory(bucket: str, directory: Path | None) -> str | None:
    if not bucket:
        return None
    if directory is not None:
        return "LAYER_S3_BUCKET and LAYER_OBJECTS_DIR exclude each other: durable objects are in one place"
    if importlib.util.find_spec("aiobotocore") is None:
        return "LAYER_S3_BUCKET needs the package's extra `s3`: install hevlayer[s3]"
    return None


def _bucket_of(bucket: str, prefix: str, region: str, endpoint_url: str) -> str | None:
    return (
        "LAYER_S3_BUCKET is required when another LAYER_S3_ setting is given"
        if (not bucket and (prefix or region or endpoint_url))
        else None
    )


def _collector(endpoint: str) -> str | None:
    if endpoint and importlib.util.find_spec("opentelemetry") is None:
        return "OTEL_EXPORTER_OTLP_ENDPOINT needs the package's extra `otel`: install hevlayer[otel]"
    return None


JOINT_RULES = (
    JointRule(("otlp_endpoint",), _collector),
    JointRule(("cache", "aerospike_hosts"), _hosts),
    JointRule(("cache_namespace_capacity_bytes", "cache_capacity_bytes", "cache", "aerospike_hosts"), _share),
    JointRule(("aerospike_user", "aerospike_password"), _account),
    JointRule(("s3_bucket", "objects_dir"), _bucket_or_directory),
    JointRule(("s3_bucket", "s3_prefix", "s3_region", "s3_endpoint_url"), _bucket_of),
    JointRule(("gateway_api_key", "turbopuffer_api_key"), _upstream_key),
    JointRule(("upstream_url", "upstream_region"), _region),
    JointRule(("body_memory_bytes_max", "body_bytes_max"), _bodies),
    JointRule(("body_memory_bytes_max", "body_memory_total_bytes_max"), _bodies_together),
)
