"""Two gateways on one Aerospike and one upstream, over HTTP."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aerospike_bench import AEROSPIKE_NAMESPACE, PATIENCE_SECONDS, POLL_SECONDS, Bench

from hevlayer.clock import SystemClock
from hevlayer.gateway.access_log import OFF, AccessLog
from hevlayer.gateway.app import Gateway
from hevlayer.gateway.config import GatewayConfig
from hevlayer.http.client import HttpClient, Origin
from hevlayer.http.messages import Request, Response
from hevlayer.http.server import serve

JSON = [(b"content-type", b"application/json")]
DOCUMENTS = "/v2/namespaces/docs/documents"


class Upstream:
    """One namespace with one row, whose text each write sets."""

    def __init__(self) -> None:
        self.text = "first"
        self.queries = 0

    async def __call__(self, request: Request) -> Response:
        body = await request.body.read(1 << 20)
        schema = {"id": {"type": "uint"}, "t": {"type": "string"}, "_hevlayer_upserted_at": {"type": "int"}}
        answer: dict[str, object] = {"status": "OK", "rows_affected": 1}
        if request.path.endswith("/metadata"):
            answer = {"schema": schema, "created_at": "2026-01-01T00:00:00Z", "index": {"status": "up-to-date"}}
        elif request.path.endswith("/schema"):
            answer = dict(schema)
        elif request.path.endswith("/query"):
            self.queries += 1
            answer = {"rows": [{"id": 7, "t": self.text}]}
        else:
            self.text = json.loads(body)["upsert_rows"][0]["t"]
        return Response(200, JSON, json.dumps(answer).encode())


class Client:
    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self._http = HttpClient(Origin.parse(f"http://127.0.0.1:{gateway.port}"), None, SystemClock())

    async def call(self, method: str, target: str, body: bytes = b"") -> tuple[dict[bytes, bytes], bytes]:
        headers = [(b"authorization", b"Bearer gateway")]
        response = await self._http.request(method, target.encode(), headers, body)
        content = await response.read(1 << 20)
        assert response.status == 200, content
        return dict(response.headers), content

    async def fetch(self) -> tuple[str, str]:
        headers, body = await self.call("GET", f"{DOCUMENTS}/7")
        return json.loads(body)["attributes"]["t"], headers[b"x-layer-cache"].decode()

    async def write(self, text: str) -> None:
        await self.call("POST", "/v2/namespaces/docs", json.dumps({"upsert_rows": [{"id": 7, "t": text}]}).encode())

    async def close(self) -> None:
        await self._http.close()
        await self.gateway.stop()


async def kept(client: Client, text: str) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (found := await client.fetch()) != (text, "hit"):
            assert found[0] == text
            await asyncio.sleep(POLL_SECONDS)


@pytest.fixture
async def clients(bench: Bench, tmp_path: Path) -> AsyncIterator[list[Client]]:
    upstream = await serve(Upstream())
    made = []
    for number in range(2):
        config = GatewayConfig(
            port=0,
            upstream_url=f"http://127.0.0.1:{upstream.port}",
            data_dir=tmp_path / str(number),
            gateway_api_key="gateway",
            turbopuffer_api_key=bench.identity,
            aerospike_hosts=bench.proxy.address,
            aerospike_namespace=AEROSPIKE_NAMESPACE,
            aerospike_set_prefix=bench.prefix,
            # No write of this test is under way when its gateways first meet the server.
            unknown_write_seconds=0.0,
            cache_timeout_ms=2_000,
        )
        gateway = Gateway(config.check(), access_log=AccessLog(OFF))
        await gateway.start()
        made.append(Client(gateway))
    yield made
    for client in made:
        await client.close()
    await upstream.close()


async def test_what_one_gateway_reads_the_other_serves_until_somebody_writes(clients: list[Client]) -> None:
    here, there = clients
    assert await here.fetch() == ("first", "miss")
    # Nothing is kept in the quiet time of a server that was never met: as long as clocks may differ.
    await kept(here, "first")
    assert await there.fetch() == ("first", "hit")
    await there.write("second")
    assert (await here.fetch())[0] == "second"
    await kept(there, "second")
    assert await here.fetch() == ("second", "hit")


async def test_requests_go_on_while_the_server_is_away(bench: Bench, clients: list[Client]) -> None:
    here, _ = clients
    assert await here.fetch() == ("first", "miss")
    bench.proxy.refuses = True
    bench.proxy.cut()
    await here.write("second")
    assert await here.fetch() == ("second", "miss-on-error")


async def test_health_tells_of_the_server(clients: list[Client]) -> None:
    _, body = await clients[0].call("GET", "/health")
    health = json.loads(body)
    assert health["document_cache"] | {"notes": []} == {"engine": "aerospike", "connected": True, "notes": []}
    assert health["aerospike"]["connected"]
    assert health["aerospike"]["generation"] >= 1
