"""The record of searches and fetches through a whole gateway."""

import asyncio
import json
from datetime import UTC, datetime

import pytest
from work_stage import BEARER, FILMS

from hevlayer.stores.objects import ObjectStoreFullError, ObjectStoreUnreachableError
from hevlayer.testing.metrics import samples

QUERY = {"rank_by": ["vector", "ANN", [0.5, 1.0, 0.25]], "limit": 3}
TAGGED = (b"x-hevlayer-tags", b"route:search, app:test,,app:test")
SHAPES = {
    "ranked": QUERY,
    "text": {"rank_by": ["title", "BM25", "the"], "limit": 2},
    "attribute": {"rank_by": ["year", "desc"], "limit": 2, "filters": ["year", "Gt", 1980]},
    "limit object": {"rank_by": ["year", "desc"], "limit": {"total": 2}},
    "aggregate": {"aggregate_by": {"n": ["Count"]}},
    "groups": {"aggregate_by": {"n": ["Count"]}, "group_by": ["year"]},
    "limit per value": {
        "rank_by": ["year", "desc"],
        "limit": {"per": {"attributes": ["year"], "limit": 1}, "total": 3},
    },
    "several": {"queries": [QUERY, {"rank_by": ["year", "asc"], "limit": 1}]},
    "several, fused": {
        "queries": [QUERY, {"rank_by": ["title", "BM25", "the"], "limit": 3}],
        "rerank_by": ["RRF"],
        "limit": 3,
    },
    "layer": {"vector": [0.5, 1.0, 0.25], "top_k": 2},
    "layer, by a document": {"nearest_to_id": FILMS[0]["id"], "top_k": 2},
    "own consistency": {**QUERY, "consistency": {"level": "strong"}},
    "all attributes": {**QUERY, "include_attributes": True},
}


async def searches(stage, parameters="", namespace="films"):
    return (await stage.ok("GET", f"/v2/namespaces/{namespace}/search-history{parameters}"))["entries"]


def ids_of(answer):
    legs = [answer] if "rows" in answer else answer.get("results", [])
    return [str(row["id"]) for leg in legs for row in leg.get("rows", [])]


def moment(nanos):
    """RFC 3339, with all nine digits."""
    return f"{datetime.fromtimestamp(nanos // 10**9, UTC):%Y-%m-%dT%H:%M:%S}.{nanos % 10**9:09}Z"


async def test_every_shape_is_recorded(stage):
    await stage.films()
    for name, query in SHAPES.items():
        headers = [BEARER, TAGGED, (b"x-hevlayer-search-query", name.encode())]
        answer = await stage.call("POST", "/v2/namespaces/films/query", query, headers=headers)
        assert answer.status == 200, answer
        [entry] = await searches(stage, "?limit=1")
        assert entry["raw_query"] == name
        assert entry["top_result_ids"] == ids_of(answer.body)
        assert entry["tags"] == ["app:test", "route:search"]
        assert entry["trace_id"] == answer.headers[b"traceparent"].split(b"-")[1].decode()
        assert entry.get("stable_as_of") == answer.body.get("stable_as_of")
        assert entry["query"].keys() == query.keys()
    assert len(await searches(stage)) == len(SHAPES)


async def test_a_query_of_the_older_route_is_recorded(stage):
    await stage.films()
    answer = await stage.call("POST", "/v1/namespaces/films/query", QUERY, headers=[BEARER, TAGGED])
    assert answer.status == 200
    [entry] = await searches(stage)
    assert entry["top_result_ids"] == ids_of(answer.body)
    assert entry["query"].keys() == QUERY.keys()


@pytest.mark.parametrize("encoding", [b"gzip", b"identity"])
async def test_a_compressed_answer_has_its_ids_recorded(stage, encoding):
    await stage.films()
    headers = [BEARER, (b"accept-encoding", encoding)]
    await stage.call("POST", "/v2/namespaces/films/query", {**QUERY, "limit": 100}, headers=headers)
    [entry] = await searches(stage)
    assert len(entry["top_result_ids"]) == 100


async def test_a_refused_query_is_not_recorded(stage):
    await stage.films()
    assert (await stage.call("POST", "/v2/namespaces/films/query", {"limit": 3})).status >= 400
    for method, path, body in (
        ("POST", "query", QUERY),
        ("GET", "documents/1", None),
        ("POST", "documents", {"ids": ["1"]}),
    ):
        refused = await stage.call(
            method, f"/v2/namespaces/films/{path}", body, headers=[BEARER, (b"x-hevlayer-tags", b"not allowed")]
        )
        assert (refused.status, refused.body["error"]) == (422, "validation_error")
        assert "x-hevlayer-tags" in refused.body["message"]
    assert [target for _, target, _ in stage.up if "not" in target] == []
    assert await searches(stage) == []


async def test_a_fetch_is_joined_to_its_search(stage):
    await stage.films()
    search = await stage.call("POST", "/v2/namespaces/films/query", QUERY, headers=[BEARER, TAGGED])
    first, second, third = ids_of(search.body)
    parent = (b"traceparent", search.headers[b"traceparent"])
    for doc_id in (first, first):
        await stage.call("GET", f"/v2/namespaces/films/documents/{doc_id}", headers=[BEARER, parent, TAGGED])
    await stage.call(
        "POST", "/v2/namespaces/films/documents", {"ids": [first, second, third, "nowhere"]}, headers=[BEARER, parent]
    )
    await stage.call("GET", f"/v2/namespaces/films/documents/{second}")
    trace_id = (await searches(stage))[0]["trace_id"]
    events = (await stage.ok("GET", f"/v2/namespaces/films/clickstream?trace_id={trace_id}"))["events"]
    told = [(each["doc_id"], each["served_from"], each["tags"]) for each in reversed(events)]
    tags = ["app:test", "route:search"]
    assert told[:2] == [(first, "upstream", tags), (first, "cache", tags)]
    assert sorted(told[2:]) == sorted([(first, "cache", []), (second, "upstream", []), (third, "upstream", [])])
    assert (await stage.ok("GET", "/v2/namespaces/films/clickstream?tag=app:test"))["events"] == events[-2:]
    assert (await stage.ok("GET", f"/v1/namespaces/films/clickstream?trace_id={'0' * 31}1"))["events"] == []


async def test_pages_and_filters(stage):
    await stage.films()
    for number in range(7):
        tags = (b"x-hevlayer-tags", b"page:%d,all" % (number % 2))
        await stage.call("POST", "/v2/namespaces/films/query", QUERY, headers=[BEARER, tags])
    everything = await searches(stage)
    assert [each["timestamp_nanos"] for each in everything] == sorted(
        (each["timestamp_nanos"] for each in everything), reverse=True
    )
    paged, cursor = [], ""
    while cursor is not None:
        page = await stage.ok("GET", f"/v1/namespaces/films/search-history?limit=3{cursor and '&before=' + cursor}")
        paged += page["entries"]
        cursor = page["next_cursor"]
    assert paged == everything
    assert await searches(stage, "?tag=all,page:1") == [each for each in everything if "page:1" in each["tags"]]
    # Bounds are inclusive, to the nanosecond; `before` is not.
    low, high = (moment(everything[number]["timestamp_nanos"]) for number in (5, 2))
    assert await searches(stage, f"?from={low}") == everything[:6]
    assert await searches(stage, f"?to={high}") == everything[2:]
    assert await searches(stage, f"?from={low}&to={high}") == everything[2:6]
    assert await searches(stage, f"?from={low}&to={high}&before={everything[3]['timestamp_nanos']}") == everything[4:6]
    assert (
        await searches(stage, f"?from={low}&to={high}&tag=page:1&limit=1")
        == [each for each in everything[2:6] if "page:1" in each["tags"]][:1]
    )
    assert await searches(stage, f"?trace_id={everything[4]['trace_id']}") == [everything[4]]
    assert await searches(stage, f"?trace_id={everything[4]['trace_id']}&tag=page:7") == []
    assert await searches(stage, "?to=2000-01-01T00:00:00Z") == []

    async def is_known():
        return (await stage.ok("GET", "/v2/namespaces/films/clickstream")).get("id_type") == "string"

    await stage.until(is_known)
    refused = await stage.call("GET", "/v2/namespaces/films/search-history?limit=none")
    assert (refused.status, refused.body["error"]) == (422, "validation_error")


async def test_what_was_accepted_before_a_clean_stop_is_in_the_store_after_it(stages):
    first = await stages()
    await first.films()
    for _ in range(20):
        await first.call("POST", "/v2/namespaces/films/query", QUERY)
    await first.gateway.stop()
    folder = first.gateway.data_dir / "objects" / "search-history" / "films"
    [day] = folder.iterdir()
    [stored] = day.iterdir()
    lines = [json.loads(line) for line in stored.read_text().splitlines()]
    assert len(lines) == 20
    assert stored.name == f"{lines[0]['timestamp_nanos']}.jsonl"
    assert lines[0]["timestamp"].startswith(day.name)
    second = await stages(origin=first.origin, data_dir=first.gateway.data_dir)
    assert len(await searches(second)) == 20


async def test_one_tenant_does_not_see_another_s(stage):
    await stage.films()
    await stage.call("POST", "/v2/namespaces/films/query", QUERY)
    other = (b"authorization", b"Bearer tpuf_other")
    await stage.call("POST", "/v2/namespaces/films/query", QUERY, headers=[other])
    assert len(await searches(stage)) == 1
    read = await stage.call("GET", "/v2/namespaces/films/search-history", headers=[other])
    assert len(read.body["entries"]) == 1
    assert b"scope" not in json.dumps(read.body).encode()
    missing = await stage.call("GET", "/v2/namespaces/nowhere/search-history", headers=[other])
    assert missing.status == 404


async def test_it_can_be_turned_off_for_a_namespace_and_altogether(stages):
    some = await stages(history_off_namespaces="films, others")
    await some.films()
    await some.films("shown")
    for namespace in ("films", "shown"):
        await some.call("POST", f"/v2/namespaces/{namespace}/query", QUERY)
    assert [len(await searches(some, namespace=name)) for name in ("films", "shown")] == [0, 1]
    none = await stages(history="off")
    await none.films()
    await none.call("POST", "/v2/namespaces/films/query", QUERY)
    assert await searches(none) == []


@pytest.mark.parametrize("purge", [True, False])
async def test_deleting_a_namespace_keeps_its_history_unless_it_is_purged(stage, purge):
    await stage.films()
    await stage.films("other")
    for namespace in ("films", "other"):
        await stage.call("POST", f"/v2/namespaces/{namespace}/query", QUERY)
    await stage.gateway.history.recorder.drain()
    await stage.gateway.history._writer.stop()
    await stage.call("POST", "/v2/namespaces/films/query", QUERY)
    await stage.ok("DELETE", f"/v2/namespaces/films{'?purge_history=true' if purge else ''}")
    assert [target for method, target, _ in stage.up if method == "DELETE"] == ["/v2/namespaces/films"]
    await stage.films()
    assert len(await searches(stage)) == (0 if purge else 2)
    assert len(await searches(stage, namespace="other")) == 1
    refused = await stage.call("DELETE", "/v2/namespaces/films?purge_history=1")
    assert (refused.status, refused.body["error"]) == (422, "validation_error")


async def hangs(*_, **__):
    await asyncio.Event().wait()


async def is_down(*_, **__):
    raise ObjectStoreUnreachableError("down")


async def is_full(*_, **__):
    raise ObjectStoreFullError("full")


@pytest.mark.parametrize("store", [hangs, is_down, is_full])
async def test_an_object_store_that_fails_holds_no_query_and_no_stop_for_long(stage, monkeypatch, store):
    monkeypatch.setattr("hevlayer.gateway.history.writer.STOP_SECONDS", 0.1)
    await stage.films()
    monkeypatch.setattr(stage.gateway.objects, "put_if_absent", store)
    for _ in range(10):
        answer = await stage.call("POST", "/v2/namespaces/films/query", QUERY)
        assert answer.status == 200
    # What waits for the store is shown as if it were there.
    assert len(await searches(stage)) == 10
    await asyncio.sleep(0.3)
    await stage.gateway.stop()
    text = stage.gateway.metrics.registry.exposition()
    assert samples(text, "layer_history_records_total", feed="search-history", outcome="dropped") == [10]


async def test_a_store_that_comes_back_gets_everything(stage, monkeypatch):
    await stage.films()
    with monkeypatch.context() as broken:
        for name in ("put_if_absent", "get", "list_keys"):
            broken.setattr(stage.gateway.objects, name, is_down)
        for _ in range(10):
            assert (await stage.call("POST", "/v2/namespaces/films/query", QUERY)).status == 200
        refused = await stage.call("GET", "/v2/namespaces/films/search-history")
        assert (refused.status, refused.body["error"]) == (503, "service_unavailable")
    await stage.gateway.stop()
    text = stage.gateway.metrics.registry.exposition()
    assert samples(text, "layer_history_records_total", outcome="dropped") == []
    [stored] = (stage.gateway.data_dir / "objects" / "search-history" / "films").rglob("*.jsonl")
    assert len(stored.read_text().splitlines()) == 10


async def test_what_was_written_lately_is_listed_without_reading_it_back(stage, monkeypatch):
    await stage.films()
    await stage.call("POST", "/v2/namespaces/films/query", QUERY)
    folder = stage.gateway.data_dir / "objects" / "search-history" / "films"

    async def is_stored():
        return list(folder.rglob("*.jsonl")) != []

    await stage.until(is_stored)
    monkeypatch.setattr(stage.gateway.objects, "get", is_down)
    assert len(await searches(stage)) == 1


async def test_the_older_routes_answer_alike(stage):
    await stage.films()
    search = await stage.call("POST", "/v2/namespaces/films/query", QUERY, headers=[BEARER, TAGGED])
    parent = (b"traceparent", search.headers[b"traceparent"])
    await stage.call(
        "GET", f"/v2/namespaces/films/documents/{ids_of(search.body)[0]}", headers=[BEARER, parent, TAGGED]
    )

    async def is_typed():
        # Known from the first poll on.
        return "id_type" in (await stage.call("GET", "/v2/namespaces/films/search-history")).body

    await stage.until(is_typed)
    for feed in ("search-history", "clickstream"):
        for parameters in ("", "?tag=app:test", "?tag=none", "?limit=0", "?from=now", "?tag=no%20tag"):
            older, newer = [
                await stage.call("GET", f"/{version}/namespaces/films/{feed}{parameters}") for version in ("v1", "v2")
            ]
            assert (older.status, older.body) == (newer.status, newer.body)
        assert (await stage.call("GET", f"/v1/namespaces/films/{feed}?tag=no%20tag")).status == 422


@pytest.mark.parametrize("sent", [b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", None, b"nonsense"])
async def test_one_trace_is_returned_recorded_and_forwarded(stage, sent):
    await stage.films()
    forwarded = []
    send = stage.gateway.upstream.send

    async def listening(method, target, headers, body=b"", **options):
        if target.endswith(b"/query"):
            forwarded.extend(value for name, value in headers if name == b"traceparent")
        return await send(method, target, headers, body, **options)

    stage.gateway.upstream.send = listening
    headers = [BEARER] if sent is None else [BEARER, (b"traceparent", sent)]
    # Fused: the general way, which asks through `send`.
    answer = await stage.call("POST", "/v2/namespaces/films/query", SHAPES["layer, by a document"], headers=headers)
    returned = answer.headers[b"traceparent"]
    trace_id = returned.split(b"-")[1]
    assert len(trace_id) == 32
    assert (returned == sent) is (sent is not None and sent.startswith(b"00-"))
    assert forwarded
    assert {each.split(b"-")[1] for each in forwarded} == {trace_id}
    [entry] = await searches(stage)
    assert entry["trace_id"] == trace_id.decode()


async def test_tags_that_are_sent_several_times_are_one_list(stage):
    await stage.films()
    for headers in ([(b"x-hevlayer-tags", b"a"), (b"x-hevlayer-tags", b"b")], [(b"x-hevlayer-tags", b"b")]):
        assert (await stage.call("POST", "/v2/namespaces/films/query", QUERY, headers=[BEARER, *headers])).status == 200
    assert [entry["tags"] for entry in await searches(stage)] == [["b"], ["a", "b"]]
    assert [entry["tags"] for entry in await searches(stage, "?tag=a&tag=b")] == [["a", "b"]]
    headers = [BEARER, (b"x-hevlayer-tags", b"a"), (b"x-hevlayer-tags", b"two words")]
    assert (await stage.call("POST", "/v2/namespaces/films/query", QUERY, headers=headers)).status == 422
