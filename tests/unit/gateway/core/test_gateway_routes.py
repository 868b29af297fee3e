"""Every upstream route: the bytes that go up and the bytes that come back."""

import asyncio

import pytest

from hevlayer.http.errors import HttpClientError
from hevlayer.testing.recording import Canned, answer

ODD_BODY = b'{ "z" : [1.0e0, "\\u00e9"],\n "a":null }  '
ANSWER = b'{"weird" : 1.50 , "x":"\\/"}\n'

RELAYED = [
    ("POST", "/v2/namespaces/a/explain_query", ODD_BODY),
    ("POST", "/v1/namespaces/a/query", ODD_BODY),
    ("POST", "/v1/vectors/a/query", ODD_BODY),
    ("GET", "/v1/namespaces?prefix=a%20b&cursor=x%2Fy&page_size=zz", b""),
    ("GET", "/v1/namespaces/a/operations/tok%2Fen?stainless_overload=pollCopyFrom", b""),
    ("POST", "/v1/namespaces/a/_debug/recall", b""),
    ("POST", "/v1/namespaces/a/_debug/recall", ODD_BODY),
    ("GET", "/v1/namespaces/a/_debug/purge_cache", b""),
    ("GET", "/v1/namespaces/a/_debug/warm_cache", b""),
    ("POST", "/v2/namespaces/a/read_only_optimize", b""),
    ("GET", "/v1/namespaces/a?cursor=1", b""),
    ("POST", "/v1/namespaces/a", ODD_BODY),
    ("POST", "/v2/namespaces/a?stainless_overload=copyFrom", b'{"copy_from_namespace" : "b"}'),
    ("POST", "/v2/namespaces/a/async?stainless_overload=startCopyFrom", b'{"copy_from_namespace":"b"}'),
    ("POST", "/v2/namespaces/a", b'{"deletes" : [1,2] , "unknown_field":1e400}'),
    ("POST", "/v1/namespaces/a/schema", b'{"title" : "string"}'),
    ("GET", "/v1/namespaces/a/schema", b""),
    ("POST", "/v2/namespaces/a%20b%2F%C3%A7/explain_query?x=%zz", b"{}"),
    ("POST", "/v2/namespaces/../explain_query", b"not json at all"),
]


@pytest.mark.parametrize(("method", "target", "body"), RELAYED)
async def test_what_adds_nothing_changes_nothing(bench, method, target, body):
    bench.upstream.default = answer(
        201,
        ANSWER,
        ((b"X-Request-Id", b"up-1"), (b"Retry-After", b"3"), (b"X-Should-Retry", b"false"), (b"b", b"1"), (b"b", b"2")),
    )
    response = await bench.call(method, target, body)
    [request] = bench.upstream.requests
    assert request.line == f"{method} {target} HTTP/1.1".encode()
    assert request.body == body
    assert (response.status, response.body) == (201, ANSWER)
    kept = [pair for pair in response.headers if pair[0] not in (b"date", b"traceparent", b"content-length")]
    assert kept == [
        (b"content-type", b"application/json"),
        (b"x-request-id", b"up-1"),
        (b"retry-after", b"3"),
        (b"x-should-retry", b"false"),
        (b"b", b"1"),
        (b"b", b"2"),
    ]


async def test_patch_goes_up_as_the_method_the_upstream_has(bench):
    await bench.call("PATCH", "/v2/namespaces/a", b'{"patch_rows":[{"id":1}]}')
    assert bench.upstream.requests[0].line == b"POST /v2/namespaces/a HTTP/1.1"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422, 429, 500, 503])
@pytest.mark.parametrize("target", ["/v2/namespaces/a/query", "/v2/namespaces/a", "/v1/namespaces/a/schema"])
async def test_an_upstream_error_is_relayed_byte_for_byte(bench, status, target):
    text = "💔 nope, with \\/ and spaces ".encode()
    bench.upstream.default = answer(status, text, ((b"Content-Type", b"text/plain; charset=utf-8"),))
    body = b'{"rank_by":["id","asc"],"limit":1}' if target.endswith("query") else b'{"upsert_rows":[{"id":1}]}'
    method = "GET" if target.endswith("schema") else "POST"
    response = await bench.call(method, target, b"" if method == "GET" else body)
    assert (response.status, response.body) == (status, text)
    assert response.header(b"content-type") == b"text/plain; charset=utf-8"


async def test_head_keeps_its_headers(bench):
    bench.upstream.default = Canned(
        b"HTTP/1.1 200 OK\r\nx-turbopuffer-dimensions: 3\r\ncontent-length: 1234\r\n\r\n", close=True
    )
    response = await bench.call("HEAD", "/v1/namespaces/a")
    assert response.status == 200
    assert response.header(b"x-turbopuffer-dimensions") == b"3"
    assert response.header(b"content-length") == b"1234"


async def test_hop_by_hop_answer_headers_stay_here(bench):
    bench.upstream.default = answer(
        200,
        b"{}",
        ((b"Connection", b"keep-alive, X-Hop"), (b"X-Hop", b"1"), (b"Keep-Alive", b"timeout=5"), (b"X-End", b"1")),
    )
    response = await bench.call("GET", "/v1/namespaces")
    assert response.header(b"x-hop") is None
    assert response.header(b"keep-alive") is None
    assert response.header(b"x-end") == b"1"


async def test_only_allowed_headers_go_up(bench):
    sent = [
        (b"authorization", b"Bearer t"),
        (b"cookie", b"c=1"),
        (b"x-layer-consistency", b"x"),
        (b"x-forwarded-for", b"1.2.3.4"),
        (b"x-stainless-lang", b"python"),
        (b"x-turbopuffer-client-telemetry", b"{}"),
        (b"prefer", b"respond-async"),
        (b"x-request-id", b"tpreq_1"),
        (b"user-agent", b"Turbopuffer/Python 3.1.0"),
        (b"accept", b"application/json"),
        (b"accept-encoding", b"identity"),
        (b"proxy-authorization", b"Basic x"),
        (b"te", b"trailers"),
        (b"traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        (b"tracestate", b"a=b"),
    ]
    response = await bench.call("GET", "/v1/namespaces", headers=sent)
    assert bench.upstream.requests[0].headers == [
        (b"host", bench.upstream.url.removeprefix("http://").encode()),
        (b"x-stainless-lang", b"python"),
        (b"x-turbopuffer-client-telemetry", b"{}"),
        (b"prefer", b"respond-async"),
        (b"x-request-id", b"tpreq_1"),
        (b"user-agent", b"Turbopuffer/Python 3.1.0"),
        (b"accept", b"application/json"),
        (b"accept-encoding", b"identity"),
        (b"tracestate", b"a=b"),
        (b"authorization", b"Bearer t"),
        (b"traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    ]
    assert response.header(b"traceparent") == b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


async def test_one_trace_id_is_minted_and_used_everywhere(bench):
    response = await bench.call("GET", "/v1/namespaces")
    minted = response.header(b"traceparent")
    assert bench.upstream.requests[0].header(b"traceparent") == minted
    assert minted.split(b"-")[1] in bench.access_log


@pytest.mark.parametrize(
    ("target", "code", "status"),
    [
        ("/", "not_found", 404),
        ("/v2/namespaces/a/nothing", "not_found", 404),
        ("/v2/namespaces//query", "not_found", 404),
        ("/v3/namespaces", "not_found", 404),
        ("/v2/namespaces/a/query", "method_not_allowed", 405),
    ],
)
async def test_other_routes_are_refused_here(bench, target, code, status):
    response = await bench.call("GET", target)
    assert response.status == status
    assert b'"error":"%s"' % code.encode() in response.body
    assert not bench.upstream.requests


async def test_a_region_prefix_is_dropped(bench):
    await bench.call("POST", "/gcp-us-central1/v2/namespaces/a/explain_query?x=1", b"{}")
    assert bench.upstream.requests[0].target == b"/v2/namespaces/a/explain_query?x=1"


async def test_a_base_path_is_put_in_front(benches):
    bench = await benches(path="/base/path")
    await bench.call("POST", "/v2/namespaces/a/explain_query?x=1", b"{}")
    assert bench.upstream.requests[0].target == b"/base/path/v2/namespaces/a/explain_query?x=1"


@pytest.mark.parametrize(
    ("prefix", "path", "location", "expected"),
    [
        ("", "", b"/v1/namespaces/a/operations/t", b"/v1/namespaces/a/operations/t"),
        ("", "", b"{url}/v1/namespaces/a/operations/t", b"/v1/namespaces/a/operations/t"),
        ("", "", b"https://elsewhere:9/v1/namespaces/a/operations/t?x=1", b"/v1/namespaces/a/operations/t?x=1"),
        ("/eu", "", b"{url}/v1/namespaces/a/operations/t", b"/eu/v1/namespaces/a/operations/t"),
        ("", "/base", b"{url}/base/v1/namespaces/a/operations/t", b"/v1/namespaces/a/operations/t"),
        ("", "", b"https://docs.example/page", b"https://docs.example/page"),
    ],
)
async def test_location_leads_back_here(benches, prefix, path, location, expected):
    bench = await benches(path=path)
    where = location.replace(b"{url}", bench.upstream.url.encode())
    bench.upstream.default = answer(
        202, b'{"token":"t"}', ((b"Preference-Applied", b"respond-async"), (b"Location", where))
    )
    response = await bench.call("POST", f"{prefix}/v2/namespaces/a", b'{"copy_from_namespace":"b"}')
    assert response.status == 202
    assert response.header(b"location") == expected
    assert response.header(b"preference-applied") == b"respond-async"


async def test_redirects_are_not_followed(bench):
    bench.upstream.default = answer(307, b"", ((b"Location", b"https://evil.example/"),))
    response = await bench.call("GET", "/v1/namespaces")
    assert response.status == 307
    assert len(bench.upstream.requests) == 1


async def test_a_compressed_answer_is_relayed_as_it_is(bench):
    bench.upstream.default = answer(200, b"\x1f\x8b not really gzip", ((b"Content-Encoding", b"gzip"),))
    response = await bench.call("POST", "/v2/namespaces/a/query", b'{"rank_by":["id","asc"],"limit":1}')
    assert response.body == b"\x1f\x8b not really gzip"
    assert response.header(b"content-encoding") == b"gzip"


async def test_a_large_answer_is_streamed(bench):
    body = b'{"x":"' + b"y" * 3_000_000 + b'"}'
    bench.upstream.default = answer(200, body)
    response = await bench.call("GET", "/v1/namespaces/a")
    assert response.header(b"content-length") == b"%d" % len(body)
    assert await response.read(4_000_000) == body


async def test_a_broken_off_answer_is_never_taken_for_a_whole_one(bench):
    whole = answer(200, b"y" * 3_000_000).raw
    bench.upstream.default = Canned(whole[:-1000], close=True)
    response = await bench.call("GET", "/v1/namespaces/a")
    with pytest.raises(HttpClientError):
        await response.read(4_000_000)


async def test_a_large_request_body_is_streamed(bench):
    body = b" " * 5_000_000

    async def chunks():
        for start in range(0, len(body), 100_000):
            yield body[start : start + 100_000]

    response = await bench.client.request("POST", b"/v1/namespaces/a/_debug/recall", [], chunks())
    assert response.status == 200
    assert bench.upstream.requests[0].body == body


@pytest.mark.parametrize(
    ("canned", "status", "code"),
    [
        (Canned(reset=True), 502, b"upstream_error"),
        (Canned(b"garbage\r\n\r\n", close=True), 502, b"upstream_error"),
        (Canned(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort", close=True), 502, b"upstream_error"),
        (Canned(b"", close=True), 502, b"upstream_error"),
    ],
)
@pytest.mark.parametrize("target", ["/v2/namespaces/a/query", "/v2/namespaces/a", "/v1/namespaces/a/schema"])
async def test_a_broken_upstream_is_a_502(bench, canned, status, code, target):
    bench.upstream.default = canned
    body = b'{"rank_by":["id","asc"],"limit":1}' if target.endswith("query") else b'{"upsert_rows":[{"id":1}]}'
    if target.endswith("schema"):
        response = await bench.call("GET", target)
    else:
        response = await bench.call("POST", target, body)
    assert response.status == status
    assert b'"error":"' + code + b'"' in response.body
    assert b"127.0.0.1" not in response.body


async def test_a_hanging_upstream_is_a_504(benches):
    bench = await benches(
        first_byte_timeout_seconds=0.1, total_timeout_seconds=0.3, write_timeout_seconds=0.1, slow_timeout_seconds=0.1
    )
    bench.upstream.default = Canned(before=asyncio.Event())
    for method, target, body in [
        ("POST", "/v2/namespaces/a/query", b'{"rank_by":["id","asc"],"limit":1}'),
        ("POST", "/v2/namespaces/a", b'{"upsert_rows":[{"id":1}]}'),
        ("POST", "/v2/namespaces/a", b'{"copy_from_namespace":"b"}'),
        ("POST", "/v1/namespaces/a/_debug/recall", b""),
    ]:
        response = await bench.call(method, target, body)
        assert response.status == 504
        assert b'"error":"gateway_timeout"' in response.body
    assert bench.gateway.upstream.connections == 0


async def test_an_unreachable_upstream_is_a_502(benches):
    bench = await benches(upstream_url="http://127.0.0.1:1")
    response = await bench.call("GET", "/v1/namespaces")
    assert response.status == 502
    assert response.body == b'{"status":"error","error":"upstream_error","message":"the upstream cannot be reached"}'


async def test_a_bug_is_a_500_that_tells_nothing_but_the_request_id(bench, caplog):
    async def broken(*_arguments, **_options):
        raise RuntimeError("tpuf_secret in a traceback")

    bench.gateway.upstream.send = broken
    response = await bench.call("GET", "/v1/namespaces", headers=[(b"x-request-id", b"req-7")])
    assert response.status == 500
    assert b'"request_id":"req-7"' in response.body
    assert b"secret" not in response.body
    assert b"Traceback" not in response.body
    assert any(record.request_id == "req-7" for record in caplog.records if hasattr(record, "request_id"))
