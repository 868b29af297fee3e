"""What a trail is told: the same facts of a query or fetch whichever way it is served, and nothing of refusals."""

import json
import time

import pytest
from gateway_bench import eventually

from hevlayer.gateway.consistency import Status
from hevlayer.gateway.trail import FROM_CACHE, FROM_UPSTREAM
from hevlayer.testing.recording import answer

QUERY = b'{"rank_by":["v","ANN",[0.5,1]],"limit":10}'
ROWS = b'{"rows":[{"id":7,"$dist":0.5}],"billing":{"billable_logical_bytes_queried":1}}'
ROW = b'{"rows":[{"id":"d","title":"t"}]}'
SCHEMA = b'{"id":{"type":"string"},"title":{"type":"string"}}'
TAGGED = ((b"content-type", b"application/json"), (b"x-hevlayer-tags", b"a,b"))


class Kept:
    """A trail that keeps what it is told."""

    def __init__(self) -> None:
        self.queries: list = []
        self.fetches: list = []

    def queried(self, context, served) -> None:
        tags = context.request.header(b"x-hevlayer-tags")
        self.queries.append((context.namespace, context.trace_id, tags, served))

    def fetched(self, context, doc_ids, served_from) -> None:
        self.fetches.append((context.namespace, list(doc_ids), served_from))


@pytest.fixture
def trail() -> Kept:
    return Kept()


@pytest.fixture
async def bench(benches, trail):
    return await benches(trail=trail, gateway_api_key="gk", turbopuffer_api_key="uk")


async def ask(bench, target: str, body: bytes = b"", method: str = "POST"):
    response = await bench.call(method, target, body, [*TAGGED, (b"authorization", b"Bearer gk")])
    return response.status, await response.read(1 << 24)


async def test_a_query_is_told_once_with_its_facts(bench, trail):
    bench.upstream.default = answer(200, ROWS)
    now_ms = time.time_ns() // 1_000_000
    bench.see("a", Status.STABLE, now_ms)
    # The first finds no idle connection and goes the general way; the second is quick.
    for _ in range(2):
        assert (await ask(bench, "/v2/namespaces/a/query", QUERY))[0] == 200
    await eventually(lambda: len(trail.queries) == 2)
    for namespace, trace_id, tags, served in trail.queries:
        assert (namespace, tags) == ("a", b"a,b")
        assert len(trace_id) == 32
        assert served.body == QUERY
        assert served.scan.has_rank_by
        assert served.answer.body == ROWS
        assert served.stable_as_of_ms == now_ms


async def test_a_changed_answer_is_told_as_the_caller_has_it(bench, trail):
    bench.upstream.default = answer(200, ROWS)
    status, _ = await ask(bench, "/v2/namespaces/a/query", b'{"vector":[0.5,1],"top_k":10}')
    assert status == 200
    assert [json.loads(served.answer.body)["results"][0]["id"] for *_, served in trail.queries] == [7]


async def test_an_error_is_not_told(bench, trail):
    bench.upstream.default = answer(400, b"{}", reason=b"Bad Request")
    for _ in range(2):
        assert (await ask(bench, "/v2/namespaces/a/query", QUERY))[0] == 400
    assert (await ask(bench, "/v2/namespaces/a/query", b"{"))[0] == 400
    assert trail.queries == []


async def test_a_streamed_answer_is_told_without_its_body(bench, trail):
    bench.upstream.default = answer(200, b'{"rows":["' + b"x" * (2 << 20) + b'"]}')
    for _ in range(2):
        assert (await ask(bench, "/v2/namespaces/a/query", QUERY))[0] == 200
    assert [served.answer.stream is not None for *_, served in trail.queries] == [True, True]


async def test_fetches_tell_where_the_document_came_from(bench, trail):
    bench.upstream.default = answer(200, ROW)
    bench.upstream.by_target[b"/v1/namespaces/a/schema"] = answer(200, SCHEMA)
    for _ in range(3):
        assert (await ask(bench, "/v2/namespaces/a/documents/d", method="GET"))[0] == 200
    assert trail.fetches == [("a", ["d"], FROM_UPSTREAM), ("a", ["d"], FROM_CACHE), ("a", ["d"], FROM_CACHE)]
    trail.fetches.clear()
    assert (await ask(bench, "/v2/namespaces/a/documents", b'{"ids":["d","e","d"]}'))[0] == 200
    assert trail.fetches == [("a", ["d"], FROM_CACHE)]
