"""What the client sends, and how it reads what comes back."""

import asyncio
import gzip
import json
from datetime import UTC, datetime

import numpy as np
import pytest
from client_stage import Answer

import hevlayer
from hevlayer.client.api import OPERATIONS

ROWS = {"rows": [{"id": 1, "$dist": 0.5, "title": "a"}]}
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def test_a_query_as_it_is_sent(serve, open_client):
    server = serve(Answer(body=ROWS))
    client = open_client(server.url + "/region/", api_key="secret")
    found = await client.query_namespace(
        "films/ü",
        {"vector": [1.0, 2.5], "top_k": 1},
        raw_query="größe\nund  mehr",
        tags=["a:b", "c"],
        traceparent=TRACE,
    )
    assert found.rows == ROWS["rows"]
    (sent,) = server.requests
    assert (sent.method, sent.target) == ("POST", "/region/v2/namespaces/films%2F%C3%BC/query")
    assert sent.json == {"vector": [1.0, 2.5], "top_k": 1}
    headers = {name: sent.headers[name] for name in ("authorization", "content-type", "x-hevlayer-tags", "traceparent")}
    assert headers == {
        "authorization": "Bearer secret",
        "content-type": "application/json",
        "x-hevlayer-tags": "a:b,c",
        "traceparent": TRACE,
    }
    assert sent.headers["x-hevlayer-search-query"] == "größe und mehr"
    assert sent.headers["user-agent"].startswith("hevlayer-python/")
    assert sent.headers["accept-encoding"] == "identity"


async def test_no_key_is_no_header(serve, open_client):
    server = serve()
    await open_client(server.url).get_turbopuffer_namespace_schema("a")
    assert "authorization" not in server.requests[0].headers


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        (hevlayer.QueryRequest(rank_by=["id", "asc"], top_k=2), {"rank_by": ["id", "asc"], "top_k": 2}),
        (hevlayer.QueryRequest(vector=[1.0], top_k=2, filters=None), {"vector": [1.0], "top_k": 2, "filters": None}),
        (hevlayer.QueryRequest.model_validate({"limit": 3, "new_one": {"x": 1}}), {"limit": 3, "new_one": {"x": 1}}),
        ({"vector": np.array([0.5, 1.5], dtype=np.float32), "top_k": 1}, {"vector": [0.5, 1.5], "top_k": 1}),
        ({"filters": ("a", "In", frozenset({3}))}, {"filters": ["a", "In", [3]]}),
        ({"filters": ["a", "Eq", 2**64 - 1]}, {"filters": ["a", "Eq", 2**64 - 1]}),
    ],
)
async def test_bodies(serve, open_client, body, sent):
    server = serve(Answer(body=ROWS))
    await open_client(server.url).query_namespace("a", body)
    assert server.requests[0].json == sent


async def test_a_body_that_is_not_json_is_never_sent(serve, open_client):
    server = serve()
    with pytest.raises(TypeError, match=r"^body: .*object"):
        await open_client(server.url).query_namespace("a", {"filters": object()})
    assert server.requests == []


async def test_parameters(serve, open_client):
    server = serve(Answer(body={"entries": [], "next_cursor": None}))
    client = open_client(server.url)
    await client.list_search_history(
        "a", tags=["x:y", "z"], from_=datetime(2026, 1, 2, tzinfo=UTC), to="2026-01-03T00:00:00Z", limit=5
    )
    assert server.requests[0].target == (
        "/v2/namespaces/a/search-history?tag=x%3Ay%2Cz&from=2026-01-02T00%3A00%3A00%2B00%3A00&to=2026-01-03T00%3A00%3A00Z"
        "&limit=5"
    )
    server.then(Answer(body={"status": "OK"}))
    await client.delete_namespace("a", purge_history=True)
    assert server.requests[1].target == "/v2/namespaces/a?purge_history=true"
    server.then(Answer(body={"id": "9", "attributes": {}}))
    await client.fetch_document("a", 9, include_attributes=["b", "vector"], tags=["t"])
    assert server.requests[2].target == "/v2/namespaces/a/documents/9?include_attributes=b%2Cvector"
    assert server.requests[2].headers["x-hevlayer-tags"] == "t"


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        (("", "x"), {}, "namespace must not be empty"),
        (("a", ""), {}, "doc_id must not be empty"),
        (("a", ".."), {}, r"doc_id must not be '\.\.'"),
        (("a", "b"), {"tags": ["a\r\nx: y"]}, "tags must not have control characters"),
        (("a", "b"), {"timeout_seconds": 0}, "timeout_seconds must be above 0"),
    ],
)
async def test_arguments_that_cannot_be_sent(serve, open_client, arguments, options, words):
    server = serve()
    with pytest.raises(ValueError, match=words):
        await open_client(server.url).fetch_document(*arguments, **options)
    assert server.requests == []


async def test_a_time_without_a_zone(serve, open_client):
    with pytest.raises(ValueError, match="no time zone"):
        await open_client(serve().url).list_clickstream("a", from_=datetime(2026, 1, 1))  # noqa: DTZ001


async def test_a_long_search_text_is_cut_between_letters(serve, open_client):
    server = serve(Answer(body=ROWS))
    await open_client(server.url).query_namespace("a", {}, raw_query="x" + "ü" * 5000)
    assert server.requests[0].headers["x-hevlayer-search-query"] == "x" + "ü" * 4095


async def test_compression_in_both_directions(serve, open_client):
    rows = {"rows": [{"id": 1, "text": "x" * 2000}]}
    packed = Answer(raw=gzip.compress(json.dumps(rows).encode()), headers={"content-encoding": "gzip"})
    server = serve(packed)
    client = open_client(server.url, compression=True)
    body = {"rank_by": ["vector", "ANN", [0.25] * 1000], "top_k": 1}
    assert (await client.query_namespace("a", body)).rows == rows["rows"]
    (sent,) = server.requests
    assert (sent.headers["accept-encoding"], sent.headers["content-encoding"]) == ("gzip", "gzip")
    assert json.loads(gzip.decompress(sent.body)) == body
    server.then(Answer(body={}))
    await client.query_namespace("a", {"top_k": 1})
    assert "content-encoding" not in server.requests[1].headers


async def test_connections_are_used_again(serve, open_client):
    server = serve(Answer(body=ROWS))
    client = open_client(server.url)
    for _ in range(5):
        await client.query_namespace("a", {})
    assert (len(server.requests), server.connections) == (5, 1)


async def test_a_connection_that_the_server_closed_is_replaced(serve, open_client):
    server = serve(Answer(body=ROWS, closes=True))
    client = open_client(server.url, max_retries=1)
    for _ in range(3):
        await client.query_namespace("a", {})
    assert server.connections == 3


async def test_closing_closes_the_connections(serve, open_client):
    server = serve(Answer(body=ROWS))
    client = open_client(server.url)
    await client.query_namespace("a", {})
    await client.end()
    assert await asyncio.to_thread(server.wait_until_idle)
    with pytest.raises(hevlayer.HevlayerError, match="the client is closed"):
        await client.query_namespace("a", {})
    await client.end()


async def test_how_a_call_went(serve, open_client):
    headers = {
        "X-Layer-Cache": "partial",
        "x-layer-consistency": "filtered",
        "x-layer-stable-as-of": "1700000000000",
        "x-layer-shards": "4",
        "x-layer-next-cursor": "abc",
        "traceparent": TRACE,
    }
    server = serve(Answer(503, {"status": "error"}), Answer(body=ROWS, headers=headers))
    answer = await open_client(server.url).query_namespace("a", {}, with_perf=True)
    perf = answer.perf
    assert isinstance(answer, hevlayer.LayerResponse)
    assert perf.latency_ms > 0
    assert (perf.cache_status, perf.consistency, perf.shards, perf.attempts) == ("partial", "filtered", 4, 2)
    assert (perf.stable_as_of, perf.next_cursor, perf.fallback) == (1_700_000_000_000, "abc", None)
    assert perf.trace_id == perf.request_id == TRACE.split("-")[1]
    assert (answer.data.stable_as_of, answer.data.next_cursor) == (1_700_000_000_000, "abc")


async def test_what_a_newer_server_says_is_kept(serve, open_client):
    body = {"id": "a", "namespace": "n", "status": "running", "progress": 0, "documents_scanned": 0, "created_at": "t"}
    server = serve(Answer(202, {**body, "brand_new": 7}))
    job = await open_client(server.url).warm_cache("n", page_size=3)
    assert job.brand_new == 7
    assert server.requests[0].target == "/v2/namespaces/n/warm?page_size=3"


async def test_an_answer_of_another_shape(serve, open_client):
    server = serve(Answer(body={"id": 7}, headers={"x-request-id": "r-1"}))
    with pytest.raises(
        hevlayer.HevlayerAnswerError, match=r"get_warm_job: .* id: Input should be a valid string"
    ) as caught:
        await open_client(server.url).get_warm_job("n", "j")
    assert (caught.value.status_code, caught.value.request_id) == (200, "r-1")
    assert caught.value.response.json() == {"id": 7}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Answer(404, {"status": "error", "error": "not_found", "message": "no such"}), ("not_found", "no such", None)),
        (Answer(422, {"error": "not_supported", "message": "m", "feature": "f"}), ("not_supported", "m", "f")),
        (Answer(403, {"status": "error", "error": "no"}), ("no", '{"status": "error", "error": "no"}', None)),
        (Answer(400, raw=b"Invalid URL"), (None, "Invalid URL", None)),
        (Answer(400, raw=b""), (None, "the answer has no body", None)),
        (Answer(400, [1]), (None, "[1]", None)),
        (Answer(302, {}, {"location": "http://127.0.0.1:1/"}), (None, "{}", None)),
    ],
)
async def test_errors(serve, open_client, answer, expected):
    server = serve(answer)
    with pytest.raises(hevlayer.HevlayerError) as caught:
        await open_client(server.url).get_namespace_metadata("a")
    error = caught.value
    assert (error.error, error.message, error.feature) == expected
    assert (error.status_code, error.response.status_code) == (answer.status, answer.status)
    assert len(server.requests) == 1


JOB = {"id": "j", "namespace": "a", "progress": 0.5, "documents_scanned": 0, "created_at": "t", "field": "n"}


async def test_a_snapshot_that_is_waited_for(serve, open_client):
    running, completed = ({**JOB, "source": "auto", "status": each} for each in ("running", "completed"))
    server = serve(Answer(body=running), Answer(body=running), Answer(body={**completed, "sha": "f00"}))
    states = []
    client = open_client(server.url)
    job = await client.wait_for_snapshot_job("a", "j", initial_delay=0.001, progress=states.append)
    assert (job.sha, [each.status for each in states]) == ("f00", ["running", "running", "completed"])
    assert {each.target for each in server.requests} == {"/v2/namespaces/a/snapshot-jobs/j"}


async def test_pages_are_turned_until_there_is_no_cursor(serve, open_client):
    events = [{"ts_ms": each, "namespace": "a", "sha": "s"} for each in range(3)]
    server = serve(
        Answer(body={"events": events[:2], "next_cursor": "c/1"}),
        Answer(body={"events": [], "next_cursor": "c/2"}),
        Answer(body={"events": events[2:], "next_cursor": None}),
    )
    found = await open_client(server.url).iter_snapshot_activity(since=5, page_size=2)
    assert [each.ts_ms for each in found] == [0, 1, 2]
    assert [each.target.partition("?")[2] for each in server.requests] == [
        "since=5&limit=2",
        "since=5&limit=2&cursor=c%2F1",
        "since=5&limit=2&cursor=c%2F2",
    ]


async def test_every_operation_can_be_called(serve, open_client):
    """Each goes out by its method and path; what this server answers fits none, which is told."""
    server = serve(Answer(raw=b"\x00"))
    client = open_client(server.url)
    for operation in OPERATIONS.values():
        arguments = [f"{name}-1" for name in operation.path_parameters]
        if operation.body is not None:
            arguments.append({})
        if operation.result is str:
            assert await getattr(client, operation.name)(*arguments) == "\0"
        else:
            with pytest.raises(hevlayer.HevlayerAnswerError):
                await getattr(client, operation.name)(*arguments)
        path = operation.path
        for name in operation.path_parameters:
            path = path.replace(f"{{{name}}}", f"{name}-1")
        assert (server.requests[-1].method, server.requests[-1].target.partition("?")[0]) == (operation.method, path)


async def test_a_search_text_never_stops_a_search(serve, open_client):
    server = serve(Answer(body=ROWS))
    await open_client(server.url).query_namespace("a", {}, raw_query="a\x00b\x1b[0m \x7f\ud800c")
    assert server.requests[0].headers["x-hevlayer-search-query"] == "a b [0m ?c"
