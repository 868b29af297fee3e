"""Pass-through: two organisations behind one gateway own equal namespace names and see nothing of each other."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from gateway_bench import eventually

from hevlayer.clock import SystemClock
from hevlayer.gateway.access_log import OFF, AccessLog
from hevlayer.gateway.app import Gateway
from hevlayer.gateway.config import GatewayConfig
from hevlayer.http.client import HttpClient, Origin
from hevlayer.http.messages import Request, Response
from hevlayer.http.server import serve

JSON = [(b"content-type", b"application/json")]


class Organisations:
    """An upstream that tells its customers apart by their bearers. Each owns a namespace `docs` of its own."""

    def __init__(self) -> None:
        self.org_of = {b"Bearer ka": "a", b"Bearer kb": "b", b"Bearer ka2": "a"}
        self.texts = {"a": "secret of a", "b": "secret of b"}
        self.created = {"a": "2026-01-01T00:00:00.000000001Z", "b": "2026-02-02T00:00:00Z"}
        self.id_types = {"a": "uint", "b": "uint"}
        self.status = {"a": "up-to-date", "b": "up-to-date"}
        self.stamped = {"a": True, "b": True}
        self.polls: list[str] = []
        self.queries: list[tuple[str, bytes]] = []

    async def __call__(self, request: Request) -> Response:
        body = await request.body.read(1 << 20)
        org = self.org_of.get(request.header(b"authorization") or b"")
        if org is None:
            return Response(401, JSON, b'{"status":"error","error":"who"}')
        schema: dict[str, object] = {"id": {"type": self.id_types[org]}, "t": {"type": "string"}}
        if self.stamped[org]:
            schema["_hevlayer_upserted_at"] = {"type": "int"}
        if request.path.endswith("/metadata"):
            self.polls.append(org)
            index = {"status": self.status[org], "unindexed_bytes": 1}
            metadata = {"schema": schema, "created_at": self.created[org], "index": index}
            return Response(200, JSON, json.dumps(metadata).encode())
        if request.path.endswith("/schema"):
            return Response(200, JSON, json.dumps(schema).encode())
        if request.path.endswith("/query"):
            self.queries.append((org, body))
            one: int | str = 7 if self.id_types[org] == "uint" else "7"
            return Response(200, JSON, json.dumps({"rows": [{"id": one, "t": self.texts[org]}]}).encode())
        return Response(200, JSON, b'{"status":"OK","rows_affected":1}')


class Stage:
    def __init__(self, directory: Path, **settings: object) -> None:
        self.directory = directory
        self.settings = settings
        self.upstream = Organisations()

    async def open(self) -> None:
        self.origin = await serve(self.upstream)
        await self.open_gateway()

    async def open_gateway(self) -> None:
        address = f"http://127.0.0.1:{self.origin.port}"
        config = GatewayConfig(port=0, upstream_url=address, data_dir=self.directory, **self.settings)  # type: ignore[arg-type]
        self.gateway = Gateway(config.check(), access_log=AccessLog(OFF))
        await self.gateway.start()
        self.client = HttpClient(Origin.parse(f"http://127.0.0.1:{self.gateway.port}"), None, SystemClock())

    async def close_gateway(self) -> None:
        await self.client.close()
        await self.gateway.stop()

    async def close(self) -> None:
        await self.close_gateway()
        await self.origin.close()

    async def call(
        self, key: bytes, method: str, target: str, body: bytes = b""
    ) -> tuple[int, dict[bytes, bytes], bytes]:
        headers = [(b"authorization", b"Bearer " + key)]
        response = await self.client.request(method, target.encode(), headers, body)
        return response.status, dict(response.headers), await response.read(1 << 20)

    async def fetch(self, key: bytes) -> tuple[str, str]:
        """A document's text and where it came from."""
        status, headers, body = await self.call(key, "GET", "/v2/namespaces/docs/documents/7")
        assert status == 200, body
        return json.loads(body)["attributes"]["t"], headers[b"x-layer-cache"].decode()

    async def fetch_batch(self, key: bytes) -> tuple[str, str]:
        status, headers, body = await self.call(key, "POST", "/v2/namespaces/docs/documents", b'{"ids":["7"]}')
        assert status == 200, body
        return json.loads(body)["documents"][0]["attributes"]["t"], headers[b"x-layer-cache"].decode()


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    made = Stage(tmp_path)
    await made.open()
    yield made
    await made.close()


async def test_a_cached_document_is_served_to_its_own_organisation_only(stage: Stage) -> None:
    assert await stage.fetch(b"ka") == ("secret of a", "miss")
    assert await stage.fetch(b"ka") == ("secret of a", "hit")
    assert await stage.fetch(b"kb") == ("secret of b", "miss")
    assert await stage.fetch_batch(b"kb") == ("secret of b", "miss")
    assert await stage.fetch(b"kb") == ("secret of b", "miss")
    assert await stage.fetch(b"ka") == ("secret of a", "hit")
    assert await stage.fetch_batch(b"ka") == ("secret of a", "hit")


async def test_another_key_of_the_same_organisation_shares_its_cache_and_its_writes(stage: Stage) -> None:
    assert await stage.fetch(b"ka") == ("secret of a", "miss")
    assert await stage.fetch(b"ka2") == ("secret of a", "hit")
    stage.upstream.texts["a"] = "written"
    body = b'{"upsert_rows":[{"id":7,"t":"written"}]}'
    assert (await stage.call(b"ka2", "POST", "/v2/namespaces/docs", body))[0] == 200
    assert await stage.fetch(b"ka") == ("written", "miss")


async def test_what_an_earlier_process_kept_belongs_to_its_organisation(stage: Stage) -> None:
    assert await stage.fetch(b"ka") == ("secret of a", "miss")
    await stage.close_gateway()
    await stage.open_gateway()
    assert await stage.fetch(b"ka") == ("secret of a", "hit")
    await stage.close_gateway()
    await stage.open_gateway()
    assert await stage.fetch(b"kb") == ("secret of b", "miss")
    assert await stage.fetch(b"kb") == ("secret of b", "hit")
    await stage.close_gateway()
    await stage.open_gateway()
    assert await stage.fetch(b"ka") == ("secret of a", "miss")


async def test_a_cache_filled_under_one_mode_or_key_is_not_read_under_another(stage: Stage) -> None:
    assert await stage.fetch(b"ka") == ("secret of a", "miss")
    await stage.close_gateway()
    stage.settings = {"gateway_api_key": "ours", "turbopuffer_api_key": "kb"}
    await stage.open_gateway()
    assert await stage.fetch(b"ours") == ("secret of b", "miss")
    await stage.close_gateway()
    stage.settings = {"gateway_api_key": "ours", "turbopuffer_api_key": "ka"}
    await stage.open_gateway()
    assert await stage.fetch(b"ours") == ("secret of a", "miss")


async def test_each_organisation_has_its_own_watermark_and_schema(stage: Stage) -> None:
    """A predicate on an attribute that only the other organisation's namespace has would be refused upstream."""
    await stage.close_gateway()
    stage.settings = {"consistency_poll_interval_ms": 20}
    await stage.open_gateway()
    stage.upstream.stamped["b"] = False
    query = b'{"rank_by":["id","asc"],"limit":1}'
    path = "/v2/namespaces/docs/query"
    for key in (b"ka", b"kb"):
        await stage.call(key, "POST", path, query)
    registry = stage.gateway.registry
    await eventually(lambda: len(registry) == 2 and all(entry.view.is_stable for entry in registry))
    stage.upstream.status = {"a": "updating", "b": "updating"}
    await eventually(lambda: not any(entry.view.is_stable for entry in registry))
    assert (await stage.call(b"ka", "POST", path, query))[1][b"x-layer-consistency"] == b"filtered"
    assert b"_hevlayer_upserted_at" in stage.upstream.queries[-1][1]
    assert (await stage.call(b"kb", "POST", path, query))[1][b"x-layer-consistency"] == b"eventual"
    assert b"Lte" not in stage.upstream.queries[-1][1]
    assert stage.upstream.created["a"] in {entry.view.created_at for entry in registry}
    assert stage.upstream.created["b"] in {entry.view.created_at for entry in registry}


async def test_with_an_upstream_key_namespaces_are_watched_under_that_key(stage: Stage) -> None:
    await stage.close_gateway()
    stage.settings = {"turbopuffer_api_key": "ka", "consistency_poll_interval_ms": 20}
    await stage.open_gateway()
    await stage.call(b"ka2", "POST", "/v2/namespaces/docs/query", b'{"rank_by":["id","asc"],"limit":1}')
    registry = stage.gateway.registry
    await eventually(lambda: any(entry.view.is_stable for entry in registry))
    assert set(stage.upstream.polls) == {"a"}
    assert await stage.fetch(b"kb") == ("secret of b", "miss")
    assert await stage.fetch(b"ka2") == ("secret of a", "miss")


async def test_a_refused_caller_registers_no_namespace(stage: Stage) -> None:
    status, _, _ = await stage.call(b"stranger", "POST", "/v2/namespaces/docs", b'{"upsert_rows":[{"id":7}]}')
    assert status == 401
    assert len(stage.gateway.registry) == 0


async def test_ids_are_read_by_each_organisations_own_id_type(stage: Stage) -> None:
    stage.upstream.id_types["b"] = "string"
    assert await stage.fetch(b"ka") == ("secret of a", "miss")
    assert await stage.fetch(b"kb") == ("secret of b", "miss")
    assert b'["7"]' in stage.upstream.queries[-1][1]
    await stage.fetch_batch(b"kb")
    assert b'["7"]' in stage.upstream.queries[-1][1]
