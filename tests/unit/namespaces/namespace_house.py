"""A house of namespace routes around an upstream that the test plays."""

import asyncio
from urllib.parse import quote

import orjson

from hevlayer.gateway.auth import Credential
from hevlayer.gateway.consistency import Registry, Stamper
from hevlayer.gateway.namespaces import Exchanged, NamespaceRoutes
from hevlayer.gateway.observe import NothingCached
from hevlayer.gateway.router import Access, Route, RouteContext, RouteSpec
from hevlayer.http.messages import Request
from hevlayer.metrics import Metrics
from hevlayer.stores.objects import LocalObjects
from hevlayer.testing.clock import FakeClock

CREATED = "2026-11-20T20:00:00Z"


class WholeBody:
    def __init__(self, content):
        self.whole = content
        self.content_length = len(content)

    async def read(self, limit_bytes):
        return self.whole

    async def chunks(self):
        yield self.whole


def context(method="GET", target="/v2/namespaces/films/metadata", namespace="", body=b"", bearer=b"key"):
    """A request on its way, as middleware hands it to a handler."""
    path, _, query = target.partition("?")
    request = Request(method, target.encode(), path, query, [], WholeBody(body), "127.0.0.1")
    route = Route(RouteSpec(method, path, "handler", "operation", Access.RELAY), None)
    parameters = {"namespace": quote(namespace, safe="", errors="surrogatepass")} if namespace else {}
    return RouteContext(request, route, parameters, b"", Credential(b"Bearer " + bearer, trusted=False), 0.0)


class FakeUpstream:
    """Namespaces by name, and what to answer in their place."""

    def __init__(self):
        self.namespaces = {}
        self.calls = []
        self.metadata_calls = []
        self.next_answers = []
        self.metadata_failures = {}
        self.running = 0
        self.running_max = 0

    def add(self, name, *, created=CREATED, status="up-to-date"):
        self.namespaces[name] = {
            "schema": {"id": {"type": "uint"}, "title": {"type": "string"}, "vector": {"type": "[4]f32"}},
            "approx_row_count": 3,
            "approx_logical_bytes": 99,
            "created_at": created,
            "last_write_at": "2026-11-20T20:00:01.5Z",
            "updated_at": created,
            "index": {"status": status},
        }

    async def call(self, context, *, method="", target=b"", body=b""):
        method, target = method or context.request.method, target or context.upstream_target
        self.calls.append((method, target, body))
        await asyncio.sleep(0)
        if self.next_answers:
            answer = self.next_answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer
        headers = [(b"content-type", b"application/json"), (b"x-upstream", b"yes")]
        if target.startswith(b"/v1/namespaces?") or target == b"/v1/namespaces":
            rows = [{"id": name} for name in sorted(self.namespaces)]
            return Exchanged(200, headers, orjson.dumps({"namespaces": rows, "next_cursor": "more"}))
        held = self.namespaces.get(context.namespace)
        if held is None:
            text = f"🤷 namespace '{context.namespace}' was not found"
            return Exchanged(404, headers, orjson.dumps({"status": "error", "error": text}))
        if method == "DELETE":
            del self.namespaces[context.namespace]
            return Exchanged(200, headers, b'{"status":"OK"}')
        if b"hint_cache_warm" in target:
            return Exchanged(202, headers, b'{"status":"ACCEPTED","message":"cache warm hint accepted"}')
        return Exchanged(200, headers, orjson.dumps(held))

    async def metadata(self, namespace, bearer):
        self.metadata_calls.append((namespace, bearer))
        self.running += 1
        self.running_max = max(self.running, self.running_max)
        try:
            await asyncio.sleep(0)
            failure = self.metadata_failures.get(namespace)
            if isinstance(failure, Exception):
                raise failure
            if failure is not None:
                return failure
            held = self.namespaces.get(namespace)
            return (404, b"{}") if held is None else (200, orjson.dumps(held))
        finally:
            self.running -= 1


class Keys:
    def __init__(self):
        self.key = b"key"

    def background_bearer(self, namespace):
        return self.key


def strip_schema(body, under):
    """The kernel's slow twin; compact bodies only."""
    parsed = orjson.loads(body)
    kept = {name: config for name, config in parsed[under].items() if not name.startswith("_hevlayer_")}
    return body if kept == parsed[under] else orjson.dumps({**parsed, under: kept})


class House:
    def __init__(self, directory, steps=()):
        self.clock = FakeClock(now_ms=1_795_300_000_000)
        self.upstream = FakeUpstream()
        self.stamper = Stamper(self.clock)
        self.registry = Registry(self.clock, self.stamper)
        self.store = LocalObjects(directory)
        self.keys = Keys()
        self.metrics = Metrics()
        self.steps = list(steps)
        self.restart()

    def restart(self):
        """The process begins anew: memory is gone, the store stays."""
        self.routes = NamespaceRoutes(
            self.upstream,
            self.registry,
            self.store,
            self.keys,
            NothingCached(),
            strip_schema,
            self.metrics,
            self.clock,
            steps=self.steps,
        )

    async def ledgers(self):
        return await self.store.list_keys("deletes/")
