"""Our own client in a session: what is more than one request, and the origin in Turbopuffer's place."""

import asyncio
import inspect
import itertools

import pytest
from contract_support import Process, start_gateway, start_origin

import hevlayer

KEY = "gateway-key"
POLL_INTERVAL_MS = "50"
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
ROWS = [{"id": f"d{n:03}", "vector": [n / 100, 1.0], "n": n % 3, "title": "red fox"} for n in range(60)]
WRITE = {
    "upsert_rows": ROWS,
    "distance_metric": "cosine_distance",
    "schema": {"title": {"type": "string", "full_text_search": True}},
}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    options = ("--consistency-poll-interval-ms", POLL_INTERVAL_MS)
    with start_gateway(tmp_path_factory.mktemp("own-client"), *options, key=KEY) as target:
        yield target


class InThreads:
    """The synchronous client as these tests call it."""

    def __init__(self, client):
        self.client = client

    def __getattr__(self, name):
        method = getattr(self.client, name)

        async def call(*arguments, **options):
            if inspect.isgeneratorfunction(method):
                return await asyncio.to_thread(lambda: list(method(*arguments, **options)))
            return await asyncio.to_thread(method, *arguments, **options)

        return call


async def collected(pages):
    """A list of what an iterator of either class gives."""
    return [each async for each in pages] if hasattr(pages, "__aiter__") else await pages


@pytest.fixture(params=["async", "sync"])
async def open_client(request):
    opened = []

    def open_at(url, **options):
        client = (hevlayer.AsyncHevlayer if request.param == "async" else hevlayer.Hevlayer)(base_url=url, **options)
        opened.append(client)
        return client if request.param == "async" else InThreads(client)

    yield open_at
    for client in opened:
        if request.param == "async":
            await client.aclose()
        else:
            await asyncio.to_thread(client.close)


@pytest.fixture
async def client(gateway, open_client):
    return open_client(gateway.base_url, api_key=KEY)


@pytest.fixture
async def films(request, client):
    name = f"films-{request.node.callspec.id}-{request.node.originalname}"
    await client.write_namespace(name, WRITE)
    yield name
    await client.delete_namespace(name, purge_history=True)


async def test_a_scan_that_is_waited_for(client, films):
    states = []
    job = await client.scan(films, {"filters": ["n", "Eq", 1], "page_size": 5}, timeout=20, progress=states.append)
    assert (job.status, job.progress) == ("completed", 1.0)
    assert states[-1] == job
    assert all(before.progress <= after.progress for before, after in itertools.pairwise(states))
    ids = await collected(client.iter_scan_ids(films, job.id, page_size=7))
    assert ids == [row["id"] for row in ROWS if row["n"] == 1]
    values = await client.scan(films, hevlayer.CreateScanRequest(mode="values", field="n"), timeout=20)
    with pytest.raises(hevlayer.HevlayerAnswerError, match="values"):
        await collected(client.iter_scan_ids(films, values.id))
    with pytest.raises(hevlayer.HevlayerAnswerError, match="create_scan"):
        await client.scan(films, {"mode": "count"})


async def test_a_scan_that_is_gone(client, films):
    started = await client.create_scan(films, {"filters": ["n", "Gt", 0], "source": "origin"})
    ended = await client.wait_for_scan(films, started.id, timeout=20)
    await client.delete_scan(films, ended.id)
    with pytest.raises(hevlayer.HevlayerError) as caught:
        await client.wait_for_scan(films, ended.id, timeout=5)
    assert caught.value.status_code == 404


async def test_a_warm_that_is_waited_for(client, films):
    states = []
    started = await client.warm_namespace(films, page_size=10)
    job = await client.wait_for_warm_job(films, started.id, timeout=20, progress=states.append)
    assert (job.status, job.documents_scanned) == ("completed", len(ROWS))
    fetched = await client.fetch_documents(films, {"ids": [row["id"] for row in ROWS]}, with_perf=True)
    assert (len(fetched.data.documents), fetched.perf.cache_status) == (len(ROWS), "hit")
    assert (await client.delete_warm_job(films, job.id)).status == "OK"


async def test_counts_of_ranked_queries(client, films):
    text = await client.result_count(films, {"query": {"field": "title", "fts": "fox"}})
    assert (text.count, text.bounded) == (len(ROWS), False)
    near = {"query": hevlayer.VectorCountQuery(vector=[0.0, 1.0], max_distance=2.0), "mode": "exhaustive"}
    assert (await client.result_count(films, near)).count == len(ROWS)


async def test_a_session_that_is_put_together_again(client, films):
    body = {"vector": [0.0, 1.0], "top_k": 3}
    asked = await client.query_namespace(films, body, raw_query="foxes", tags=["app:a"], with_perf=True)
    other = await client.query_namespace(films, body, traceparent=f"00-{TRACE_ID}-b7ad6b7169203331-01", with_perf=True)
    assert other.perf.trace_id == TRACE_ID
    trace = f"00-{asked.perf.trace_id}-b7ad6b7169203331-01"
    for row in asked.data.rows:
        await client.fetch_document(films, row["id"], tags=["app:a"], traceparent=trace)
    clicks = await collected(client.iter_clickstream(films, trace_id=asked.perf.trace_id, page_size=1))
    assert [each.doc_id for each in clicks] == [row["id"] for row in reversed(asked.data.rows)]
    entries = await collected(client.iter_search_history(films, page_size=1))
    assert [each.trace_id for each in entries] == [TRACE_ID, asked.perf.trace_id]
    (entry,) = await collected(client.iter_search_history(films, tags=["app:a"]))
    assert (entry.raw_query, entry.tags) == ("foxes", ["app:a"])
    with pytest.raises(hevlayer.HevlayerError, match="tag") as caught:
        await client.query_namespace(films, body, tags=["no spaces"])
    assert caught.value.status_code == 422


async def test_shards_listings_and_the_process(client, films):
    assert (await client.init_namespace(films)).layer.shard_count == 1
    listed = await collected(client.iter_namespaces(prefix=films, page_size=1))
    assert [each.name for each in listed] == [films]
    assert (await client.get_health()).status == "ok"
    assert "# TYPE layer_" in await client.get_metrics()


async def test_a_copy_that_goes_on_by_itself(client, films):
    copy = f"{films}-copy"
    started = await client.start_copy_namespace(copy, {"copy_from_namespace": films})
    async with asyncio.timeout(20):
        while True:
            state = await client.get_operation(copy, started.token)
            if state.status == "finished":
                break
            await asyncio.sleep(0.02)
    assert "success" in state.result
    assert (await client.get_turbopuffer_v1_namespace_metadata(copy)).id == copy
    await client.delete_namespace(copy)


async def test_compressed(gateway, open_client, films):
    packed = open_client(gateway.base_url, api_key=KEY, compression=True)
    found = await packed.query_namespace(films, {"rank_by": ["id", "asc"], "limit": 60, "include_attributes": True})
    assert [row["id"] for row in found.rows] == [row["id"] for row in ROWS]
    assert found.rows[1]["vector"] == pytest.approx(ROWS[1]["vector"])


async def test_around_a_gateway_that_is_gone(tmp_path, open_client):
    body = {"vector": [0.0, 1.0], "top_k": 2, "include_attributes": True}
    with start_origin(tmp_path / "origin") as origin:
        gateway = Process(
            *("gateway", "--port", "0", "--data-dir", str(tmp_path / "gateway"), "--access-log", "off"),
            env={
                "LAYER_UPSTREAM_URL": origin.base_url,
                "LAYER_GATEWAY_API_KEY": KEY,
                "TURBOPUFFER_API_KEY": origin.token,
            },
            stream="stderr",
        )
        try:
            port = gateway.wait_for("gateway listening")["port"]
            client = open_client(
                f"http://127.0.0.1:{port}",
                api_key=KEY,
                turbopuffer_api_key=origin.token,
                turbopuffer_url=origin.base_url,
                max_retries=0,
            )
            await client.write_namespace("films", WRITE)
            there = await client.query_namespace("films", body, with_perf=True)
        finally:
            gateway.stop()
        around = await client.query_namespace("films", body, with_perf=True)
        assert (there.perf.fallback, around.perf.fallback) == (None, "turbopuffer_direct")
        assert (around.data.rows, around.data.results) == (there.data.rows, there.data.results)
        written = await client.write_namespace(
            "films", {"upsert_rows": [{"id": "x", "vector": [1.0, 0.0]}]}, with_perf=True
        )
        assert written.perf.fallback == "turbopuffer_direct"
        with pytest.raises(hevlayer.HevlayerConnectionError):
            await client.fetch_document("films", "x")
