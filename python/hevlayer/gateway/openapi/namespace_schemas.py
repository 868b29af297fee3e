"""Schemas of namespaces, documents, and what the process says of itself."""

from hevlayer.gateway.openapi.shapes import (
    Schema,
    anything,
    array,
    boolean,
    described,
    either,
    integer,
    mapping,
    nullable,
    obj,
    ref,
    string,
    words,
)
from hevlayer.metrics.catalog import FAMILIES

_TIME = string(format="date-time")
_ID_TYPE = words("string", "uint", "uuid", text="What kind of ids the namespace has; here all are written as strings.")
_STEP = obj(
    {
        "enabled": boolean(),
        "status": words("skipped", "completed", "started", "no_snapshot"),
        "reason": string("Why it was skipped."),
    },
    ["enabled", "status"],
)

SCHEMAS: dict[str, Schema] = {
    "NamespaceNames": obj(
        {
            "namespaces": array(obj({"id": string()}, ["id"])),
            "next_cursor": nullable(string("Pass it as `cursor` to get the next page; null at the end.")),
        },
        ["namespaces"],
    ),
    "NamespaceRow": obj(
        {
            "name": string(),
            "row_count": nullable(integer(minimum=0)),
            "size_bytes": nullable(integer(minimum=0)),
            "stable_as_of_ms": ref("Watermark"),
            "is_stable": boolean(),
            "schema_summary": obj({"vector_dim": integer(minimum=1), "fields": array(string())}),
            "index": ref("IndexState"),
            "cache_state": ref("CacheState"),
            "last_write_ms": nullable(integer()),
            "shadow": boolean(),
            "labels": mapping(string()),
            "metadata_error": string("Why the rest of the row is missing."),
        },
        ["name"],
    ),
    "NamespaceList": obj(
        {"namespaces": array(ref("NamespaceRow")), "next_cursor": nullable(string())}, ["namespaces", "next_cursor"]
    ),
    "IndexState": obj(
        {
            "status": words("up-to-date", "updating"),
            "unindexed_bytes": integer(minimum=0),
            "unindexed_rows": integer(minimum=0),
        },
        ["status"],
    ),
    "CacheState": obj(
        {
            "state": words("cold", "warming", "warm", text="Warm while every row is in the document cache."),
            "warmed_through_ms": described(ref("Watermark"), "The stamp through which every row is there."),
            "warm_inflight": boolean("A warm of this process is at work."),
        },
        ["state", "warm_inflight"],
    ),
    "LayerState": obj(
        {
            "stable_as_of": described(ref("Watermark"), "The watermark; null before the first poll that gave one."),
            "is_stable": boolean("The last poll found the index up to date."),
            "shard_count": integer("1 where the namespace is not sharded.", minimum=1, maximum=256),
            "shard_state": words("unsharded", "backfilling", "ready"),
            "shard_lag_rows": integer("Rows that do not carry their shard yet, where that was counted.", minimum=0),
            "scatter_gather_active": boolean("Ranked queries go up as one leg a shard."),
            "cache_state": ref("CacheState"),
        },
        ["stable_as_of", "is_stable"],
    ),
    "InitRequest": obj(
        {
            "shard_count": nullable(integer("It cannot be changed later.", minimum=2, maximum=256)),
            "schema_version": anything(),
        }
    ),
    "InitAnswer": obj(
        {
            "namespace": string(),
            "layer": obj(
                {
                    "shard_count": integer("1 where the namespace is not sharded.", minimum=1, maximum=256),
                    "shard_state": words("unsharded", "backfilling", "ready"),
                    "shard_lag_rows": integer(minimum=0),
                    "scatter_gather_active": boolean(),
                },
                ["shard_count", "shard_state", "scatter_gather_active"],
            ),
        },
        ["namespace", "layer"],
    ),
    "NamespaceMetadata": obj(
        {
            "id": string(),
            "schema": ref("AttributeSchemas"),
            "approx_row_count": integer(minimum=0),
            "approx_logical_bytes": integer(minimum=0),
            "created_at": _TIME,
            "updated_at": _TIME,
            "last_write_at": _TIME,
            "encryption": anything(),
            "index": ref("IndexState"),
            "pinning": anything(),
            "read_only": boolean(),
            "layer": ref("LayerState"),
        },
        ["id", "schema", "approx_row_count", "approx_logical_bytes", "created_at", "updated_at", "layer"],
        "The upstream's metadata without reserved attributes, and what the gateway knows under `layer`.",
    ),
    "MetadataChange": obj(
        {
            "pinning": either(
                boolean(), {"type": "null"}, obj({"replicas": integer(minimum=1, maximum=16)}, ["replicas"])
            ),
            "read_only": boolean(),
        }
    ),
    "NamespaceDeleted": obj(
        {
            "status": {"const": "OK"},
            "message": string(),
            "layer": obj(
                {
                    "cleanup": words("done", "pending", text="Pending work is taken up again by itself."),
                    "steps": array(
                        obj(
                            {"step": string(), "status": words("done", "failed"), "error": string()}, ["step", "status"]
                        )
                    ),
                },
                ["cleanup", "steps"],
            ),
        },
        ["status"],
    ),
    "WarmReport": obj(
        {
            "status": string(),
            "message": string(),
            "namespace": string(),
            "turbopuffer": _STEP,
            "documents": obj(
                {**_STEP["properties"], "job": ref("WarmJob")}, ["enabled", "status"], "With its job when one runs."
            ),
            "snapshots": obj(
                {
                    **_STEP["properties"],
                    "key": string("Of the newest snapshot in the object store."),
                    "watermark_ms": ref("Watermark"),
                    "sha": string(),
                },
                ["enabled", "status"],
            ),
        },
        ["status", "namespace", "turbopuffer", "documents", "snapshots"],
    ),
    "Acknowledged": obj({"status": string(), "message": string()}, ["status"]),
    "Export": obj(
        {
            "ids": array(ref("Id")),
            "vectors": nullable(array(nullable(ref("Vector")))),
            "attributes": mapping(array(anything())),
            "next_cursor": nullable(string()),
        },
        ["ids"],
    ),
    "Document": obj({"id": string(), "id_type": _ID_TYPE, "attributes": mapping(anything())}, ["id", "attributes"]),
    "FetchRequest": obj(
        {
            "ids": array(ref("Id"), most=10_000),
            "include_attributes": nullable(
                array(string(maxLength=128), "Vectors come only when they are named.", most=1_024)
            ),
        },
        ["ids"],
    ),
    "FetchedDocuments": obj(
        {"documents": array(ref("Document")), "missing": array(string()), "id_type": _ID_TYPE},
        ["documents", "missing", "id_type"],
        "Each document once, at its first mention; ids that have none under `missing`.",
    ),
    "Health": obj(
        {
            "status": {"const": "ok"},
            "version": string(),
            "aerospike": obj({"connected": boolean(), "generation": integer(minimum=0)}, ["connected", "generation"]),
            "document_cache": obj(
                {
                    "engine": string(),
                    "connected": boolean(),
                    "notes": array(string(), "What an operator should know, such as a server without expiry."),
                },
                ["engine", "connected", "notes"],
            ),
            "cache_state": array(
                obj(
                    {
                        "namespace": string(),
                        "state": words("cold", "warming", "warm"),
                        "warmed_through": ref("Watermark"),
                        "warm_inflight": boolean(),
                    },
                    ["namespace", "state", "warm_inflight"],
                )
            ),
        },
        ["status", "version", "aerospike", "document_cache", "cache_state"],
    ),
    "Readiness": obj(
        {
            "status": words("ready", "not_ready"),
            "reasons": array(string(), "What keeps the gateway from being ready."),
            "notes": array(string(), "What runs in a reduced way."),
        },
        ["status", "reasons", "notes"],
    ),
    "MetricCatalogEntry": obj(
        {
            "name": string(),
            "kind": words("counter", "gauge", "histogram"),
            "family": words(*FAMILIES),
            "labels": array(string()),
            "description": string(),
            "example_promql": string(),
            "alert": obj({"summary": string(), "expr": string(), "for": string()}, ["summary", "expr", "for"]),
        },
        ["name", "kind", "family", "labels", "description", "example_promql"],
    ),
    "MetricCatalog": obj({"version": string(), "entries": array(ref("MetricCatalogEntry"))}, ["version", "entries"]),
    "PromqlForm": obj(
        {"query": string(), "time": string(), "timeout": string(), "start": string(), "end": string(), "step": string()}
    ),
    "PromqlAnswer": obj({"status": words("success", "error"), "data": anything(), "error": string()}, ["status"]),
    "OpenApiDocument": obj({"openapi": string(), "info": obj({}), "paths": obj({})}, ["openapi", "info", "paths"]),
}
