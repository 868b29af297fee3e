"""Shapes of messages, byte by byte: other clients' headers, compression, framing, long operations, empty bodies."""

import gzip

import pytest
from wire_exchange import (
    CLIENT_HEADERS,
    DATE,
    FORWARDED_HEADERS,
    FORWARDED_HEADERS_IDENTITY,
    STAMP,
    TRACEPARENT,
    exchange,
    message,
    request,
)

TRACE = b"traceparent: " + TRACEPARENT
OK = message(b"HTTP/1.1 200 OK", (b"date: " + DATE, b"content-length: 2"), b"{}")
OK_HEADERS = (b"date: " + DATE, TRACE)


# What the asynchronous Python client (aiohttp) sends without a body.
AIOHTTP_HEADERS = (
    b"host: gateway.example:8080",
    b"accept: application/json",
    b"content-type: application/octet-stream",
    b"user-agent: AsyncTurbopuffer/Python 3.1.0",
    b"x-stainless-async: async:asyncio",
    b"authorization: Bearer tpuf_caller",
    b"prefer: respond-async",
    b"accept-encoding: identity",
    b"traceparent: " + TRACEPARENT,
    b"content-length: 0",
)


@pytest.mark.parametrize(
    ("method", "target", "answer"),
    [
        (b"GET", b"/v1/namespaces", b"{}"),
        (b"GET", b"/v1/namespaces/a/schema", b"{}"),
        (b"DELETE", b"/v2/namespaces/a", b"{}"),
    ],
)
async def test_an_empty_body_with_a_content_type(bench, method, target, answer):
    """The length of nothing is left out upstream, as the synchronous client does it."""
    seen = await exchange(bench, message(method + b" " + target + b" HTTP/1.1", AIOHTTP_HEADERS), OK)
    lines = seen.sent.split(b"\r\n")
    assert lines[0] == method + b" " + target + b" HTTP/1.1"
    assert sorted(lines[1:-2]) == sorted(
        line for line in AIOHTTP_HEADERS if not line.startswith((b"host", b"content-length"))
    )
    assert seen.sent.endswith(b"\r\n\r\n")
    assert seen.received.startswith(b"HTTP/1.1 200 OK\r\n")


async def test_the_go_client_s_headers(bench):
    sent = (
        b"Host: gateway.example",
        b"User-Agent: Turbopuffer/Go 2.4.0 (share-count=1)",
        b"Accept: application/json",
        b"Authorization: Bearer tpuf_caller",
        b"Prefer: respond-async",
        b"X-Stainless-Retry-Count: 0",
        b"Accept-Encoding: gzip",
        TRACE,
    )
    seen = await exchange(bench, message(b"GET /v1/namespaces HTTP/1.1", sent), OK)
    assert seen.sent == message(
        b"GET /v1/namespaces HTTP/1.1",
        (
            b"user-agent: Turbopuffer/Go 2.4.0 (share-count=1)",
            b"accept: application/json",
            b"prefer: respond-async",
            b"x-stainless-retry-count: 0",
            b"accept-encoding: gzip",
            b"authorization: Bearer tpuf_caller",
            TRACE,
        ),
    )


async def test_values_keep_their_order_and_every_byte(bench):
    odd = (
        b"x-stainless-b: 2",
        b'x-stainless-a: 1, 2;  q="x"',
        b"x-stainless-b: 1",
        b'x-turbopuffer-client-telemetry: {"version":1,"records":[]}',
        b"x-turbopuffer-name: \xc3\xa7\xff",
    )
    seen = await exchange(bench, request(b"GET", b"/v1/namespaces", headers=(*CLIENT_HEADERS, *odd)), OK)
    before = FORWARDED_HEADERS[:-2]
    assert seen.sent == message(b"GET /v1/namespaces HTTP/1.1", (*before, *odd, *FORWARDED_HEADERS[-2:]))


async def test_without_a_traceparent_one_is_added_and_nothing_else(bench):
    seen = await exchange(bench, request(b"GET", b"/v1/namespaces", headers=CLIENT_HEADERS[:-1]), OK)
    minted = next(line for line in seen.sent.split(b"\r\n") if line.startswith(b"traceparent: "))
    assert seen.sent == message(b"GET /v1/namespaces HTTP/1.1", (*FORWARDED_HEADERS[:-1], minted))
    assert minted in seen.received.split(b"\r\n")


PACKED_QUERY = gzip.compress(b'{"rank_by":["id","asc"],"limit":1,"consistency":{"level":"strong"}}')
PACKED_DELETE = gzip.compress(b'{"deletes":[1]}')


@pytest.mark.parametrize(
    ("target", "packed"),
    [
        (b"/v2/namespaces/a/query", PACKED_QUERY),
        (b"/v2/namespaces/a", PACKED_DELETE),
        (b"/v2/namespaces/a/explain_query", gzip.compress(b"{}")),
        (b"/v1/namespaces/a/_debug/recall", gzip.compress(b"{}")),
        (b"/v2/namespaces/a/explain_query", b"not gzip, for the upstream to say so"),
    ],
)
async def test_a_gzip_body_that_need_not_change_is_the_same_gzip(bench, target, packed):
    headers = (*CLIENT_HEADERS, b"Content-Encoding: gzip")
    seen = await exchange(bench, request(b"POST", target, packed, headers), OK)
    forwarded = (*FORWARDED_HEADERS[:-2], b"content-encoding: gzip", *FORWARDED_HEADERS[-2:])
    assert seen.sent == message(
        b"POST " + target + b" HTTP/1.1", (*forwarded, b"content-length: %d" % len(packed)), packed
    )


@pytest.mark.parametrize(
    ("target", "body", "sent"),
    [
        (
            b"/v2/namespaces/a/query",
            b'{"rank_by":["id","asc"],"limit":1}',
            b'{"rank_by":["id","asc"],"limit":1,"consistency":{"level":"eventual","max_staleness_seconds":1}}',
        ),
        (
            b"/v2/namespaces/a",
            b'{"upsert_rows":[{"id":1}]}',
            b'{"upsert_rows":[{"id":1,"_hevlayer_upserted_at":' + STAMP + b"}]}",
        ),
    ],
)
async def test_a_gzip_body_that_changes_is_gzip_again(bench, target, body, sent):
    headers = (*CLIENT_HEADERS, b"Content-Encoding: gzip")
    seen = await exchange(bench, request(b"POST", target, gzip.compress(body), headers), OK)
    head, _, packed = seen.sent.partition(b"\r\n\r\n")
    assert b"\r\ncontent-encoding: gzip\r\n" in head
    assert head.endswith(b"\r\ncontent-length: %d" % len(packed))
    plain = gzip.decompress(packed)
    stamp = plain.partition(b'_hevlayer_upserted_at":')[2][: len(STAMP)]
    assert (plain.replace(stamp, STAMP) if stamp else plain) == sent


PACKED_ANSWER = gzip.compress(b'{"rows":[{"id":1}]}' * 100)


@pytest.mark.parametrize("target", [b"/v2/namespaces/a/query", b"/v2/namespaces/a/explain_query", b"/v2/namespaces/a"])
async def test_a_gzip_answer_is_the_same_gzip(bench, target):
    body = b'{"deletes":[1]}' if target == b"/v2/namespaces/a" else b'{"rank_by":["id","asc"],"limit":1}'
    native = (b"content-type: application/json", b"content-encoding: gzip", b"vary: accept-encoding", b"date: " + DATE)
    raw = message(b"HTTP/1.1 200 OK", (*native, b"content-length: %d" % len(PACKED_ANSWER)), PACKED_ANSWER)
    headers = tuple(b"Accept-Encoding: gzip" if line.startswith(b"Accept-E") else line for line in CLIENT_HEADERS)
    seen = await exchange(bench, request(b"POST", target, body, headers), raw)
    assert b"\r\naccept-encoding: gzip\r\n" in seen.sent
    added = (b"x-layer-consistency: eventual",) if target.endswith(b"/query") else ()
    assert seen.received == message(
        b"HTTP/1.1 200 OK", (*native, *added, TRACE, b"content-length: %d" % len(PACKED_ANSWER)), PACKED_ANSWER
    )


CHUNKED = (
    b"HTTP/1.1 200 OK\r\ndate: " + DATE + b"\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    b'8;ext="x"\r\n{"rows":\r\n4\r\n[] }\r\n0\r\nx-trailer: 1\r\n\r\n'
)
WHOLE = b'{"rows":[] }'


@pytest.mark.parametrize("close", [False, True])
async def test_framing_is_each_hop_s_own(bench, close):
    """A chunked answer that is small leaves with its length; so does one that ends with the connection."""
    raw = CHUNKED
    if close:
        raw = message(b"HTTP/1.1 200 OK", (b"date: " + DATE, b"content-type: application/json"), WHOLE)
    seen = await exchange(bench, request(b"POST", b"/v2/namespaces/a/explain_query", b"{}"), raw, close=close)
    assert seen.received == message(
        b"HTTP/1.1 200 OK",
        (b"date: " + DATE, b"content-type: application/json", TRACE, b"content-length: %d" % len(WHOLE)),
        WHOLE,
    )


async def test_a_chunked_request_keeps_its_bytes(bench):
    body = b'{"rank_by" : ["id","asc"], "limit":1}'
    pieces = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:7], body[7:]))
    raw = message(
        b"POST /v2/namespaces/a/explain_query HTTP/1.1", (*CLIENT_HEADERS, b"Transfer-Encoding: chunked"), pieces
    )
    seen = await exchange(bench, raw + b"0\r\n\r\n", OK)
    head, _, sent = seen.sent.partition(b"\r\n\r\n")
    assert sent == body
    framing = head.removeprefix(b"\r\n".join((b"POST /v2/namespaces/a/explain_query HTTP/1.1", *FORWARDED_HEADERS)))
    assert framing in (b"\r\ntransfer-encoding: chunked", b"\r\ncontent-length: %d" % len(body))


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        (b"/v1/namespaces/a/operations/tok%2Fen", b"/v1/namespaces/a/operations/tok%2Fen"),
        (b"https://api.example/v1/namespaces/a/operations/t?x=1", b"/v1/namespaces/a/operations/t?x=1"),
    ],
)
@pytest.mark.parametrize(
    ("target", "body"),
    [
        (b"/v2/namespaces/a?stainless_overload=copyFrom", b'{"copy_from_namespace":"b"}'),
        (b"/v1/namespaces/a/_debug/recall", b"{}"),
    ],
)
async def test_a_long_operation(bench, target, body, location, expected):
    """An absolute location becomes a path, which leads back to the address that the client called."""
    before = (b"date: " + DATE, b"preference-applied: respond-async")
    token = b'{ "token": "t" }'
    length = b"content-length: %d" % len(token)
    raw = message(b"HTTP/1.1 202 Accepted", (*before, b"location: " + location, length), token)
    seen = await exchange(bench, request(b"POST", target, body), raw)
    assert b"\r\nprefer: respond-async\r\n" in seen.sent
    assert seen.received == message(b"HTTP/1.1 202 Accepted", (*before, b"location: " + expected, TRACE, length), token)


@pytest.mark.parametrize(
    "status",
    [
        b"200 OK",
        b"201 Created",
        b"202 Accepted",
        b"307 Temporary Redirect",
        b"401 Unauthorized",
        b"408 Request Timeout",
        b"409 Conflict",
        b"500 Internal Server Error",
        b"503 Service Unavailable",
    ],
)
async def test_an_empty_answer_of_any_status(bench, status):
    raw = message(b"HTTP/1.1 " + status, (b"date: " + DATE, b"x-turbopuffer-a: 1", b"content-length: 0"))
    seen = await exchange(bench, request(b"POST", b"/v2/namespaces/a/explain_query", b"{}"), raw)
    assert seen.received == message(
        b"HTTP/1.1 " + status, (b"date: " + DATE, b"x-turbopuffer-a: 1", TRACE, b"content-length: 0")
    )


async def test_head(bench):
    raw = message(b"HTTP/1.1 200 OK", (b"date: " + DATE, b"x-turbopuffer-dimensions: 3", b"content-length: 1234"))
    seen = await exchange(bench, request(b"HEAD", b"/v1/namespaces/a%20b?x=1&x=2"), raw)
    assert seen.sent == message(b"HEAD /v1/namespaces/a%20b?x=1&x=2 HTTP/1.1", FORWARDED_HEADERS)
    assert seen.received == message(
        b"HTTP/1.1 200 OK", (b"date: " + DATE, b"x-turbopuffer-dimensions: 3", TRACE, b"content-length: 1234")
    )


@pytest.mark.parametrize("prefix", [b"", b"/gcp-us-central1"])
async def test_metadata_is_asked_for_uncompressed(bench, prefix):
    headers = tuple(b"Accept-Encoding: gzip" if line.startswith(b"Accept-E") else line for line in CLIENT_HEADERS)
    seen = await exchange(bench, request(b"GET", prefix + b"/v2/namespaces/a/metadata", headers=headers), OK)
    assert seen.sent == message(b"GET /v2/namespaces/a/metadata HTTP/1.1", FORWARDED_HEADERS_IDENTITY)
    cache = b'"cache_state":{"state":"cold","warmed_through_ms":null,"warm_inflight":false}'
    cache += b',"shard_count":1,"shard_state":"unsharded","scatter_gather_active":false'
    added = b'{"id":"a","layer":{"stable_as_of":null,"is_stable":false,' + cache + b"}}"
    assert seen.received == message(b"HTTP/1.1 200 OK", (*OK_HEADERS, b"content-length: %d" % len(added)), added)


KEYED_HEADERS = tuple(
    b"Authorization: Bearer gateway-key" if line.startswith(b"Authorization") else line for line in CLIENT_HEADERS
)


async def test_with_a_key_only_the_authorization_is_another(benches):
    bench = await benches(gateway_api_key="gateway-key", turbopuffer_api_key="tpuf_upstream")
    body = b'{"deletes":[1]}'
    seen = await exchange(bench, request(b"POST", b"/v2/namespaces/a", body, KEYED_HEADERS), OK)
    forwarded = tuple(line.replace(b"tpuf_caller", b"tpuf_upstream") for line in FORWARDED_HEADERS)
    assert seen.sent == message(
        b"POST /v2/namespaces/a HTTP/1.1", (*forwarded, b"content-length: %d" % len(body)), body
    )
