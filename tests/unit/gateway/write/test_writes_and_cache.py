"""Writes and fetches of one gateway: what was written is never hidden by what was cached."""

import json

import pytest

from hevlayer.gateway.consistency import SchemaFacts, Status
from hevlayer.testing.recording import Canned, answer

PATH = "/v2/namespaces/a"
DOCUMENT = f"{PATH}/documents/7"


def row(text: str) -> Canned:
    return answer(200, b'{"rows":[{"id":7,"t":"%b"}],"billing":{},"performance":{}}' % text.encode())


@pytest.fixture
async def cached(bench):
    """A gateway that holds document 7 as `one`."""
    bench.see("a", Status.STABLE, None, SchemaFacts(stamped=True, id_type="uint"))
    bench.upstream.by_target[b"/v2/namespaces/a/metadata"] = answer(
        200, b'{"created_at":"2026-01-01T00:00:00Z","schema":{"id":{"type":"uint"}}}'
    )
    bench.upstream.by_target[b"/v1/namespaces/a/schema"] = answer(200, b'{"id":{"type":"uint"}}')
    bench.upstream.by_target[b"/v2/namespaces/a/query"] = row("one")
    assert (await fetch(bench))[1] == b"miss"
    assert await fetch(bench) == ("one", b"hit")
    return bench


async def fetch(bench):
    response = await bench.call("GET", DOCUMENT)
    assert response.status == 200, response.body
    return json.loads(response.body)["attributes"]["t"], response.header(b"x-layer-cache")


@pytest.mark.parametrize(
    "body",
    [
        b'{"upsert_rows":[{"id":7,"t":"two"}]}',
        b'{"upsert_columns":{"id":[6,7],"t":["x","two"]}}',
        b'{"patch_rows":[{"id":7,"t":"two"}]}',
        b'{"patch_by_filter":{"filters":["t","Eq","one"],"patch":{"t":"two"}}}',
        b'{"delete_by_filter":["t","Eq","one"]}',
        b'{"deletes":[7]}',
        b'{"a_write_that_only_a_newer_upstream_knows":[{"id":7,"t":"two"}]}',
    ],
)
async def test_a_fetch_after_a_write_reads_again(cached, body):
    assert (await cached.call("POST", PATH, body)).status == 200
    cached.upstream.by_target[b"/v2/namespaces/a/query"] = row("two")
    assert await fetch(cached) == ("two", b"miss")
    assert await fetch(cached) == ("two", b"hit")


@pytest.mark.parametrize("canned", [answer(500), Canned(reset=True)])
async def test_after_a_write_of_unknown_outcome_nothing_is_served_from_the_cache(cached, canned):
    cached.upstream.by_target[b"/v2/namespaces/a"] = canned
    await cached.call("POST", PATH, b'{"upsert_rows":[{"id":7,"t":"two"}]}')
    cached.upstream.by_target[b"/v2/namespaces/a/query"] = row("two")
    for _ in range(2):
        assert await fetch(cached) == ("two", b"miss")


async def test_a_refused_write_leaves_the_document(cached):
    cached.upstream.by_target[b"/v2/namespaces/a"] = answer(400)
    await cached.call("POST", PATH, b'{"upsert_rows":[{"id":7,"t":"two"}]}')
    assert await fetch(cached) == ("one", b"hit")


async def test_another_document_is_not_touched(cached):
    await cached.call("POST", PATH, b'{"upsert_rows":[{"id":8,"t":"two"}]}')
    assert await fetch(cached) == ("one", b"hit")


async def test_a_deleted_namespace_is_void(cached):
    assert (await cached.call("DELETE", PATH)).status == 200
    cached.upstream.by_target[b"/v2/namespaces/a/query"] = row("two")
    assert await fetch(cached) == ("two", b"miss")


async def test_nothing_held_is_served_to_whom_the_upstream_does_not_know(cached):
    cached.upstream.by_target[b"/v2/namespaces/a/metadata"] = answer(403)
    response = await cached.call("GET", DOCUMENT, headers=[(b"authorization", b"Bearer stranger")])
    assert (response.status, b"one" in response.body) == (403, False)
    assert (await cached.call("GET", DOCUMENT, headers=[])).status == 401
    assert await fetch(cached) == ("one", b"hit")
