"""The two routes against an upstream of rows, with the embedded cache between."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest

from hevlayer.clock import SystemClock
from hevlayer.errors import LayerError, NotFoundError, PayloadTooLargeError, UpstreamError, ValidationError
from hevlayer.gateway.auth import Credential
from hevlayer.gateway.consistency.view import NamespaceView, SchemaFacts, VectorField
from hevlayer.gateway.fetch import FetchRoutes
from hevlayer.gateway.fetch.routes import CHUNK_IDS
from hevlayer.gateway.router import Access, RouteContext, Router, RouteSpec
from hevlayer.gateway.spool import BodyMemory, Intake, Spool
from hevlayer.http.messages import Headers, Request, Response
from hevlayer.stores.doccache import DocumentCache, WriteOutcome
from hevlayer.stores.doccache_embedded import EmbeddedEngine

NOT_THERE = b'{"status":"error","error":"\xf0\x9f\xa4\xb7 namespace \'ns\' was not found"}'


class Rows:
    """An upstream of one namespace. `gate` holds every query until it is set; `answers` are given first."""

    def __init__(self) -> None:
        self.rows: dict[str | int, dict[str, object]] = {}
        self.schema: dict[str, object] | None = {"id": {"type": "string"}, "vector": {"type": "[2]f32"}}
        self.answers: list[tuple[int, bytes]] = []
        self.queries: list[dict[str, object]] = []
        self.targets: list[bytes] = []
        self.bearers: list[bytes | None] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def read(
        self, method: str, target: bytes, bearer: bytes | None, body: bytes = b"", *, traceparent: bytes = b""
    ) -> tuple[int, bytes]:
        self.targets.append(target)
        self.bearers.append(bearer)
        if method == "GET":
            await asyncio.sleep(0)
            return (404, NOT_THERE) if self.schema is None else (200, orjson.dumps(self.schema))
        query = orjson.loads(body)
        self.queries.append(query)
        await asyncio.sleep(0)
        found = [self.rows[each] for each in query["filters"][2] if each in self.rows]
        answer = orjson.dumps({"rows": found, "billing": {}})
        await self.gate.wait()
        return self.answers.pop(0) if self.answers else (200, answer)


class Views:
    def __init__(self) -> None:
        self.view = NamespaceView()

    def touch(self, namespace: str, scope: bytes) -> NamespaceView:
        return self.view


class Whole:
    def __init__(self, body: bytes) -> None:
        self.whole = body
        self.content_length = len(body)

    async def read(self, limit_bytes: int) -> bytes:
        return self.whole

    async def chunks(self) -> AsyncIterator[bytes]:
        yield self.whole


def intake(directory: Path) -> Intake:
    return Intake(Spool(directory / "spool", 0), BodyMemory(1 << 20), memory_bytes_max=1 << 20, bytes_max=1 << 20)


class Stage:
    def __init__(self, directory: Path) -> None:
        self.upstream = Rows()
        self.views = Views()
        self.engine = EmbeddedEngine.open(directory, SystemClock(), upstream="u", timeout_seconds=30.0)
        self.cache = DocumentCache(self.engine, SystemClock())
        self.routes = FetchRoutes(self.cache, self.upstream, self.views, intake(directory), SystemClock())
        self.router = Router(
            [
                RouteSpec("GET", "/v2/namespaces/{namespace}/documents/{doc_id*}", "one", "fetch", Access.HELD),
                RouteSpec("POST", "/v2/namespaces/{namespace}/documents", "many", "fetch_batch", Access.HELD),
            ],
            {"one": self.routes.fetch_document, "many": self.routes.fetch_documents},
        )

    async def call(self, method: str, path: str, body: bytes, bearer: bytes) -> Response:
        path, _, query = path.partition("?")
        request = Request(method, path.encode(), path, query, [], Whole(body), "")
        route, match = self.router.route(method, path)
        credential = Credential(b"Bearer " + bearer, trusted=True)
        return await route.handler(RouteContext(request, route, match.parameters, b"", credential, 0.0))

    async def one(self, path: str = "a", *, bearer: bytes = b"key") -> tuple[int, str, object]:
        response = await self.call("GET", f"/v2/namespaces/ns/documents/{path}", b"", bearer)
        return parsed(response)

    async def many(self, *ids: str | int, include: list[str] | None = None) -> tuple[int, str, object]:
        body = orjson.dumps({"ids": ids, "include_attributes": include})
        return parsed(await self.call("POST", "/v2/namespaces/ns/documents", body, b"key"))


def parsed(response: Response) -> tuple[int, str, object]:
    headers: Headers = response.headers
    body = response.body
    assert isinstance(body, (bytes, list))
    text = body if isinstance(body, bytes) else b"".join(body)
    return response.status, dict(headers).get(b"x-layer-cache", b"").decode(), orjson.loads(text)


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    made = Stage(tmp_path)
    made.upstream.rows = {
        name: {"id": name, "t": number, "vector": [0.5, 1], "_hevlayer_upserted_at": 9}
        for number, name in enumerate("abc")
    }
    yield made
    await made.cache.close()


A = {"id": "a", "id_type": "string", "attributes": {"t": 0}}


async def test_a_miss_then_hits(stage: Stage) -> None:
    assert await stage.one() == (200, "miss", A)
    assert await stage.one() == (200, "hit", A)
    status, cache, document = await stage.one("a?include_attributes=vector,_hevlayer_upserted_at")
    assert (status, cache) == (200, "hit")
    assert document == {**A, "attributes": {"vector": [0.5, 1], "_hevlayer_upserted_at": 9}}
    [query] = stage.upstream.queries
    assert query == {
        "rank_by": ["id", "asc"],
        "limit": 1,
        "filters": ["id", "In", ["a"]],
        "include_attributes": True,
        "consistency": {"level": "strong"},
    }
    assert stage.upstream.targets == [b"/v1/namespaces/ns/schema", b"/v2/namespaces/ns/query"]
    assert set(stage.upstream.bearers) == {b"key"}


async def test_an_acknowledged_write_is_seen(stage: Stage) -> None:
    await stage.one()
    token = await stage.cache.begin_write("ns", [b"\x02a"])
    assert (await stage.one())[1] == "miss"
    stage.upstream.rows["a"]["t"] = 7
    await stage.cache.settle(token, WriteOutcome.APPLIED)
    assert await stage.one() == (200, "miss", {**A, "attributes": {"t": 7}})
    assert await stage.one() == (200, "hit", {**A, "attributes": {"t": 7}})
    token = await stage.cache.begin_write("ns", [b"\x02a"])
    del stage.upstream.rows["a"]
    await stage.cache.settle(token, WriteOutcome.APPLIED)
    with pytest.raises(NotFoundError):
        await stage.one()


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("a/b", "a/b"),
        ("a%2Fb", "a/b"),
        ("%20%25%C3%A9", " %é"),
        ("a%00b", "a\0b"),
        ("..", ".."),
        ("a%3Fb", "a?b"),
        ("a//", "a//"),
    ],
)
async def test_ids_of_any_characters(stage: Stage, path: str, name: str) -> None:
    stage.upstream.rows[name] = {"id": name}
    assert await stage.one(path) == (200, "miss", {"id": name, "id_type": "string", "attributes": {}})
    assert (await stage.one(path))[1] == "hit"


async def test_an_id_that_is_not_utf8(stage: Stage) -> None:
    with pytest.raises(LayerError) as caught:
        await stage.one("%ff")
    assert caught.value.status == 400


async def test_a_missing_document_is_named(stage: Stage) -> None:
    with pytest.raises(NotFoundError, match="document 'x/y' was not found in namespace 'ns'") as caught:
        await stage.one("x/y")
    assert caught.value.fields == {"id": "x/y"}


async def test_a_missing_namespace_is_relayed(stage: Stage) -> None:
    stage.upstream.schema = None
    assert await stage.one() == (404, "", orjson.loads(NOT_THERE))
    assert await stage.many("a") == (404, "", orjson.loads(NOT_THERE))
    stage.upstream.schema = {"id": {"type": "string"}}
    stage.upstream.answers = [(404, NOT_THERE)]
    assert await stage.one() == (404, "", orjson.loads(NOT_THERE))


async def test_a_plain_text_refusal_is_relayed_as_such(stage: Stage) -> None:
    stage.upstream.answers = [(400, b"Invalid URL: too long")]
    response = await stage.call("GET", "/v2/namespaces/ns/documents/a", b"", b"key")
    assert (response.status, response.body) == (400, b"Invalid URL: too long")
    assert dict(response.headers)[b"content-type"].startswith(b"text/plain")


@pytest.mark.parametrize("answer", [b"", b"[]", b'{"rows":[', b'{"results":[]}', b'{"rows":[{"x":1}]}'])
async def test_an_answer_that_is_none_is_an_upstream_error(stage: Stage, answer: bytes) -> None:
    stage.upstream.answers = [(200, answer)]
    with pytest.raises(UpstreamError):
        await stage.one()
    assert (await stage.one())[1] == "miss"


async def test_integer_ids_are_read_by_the_schema_and_answered_as_strings(stage: Stage) -> None:
    stage.upstream.schema = {"id": "uint"}
    stage.upstream.rows = {7: {"id": 7, "t": 1}}
    seven = {"id": "7", "id_type": "uint", "attributes": {"t": 1}}
    assert await stage.one("7") == (200, "miss", seven)
    assert await stage.one("7") == (200, "hit", seven)
    assert stage.upstream.queries[0]["filters"] == ["id", "In", [7]]
    with pytest.raises(NotFoundError, match="whose ids are of type uint"):
        await stage.one("seven")
    status, cache, answer = await stage.many("7", 7, "seven", 8)
    assert (status, cache) == (200, "partial")
    assert answer == {
        "documents": [{"id": "7", "attributes": {"t": 1}}],
        "missing": ["seven", "8"],
        "id_type": "uint",
    }


async def test_the_watchers_view_spares_the_schema_call(stage: Stage) -> None:
    stage.views.view = NamespaceView(schema=SchemaFacts(id_type="string", vectors=(VectorField("vector", 2, "f32"),)))
    assert await stage.one() == (200, "miss", A)
    assert stage.upstream.targets == [b"/v2/namespaces/ns/query"]


async def test_a_namespace_made_anew_with_another_id_type(stage: Stage) -> None:
    await stage.one()
    stage.upstream.schema = {"id": "uint"}
    stage.upstream.rows = {7: {"id": 7}}
    stage.upstream.answers = [(400, b'{"status":"error","error":"filter error in key `id`: type mismatch"}')]
    assert await stage.one("7") == (200, "miss", {"id": "7", "id_type": "uint", "attributes": {}})
    await stage.cache.new_epoch("ns")
    stage.routes.forget("ns")
    assert (await stage.many("7"))[2] == {
        "documents": [{"id": "7", "attributes": {}}],
        "missing": [],
        "id_type": "uint",
    }


async def test_a_refused_strong_read_is_relayed(stage: Stage) -> None:
    """An eventual read in its place could show a row from before an acknowledged write."""
    stage.upstream.answers = [(429, b'{"error":"busy"}')]
    assert await stage.one() == (429, "", {"error": "busy"})
    assert [query["consistency"] for query in stage.upstream.queries] == [{"level": "strong"}]
    stage.upstream.answers = [(429, b'{"error":"busy"}')]
    assert await stage.many("a", "b") == (429, "", {"error": "busy"})
    assert (await stage.one())[1] == "miss"


async def test_a_batch_keeps_the_order(stage: Stage) -> None:
    await stage.one("b")
    status, cache, answer = await stage.many("c", "x", "b", "c", "a", include=["t"])
    assert (status, cache) == (200, "partial")
    assert answer == {
        "documents": [
            {"id": "c", "attributes": {"t": 2}},
            {"id": "b", "attributes": {"t": 1}},
            {"id": "a", "attributes": {"t": 0}},
        ],
        "missing": ["x"],
        "id_type": "string",
    }
    assert stage.upstream.queries[-1]["filters"] == ["id", "In", ["c", "x", "a"]]
    assert (await stage.many("a", "b"))[1] == "hit"
    assert (await stage.many("x"))[1] == "miss"
    assert (await stage.many())[1:] == ("hit", {"documents": [], "missing": [], "id_type": "string"})


async def test_a_large_batch_goes_in_chunks(stage: Stage) -> None:
    names = [f"row{number}" for number in range(2 * CHUNK_IDS + 1)]
    stage.upstream.rows = {name: {"id": name} for name in names}
    status, cache, answer = await stage.many(*names)
    assert (status, cache) == (200, "miss")
    assert isinstance(answer, dict)
    assert [document["id"] for document in answer["documents"]] == names
    assert [query["limit"] for query in stage.upstream.queries] == [CHUNK_IDS, CHUNK_IDS, 1]
    assert (await stage.many(*names))[1] == "hit"


async def test_a_bad_batch_reaches_no_upstream(stage: Stage) -> None:
    with pytest.raises(ValidationError):
        await stage.call("POST", "/v2/namespaces/ns/documents", b'{"ids":[null]}', b"key")
    assert stage.upstream.targets == []


async def test_concurrent_misses_share_one_request(stage: Stage) -> None:
    stage.upstream.gate.clear()
    singles = [asyncio.create_task(stage.one()) for _ in range(5)]
    batch = asyncio.create_task(stage.many("a"))
    for _ in range(20):
        await asyncio.sleep(0)
    stage.upstream.gate.set()
    assert [await each for each in singles] == [(200, "miss", A)] * 5
    assert (await batch)[2] == {"documents": [{"id": "a", "attributes": {"t": 0}}], "missing": [], "id_type": "string"}
    assert len(stage.upstream.queries) == 1


async def test_credentials_share_nothing(stage: Stage) -> None:
    stage.upstream.gate.clear()
    tasks = [asyncio.create_task(stage.one(bearer=bearer)) for bearer in (b"one", b"two")]
    for _ in range(20):
        await asyncio.sleep(0)
    stage.upstream.gate.set()
    await asyncio.gather(*tasks)
    assert len(stage.upstream.queries) == 2


async def test_a_read_after_a_write_joins_none_from_before_it(stage: Stage) -> None:
    stage.upstream.gate.clear()
    early = asyncio.create_task(stage.one())
    for _ in range(20):
        await asyncio.sleep(0)
    token = await stage.cache.begin_write("ns", [b"\x02a"])
    stage.upstream.rows["a"] = {**stage.upstream.rows["a"], "t": 7}
    await stage.cache.settle(token, WriteOutcome.APPLIED)
    late = asyncio.create_task(stage.one())
    for _ in range(20):
        await asyncio.sleep(0)
    stage.upstream.gate.set()
    assert await early == (200, "miss", A)
    assert (await late)[2] == {**A, "attributes": {"t": 7}}
    assert (await stage.one())[2] == {**A, "attributes": {"t": 7}}


async def test_a_caller_that_leaves_stops_no_other(stage: Stage) -> None:
    stage.upstream.gate.clear()
    first, second = asyncio.create_task(stage.one()), asyncio.create_task(stage.one())
    for _ in range(20):
        await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    stage.upstream.gate.set()
    assert await second == (200, "miss", A)
    assert len(stage.routes._flights) == 0


async def test_a_cache_that_fails_never_fails_a_fetch(stage: Stage) -> None:
    await stage.one()
    await stage.engine.close()
    assert await stage.one() == (200, "miss-on-error", A)
    assert (await stage.many("a", "b"))[1] == "miss-on-error"


async def test_the_body_of_a_batch_counts_as_others_do(stage: Stage) -> None:
    path, body = "/v2/namespaces/ns/documents", b'{"ids":["%b"]}' % (b"x" * (1 << 20))
    with pytest.raises(PayloadTooLargeError):
        await stage.call("POST", path, body, b"key")
    assert stage.upstream.queries == []
