"""Schemas of jobs: warms, and scans with their results."""

from hevlayer.gateway.openapi.shapes import (
    Schema,
    array,
    boolean,
    described,
    either,
    integer,
    nullable,
    number,
    obj,
    ref,
    string,
    words,
)

_TIME = string(format="date-time")
_REQUIRED = ["id", "namespace", "status", "progress", "documents_scanned", "created_at"]
_JOB: dict[str, Schema] = {
    "id": string(format="uuid"),
    "namespace": string(),
    "status": words("running", "completed", "failed"),
    "progress": number("A fraction that only grows; 1 when completed.", minimum=0, maximum=1),
    "documents_scanned": integer("Rows looked at so far.", minimum=0),
    "stable_as_of": described(ref("Watermark"), "The stamp through which the result is complete."),
    "created_at": _TIME,
    "completed_at": _TIME,
    "error": string("Why it failed."),
}

_SOURCES = ("auto", "cache", "origin", "snapshot")
_TIMEOUT = {**number("30 when it is not given.", maximum=300), "exclusiveMinimum": 0}
_LIVE: dict[str, Schema] = {
    "bounded": boolean("The count is a lower bound."),
    "timed_out": boolean("The time ran out; the count is what was found so far."),
    "shards_saturated": integer("Searches that had more rows than one answer holds.", minimum=0),
    "shards_total": integer(minimum=1),
    "approximate": boolean("Found by an approximate search."),
    "elapsed_ms": integer(minimum=0),
}

SCHEMAS: dict[str, Schema] = {
    "WarmJob": obj(_JOB, _REQUIRED, "A warm. It keeps what it has put when it fails or is deleted."),
    "ScanJob": obj(
        {
            **_JOB,
            "mode": words("ids", "count", "values"),
            "source": words(*_SOURCES),
            "effective_source": words("cache", "origin", "snapshot", text="What `auto` turned out to be."),
            "field": string(),
            "threads": integer("Readers side by side.", minimum=1),
            "unique_values": integer(minimum=0),
            "truncated": boolean("There was more than a result may have."),
            "approximate": boolean("Found by an approximate search."),
            "watermark_ms": described(ref("Watermark"), "Rows stamped later were left out."),
        },
        [*_REQUIRED, "mode", "source"],
    ),
    "ScanJobList": obj({"scans": array(ref("ScanJob"), "Newest first.")}, ["scans"]),
    "ScanRequest": {
        **obj(
            {
                "mode": nullable(words("ids", "count", "values", text="`ids` when it is not given.")),
                "source": nullable(words(*_SOURCES, text="`auto` when it is not given.")),
                "filters": nullable(ref("Filter")),
                "fts": nullable(
                    {
                        **obj(
                            {"field": ref("AttributeName"), "query": string(maxLength=8_192)},
                            ["field", "query"],
                            "Rows that hold at least one token of the query.",
                        )
                    }
                ),
                "ann": nullable(
                    obj(
                        {
                            "vector": ref("Vector"),
                            "field": nullable(ref("AttributeName")),
                            "radius": number("Largest distance that counts.", minimum=0),
                        },
                        ["vector", "radius"],
                    )
                ),
                "field": nullable(described(ref("AttributeName"), "In mode values: whose values are counted.")),
                "exhaustive": nullable(boolean("With `ann` in mode count: go on until the number is exact.")),
                "threads": nullable(integer(minimum=1, maximum=64)),
                "page_size": nullable(integer("Rows of one upstream page.", minimum=1, maximum=10_000)),
                "timeout_seconds": nullable(_TIMEOUT),
            }
        ),
        "additionalProperties": False,
    },
    "ScanCount": obj(
        {
            "count": integer(minimum=0),
            "served_by": words("cache", "origin", "snapshot"),
            "snapshot_sha": string(),
            "watermark_ms": described(ref("Watermark"), "What was written later may be missing."),
            **_LIVE,
            "threads": integer(minimum=1),
        },
        ["count", "served_by", "elapsed_ms"],
    ),
    "ScanResults": either(
        obj(
            {"ids": array(string(), "In ascending order."), "total": integer(minimum=0), "id_type": string()},
            ["ids", "total", "id_type"],
        ),
        obj(
            {
                "values": array(obj({"v": string(), "n": integer(minimum=1)}, ["v", "n"]), "The most frequent first."),
                "total": integer("Different values.", minimum=0),
                "truncated": boolean("There are more values than 10,000."),
                "type": string("The values' type; here all are written as text."),
            },
            ["values", "total", "truncated", "type"],
        ),
    ),
    "ResultCountRequest": {
        **obj(
            {
                "query": either(
                    obj({"field": ref("AttributeName"), "fts": string(maxLength=8_192)}, ["field", "fts"]),
                    obj(
                        {
                            "vector": ref("Vector"),
                            "max_distance": number(minimum=0),
                            "field": ref("AttributeName"),
                        },
                        ["vector", "max_distance"],
                    ),
                ),
                "filters": nullable(ref("Filter")),
                "mode": nullable(words("bounded", "exhaustive", text="`bounded` when it is not given.")),
                "timeout_seconds": nullable(_TIMEOUT),
            },
            ["query"],
        ),
        "additionalProperties": False,
    },
    "ResultCount": obj(
        {"count": integer(minimum=0), **_LIVE},
        ["count", "bounded", "timed_out", "shards_saturated", "shards_total", "elapsed_ms"],
    ),
    "WarmJobList": obj({"warm_jobs": array(ref("WarmJob"), "Newest first.")}, ["warm_jobs"]),
}
