"""The namespace routes over the real client, relay and router: what reaches the upstream, and what comes back."""

import gzip
from random import Random

import orjson
import pytest
from namespace_house import CREATED

from hevlayer.clock import SystemClock
from hevlayer.errors import LayerError
from hevlayer.gateway.auth import Authenticator, BackgroundBearers, Credential
from hevlayer.gateway.consistency import Registry, Stamper, Watcher
from hevlayer.gateway.namespaces import NamespaceRoutes, RelayedExchanges
from hevlayer.gateway.observe import NothingCached
from hevlayer.gateway.relay import Relay
from hevlayer.gateway.responses import error_response
from hevlayer.gateway.router import RouteContext, Router
from hevlayer.gateway.routes import ROUTES
from hevlayer.http.client import ClientConfig, HttpClient, Origin
from hevlayer.http.messages import Response
from hevlayer.http.server import serve
from hevlayer.kernels.splice import strip_schema
from hevlayer.metrics import Metrics
from hevlayer.stores.objects import LocalObjects
from hevlayer.stores.turbopuffer import Deadlines, Upstream

METADATA = (
    b'{ "schema": {"id":{"type":"uint"},"_hevlayer_upserted_at":{"type":"int"},"title":{"type":"string"}},\n'
    b'  "approx_row_count":2, "approx_logical_bytes":1.0e2, "created_at":"' + CREATED.encode() + b'",'
    b' "index":{"status":"up-to-date"} }'
)


class Played:
    """An upstream over HTTP with one namespace, `a b/ü`."""

    def __init__(self):
        self.requests = []
        self.exists = True
        self.compress = False

    async def __call__(self, request):
        self.requests.append((request.method, request.target, dict(request.headers), await request.body.read(1000)))
        if request.path == "/v1/namespaces":
            return Response(200, [], b'{"namespaces":[{"id":"a b/\xc3\xbc"}],"next_cursor":null}')
        if "a%20b%2F%C3%BC" not in request.path or not self.exists:
            return Response(404, [(b"content-type", b"application/json")], '{"status":"error","error":"🤷"}'.encode())
        if request.method == "DELETE":
            self.exists = False
            return Response(200, [(b"content-type", b"application/json")], b'{"status":"OK"}')
        headers = [(b"content-type", b"application/json"), (b"x-tpuf", b"1"), (b"keep-alive", b"timeout=5")]
        if self.compress:
            return Response(200, [*headers, (b"content-encoding", b"gzip")], gzip.compress(METADATA))
        return Response(200, headers, METADATA)


class Stage:
    def __init__(self, directory):
        self.clock = SystemClock()
        self.played = Played()
        self.directory = directory

    async def open(self):
        self.origin = await serve(self.played)
        limits = Deadlines(5.0, 10.0)
        address = f"http://127.0.0.1:{self.origin.port}"
        self.upstream = Upstream(address, self.clock, deadlines=limits, connect_seconds=5.0, connections_max=8)
        self.stamper = Stamper(self.clock)
        self.registry = Registry(self.clock, self.stamper)
        self.bearers = BackgroundBearers("")
        relay = Relay(self.upstream, self.clock, self.bearers, self.registry, body_bytes_max=1_000_000)
        store = LocalObjects(self.directory)
        self.metrics = Metrics()
        self.routes = NamespaceRoutes(
            RelayedExchanges(relay, self.bearers, self.clock),
            self.registry,
            store,
            self.bearers,
            NothingCached(),
            strip_schema,
            self.metrics,
            self.clock,
        )
        handlers = self.routes.handlers
        self.router = Router([spec for spec in ROUTES if spec.handler in handlers], handlers)
        self.authenticator = Authenticator("", "", "")
        self.gateway = await serve(self.handle)
        self.client = HttpClient(Origin.parse(f"http://127.0.0.1:{self.gateway.port}"), ClientConfig(), self.clock)

    async def handle(self, request):
        try:
            route, match = self.router.route(request.method, request.path)
            credential = self.authenticator.authenticate(request.headers)
            return await route.handler(RouteContext(request, route, match.parameters, b"", credential, 0.0))
        except LayerError as error:
            return error_response(error)

    async def ask(self, method, target, body=b""):
        headers = [(b"authorization", b"Bearer tpuf_x"), (b"accept-encoding", b"gzip"), (b"cookie", b"c=1")]
        answer = await self.client.request(method, target, headers, body)
        return answer, await answer.read(1_000_000)

    async def close(self):
        for each in (self.client, self.gateway, self.upstream, self.origin):
            await each.close()


@pytest.fixture
async def stage(tmp_path):
    built = Stage(tmp_path)
    await built.open()
    yield built
    await built.close()


NAME = b"a%20b%2F%C3%BC"


@pytest.mark.parametrize("compress", [False, True])
async def test_metadata_keeps_every_native_byte(stage, compress):
    stage.played.compress = compress
    answer, body = await stage.ask("GET", b"/v2/namespaces/" + NAME + b"/metadata")
    native = METADATA.replace(b'"_hevlayer_upserted_at":{"type":"int"},', b"")
    cache = b'"cache_state":{"state":"cold","warmed_through_ms":null,"warm_inflight":false}'
    added = b',"id":"a b/\xc3\xbc","layer":{"stable_as_of":null,"is_stable":false,' + cache + b"}}"
    assert body == native[:-1] + added
    assert answer.header(b"x-tpuf") == b"1"
    assert answer.header(b"content-encoding") is None
    assert answer.header(b"keep-alive") is None
    method, target, headers, _ = stage.played.requests[0]
    assert (method, target) == ("GET", b"/v2/namespaces/" + NAME + b"/metadata")
    assert headers[b"authorization"] == b"Bearer tpuf_x"
    assert headers[b"accept-encoding"] == b"identity"
    assert b"cookie" not in headers


async def test_the_watcher_uses_the_bearer_that_worked(stage):
    await stage.ask("GET", b"/v2/namespaces/" + NAME + b"/metadata")
    watcher = Watcher(
        stage.clock, stage.registry, stage.stamper, stage.upstream.metadata, stage.bearers, stage.metrics, rng=Random(1)
    )
    watcher.tick()
    while watcher.polls_running:
        await stage.clock.sleep(0.001)
    view = stage.registry.view("a b/ü", Credential(b"Bearer tpuf_x", trusted=False, alone=True).scope)
    assert view.is_stable
    assert view.stamped_in_schema
    answer, body = await stage.ask("GET", b"/v2/namespaces/" + NAME + b"/metadata")
    layer = orjson.loads(body)["layer"]
    assert (layer["stable_as_of"], layer["is_stable"]) == (view.watermark_ms, True)
    assert answer.status == 200


async def test_the_listing_asks_for_each_row_under_the_callers_key(stage):
    answer, body = await stage.ask("GET", b"/v2/namespaces?page_size=5")
    assert answer.status == 200
    rows = orjson.loads(body)["namespaces"]
    assert [(row["name"], row["row_count"], row["schema_summary"]) for row in rows] == [
        ("a b/ü", 2, {"fields": ["id", "title"]})
    ]
    targets = [(target, headers[b"authorization"]) for _, target, headers, _ in stage.played.requests]
    assert targets == [
        (b"/v1/namespaces?page_size=5", b"Bearer tpuf_x"),
        (b"/v2/namespaces/" + NAME + b"/metadata", b"Bearer tpuf_x"),
    ]
    answer, body = await stage.ask("GET", b"/v2/namespaces?page_size=0")
    assert (answer.status, orjson.loads(body)["error"]) == (422, "validation_error")


async def test_delete_then_404_as_without_us(stage):
    answer, body = await stage.ask("DELETE", b"/v2/namespaces/" + NAME)
    assert (answer.status, orjson.loads(body)["status"]) == (200, "OK")
    assert orjson.loads(body)["layer"]["cleanup"] == "done"
    answer, body = await stage.ask("DELETE", b"/v2/namespaces/" + NAME)
    assert (answer.status, body) == (404, '{"status":"error","error":"🤷"}'.encode())


async def test_an_upstream_that_is_gone_is_a_502_and_forgets_nothing_wrongly(stage):
    await stage.origin.close()
    for method, target in (("GET", NAME + b"/metadata"), ("DELETE", NAME)):
        answer, body = await stage.ask(method, b"/v2/namespaces/" + target)
        assert (answer.status, orjson.loads(body)["error"]) == (502, "upstream_error")
    # The connection was refused before a byte was sent: nothing to resume.
    assert await stage.routes.deletes.resume() == 0
