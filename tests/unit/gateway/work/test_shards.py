"""Sharded namespaces in front of the local origin: init, stamps, scattered queries, backfill, restart, delete."""

import asyncio
import random

import pytest
from work_stage import FILMS

from hevlayer.gateway.shards.manifest import Manifest, ShardState, manifest_key, read_manifest
from hevlayer.kernels.splice import shard_of
from hevlayer.stores.objects import ObjectStoreUnreachableError
from hevlayer.wire.reserved import SHARD_ATTRIBUTE, STAMP_ATTRIBUTE

NS = "/v2/namespaces/films"
QUERY = {"rank_by": ["vector", "kNN", [1.0, 2.0, 3.0]], "filters": ["year", "Gte", 0], "limit": 50, "offset": 3}
ANN = {"rank_by": ["vector", "ANN", [1.0, 2.0, 3.0]], "limit": 50}


async def init(stage, shards, status=200, namespace="films"):
    return await stage.ok("POST", f"/v2/namespaces/{namespace}/init", {"shard_count": shards}, status)


async def layer(stage):
    return (await stage.ok("GET", f"{NS}/metadata"))["layer"]


async def ready(stage):
    async def is_ready():
        return (await layer(stage))["shard_state"] == "ready"

    await stage.until(is_ready)


async def stored(stage, **query):
    """Rows as the origin has them."""
    body = {"rank_by": ["id", "asc"], "limit": 5_000, "include_attributes": [SHARD_ATTRIBUTE, STAMP_ATTRIBUTE], **query}
    answer = await stage.ok("POST", f"{NS}/query", {**body, "consistency": {"level": "strong"}})
    return answer["rows"]


async def test_a_new_namespace_is_ready_at_once_and_its_rows_carry_their_shard(stage):
    answer = await init(stage, 8)
    assert answer == {
        "namespace": "films",
        "layer": {"shard_count": 8, "shard_state": "ready", "shard_lag_rows": 0, "scatter_gather_active": True},
    }
    await stage.films()
    rows = await stored(stage)
    assert len(rows) == len(FILMS)
    assert all(row[SHARD_ATTRIBUTE] == shard_of(row["id"], 8) for row in rows)
    assert len({row[SHARD_ATTRIBUTE] for row in rows}) == 8
    shown = await layer(stage)
    assert {name: shown[name] for name in answer["layer"]} == answer["layer"]


async def test_every_way_of_writing_rows_stamps_the_shard(stage):
    await init(stage, 16)
    await stage.write("films", [{"id": "a", "n": 1}])
    await stage.ok("POST", NS, {"upsert_columns": {"id": ["b", "c"], "n": [1, 2]}})
    await stage.ok("POST", NS, {"upserts": [{"id": "d", "attributes": {"n": 4}}]})
    await stage.ok("PATCH", NS, {"patches": [{"id": "a", "attributes": {"n": 5}}]})
    await stage.ok("POST", NS, {"patch_rows": [{"id": "b", "n": 6}]})
    rows = await stored(stage)
    assert {row["id"]: row[SHARD_ATTRIBUTE] for row in rows} == {each: shard_of(each, 16) for each in "abcd"}
    refused = await stage.call("POST", NS, {"upsert_rows": [{"id": "a", SHARD_ATTRIBUTE: 1}]})
    assert refused.status == 422
    assert SHARD_ATTRIBUTE in refused.body["message"]


async def test_a_namespace_without_shards_is_as_it_was(stage):
    await stage.films()
    assert all(SHARD_ATTRIBUTE not in row for row in await stored(stage, include_attributes=True))
    answer = await stage.call("POST", f"{NS}/query", ANN)
    assert len(answer.body["rows"]) == 50
    assert b"x-layer-shards" not in answer.headers
    shown = await layer(stage)
    assert (shown["shard_count"], shown["shard_state"], shown["scatter_gather_active"]) == (1, "unsharded", False)


@pytest.mark.parametrize(
    "query", [QUERY, ANN, {**ANN, "include_attributes": ["title"]}, {**ANN, "limit": {"total": 7}}]
)
async def test_a_scattered_query_answers_as_the_whole_one(stages, query):
    plain = await stages(consistency="eventual")
    await plain.films()
    whole = await plain.ok("POST", f"{NS}/query", query)
    sharded = await stages(consistency="eventual")
    await init(sharded, 20)
    await sharded.films()
    sharded.up.clear()
    answer = await sharded.call("POST", f"{NS}/query", query)
    assert answer.status == 200
    assert answer.headers[b"x-layer-shards"] == b"20"
    assert answer.body["rows"] == whole["rows"]
    assert answer.body.keys() >= {"rows", "billing", "performance"}
    sent = sharded.queries()
    assert sum(len(body["queries"]) for body in sent) == 20
    assert all(len(body["queries"]) <= 8 for body in sent)
    assert all(body["consistency"]["level"] == "eventual" for body in sent)


@pytest.mark.parametrize(
    "query",
    [
        {"rank_by": ["year", "asc"], "limit": 5},
        {"rank_by": ["title", "BM25", "love"], "limit": 5},
        {"aggregate_by": {"n": ["Count"]}},
        {"aggregate_by": {"n": ["Count"]}, "group_by": ["year"], "top_k": 5},
        {"queries": [ANN, ANN]},
    ],
)
async def test_other_shapes_go_up_as_one_request(stage, query):
    await init(stage, 4)
    await stage.films()
    stage.up.clear()
    answer = await stage.call("POST", f"{NS}/query", query)
    assert answer.status == 200, answer
    assert answer.headers[b"x-layer-shards"] == b"1"
    assert len(stage.queries()) == 1
    assert SHARD_ATTRIBUTE not in str(stage.queries())


async def test_the_layer_dialect_and_nearest_to_id_scatter(stage):
    await init(stage, 4)
    await stage.films()
    first = FILMS[0]["id"]
    answer = await stage.call("POST", f"{NS}/query", {"nearest_to_id": first, "top_k": 5})
    assert answer.headers[b"x-layer-shards"] == b"4"
    assert [row["id"] for row in answer.body["rows"]] == [row["id"] for row in answer.body["results"]]
    assert first in [row["id"] for row in answer.body["rows"]]


async def test_reserved_attributes_are_not_shown(stage):
    await init(stage, 4)
    await stage.films()
    for query in ({**ANN, "include_attributes": True}, {**ANN, "exclude_attributes": ["title"]}):
        answer = await stage.ok("POST", f"{NS}/query", query)
        assert len(answer["rows"]) == 50
        assert not any(name.startswith("_hevlayer_") for row in answer["rows"] for name in row)


async def test_an_error_is_the_one_of_the_whole_query(stage):
    await init(stage, 4)
    await stage.films()
    bad = {"rank_by": ["vector", "ANN", [1.0]], "limit": 5}
    scattered = await stage.call("POST", f"{NS}/query", bad)
    whole = await stage.call("POST", f"{NS}/query", {**bad, "limit": {"total": 5, "per": None}})
    assert scattered.status == whole.status == 400
    assert scattered.body == whole.body
    assert "queries[" not in scattered.body["error"]


async def test_existing_rows_get_their_shards_and_keep_their_stamps(stage):
    await stage.films()
    before = {row["id"]: row[STAMP_ATTRIBUTE] for row in await stored(stage, include_attributes=[STAMP_ATTRIBUTE])}
    assert (await init(stage, 8))["layer"]["shard_state"] == "backfilling"
    await ready(stage)
    rows = await stored(stage)
    assert {row["id"]: row[STAMP_ATTRIBUTE] for row in rows} == before
    assert all(row[SHARD_ATTRIBUTE] == shard_of(row["id"], 8) for row in rows)
    assert (await layer(stage))["shard_lag_rows"] == 0


@pytest.mark.parametrize(("shards", "legs"), [(4, b"4"), (8, b"1")], ids=["one request", "two requests"])
async def test_queries_find_every_row_while_the_backfill_is_under_way(stages, shards, legs):
    """It moves rows from leg to leg, and only the legs of one request see one moment."""
    stage = await stages(shard_backfill_rows_per_second=1, consistency="eventual")
    await stage.films()
    whole = await stage.ok("POST", f"{NS}/query", QUERY)
    await init(stage, shards)
    lacking = random.Random(3).sample(range(len(FILMS)), 100)
    patch = {"id": [FILMS[at]["id"] for at in lacking], "year": [FILMS[at]["year"] for at in lacking]}
    await stage.ok("POST", NS, {"patch_columns": patch})
    for _ in range(5):
        answer = await stage.call("POST", f"{NS}/query", QUERY)
        assert answer.body["rows"] == whole["rows"]
        assert answer.headers[b"x-layer-shards"] == legs
    assert (await layer(stage))["shard_state"] == "backfilling"


async def test_a_backfill_goes_on_in_the_next_process(stages):
    stage = await stages(shard_backfill_rows_per_second=1)
    await stage.films()
    await init(stage, 4)
    data, origin = stage.gateway.data_dir, stage.origin
    await stage.gateway.stop()
    again = await stages(origin=origin, data_dir=data, turbopuffer_api_key="tpuf_own")
    await ready(again)
    rows = await stored(again)
    assert all(row[SHARD_ATTRIBUTE] == shard_of(row["id"], 4) for row in rows)


async def test_a_delete_in_the_middle_of_a_backfill_leaves_nothing_of_either(stages):
    stage = await stages(shard_backfill_rows_per_second=2)
    await stage.films()
    await init(stage, 4)

    async def under_way():
        return 0 < (await layer(stage)).get("shard_lag_rows", 0) < len(FILMS)

    await stage.until(under_way)
    await stage.ok("DELETE", NS)
    stage.up.clear()

    async def looked_again():
        return any(target.endswith("/films/query") for _, target, _ in stage.up)

    await stage.until(looked_again)
    assert (await stage.call("GET", f"{NS}/metadata")).status == 404
    assert await stage.gateway.objects.get(manifest_key("films")) is None
    # A new namespace of the name has no shards, and nobody gives it some.
    await stage.films(rows=FILMS[:20])
    await stage.gateway.shards.refresh()
    stage.gateway.backfill.wake()
    assert (await layer(stage))["shard_state"] == "unsharded"
    assert all(SHARD_ATTRIBUTE not in row for row in await stored(stage, include_attributes=True))


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        (b'{"shard_count": 1}', 422, "shard_count"),
        (b'{"shard_count": 257}', 422, "shard_count"),
        (b'{"shard_count": "4"}', 422, "shard_count"),
        (b'{"shard_count": true}', 422, "shard_count"),
        (b"[]", 422, "object"),
        (b'{"shards": 4}', 422, "shards: not a key"),
    ],
)
async def test_a_bad_init_is_told(stage, body, status, told):
    answer = await stage.call("POST", f"{NS}/init", body)
    assert answer.status == status
    assert told in answer.body["message"]


async def test_init_is_idempotent_and_another_count_is_a_conflict(stage):
    assert (await stage.ok("POST", f"{NS}/init"))["layer"]["shard_state"] == "unsharded"
    await init(stage, 4)
    await init(stage, 4)
    refused = await stage.call("POST", f"{NS}/init", {"shard_count": 5})
    assert (refused.status, refused.body["error"]) == (409, "conflict")
    assert "4 shards" in refused.body["message"]
    assert (await stage.ok("POST", f"{NS}/init", {}))["layer"]["shard_count"] == 4


async def test_of_two_inits_at_once_one_count_stands(stage):
    answers = await asyncio.gather(*(stage.call("POST", f"{NS}/init", {"shard_count": n}) for n in (4, 5, 6)))
    assert sorted(answer.status for answer in answers) == [200, 409, 409]


async def test_a_deleted_namespace_loses_its_shards(stage):
    await init(stage, 4)
    await stage.films()
    await stage.ok("DELETE", NS)
    assert (await stage.ok("POST", f"{NS}/init"))["layer"]["shard_state"] == "unsharded"
    await init(stage, 8)


async def test_a_default_for_new_namespaces(stages):
    stage = await stages(shard_count=4)
    await stage.write("films", [{"id": "a", "n": 1}])
    assert [row[SHARD_ATTRIBUTE] for row in await stored(stage)] == [shard_of("a", 4)]
    assert (await layer(stage))["shard_count"] == 4
    plain = await stages(origin=stage.origin)
    await plain.write("others", [{"id": "a", "n": 1}])
    await stage.write("others", [{"id": "b", "n": 1}])
    assert stage.gateway.shards.manifest("others") is None


async def test_another_process_learns_of_shards(stages, tmp_path):
    one = await stages(objects_dir=tmp_path / "shared")
    other = await stages(origin=one.origin, objects_dir=tmp_path / "shared")
    await init(one, 4)
    assert other.gateway.shards.shard_count("films") == 1
    await other.gateway.shards.refresh()
    assert other.gateway.shards.shard_count("films") == 4
    await one.films()
    await one.ok("DELETE", NS)
    await other.gateway.shards.refresh()
    assert other.gateway.shards.shard_count("films") == 1


async def test_a_store_that_is_away_takes_nothing_that_is_known(stage, monkeypatch):
    await init(stage, 4)
    directory = stage.gateway.shards

    async def away(*_arguments, **_options):
        raise ObjectStoreUnreachableError("away")

    for name in ("list_keys", "get", "put_if_absent"):
        monkeypatch.setattr(directory._store, name, away)
    await directory.refresh()
    assert directory.shard_count("films") == 4
    await stage.films()
    assert (await stage.call("POST", f"{NS}/query", ANN)).headers[b"x-layer-shards"] == b"4"
    refused = await stage.call("POST", "/v2/namespaces/others/init", {"shard_count": 4})
    assert (refused.status, refused.body["error"]) == (503, "service_unavailable")


async def test_a_damaged_manifest_keeps_no_other_namespace_from_its_own(stages, tmp_path):
    one = await stages(objects_dir=tmp_path / "shared")
    other = await stages(origin=one.origin, objects_dir=tmp_path / "shared")
    names = [f"ns-{number}" for number in range(6)]
    for name in names:
        await init(one, 4, namespace=name)
    await one.gateway.objects.put(manifest_key("damaged"), b"{")
    await init(one, 4, namespace="gone")
    await other.gateway.shards.refresh()
    await one.gateway.objects.delete(manifest_key("gone"))
    await other.gateway.shards.refresh()
    assert {name: other.gateway.shards.shard_count(name) for name in names} == dict.fromkeys(names, 4)
    assert other.gateway.shards.shard_count("gone") == 1
    assert (await other.call("POST", "/v2/namespaces/damaged/init", {"shard_count": 4})).status == 503


async def test_a_deleted_namespace_takes_a_damaged_manifest_with_it(stage):
    await stage.films()
    await stage.gateway.objects.put(manifest_key("films"), b"{")
    assert (await stage.call("POST", f"{NS}/init", {"shard_count": 4})).status == 503
    deleted = await stage.ok("DELETE", NS)
    assert {"step": "shards", "status": "done"} in deleted["layer"]["steps"]
    assert deleted["layer"]["cleanup"] == "done"
    assert await stage.gateway.objects.get(manifest_key("films")) is None
    assert (await init(stage, 4))["layer"]["shard_state"] == "ready"


async def test_a_manifest_is_kept_under_the_documented_key(stage):
    await init(stage, 4)
    body = await stage.gateway.objects.get(manifest_key("films"))
    assert manifest_key("films") == "shards/films/manifest.json"
    assert read_manifest(body) == Manifest(4, ShardState.READY, read_manifest(body).created_at_ms)
