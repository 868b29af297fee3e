"""`nearest_to_id` takes what it can from the document cache, and asks the upstream for the rest only."""

import base64
import json
import struct

import pytest

from hevlayer.stores.doccache import WriteOutcome
from hevlayer.testing.recording import answer

PATH = "/v2/namespaces/a/query"
SCHEMA = b'{"id":{"type":"uint"},"vector":{"type":"[2]f32"}}'
KEYED = {"gateway_api_key": "gk", "turbopuffer_api_key": "tpuf_up"}
GATEWAY_BEARER = [(b"authorization", b"Bearer gk"), (b"content-type", b"application/json")]


def key(number: int) -> bytes:
    return b"\x01" + number.to_bytes(8, "big")


def row(number: int, *vector: float) -> bytes:
    return json.dumps({"rows": [{"id": number, "t": "x", "vector": vector}]}).encode()


@pytest.fixture
async def bench(benches):
    made = await benches(**KEYED)
    made.upstream.by_target[b"/v1/namespaces/a/schema"] = answer(200, SCHEMA)
    made.upstream.by_target[b"/v2/namespaces/a/metadata"] = answer(200, b'{"schema":%b}' % SCHEMA)
    return made


async def cached(bench, number: int, *vector: float) -> None:
    """Fills the cache as a user does: by a fetch that misses."""
    bench.upstream.default = answer(200, row(number, *vector))
    response = await bench.call("GET", f"/v2/namespaces/a/documents/{number}", headers=GATEWAY_BEARER)
    assert response.status == 200
    assert response.header(b"x-layer-cache") == b"miss"
    bench.upstream.requests.clear()


async def ask(bench, ids) -> tuple[int, list[dict], bytes]:
    """The answer's status, the bodies of the queries that went upstream, and the answer's body."""
    body = json.dumps({"nearest_to_id": ids, "top_k": 2}).encode()
    bench.upstream.requests.clear()
    response = await bench.call("POST", PATH, body, headers=GATEWAY_BEARER)
    sent = [json.loads(each.body) for each in bench.upstream.requests if each.body]
    return response.status, sent, await response.read(1 << 20)


def asked_vector(query: dict) -> list[float]:
    raw = base64.b64decode(query["rank_by"][2])
    return list(struct.unpack(f"<{len(raw) // 4}f", raw))


async def test_cached_vectors_cost_no_read(bench):
    await cached(bench, 1, 1.0, 3.0)
    await cached(bench, 2, 2.0, 0.5)
    bench.upstream.default = answer(200, b'{"rows":[]}')
    status, sent, _ = await ask(bench, ["1", 2, "1"])
    assert status == 200
    assert [asked_vector(query) for query in sent] == [[1.5, 1.75]]


async def test_the_upstream_is_asked_for_the_rest(bench):
    await cached(bench, 1, 1.0, 3.0)
    bench.upstream.script.append(answer(200, row(2, 2.0, 0.5)))
    bench.upstream.default = answer(200, b'{"rows":[]}')
    status, sent, _ = await ask(bench, [1, 2])
    assert status == 200
    assert sent[0]["filters"] == ["id", "In", [2]]
    assert asked_vector(sent[1]) == [1.5, 1.75]
    # One that nobody has is named, and only it.
    status, sent, body = await ask(bench, [1, 3])
    assert status == 404
    assert b"id 3 in" in body


async def test_a_document_under_a_write_is_read_upstream(bench):
    await cached(bench, 1, 1.0, 3.0)
    token = await bench.gateway.cache.begin_write("a", [key(1)])
    bench.upstream.script.append(answer(200, row(1, 7.0, 9.0)))
    bench.upstream.default = answer(200, b'{"rows":[]}')
    status, sent, _ = await ask(bench, [1])
    assert status == 200
    assert sent[0]["filters"] == ["id", "In", [1]]
    assert asked_vector(sent[1]) == [7.0, 9.0]
    await bench.gateway.cache.settle(token, WriteOutcome.APPLIED)


async def test_nothing_that_is_held_is_used_for_a_caller_who_did_not_prove_access(benches):
    bench = await benches()
    bench.upstream.by_target[b"/v1/namespaces/a/schema"] = answer(200, SCHEMA)
    bench.upstream.by_target[b"/v2/namespaces/a/metadata"] = answer(200, b'{"schema":%b,"created_at":"x"}' % SCHEMA)
    bench.upstream.default = answer(200, row(1, 1.0, 3.0))
    for _ in range(2):
        fetched = await bench.call("GET", "/v2/namespaces/a/documents/1")
    assert fetched.header(b"x-layer-cache") == b"hit"
    bench.upstream.by_target.clear()
    bench.upstream.default = answer(403, b"{}", reason=b"Forbidden")
    response = await bench.call(
        "POST", PATH, b'{"nearest_to_id":1,"top_k":1}', headers=[(b"authorization", b"Bearer z")]
    )
    assert response.status == 403
