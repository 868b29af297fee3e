"""Schemas of facet snapshots."""

from hevlayer.gateway.openapi.shapes import (
    Schema,
    array,
    boolean,
    described,
    integer,
    nullable,
    number,
    obj,
    ref,
    string,
    words,
)

_TIME = string(format="date-time")
_SOURCE = words("auto", "stored", "cache", "origin")
_DURATION = "[1-9][0-9]{0,8}(ms|s|m|h|d|w)"
_FACET_FIELD = string("Not `id`, and none of the gateway's own.", pattern="^([^_i]|i[^d]|id.|i$)")
_EVENT = obj(
    {"ts_ms": integer(minimum=0), "namespace": string(), "sha": string("The first seven characters.")},
    ["ts_ms", "namespace", "sha"],
)

SCHEMAS: dict[str, Schema] = {
    "SnapshotRequest": {
        **obj(
            {
                "field": described(ref("AttributeName"), "Whose values are counted."),
                "source": nullable(_SOURCE),
                "filters": nullable(ref("Filter")),
                "page_size": nullable(
                    integer("Rows of one page, where values are read row by row.", minimum=1, maximum=10_000)
                ),
            },
            ["field"],
        ),
        "additionalProperties": False,
    },
    "SnapshotJob": obj(
        {
            "id": string(),
            "namespace": string(),
            "status": words("running", "completed", "failed"),
            "progress": number("Only grows.", minimum=0, maximum=1),
            "documents_scanned": integer(minimum=0),
            "stable_as_of": integer("The watermark that the counts stand for."),
            "created_at": _TIME,
            "completed_at": _TIME,
            "error": string(),
            "field": string(),
            "source": _SOURCE,
            "effective_source": _SOURCE,
            "sha": string("SHA-256 of the counts."),
        },
        ["id", "namespace", "status", "progress", "documents_scanned", "created_at", "field", "source"],
    ),
    "SnapshotJobList": obj({"snapshot_jobs": array(ref("SnapshotJob"))}, ["snapshot_jobs"]),
    "SnapshotHistory": array(
        obj({"watermark_ms": integer(minimum=0), "sha": string("The first seven characters.")}, ["watermark_ms", "sha"])
    ),
    "SnapshotBody": obj(
        {
            "namespace": string(),
            "watermark_ms": integer(minimum=0),
            "sha": string(),
            "row_count": integer(minimum=0),
            "fields": array(
                obj(
                    {
                        "name": string(),
                        "type": string("As the upstream's schema has it."),
                        "values": array(obj({"v": string(), "n": integer(minimum=0)}, ["v", "n"])),
                    },
                    ["name", "type", "values"],
                )
            ),
            "fields_skipped": array(
                obj(
                    {
                        "name": string(),
                        "reason": words("exceeded_cap"),
                        "distinct_observed": integer(minimum=0),
                        "cap": integer(minimum=1),
                    },
                    ["name", "reason", "distinct_observed", "cap"],
                )
            ),
        },
        ["namespace", "watermark_ms", "sha", "row_count", "fields", "fields_skipped"],
    ),
    "SnapshotPolicy": {
        **obj(
            {
                "facetFields": nullable({**array(_FACET_FIELD, "The watched fields."), "maxItems": 64}),
                "interval": nullable(string("At least so long between two snapshots: `5m`.", pattern=f"^{_DURATION}$")),
                "retention": nullable(
                    string("`never`, or the age at which bodies go: `30d`.", pattern=f"^(never|{_DURATION})$")
                ),
            },
            text="What is left out is as the configuration has it.",
        ),
        "additionalProperties": False,
    },
    "SnapshotActivity": obj(
        {"events": array(_EVENT), "next_cursor": string("When there are more."), "truncated": boolean()},
        ["events", "truncated"],
    ),
}
