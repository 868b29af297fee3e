"""The process as a whole: keys, secrets, draining, readiness."""

import asyncio
import dataclasses
import time

import pytest
from gateway_bench import eventually

from hevlayer.gateway.drain import Phase
from hevlayer.http.errors import HttpClientError
from hevlayer.testing.recording import Canned, answer

QUERY = b'{"rank_by":["id","asc"],"limit":1}'


async def test_key_mode(benches):
    bench = await benches(gateway_api_key="gateway-key", turbopuffer_api_key="tpuf_upstream")
    refused = await bench.call("POST", "/v2/namespaces/a/query", QUERY)
    assert refused.status == 401
    assert refused.header(b"www-authenticate") == b"Bearer"
    assert b'"error":"unauthorized"' in refused.body
    served = await bench.call("POST", "/v2/namespaces/a/query", QUERY, [(b"authorization", b"Bearer gateway-key")])
    assert served.status == 200
    [request] = bench.upstream.requests
    assert request.header(b"authorization") == b"Bearer tpuf_upstream"
    assert b"gateway-key" not in request.head


async def test_without_authorization_the_upstream_decides(bench):
    bench.upstream.default = answer(401, b'{"status":"error","error":"no key"}')
    response = await bench.call("GET", "/v1/namespaces", headers=[])
    assert response.status == 401
    assert bench.upstream.requests[0].header(b"authorization") is None


@pytest.mark.parametrize("path", ["/health", "/ready"])
async def test_what_is_open_needs_no_key(benches, path):
    bench = await benches(gateway_api_key="g", turbopuffer_api_key="u", metrics_token="m")
    assert (await bench.call("GET", path, headers=[])).status == 200


@pytest.mark.parametrize("path", ["/metrics", "/v2/metrics/catalog"])
async def test_a_metrics_token_closes_the_metrics(benches, path):
    bench = await benches(metrics_token="m")
    assert (await bench.call("GET", path, headers=[])).status == 401
    assert (await bench.call("GET", path, headers=[(b"authorization", b"Bearer m")])).status == 200


async def test_promql_needs_the_metrics_token_or_the_gateways_key(benches):
    closed = await benches(metrics_token="m")
    assert (await closed.call("GET", "/v2/metrics/query?query=up", headers=[])).status == 401
    keyed = await benches(gateway_api_key="g", turbopuffer_api_key="u")
    assert (await keyed.call("GET", "/v2/metrics/query?query=up", headers=[])).status == 401
    response = await keyed.call("GET", "/v2/metrics/query?query=up", headers=[(b"authorization", b"Bearer g")])
    assert response.status == 503


async def test_no_secret_is_logged(bench, caplog):
    caplog.set_level("DEBUG")
    headers = [(b"authorization", b"Bearer tpuf_caller_secret"), (b"cookie", b"session=cookie_secret")]
    body = b'{"copy_from_namespace":{"source_namespace":"b","source_api_key":"tpuf_source_secret"}}'
    for canned in (answer(200), answer(500), Canned(reset=True), Canned(b"garbage", close=True)):
        bench.upstream.default = canned
        await bench.call("POST", "/v2/namespaces/a?key=query_secret", body, headers)
        await bench.call("POST", "/v2/namespaces/a/query", QUERY[:-1] + b',"x":"body_secret"', headers)
        await bench.call("GET", "/nowhere", headers=headers)
    logged = bench.access_log + caplog.text.encode()
    assert logged.count(b'"event":"request"') == 12
    assert b"secret" not in logged
    exposition = bench.gateway.metrics.registry.exposition()
    assert b"secret" not in exposition


async def test_draining(benches):
    bench = await benches()
    held = asyncio.Event()
    bench.upstream.default = Canned(answer().raw, before=held)
    flying = asyncio.create_task(bench.call("POST", "/v2/namespaces/a", b'{"upsert_rows":[{"id":1}]}'))
    await bench.upstream.arrived(1)
    stopping = asyncio.create_task(bench.gateway.stop())
    await eventually(lambda: bench.gateway.drain_state.phase is Phase.REFUSING)
    await asyncio.sleep(0)
    with pytest.raises(HttpClientError):
        # The listener is closed.
        await bench.call("GET", "/ready")
    assert not stopping.done()
    held.set()
    response = await flying
    assert response.status == 200
    await stopping
    assert bench.gateway.upstream.connections == 0
    assert bench.gateway.supervisor.running == 0


async def test_while_leaving_it_serves_but_says_so(benches):
    bench = await benches(drain_delay_seconds=60.0)
    stopping = asyncio.create_task(bench.gateway.stop())
    await asyncio.sleep(0)
    ready = await bench.call("GET", "/ready")
    assert (ready.status, b"shutting down" in ready.body) == (503, True)
    assert (await bench.call("POST", "/v2/namespaces/a/query", QUERY)).status == 200
    stopping.cancel()
    await asyncio.gather(stopping, return_exceptions=True)
    bench.gateway.config = dataclasses.replace(bench.gateway.config, drain_delay_seconds=0.0)


async def test_requests_on_kept_connections_are_refused_at_the_end(bench):
    bench.gateway.drain_state.phase = Phase.REFUSING
    response = await bench.call("POST", "/v2/namespaces/a/query", QUERY)
    assert response.status == 503
    assert b'"error":"gateway_draining"' in response.body
    assert (await bench.call("GET", "/health")).status == 200


async def test_a_drain_has_an_end(benches):
    bench = await benches(drain_seconds=0.05)
    bench.upstream.default = Canned(before=asyncio.Event())
    flying = asyncio.create_task(bench.call("POST", "/v2/namespaces/a", b'{"upsert_rows":[{"id":1}]}'))
    await bench.upstream.arrived(1)
    async with asyncio.timeout(10):
        await bench.gateway.stop()
    with pytest.raises(HttpClientError):
        await flying
    # Its answer never came: the write stays in the ledger for a while.
    assert bench.gateway.stamper.busy("a")
    assert not bench.gateway.stamper.writing()


async def test_a_watched_namespace_becomes_stable(benches):
    bench = await benches(watched=True, consistency_poll_interval_ms=10, consistency_safety_margin_ms=0)
    metadata = b'{"schema":{"_hevlayer_upserted_at":{"type":"int"}},"created_at":"x","index":{"status":"%b"}}'
    target = b"/v2/namespaces/a/metadata"
    bench.upstream.by_target[target] = answer(200, metadata % b"up-to-date")

    async def until(consistency: bytes) -> bytes:
        async with asyncio.timeout(10):
            while True:
                response = await bench.call("POST", "/v2/namespaces/a/query", QUERY)
                if response.header(b"x-layer-consistency") == consistency:
                    return response.header(b"x-layer-stable-as-of")
                await asyncio.sleep(0.005)

    watermark = int(await until(b"stable"))
    assert abs(watermark - time.time_ns() // 1_000_000) < 10_000
    bench.upstream.by_target[target] = answer(200, metadata % b"updating")
    assert int(await until(b"filtered")) >= watermark
    polls = [request for request in bench.upstream.requests if request.target == target]
    # In pass-through mode the watcher uses the bearer that the upstream has accepted.
    assert {poll.header(b"authorization") for poll in polls} == {b"Bearer tpuf_caller_secret"}
