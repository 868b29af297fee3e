"""A whole gateway is driven over HTTP: what it exports is what its catalog lists."""

import orjson
import pytest
from prometheus_client.parser import text_string_to_metric_families

from hevlayer.clock import SystemClock
from hevlayer.gateway.app import Gateway
from hevlayer.gateway.config import GatewayConfig
from hevlayer.http.client import ClientConfig, HttpClient, Origin
from hevlayer.http.messages import Response
from hevlayer.http.server import serve

JSON = [(b"content-type", b"application/json")]
BILLING = b'"billing":{"billable_logical_bytes_queried":5,"billable_logical_bytes_returned":7}'
# Emitted by the document cache, the fetch routes, jobs, the history, snapshots and shards, whose own tests drive them.
DRIVEN_ELSEWHERE = {"fetch", "cache"}


async def upstream(request):
    """One namespace, `films`; a query is throttled once."""
    body = await request.body.read(10_000)
    if request.path == "/v1/namespaces":
        return Response(200, JSON, b'{"namespaces":[{"id":"films"}]}')
    if "/films" not in request.path:
        return Response(404, JSON, b'{"status":"error","error":"not found"}')
    if request.path.endswith("/metadata"):
        schema = b'{"id":{"type":"uint"},"_hevlayer_upserted_at":{"type":"int"}}'
        sizes = b',"approx_row_count":0,"approx_logical_bytes":9'
        facts = b',"created_at":"2026-11-20T20:00:00Z","index":{"status":"up-to-date"}}'
        return Response(200, JSON, b'{"schema":' + schema + sizes + facts)
    if request.path.endswith("/query"):
        if request.header(b"x-stainless-retry-count") == b"7" and b"Lte" not in body:
            return Response(429, JSON, b'{"status":"error","error":"throttled"}')
        return Response(200, JSON, b'{"rows":[],' + BILLING + b"}")
    if request.method == "DELETE":
        return Response(200, JSON, b'{"status":"OK"}')
    written = b'{"status":"OK","message":"m","rows_affected":1,"billing":{"billable_logical_bytes_written":3}}'
    return Response(200, JSON, written)


class Stage:
    def __init__(self, gateway, origin):
        self.gateway = gateway
        self.origin = origin
        self.client = HttpClient(Origin.parse(f"http://127.0.0.1:{gateway.port}"), ClientConfig(), SystemClock())

    async def ask(self, method, target, body=b"", headers=()):
        sent = [(b"authorization", b"Bearer tpuf_x"), *headers]
        answer = await self.client.request(method, target, sent, body)
        return answer.status, await answer.read(10_000_000)


@pytest.fixture
async def stage(tmp_path):
    origin = await serve(upstream)
    address = f"http://127.0.0.1:{origin.port}"
    gateway = Gateway(
        GatewayConfig(
            port=0, upstream_url=address, data_dir=tmp_path, access_log="off", consistency_poll_interval_ms=20
        )
    )
    await gateway.start()
    built = Stage(gateway, origin)
    yield built
    await built.client.close()
    await gateway.stop()
    await origin.close()


async def watermark_known(stage):
    for _ in range(500):
        _, body = await stage.ask("GET", b"/v2/namespaces/films/metadata")
        if orjson.loads(body)["layer"]["stable_as_of"] is not None:
            return
        await stage.gateway.clock.sleep(0.01)
    raise AssertionError("no watermark")


async def test_everything_a_gateway_exports_is_in_its_catalog_and_emitted(stage):
    row = b'{"upsert_rows":[{"id":1,"title":"x"}]}'
    query = b'{"rank_by":["id","asc"],"limit":1}'
    legs = b'{"queries":[' + query + b"," + query + b"]}"
    assert (await stage.ask("POST", b"/v2/namespaces/films", row))[0] == 200
    await watermark_known(stage)
    assert (await stage.ask("POST", b"/v2/namespaces/films/query", query))[0] == 200
    assert (await stage.ask("POST", b"/v2/namespaces/films/query", legs))[0] == 200
    throttled = [(b"x-stainless-retry-count", b"7")]
    assert (await stage.ask("POST", b"/v2/namespaces/films/query", query, throttled))[0] == 200
    assert (await stage.ask("GET", b"/v2/namespaces"))[0] == 200
    assert (await stage.ask("POST", b"/v2/namespaces/films/warm"))[0] == 202
    while stage.gateway.jobs.running:
        await stage.gateway.clock.sleep(0.001)
    _, text = await stage.ask("GET", b"/metrics")
    _, listed = await stage.ask("GET", b"/v2/metrics/catalog")
    families = {
        family.name + ("_total" if family.type == "counter" else ""): family
        for family in text_string_to_metric_families(text.decode())
    }
    entries = {entry["name"]: entry for entry in orjson.loads(listed)["entries"]}
    assert families.keys() == entries.keys()
    assert (await stage.ask("DELETE", b"/v2/namespaces/films"))[0] == 200
    _, text = await stage.ask("GET", b"/metrics")
    emitted = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in text_string_to_metric_families(text.decode())
        if family.samples
    }
    silent = {name for name in families if name not in emitted and not families[name].samples}
    silent = {name for name in silent if entries[name]["family"] not in DRIVEN_ELSEWHERE}
    silent -= {name for name in silent if any(part in name for part in ("_history_", "_scattered_", "_snapshot_"))}
    assert silent == set()


async def test_the_process_routes_answer_without_a_key(stage):
    for target in (b"/health", b"/ready", b"/metrics", b"/v2/metrics/catalog"):
        answer = await stage.client.request("GET", target, [])
        assert answer.status == 200
        await answer.read(10_000_000)
    status, body = await stage.ask("GET", b"/v2/metrics/query?query=up")
    assert (status, orjson.loads(body)["errorType"]) == (503, "unavailable")


async def test_a_delete_goes_through_the_whole_gateway(stage):
    status, body = await stage.ask("DELETE", b"/v2/namespaces/films")
    assert (status, orjson.loads(body)["layer"]["cleanup"]) == (200, "done")
