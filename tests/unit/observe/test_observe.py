"""The routes about the process itself."""

import orjson
import pytest

from hevlayer.errors import GatewayTimeoutError, NotFoundError, UpstreamError, ValidationError
from hevlayer.gateway.auth import ANONYMOUS, Authenticator
from hevlayer.gateway.observe import (
    CacheConnection,
    CacheState,
    DocumentCacheStates,
    NothingCached,
    observe_handlers,
    scheduled_work_note,
)
from hevlayer.gateway.router import Access, Route, RouteContext, RouteSpec
from hevlayer.http.messages import Request
from hevlayer.metrics import Metrics
from hevlayer.stores.doccache import DocumentCache
from hevlayer.testing.clock import FakeClock


class WholeBody:
    def __init__(self, content):
        self.whole = content

    async def read(self, limit_bytes):
        return self.whole


def context(target="/health", method="GET", headers=(), body=b"", **parameters):
    path, _, query = target.partition("?")
    request = Request(method, target.encode(), path, query, list(headers), WholeBody(body), "127.0.0.1")
    route = Route(RouteSpec(method, path, "handler", "operation", Access.OPEN), None)
    return RouteContext(request, route, parameters, b"", ANONYMOUS, 0.0)


class Cache(NothingCached):
    async def connection(self):
        return CacheConnection("embedded", connected=True, generation=3)

    async def cache_state(self, namespace, watermark_ms):
        return CacheState("warm", watermark_ms)


class Answer:
    def __init__(self, status, headers, body, stream=None):
        self.status, self.headers, self.body, self.stream = status, headers, body, stream

    def header(self, name):
        return dict(self.headers).get(name)


class Backend:
    def __init__(self, answer):
        self.answer = answer
        self.sent = []

    async def send(self, method, target, headers, body, *, idempotent):
        self.sent.append((method, target, headers, body))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def whole(self, answer, limit_bytes):
        return answer.body


def handlers(*, metrics=None, token="", backend=None, blockers=(), notes=(), cache=None):
    authenticator = Authenticator("", "", token)
    return observe_handlers(
        "1.2.3",
        metrics or Metrics(),
        authenticator,
        cache or Cache(),
        backend,
        blockers=blockers,
        notes=notes,
        watched=lambda: [("products", 1_747_300_000_123)],
    )


async def test_health_is_200_and_tells_the_cache():
    response = await handlers()["health"](context())
    assert response.status == 200
    assert orjson.loads(response.body) == {
        "status": "ok",
        "version": "1.2.3",
        "aerospike": {"connected": True, "generation": 3},
        "document_cache": {"engine": "embedded", "connected": True, "notes": []},
        "cache_state": [
            {"namespace": "products", "state": "warm", "warmed_through": 1_747_300_000_123, "warm_inflight": False}
        ],
    }


async def test_health_without_a_cache():
    body = orjson.loads((await handlers(cache=NothingCached())["health"](context())).body)
    assert body["aerospike"] == {"connected": False, "generation": 0}
    assert body["cache_state"][0]["state"] == "cold"


async def test_health_with_a_document_cache_that_is_switched_off():
    off = DocumentCacheStates(DocumentCache(None, FakeClock()), lambda namespace: False)
    body = orjson.loads((await handlers(cache=off)["health"](context())).body)
    assert body["document_cache"] == {"engine": "none", "connected": False, "notes": []}


async def test_a_metrics_token_closes_the_namespaces_of_health():
    closed = handlers(token="s3cret")
    assert orjson.loads((await closed["health"](context())).body)["cache_state"] == []
    shown = context(headers=[(b"authorization", b"Bearer s3cret")])
    assert len(orjson.loads((await closed["health"](shown)).body)["cache_state"]) == 1


async def test_ready_lists_what_is_against_it():
    draining = None
    routes = handlers(blockers=[lambda: draining, lambda: None], notes=[scheduled_work_note(has_own_key=False)])
    response = await routes["ready"](context())
    body = orjson.loads(response.body)
    assert (response.status, body["status"], body["reasons"]) == (200, "ready", [])
    assert "scheduled work is off" in body["notes"][0]
    draining = "draining"
    response = await routes["ready"](context())
    assert (response.status, orjson.loads(response.body)["reasons"]) == (503, ["draining"])
    assert scheduled_work_note(has_own_key=True)() is None


async def test_metrics_and_catalog_come_from_one_list():
    metrics = Metrics()
    metrics.observe_request("query", 200)
    routes = handlers(metrics=metrics)
    response = await routes["metrics"](context("/metrics"))
    assert (b"content-type", b"text/plain; version=0.0.4; charset=utf-8") in response.headers
    text = b"".join([part async for part in response.body])
    assert b'layer_http_requests_total{operation="query",status="200"} 1.0\n' in text
    listed = orjson.loads((await routes["metrics_catalog"](context("/v2/metrics/catalog"))).body)
    for entry in listed["entries"]:
        assert f"# TYPE {entry['name']} {entry['kind']}\n".encode() in text
        one = await routes["metrics_catalog_entry"](context("/v2/metrics/catalog/x", name=entry["name"]))
        assert orjson.loads(one.body) == entry
    chosen = await routes["metrics_catalog"](context("/v2/metrics/catalog?family=upsert"))
    assert {entry["family"] for entry in orjson.loads(chosen.body)["entries"]} == {"upsert"}


async def test_the_catalog_refuses_what_it_does_not_have():
    routes = handlers()
    with pytest.raises(ValidationError, match="family must be one of query, upsert"):
        await routes["metrics_catalog"](context("/v2/metrics/catalog?family=other"))
    with pytest.raises(NotFoundError, match="no metric 'nothing'"):
        await routes["metrics_catalog_entry"](context(name="nothing"))


async def test_promql_needs_a_metrics_store():
    asked = context("/v2/metrics/query?query=up")
    response = await handlers()["promql"](asked)
    answer = orjson.loads(response.body)
    assert (response.status, answer["status"], answer["errorType"]) == (503, "error", "unavailable")
    assert "METRICS_BACKEND_URL" in answer["error"]
    assert asked.failure == "service_unavailable"
    assert (b"retry-after", b"1") in response.headers


@pytest.mark.parametrize(
    ("handler", "target", "sent"),
    [
        ("promql", "/v2/metrics/query?query=sum%28up%29&time=1", b"/api/v1/query?query=sum%28up%29&time=1"),
        ("promql", "/v2/metrics/api/v1/query?query=up", b"/api/v1/query?query=up"),
        ("promql_range", "/v2/metrics/query_range?query=up&step=5", b"/api/v1/query_range?query=up&step=5"),
        ("promql_range", "/v2/metrics/api/v1/query_range", b"/api/v1/query_range"),
    ],
)
async def test_promql_is_passed_through_without_the_callers_key(handler, target, sent):
    answer = Answer(422, [(b"content-type", b"application/json"), (b"set-cookie", b"x")], b'{"status":"error"}')
    backend = Backend(answer)
    response = await handlers(backend=backend)[handler](context(target, headers=[(b"authorization", b"Bearer k")]))
    method, to, headers, body = backend.sent[0]
    assert (method, to, body) == ("GET", sent, b"")
    assert b"authorization" not in dict(headers)
    assert (response.status, response.body) == (422, b'{"status":"error"}')
    assert response.headers == [(b"content-type", b"application/json")]


async def test_promql_forms_keep_their_body():
    backend = Backend(Answer(200, [], b"{}"))
    form = (b"content-type", b"application/x-www-form-urlencoded")
    await handlers(backend=backend)["promql"](context("/v2/metrics/query", "POST", [form], b"query=up"))
    method, to, headers, body = backend.sent[0]
    assert (method, to, body) == ("POST", b"/api/v1/query", b"query=up")
    assert form in headers


@pytest.mark.parametrize(
    ("failure", "status", "kind"),
    [
        (UpstreamError("the upstream cannot be reached"), 502, "internal"),
        (GatewayTimeoutError("the upstream did not answer in time"), 504, "timeout"),
    ],
)
async def test_a_metrics_store_that_is_away_is_named(failure, status, kind):
    response = await handlers(backend=Backend(failure))["promql"](context("/v2/metrics/query"))
    answer = orjson.loads(response.body)
    assert (response.status, answer["status"], answer["errorType"]) == (status, "error", kind)
    assert answer["error"].startswith("the metrics store ")
    assert "upstream" not in answer["error"]


async def test_a_long_answer_is_passed_on_as_it_arrives():
    async def parts():
        yield b'{"status":'
        yield b'"success"}'

    answer = Answer(200, [(b"content-encoding", b"gzip"), (b"content-length", b"20")], None, parts())
    backend = Backend(answer)
    asked = context("/v2/metrics/query", headers=[(b"accept-encoding", b"gzip")])
    response = await handlers(backend=backend)["promql"](asked)
    assert (b"accept-encoding", b"gzip") in backend.sent[0][2]
    assert [part async for part in response.body] == [b'{"status":', b'"success"}']
    assert response.headers == [
        (b"content-type", b"application/json"),
        (b"content-encoding", b"gzip"),
        (b"content-length", b"20"),
    ]


@pytest.mark.parametrize("handler", ["metrics_catalog", "metrics_catalog_entry"])
async def test_a_catalog_that_the_caller_has_is_not_sent_again(handler):
    routes = handlers()
    parameters = {"name": "layer_tpuf_inflight"} if handler == "metrics_catalog_entry" else {}

    async def ask(held):
        headers = [] if held is None else [(b"if-none-match", held)]
        return await routes[handler](context("/v2/metrics/catalog", headers=headers, **parameters))

    first = await ask(None)
    tag = dict(first.headers)[b"etag"]
    assert first.status == 200
    for held in (tag, b"W/" + tag, b'"other", ' + tag, b"*"):
        again = await ask(held)
        assert (again.status, again.body, dict(again.headers)[b"etag"]) == (304, b"", tag)
    assert (await ask(b'"other"')).body == first.body
    if handler == "metrics_catalog":
        part = await routes[handler](context("/v2/metrics/catalog?family=query"))
        assert dict(part.headers)[b"etag"] != tag
