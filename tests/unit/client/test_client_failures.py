"""What the client does when things fail: again, elsewhere, or not at all."""

import asyncio
import logging

import pytest
from client_stage import Answer, Hang, Reset, full_queue, refused_url

import hevlayer

ROWS = {"rows": [{"id": 1, "$dist": 0.5, "title": "a"}]}
WRITTEN = {"status": "OK", "message": "", "rows_affected": 1, "billing": {}}
JOB = {"id": "j", "namespace": "a", "status": "running", "progress": 0, "documents_scanned": 0, "created_at": "t"}
SCAN = {**JOB, "mode": "ids", "source": "auto"}
WRITE = {"upsert_rows": [{"id": 1}]}
OK = Answer(body=ROWS)


async def query(client, **options):
    return await client.query_namespace("a", {"rank_by": ["id", "asc"], "limit": 1}, **options)


@pytest.mark.parametrize(
    "fault",
    [
        Reset(reads=True),
        Answer(body=ROWS, length_added=5),
        Answer(429, {"error": "slow"}, {"retry-after-ms": "1"}),
        Answer(408, {}),
        Answer(409, {}),
        Answer(500, {}),
        Answer(502, {}),
        Answer(503, {}, {"retry-after": "0.001"}),
        Answer(504, raw=b"<html>"),
        Answer(400, {}, {"x-should-retry": "true"}),
    ],
    ids=repr,
)
async def test_reads_and_writes_are_sent_again(serve, open_client, fault):
    server = serve(fault, fault, OK)
    client = open_client(server.url)
    answer = await query(client, with_perf=True)
    assert (answer.data.rows, answer.perf.attempts) == (ROWS["rows"], 3)
    server.then(fault, Answer(body=WRITTEN))
    assert (await client.write_namespace("a", WRITE, with_perf=True)).perf.attempts == 2


async def test_connections_that_break_before_anything_was_read(serve, open_client):
    """The HTTP library itself takes another connection while nothing was written, so the attempts are not counted."""
    server = serve(Reset(reads=False), Reset(reads=False), OK)
    assert (await query(open_client(server.url))).rows == ROWS["rows"]
    assert (server.connections, len(server.requests)) == (3, 1)


@pytest.mark.parametrize("fault", [Answer(500, {}), Reset(reads=True)], ids=repr)
async def test_only_so_often(serve, open_client, fault):
    server = serve(fault)
    with pytest.raises(hevlayer.HevlayerError):
        await query(open_client(server.url, max_retries=2))
    assert len(server.requests) == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 412, 413, 422])
async def test_what_is_refused_stays_refused(serve, open_client, status):
    server = serve(Answer(status, {"error": "no"}))
    with pytest.raises(hevlayer.HevlayerError):
        await query(open_client(server.url))
    assert len(server.requests) == 1


async def test_the_server_says_not_again(serve, open_client):
    server = serve(Answer(503, {"error": "no"}, {"x-should-retry": "false"}))
    with pytest.raises(hevlayer.HevlayerError):
        await query(open_client(server.url))
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("fault", "attempts"),
    [
        (Reset(reads=True), 1),
        (Answer(202, SCAN, length_added=3), 1),
        (Answer(500, {}), 1),
        (Answer(504, {}), 1),
        (Answer(429, {}), 3),
        (Answer(503, {}), 3),
    ],
    ids=repr,
)
async def test_a_job_is_not_started_twice(serve, open_client, fault, attempts):
    server = serve(fault)
    with pytest.raises(hevlayer.HevlayerError):
        await open_client(server.url).create_scan("a", {})
    assert len(server.requests) == attempts


async def test_a_server_that_hangs(serve, open_client):
    server = serve(Hang())
    client = open_client(server.url, timeout_seconds=0.1, max_retries=1)
    with pytest.raises(hevlayer.HevlayerTimeoutError, match=r"POST http\S+/query: no whole answer in 0\.1 s") as caught:
        await query(client)
    assert caught.value.request_sent
    assert len(server.requests) == 2


async def test_the_time_of_one_call(serve, open_client):
    client = open_client(serve(Hang()).url, max_retries=0)
    with pytest.raises(hevlayer.HevlayerTimeoutError, match=r"in 0\.05 s"):
        await query(client, timeout_seconds=0.05)


async def test_nobody_listens(open_client):
    client = open_client(refused_url(), max_retries=1)
    with pytest.raises(hevlayer.HevlayerConnectionError, match=r"no connection: .*refused") as caught:
        await query(client)
    assert not caught.value.request_sent
    assert caught.value.status_code is None


async def test_a_broken_connection_says_that_the_request_may_have_been_seen(serve, open_client):
    client = open_client(serve(Reset(reads=True)).url, max_retries=0)
    with pytest.raises(hevlayer.HevlayerConnectionError, match="the connection broke") as caught:
        await client.write_namespace("a", WRITE)
    assert caught.value.request_sent


async def test_a_server_that_does_not_take_connections(open_client):
    """Its queue is full, so connecting times out: nothing was sent."""
    with full_queue() as url:
        client = open_client(url, timeout_seconds=0.2, max_retries=0)
        with pytest.raises(hevlayer.HevlayerConnectionError, match="no connection") as caught:
            await query(client, timeout_seconds=5)
    assert not caught.value.request_sent


async def test_a_cancelled_call_ends_at_once(serve, open_client):
    client = open_client(serve(Hang()).url)
    if client.kind == "sync":
        pytest.skip("a thread cannot be cancelled")
    call = asyncio.create_task(query(client))
    await asyncio.sleep(0.05)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


DIRECT_KEY, GATEWAY_KEY = "tpuf_direct", "gateway"


@pytest.fixture
def open_around(serve, open_client):
    """A client whose gateway is away, and the recording server in Turbopuffer's place."""

    def start(*acts, url=None, **options):
        direct = serve(*acts)
        client = open_client(
            url or refused_url(),
            api_key=GATEWAY_KEY,
            turbopuffer_api_key=DIRECT_KEY,
            turbopuffer_url=direct.url,
            **options,
        )
        return client, direct

    return start


async def test_a_gateway_that_does_not_take_connections_is_gone_around(open_around):
    with full_queue() as url:
        client, _ = open_around(OK, url=url, timeout_seconds=0.2)
        assert (await query(client, timeout_seconds=5, with_perf=True)).perf.fallback == "turbopuffer_direct"


async def test_around_the_gateway(open_around, caplog):
    client, direct = open_around(OK)
    with caplog.at_level(logging.WARNING, "hevlayer.client"):
        answer = await client.query_namespace(
            "a", {"vector": [1.0], "top_k": 2, "filters": ["x", "Eq", 1]}, tags=["t"], raw_query="q", with_perf=True
        )
        await query(client)
    assert answer.perf.fallback == "turbopuffer_direct"
    assert answer.data.rows == ROWS["rows"]
    assert answer.data.results == [{"id": 1, "dist": 0.5, "attributes": {"title": "a"}}]
    assert len([record for record in caplog.records if "asking Turbopuffer directly" in record.message]) == 1
    first, second = direct.requests
    assert first.json == {"top_k": 2, "filters": ["x", "Eq", 1], "rank_by": ["vector", "ANN", [1.0]]}
    assert second.json == {"rank_by": ["id", "asc"], "limit": 1}
    assert first.target == "/v2/namespaces/a/query"
    assert first.headers["authorization"] == f"Bearer {DIRECT_KEY}"
    assert not [name for name in first.headers if name.startswith("x-hevlayer")]


async def test_direct_rows_have_no_reserved_attributes_unless_they_were_named(open_around):
    row = {"id": 1, "_hevlayer_upserted_at": 5, "_hevlayer_shard": 2}
    client, _ = open_around(Answer(body={"rows": [row]}))
    assert (await client.query_namespace("a", {"rank_by": ["id", "asc"], "include_attributes": True})).rows == [
        {"id": 1}
    ]
    body = {"rank_by": ["id", "asc"], "include_attributes": ["_hevlayer_shard"]}
    assert (await client.query_namespace("a", body)).rows == [{"id": 1, "_hevlayer_shard": 2}]


RESERVED = {"_hevlayer_upserted_at": 5, "_hevlayer_shard": 2}
SCHEMA = {"n": {"type": "int"}}
METADATA = {
    "id": "a",
    "schema": {},
    "approx_logical_bytes": 0,
    "approx_row_count": 0,
    "created_at": "t",
    "updated_at": "t",
}


async def test_reserved_attributes_are_hidden_wherever_they_are(open_around):
    row = {"id": 1, **RESERVED}
    legs = [{"rank_by": ["id", "asc"]}, {"rank_by": ["id", "asc"], "include_attributes": ["_hevlayer_shard"]}]
    client, direct = open_around(Answer(body={"results": [{"rows": [row]}, {"rows": [row]}]}))
    batch = await client.batch_query_namespace("a", {"queries": legs})
    assert [each.rows for each in batch.results] == [[{"id": 1}], [{"id": 1, "_hevlayer_shard": 2}]]
    several = await client.query_namespace("a", {"queries": legs})
    assert [each["rows"] for each in several.results] == [[{"id": 1}], [{"id": 1, "_hevlayer_shard": 2}]]
    direct.then(Answer(body={**SCHEMA, **RESERVED}))
    assert (await client.get_turbopuffer_namespace_schema("a")).model_dump() == SCHEMA
    direct.then(Answer(body={**METADATA, "schema": {**SCHEMA, **RESERVED}}))
    assert (await client.get_turbopuffer_v1_namespace_metadata("a")).schema == SCHEMA


AROUND = [
    ("write_namespace", ("a", WRITE), WRITTEN),
    ("write_namespace", ("a", {"deletes": [1]}), WRITTEN),
    ("write_namespace", ("a", hevlayer.TurbopufferWriteRequest.model_validate(WRITE)), WRITTEN),
    ("patch_columns", ("a", [1], {"n": [2]}), WRITTEN),
    ("copy_namespace", ("a", {"copy_from_namespace": "b"}), WRITTEN),
    ("branch_namespace", ("a", {"branch_from_namespace": "b"}), WRITTEN),
    ("query_turbopuffer_namespace", ("a", {"rank_by": ["id", "asc"]}), ROWS),
    ("batch_query_namespace", ("a", {"queries": [{"rank_by": ["id", "asc"]}]}), {"results": [ROWS]}),
    ("explain_turbopuffer_query", ("a", {}), {"plan_text": "p"}),
    (
        "evaluate_turbopuffer_recall",
        ("a", {}),
        {"avg_recall": 1, "avg_exhaustive_count": 1, "avg_ann_count": 1},
    ),
    ("get_turbopuffer_namespace_schema", ("a",), SCHEMA),
    ("update_turbopuffer_namespace_schema", ("a", SCHEMA), SCHEMA),
    ("get_turbopuffer_v1_namespace_metadata", ("a",), METADATA),
    ("update_turbopuffer_namespace_metadata", ("a", {"pinning": None}), METADATA),
    ("list_turbopuffer_namespaces", (), {"namespaces": []}),
]


@pytest.mark.parametrize(("method", "arguments", "answer"), AROUND)
async def test_what_turbopuffer_can_answer_itself(open_around, method, arguments, answer):
    client, direct = open_around(Answer(body=answer))
    called = await getattr(client, method)(*arguments, with_perf=True)
    assert called.perf.fallback == "turbopuffer_direct"
    assert len(direct.requests) == 1


NEEDS_LAYER = [
    ("query_namespace", ("a", {"nearest_to_id": "b", "top_k": 1})),
    ("query_namespace", ("a", {"vector": [1.0], "top_k": 1, "as_of": 5})),
    ("query_namespace", ("a", {"vector": [1.0], "top_k": 1, "between": [5, 6]})),
    ("query_namespace", ("a", {"vector": [1.0], "top_k": 1, "cursor": "c"})),
    ("query_namespace", ("a", {"rank_by": ["HybridText", "title", "x"]})),
    ("query_namespace", ("a", {"rank_by": ["Sum", [["title", "Auto", "x"]]]})),
    ("query_namespace", ("a", hevlayer.QueryRequest(nearest_to_id=["b"], top_k=1))),
    ("query_namespace", ("a", {"queries": [{"vector": [1.0], "top_k": 1}]})),
    ("batch_query_namespace", ("a", {"queries": [{"nearest_to_id": "b", "top_k": 1}]})),
    ("query_namespace", ("a", {"queries": "x"})),
    ("write_namespace", ("a", {"upserts": [{"id": 1}]})),
    ("write_namespace", ("a", {"patches": [{"id": 1}], "deletes": [2]})),
    ("fetch_document", ("a", "b")),
    ("fetch_documents", ("a", {"ids": ["b"]})),
    ("list_namespaces", ()),
    ("get_namespace_metadata", ("a",)),
    ("delete_namespace", ("a",)),
    ("init_namespace", ("a",)),
    ("hint_cache_warm", ("a",)),
    ("warm_cache", ("a",)),
    ("create_scan", ("a", {"mode": "count"})),
    ("get_scan", ("a", "s")),
    ("result_count", ("a", {"query": {"field": "f", "fts": "x"}})),
    ("create_snapshot", ("a", {"field": "f"})),
    ("list_search_history", ("a",)),
    ("list_clickstream", ("a",)),
    ("list_metrics_catalog", ()),
]


@pytest.mark.parametrize(("method", "arguments"), NEEDS_LAYER)
async def test_what_needs_the_gateway_fails(open_around, method, arguments):
    client, direct = open_around(OK, max_retries=0)
    with pytest.raises(hevlayer.HevlayerConnectionError) as caught:
        await getattr(client, method)(*arguments)
    assert not caught.value.request_sent
    assert (direct.requests, direct.connections) == ([], 0)


@pytest.mark.parametrize("fault", [Reset(reads=True), Hang(), Answer(503, {}), Answer(502, {})], ids=repr)
async def test_a_gateway_that_may_have_seen_it_is_never_gone_around(serve, open_around, fault):
    gateway = serve(fault)
    client, direct = open_around(OK, url=gateway.url, timeout_seconds=0.1, max_retries=1)
    for call in (client.write_namespace("a", WRITE), query(client)):
        with pytest.raises(hevlayer.HevlayerError):
            await call
    assert direct.connections == 0


async def test_a_gateway_that_goes_away_after_it_has_seen_it(serve, open_around):
    """The first attempt is seen, the second finds nobody."""
    gateway = serve(Answer(503, {}, {"retry-after": "0.2"}, closes=True))
    client, direct = open_around(OK, url=gateway.url)
    call = asyncio.create_task(client.write_namespace("a", WRITE))
    await asyncio.to_thread(gateway.wait_until_idle, 1)
    await asyncio.to_thread(gateway.stop)
    with pytest.raises(hevlayer.HevlayerConnectionError, match="no connection") as caught:
        await call
    assert caught.value.request_sent
    assert direct.connections == 0


async def test_the_gateway_is_asked_first(serve, open_around):
    gateway = serve(OK)
    client, direct = open_around(OK, url=gateway.url)
    answer = await query(client, with_perf=True)
    assert answer.perf.fallback is None
    assert gateway.requests[0].headers["authorization"] == f"Bearer {GATEWAY_KEY}"
    assert direct.connections == 0


async def test_a_gateway_without_a_key_is_gone_around_with_turbopuffer_s(serve, open_client):
    direct = serve(OK)
    await query(open_client(refused_url(), turbopuffer_api_key=DIRECT_KEY, turbopuffer_url=direct.url))
    assert direct.requests[0].headers["authorization"] == f"Bearer {DIRECT_KEY}"


async def test_not_around_when_it_is_switched_off(open_around):
    client, direct = open_around(OK, fallback_to_turbopuffer=False, max_retries=0)
    with pytest.raises(hevlayer.HevlayerConnectionError):
        await query(client)
    assert direct.connections == 0


async def test_turbopuffer_is_asked_again_too(open_around):
    client, direct = open_around(Answer(429, {}), OK)
    assert (await query(client)).rows == ROWS["rows"]
    assert len(direct.requests) == 2


async def test_errors_of_turbopuffer(open_around):
    client, _ = open_around(Answer(404, {"status": "error", "error": "namespace 'a' was not found"}))
    with pytest.raises(hevlayer.HevlayerError) as caught:
        await query(client)
    assert (caught.value.status_code, caught.value.error) == (404, "namespace 'a' was not found")


async def test_reserved_attributes_are_not_written_around_the_gateway(open_around):
    client, direct = open_around(OK, max_retries=0)
    for body in (
        {"upsert_rows": [{"id": 1, "_hevlayer_upserted_at": 9}]},
        {"patch_columns": {"id": [1], "_hevlayer_shard": [1]}},
    ):
        with pytest.raises(hevlayer.HevlayerConnectionError):
            await client.write_namespace("a", body)
    assert direct.requests == []


async def test_a_client_that_is_busy_with_the_gateway_does_not_go_around_it(open_around):
    with full_queue() as url:
        client, direct = open_around(OK, url=url, max_retries=0)
        # No time for a connection of the pool, though one is free.
        with pytest.raises(hevlayer.HevlayerTimeoutError, match="connections were in use") as caught:
            await query(client, timeout_seconds=1e-9)
        assert not caught.value.request_sent
    assert direct.requests == []


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), 1e300])
async def test_a_time_out_that_cannot_be(open_client, serve, seconds):
    with pytest.raises(ValueError, match="timeout_seconds must be above 0 and at most a year"):
        open_client(serve().url, timeout_seconds=seconds)
    with pytest.raises(ValueError, match="timeout_seconds must be above 0 and at most a year"):
        await open_client(serve().url).get_health(timeout_seconds=seconds)
