"""Schemas of the record of searches and fetches."""

from hevlayer.gateway.openapi.shapes import Schema, anything, array, integer, mapping, nullable, obj, ref, string, words

_TAGS = array(string(), "Sorted, each once.", most=32)
_TIMES: dict[str, Schema] = {
    "timestamp": string(format="date-time"),
    "timestamp_nanos": integer("Nanoseconds since 1970, unlike any other record's.", minimum=0),
}
_TRACE = string("The trace id of `traceparent`; of a fetch, that of the search it belongs to.")
_CURSOR = nullable(string("For `before`; null when there is nothing older."))
_ID_TYPE = words("string", "uint", "uuid", text="Of the namespace's ids, when it is known.")

SCHEMAS: dict[str, Schema] = {
    "SearchHistoryEntry": obj(
        {
            **_TIMES,
            "namespace": string(),
            "trace_id": _TRACE,
            "raw_query": string("What `x-hevlayer-search-query` said."),
            "stable_as_of": ref("Watermark"),
            "query": mapping(anything(), "The query's shape: vectors by their length, long texts and lists cut."),
            "top_result_ids": array(string(), "In rank order.", most=100),
            "tags": _TAGS,
        },
        ["timestamp", "timestamp_nanos", "namespace", "trace_id", "query", "top_result_ids", "tags"],
        "One served query.",
    ),
    "SearchHistory": obj(
        {
            "entries": array(ref("SearchHistoryEntry"), "Newest first.", most=500),
            "next_cursor": _CURSOR,
            "id_type": _ID_TYPE,
        },
        ["entries", "next_cursor"],
    ),
    "ClickstreamEvent": obj(
        {
            **_TIMES,
            "trace_id": _TRACE,
            "namespace": string(),
            "doc_id": string(),
            "tags": _TAGS,
            "source": words("fetch"),
            "served_from": words("cache", "upstream"),
        },
        ["timestamp", "timestamp_nanos", "trace_id", "namespace", "doc_id", "tags", "source", "served_from"],
        "One document that was fetched.",
    ),
    "Clickstream": obj(
        {
            "events": array(ref("ClickstreamEvent"), "Newest first.", most=500),
            "next_cursor": _CURSOR,
            "id_type": _ID_TYPE,
        },
        ["events", "next_cursor"],
    ),
}
