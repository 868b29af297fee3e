"""Every upstream route, byte by byte: what reaches the upstream and what comes back, written out.

A row gives the request as the client sends it. Unless the row says otherwise the same method, target and body go up,
and the same status, headers and body come back; the header lists are those of `wire_exchange`.
"""

from dataclasses import dataclass

import pytest
from wire_exchange import (
    DATE,
    FORWARDED_HEADERS,
    FORWARDED_HEADERS_IDENTITY,
    STAMP,
    TRACEPARENT,
    exchange,
    length,
    message,
    request,
)

NS1, NS2 = b"/v1/namespaces/a%20b%2F%C3%A7", b"/v2/namespaces/a%20b%2F%C3%A7"
# Repeated, empty, badly encoded and unknown parameters.
PARAMETERS = b"?stainless_overload=x&x=1&x=2&empty=&y=%zz&%C3%A7=%2F"
ODD = b'{ "z" : [1.0e0, "\\u00e9\\/"],\n "a":null ,"\xc3\xa7":1E400 }  '
ODD_ANSWER = b'{"weird" : 1.50 , "x":"\\/ \xf0\x9f\xa4\xb7"}\n'
CONSISTENCY = b',"consistency":{"level":"eventual","max_staleness_seconds":1}'
IS_EVENTUAL = b"x-layer-consistency: eventual"
IS_UPSTREAM = b"x-layer-consistency: upstream"
CLEANED_UP = (
    b',"layer":{"cleanup":"done","steps":[{"step":"watermark","status":"done"},{"step":"listing","status":"done"},'
    b'{"step":"document_cache","status":"done"},{"step":"jobs","status":"done"},'
    b'{"step":"history","status":"done"},{"step":"shards","status":"done"},{"step":"snapshots","status":"done"}]}'
)
WARMED = (
    b',"namespace":"a b/\xc3\xa7","turbopuffer":{"enabled":true,"status":"started"},'
    b'"documents":{"enabled":false,"status":"skipped"},"snapshots":{"enabled":false,"status":"skipped"}'
)
NAMED = (
    b',"id":"a b/\xc3\xa7","layer":{"stable_as_of":null,"is_stable":false,'
    b'"cache_state":{"state":"cold","warmed_through_ms":null,"warm_inflight":false}'
    b',"shard_count":1,"shard_state":"unsharded","scatter_gather_active":false}'
)
METADATA = b'{ "schema": {"id" : {"type":"uint"}},\n "created_at":"2026-11-16T10:00:00Z" , "a":1.0e2 }'
SCHEMA = b'{"id":{"type":"uint"} , "t":{"type" :"string"}}\n'
WRITTEN = b'{"status":"OK", "message":"m","rows_affected":1,"billing":{"billable_logical_bytes_written":9}}'
ROWS = b'{"rows":[{"id":1,"$dist":0.10}], "billing":{},"performance":{"server_total_ms":3}}\n'


@dataclass(frozen=True)
class Row:
    method: bytes
    target: bytes
    body: bytes = b""
    sent: bytes | None = None
    """The body that reaches the upstream, when it is another."""
    answer: bytes = ODD_ANSWER
    received: bytes | None = None
    """The body that reaches the client, when it is another."""
    headers: tuple[bytes, ...] = ()
    """Added to the answer."""
    sent_method: bytes = b""
    switches: bytes = b""
    """Parameters that are ours and go no further."""
    identity: bool = False
    """The answer is changed, so it is asked for uncompressed."""

    def __str__(self) -> str:
        return f"{self.method.decode()} {self.target.decode()} {self.body.decode()[:40]}"


def query(body: bytes, sent: bytes, headers: bytes = IS_EVENTUAL) -> Row:
    return Row(b"POST", NS2 + b"/query", body, sent, ROWS, headers=(headers,))


def write(body: bytes, sent: bytes | None = None, method: bytes = b"POST", *, identity: bool = False) -> Row:
    return Row(method, NS2, body, sent, WRITTEN, sent_method=b"POST", identity=identity)


RELAYED = [
    Row(b"GET", b"/v1/namespaces"),
    Row(b"GET", NS1),
    Row(b"POST", NS1, ODD),
    Row(b"POST", NS1 + b"/query", ODD),
    Row(b"POST", b"/v1/vectors/a%20b%2F%C3%A7/query", ODD),
    Row(b"POST", NS2 + b"/explain_query", ODD),
    Row(b"GET", NS1 + b"/operations/tok%2Fen"),
    Row(b"POST", NS1 + b"/_debug/recall"),
    Row(b"POST", NS1 + b"/_debug/recall", ODD),
    Row(b"GET", NS1 + b"/_debug/purge_cache"),
    Row(b"GET", NS1 + b"/_debug/warm_cache"),
    Row(b"POST", NS2 + b"/read_only_optimize"),
    Row(b"POST", NS2 + b"/read_only_optimize", ODD),
    Row(b"POST", NS2 + b"/async", b'{"copy_from_namespace" : {"source_namespace":"b"}}', answer=b'{"token":"t"}'),
]

CHANGED = [
    # The name and the watermark for clients of the layer.
    Row(b"GET", NS2 + b"/metadata", answer=METADATA, received=METADATA[:-1] + NAMED + b"}", identity=True),
    Row(b"GET", NS1 + b"/metadata", answer=METADATA, received=METADATA[:-1] + NAMED + b"}", identity=True),
    Row(b"PATCH", NS1 + b"/metadata", ODD, answer=METADATA, received=METADATA[:-1] + NAMED + b"}", identity=True),
    # Reserved attributes are taken out of a schema; nothing else changes.
    Row(b"GET", NS1 + b"/schema", answer=SCHEMA, identity=True),
    Row(
        b"GET",
        NS1 + b"/schema",
        answer=b'{"id":{"type":"uint"}, "_hevlayer_upserted_at" : {"type":"int"} ,"t":1}',
        received=b'{"id":{"type":"uint"} ,"t":1}',
        identity=True,
    ),
    Row(b"POST", NS1 + b"/schema", b'{"t" : "string"}', answer=SCHEMA, identity=True),
    # What the gateway itself did.
    Row(b"DELETE", NS2, answer=b'{"status" : "OK"}', received=b'{"status" : "OK"' + CLEANED_UP + b"}", identity=True),
    Row(
        b"GET",
        NS1 + b"/hint_cache_warm",
        answer=b'{"status":"ACCEPTED"}',
        received=b'{"status":"ACCEPTED"' + WARMED + b"}",
        switches=b"&documents=false&snapshots=false",
        identity=True,
    ),
]

QUERIES = [
    query(
        b'{"rank_by":["v","ANN",[0.10, 1e-3]] , "limit":10}\n',
        b'{"rank_by":["v","ANN",[0.10, 1e-3]] , "limit":10' + CONSISTENCY + b"}\n",
    ),
    query(
        b'{"rank_by":["t","BM25","\\u00e9 \xc3\xa7 \\/"],"top_k":1,"filters":["a","Eq",null],"new":{"k":[]}}',
        b'{"rank_by":["t","BM25","\\u00e9 \xc3\xa7 \\/"],"top_k":1,"filters":["a","Eq",null],"new":{"k":[]}'
        + CONSISTENCY
        + b"}",
    ),
    query(
        b'{"aggregate_by":{"n":["Count"]},"group_by":["a"],"limit":{"total":3}}',
        b'{"aggregate_by":{"n":["Count"]},"group_by":["a"],"limit":{"total":3}' + CONSISTENCY + b"}",
    ),
    query(
        b'{"queries":[{"rank_by":["id","asc"],"limit":1},{"aggregate_by":{"n":["Count"]}}],"rerank_by":["RRF"]}',
        b'{"queries":[{"rank_by":["id","asc"],"limit":1},{"aggregate_by":{"n":["Count"]}}],"rerank_by":["RRF"]'
        + CONSISTENCY
        + b"}",
    ),
    # A caller's own level: not a byte changes.
    query(
        b'{"consistency" : {"level":"strong"},"rank_by":["id","asc"],"limit":1}',
        b'{"consistency" : {"level":"strong"},"rank_by":["id","asc"],"limit":1}',
        IS_UPSTREAM,
    ),
    # Everything, or everything but a list: the stamp is left out by the upstream itself.
    query(
        b'{"rank_by":["id","asc"],"limit":1,"include_attributes":true}',
        b'{"rank_by":["id","asc"],"limit":1,"exclude_attributes":["_hevlayer_upserted_at","_hevlayer_shard"]'
        + CONSISTENCY
        + b"}",
    ),
    query(
        b'{"rank_by":["id","asc"],"limit":1,"exclude_attributes":[ "a" ]}',
        b'{"rank_by":["id","asc"],"limit":1,"exclude_attributes":[ "a" ,"_hevlayer_upserted_at","_hevlayer_shard"]'
        + CONSISTENCY
        + b"}",
    ),
]

STAMPED = b'"_hevlayer_upserted_at":' + STAMP
WRITES = [
    write(
        b'{"upsert_rows" : [ {"id":1, "x":1.0} , {"id":"\\u00e9"}]}',
        b'{"upsert_rows" : [ {"id":1, "x":1.0,' + STAMPED + b'} , {"id":"\\u00e9",' + STAMPED + b"}]}",
    ),
    write(
        b'{"upsert_columns":{"id":[1,2],"x":[3,null]},"distance_metric":"cosine_distance"}',
        b'{"upsert_columns":{"id":[1,2],"x":[3,null],"_hevlayer_upserted_at":[' + STAMP + b"," + STAMP + b"]},"
        b'"distance_metric":"cosine_distance"}',
    ),
    write(b'{"patch_rows":[{"id":1,"x":2}]}', b'{"patch_rows":[{"id":1,"x":2,' + STAMPED + b"}]}", b"PATCH"),
    write(
        b'{"patch_columns":{"id":["a"],"x":[2]}}',
        b'{"patch_columns":{"id":["a"],"x":[2],"_hevlayer_upserted_at":[' + STAMP + b"]}}",
    ),
    # A write by filter asks which rows it changed: the answer is read, and stripped of what the caller did not ask for.
    write(
        b'{"patch_by_filter":{"filters":["x","Eq",1],"patch":{"x":2}}}',
        b'{"return_affected_ids":true,"patch_by_filter":{"filters":["x","Eq",1],"patch":{"x":2,' + STAMPED + b"}}}",
        identity=True,
    ),
    write(b'{"deletes" : [1,"a"] , "unknown":1E400}'),
    write(
        b'{"delete_by_filter":["x","Eq", null],"delete_by_filter_allow_partial":true}',
        b'{"return_affected_ids":true,"delete_by_filter":["x","Eq", null],"delete_by_filter_allow_partial":true}',
        identity=True,
    ),
    write(b'{"schema":{"x" : "string"}}'),
    write(b'{"copy_from_namespace" : "b"}'),
    write(b'{"branch_from_namespace":{"source_namespace":"b"} }'),
]


@pytest.mark.parametrize("row", [*RELAYED, *CHANGED, *QUERIES, *WRITES], ids=str)
async def test_bytes_both_ways(bench, row):
    target = row.target + PARAMETERS
    native = (b"Date: " + DATE, b"Content-Type: application/json", b"X-Turbopuffer-B: 1", b"X-Turbopuffer-B: 2")
    raw = message(b"HTTP/1.1 200 OK", (*native, b"Content-Length: %d" % len(row.answer)), row.answer)
    seen = await exchange(bench, request(row.method, target + row.switches, row.body), raw)

    sent = row.body if row.sent is None else row.sent
    forwarded = FORWARDED_HEADERS_IDENTITY if row.identity else FORWARDED_HEADERS
    framing = length(sent) or ((b"content-length: 0",) if row.method in (b"POST", b"PATCH") else ())
    line = b"%b %b HTTP/1.1" % (row.sent_method or row.method, target)
    assert seen.sent == message(line, (*forwarded, *framing), sent)

    received = row.answer if row.received is None else row.received
    headers = tuple(_lowered(header) for header in native) + row.headers
    assert seen.received == message(
        b"HTTP/1.1 200 OK", (*headers, b"traceparent: " + TRACEPARENT, b"content-length: %d" % len(received)), received
    )


def _lowered(header: bytes) -> bytes:
    name, _, value = header.partition(b":")
    return name.lower() + b":" + value


PLAIN_ERROR = b"Invalid URL: Namespace contains invalid characters, must be [A-Za-z0-9-_.]"
QUERY_ROW = QUERIES[0]


@pytest.mark.parametrize("row", [*RELAYED, *CHANGED, QUERY_ROW, WRITES[0]], ids=str)
@pytest.mark.parametrize("status", [b"400 Bad Request", b"404 Not Found", b"429 Too Many Requests"])
async def test_an_error_is_the_upstream_s_byte_for_byte(bench, row, status):
    native = (
        b"date: " + DATE,
        b"content-type: text/plain; charset=utf-8",
        b"retry-after: 2",
        b"x-should-retry: true",
        b"x-request-id: tpreq_1",
    )
    raw = message(b"HTTP/1.1 " + status, (*native, b"content-length: %d" % len(PLAIN_ERROR)), PLAIN_ERROR)
    seen = await exchange(bench, request(row.method, row.target + PARAMETERS, row.body), raw)
    # A 404 hides what is known of the namespace: the caller may not be allowed to know that it exists.
    added = () if status.startswith(b"404") else row.headers
    assert seen.received == message(
        b"HTTP/1.1 " + status,
        (*native, *added, b"traceparent: " + TRACEPARENT, b"content-length: %d" % len(PLAIN_ERROR)),
        PLAIN_ERROR,
    )
