"""Bodies of snapshots that are damaged, that go while they are read, or whose namespace goes while they are made."""

import asyncio

import orjson
import pytest
from snapshot_stage import NS, WATCHED, asked, counts_of, expected, history, outcomes, shown, until_written
from work_stage import FILMS

from hevlayer.clock import Backoff
from hevlayer.gateway.snapshots import writer
from hevlayer.gateway.snapshots.body import Facet, Histogram, Snapshot
from hevlayer.gateway.snapshots.store import entry_of, key_of

SCANS = f"{NS}/scans"
DAMAGES = {
    "cut": lambda body: body[: len(body) // 2],
    "of another shape": lambda body: body.replace(b'"row_count":5', b'"row_count":6'),
}
YEAR = ["year", "Eq", FILMS[0]["year"]]
SAME_YEAR = sum(film["year"] == FILMS[0]["year"] for film in FILMS[:5])


@pytest.fixture(autouse=True)
def hurried(monkeypatch):
    """The writer looks more often than anybody would want."""
    monkeypatch.setattr(writer, "TURN_SECONDS", 0.02)
    monkeypatch.setattr(writer, "AGAIN", Backoff(initial_seconds=0.01, cap_seconds=0.01))


async def keys_of(stage, *prefixes):
    return [key for prefix in prefixes for key in await stage.gateway.objects.list_keys(f"{prefix}/")]


async def standing(stages, **more):
    """A gateway with one snapshot, whose writer rests; and that snapshot."""
    stage = await stages(**{**WATCHED, "snapshot_min_interval_ms": 3_600_000, **more})
    await stage.films(rows=FILMS[:5])
    await until_written(stage)
    # The writer itself knows of its body a moment later.
    await stage.gateway.snapshots.writer.settle()
    (key,) = await keys_of(stage, "snapshots")
    entry = entry_of(key)
    return stage, await stage.gateway.snapshots._store.find(entry.place, entry.short_sha)


def forget(stage):
    """What this process has in its memory and near by of the bodies."""
    ones = stage.gateway.snapshots.latest
    for held in (ones._bodies, ones._known, ones._away):
        held.clear()

    async def nothing(key):
        return None

    ones._mirror.get = nothing


async def count(stage, source, filters=YEAR):
    return await stage.call("POST", SCANS, {"mode": "count", "source": source, "filters": filters})


ELSEWHERE = ("origin", "cache")


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_damaged_latest_body_is_named_and_nothing_older_stands_for_it(stages, damage):
    stage, latest = await standing(stages)
    shape = Histogram(1, (Facet("year", "int", ((1, 1),), 0),), ())
    older = Snapshot.of(latest.place, 1_700_000_000_000, shape, identity=latest.identity)
    await stage.gateway.objects.put(key_of(older), older.encode())
    key = key_of(latest)
    await stage.gateway.objects.put(key, DAMAGES[damage](await stage.gateway.objects.get(key)))
    forget(stage)
    values = {"mode": "values", "source": "snapshot", "field": "year"}
    for method, target, body in (
        ("POST", SCANS, {"mode": "count", "source": "snapshot", "filters": YEAR}),
        ("POST", SCANS, values),
        ("POST", f"{NS}/snapshots", {"field": "year", "source": "stored"}),
        ("GET", f"{NS}/snapshots/{latest.sha}", None),
    ):
        refused = await stage.call(method, target, body)
        assert (refused.status, refused.body["error"]) == (503, "service_unavailable"), target
        assert key in refused.body["message"]
    # What does not need it goes on; the first such count has the namespace warmed.
    answer = await count(stage, "auto")
    assert (answer.status, answer.body["count"]) == (200, SAME_YEAR)
    assert answer.body["served_by"] in ELSEWHERE
    assert (await asked(stage, "year"))["effective_source"] in ELSEWHERE
    hint = await stage.ok("GET", "/v1/namespaces/films/hint_cache_warm?turbopuffer=false&documents=false")
    assert hint["snapshots"]["status"] == "skipped"
    assert key in hint["snapshots"]["reason"]
    assert [each["sha"] for each in await history(stage)] == [latest.sha[:7], older.sha[:7]]
    assert (await shown(stage, older.sha))["row_count"] == 1


async def test_a_damaged_latest_body_is_mended_by_the_next_look(stages):
    stage = await stages(**WATCHED)
    await stage.films(rows=FILMS[:5])
    (entry,) = await until_written(stage)
    (key,) = await keys_of(stage, "snapshots")
    await stage.gateway.objects.put(key, b"{")
    # The same counts: nothing would be written, were they there to be read.
    await stage.ok("POST", NS, {"upsert_rows": [FILMS[0] | {"vector": [1, 2, 3]}]})

    async def mended():
        # A look that was under way may have brought the whole one back to memory.
        forget(stage)
        return len(await history(stage)) == 2

    await stage.until(mended)
    newest, damaged = await history(stage)
    assert damaged == entry
    assert newest["sha"] == entry["sha"]
    assert await outcomes(stage, "failed") == 0
    assert counts_of(await shown(stage, entry["sha"]), "year") == expected("year", FILMS[:5])
    answer = await count(stage, "snapshot")
    assert (answer.status, answer.body["count"], answer.body["watermark_ms"]) == (
        200,
        SAME_YEAR,
        newest["watermark_ms"],
    )


async def test_a_damaged_body_gives_way_to_the_same_one(stages):
    """Of the same moment: a process that starts again counts what the one before it had counted."""
    stage, snapshot = await standing(stages)
    key = key_of(snapshot)
    body = await stage.gateway.objects.get(key)
    store = stage.gateway.snapshots._store
    assert await store.publish(snapshot) is None
    await stage.gateway.objects.put(key, body[:-1])
    assert await store.publish(snapshot) == len(body)
    assert await stage.gateway.objects.get(key) == body


async def test_a_body_that_retention_takes_while_it_is_read(stages, monkeypatch):
    """The count is that of the newer one, for which the other was removed: never an error, and never half of each."""
    stage, old = await standing(stages)
    forget(stage)
    shape = Histogram(7, (Facet("year", "int", ((FILMS[0]["year"], 7),), 0),), ())
    newer = Snapshot.of(old.place, old.watermark_ms + 1, shape, identity=old.identity)
    get, held, released = stage.gateway.objects.get, asyncio.Event(), asyncio.Event()

    async def slow(key):
        if key == key_of(old) and not released.is_set():
            held.set()
            await released.wait()
        return await get(key)

    monkeypatch.setattr(stage.gateway.objects, "get", slow)
    asking = [asyncio.create_task(count(stage, "snapshot")), asyncio.create_task(count(stage, "snapshot"))]
    async with asyncio.timeout(10):
        await held.wait()
    await stage.gateway.objects.put(key_of(newer), newer.encode())
    assert await stage.gateway.snapshots._store.prune(old.place, newer.watermark_ms) == 1
    released.set()
    for answer in await asyncio.gather(*asking):
        assert (answer.status, answer.body["count"], answer.body["snapshot_sha"]) == (200, 7, newer.sha)
    body = {"mode": "values", "source": "snapshot", "field": "year"}
    job = await stage.done(f"{SCANS}/{(await stage.ok('POST', SCANS, body, 202))['id']}")
    assert (job["status"], job["snapshot_sha"]) == ("completed", newer.sha)
    gone = await stage.call("GET", f"{NS}/snapshots/{old.sha}")
    assert (gone.status, gone.body["error"]) == (404, "not_found")


async def test_values_that_were_begun_are_the_old_ones_whole(stages, monkeypatch):
    """A scan has its body in memory: what retention does afterwards is nothing to it."""
    stage, old = await standing(stages)
    results, held, released = stage.gateway.scans._results, asyncio.Event(), asyncio.Event()
    make = results.writer

    def slow(job):
        made = make(job)
        finish = made.finish_values

        async def finish_values(*arguments, **options):
            held.set()
            await released.wait()
            return await finish(*arguments, **options)

        monkeypatch.setattr(made, "finish_values", finish_values)
        return made

    monkeypatch.setattr(results, "writer", slow)
    started = await stage.ok("POST", SCANS, {"mode": "values", "source": "snapshot", "field": "year"}, 202)
    async with asyncio.timeout(10):
        await held.wait()
    for key in await keys_of(stage, "snapshots"):
        await stage.gateway.objects.delete(key)
    forget(stage)
    released.set()
    job = await stage.done(f"{SCANS}/{started['id']}")
    assert (job["status"], job["snapshot_sha"]) == ("completed", old.sha)
    found = await stage.ok("GET", f"{SCANS}/{job['id']}/results")
    assert {each["v"]: each["n"] for each in found["values"]} == expected("year", FILMS[:5])
    refused = await count(stage, "snapshot")
    assert (refused.status, refused.body["error"]) == (412, "precondition_failed")


@pytest.mark.parametrize("before", ["the body is put", "the last count"])
async def test_a_namespace_that_is_deleted_while_it_is_counted_leaves_no_body(stages, monkeypatch, before):
    stage = await stages(**{**WATCHED, "facet_fields": ""})
    await stage.films(rows=FILMS[:5])
    held, released = asyncio.Event(), asyncio.Event()
    put, read = stage.gateway.objects.put_if_absent, stage.gateway.upstream.read

    async def wait(is_it):
        if is_it and not held.is_set():
            held.set()
            await released.wait()

    async def slow_put(key, body):
        await wait(before == "the body is put" and key.startswith("snapshots/"))
        return await put(key, body)

    async def slow_read(method, target, bearer, body=b"", **options):
        answer = await read(method, target, bearer, body, **options)
        await wait(
            before == "the last count"
            and target.endswith(b"/query")
            and "group_by" not in (query := orjson.loads(body))
            and query.get("filters", ["", ""])[1] == "Lte"
            and any(sent.get("group_by") for sent in stage.queries())
        )
        return answer

    monkeypatch.setattr(stage.gateway.objects, "put_if_absent", slow_put)
    monkeypatch.setattr(stage.gateway.upstream, "read", slow_read)
    await stage.ok("PUT", f"{NS}/snapshot-policy", {"facetFields": ["year"]})
    async with asyncio.timeout(10):
        await held.wait()
    deleted = await stage.ok("DELETE", NS)
    assert deleted["layer"]["cleanup"] == "done"
    released.set()
    await stage.gateway.snapshots.writer.settle()
    assert await keys_of(stage, "snapshots", "snapshots-adhoc", "policies") == []
    await stage.films(rows=FILMS[:3])
    assert await history(stage) == []


async def test_a_body_counted_while_its_namespace_was_being_deleted_goes_with_it(stages):
    """Its watermark is later than the delete's beginning, as a new namespace's would be."""
    stage, kept = await standing(stages, gateway_api_key="tpuf_stage")
    store = stage.gateway.snapshots._store
    shape = Histogram(1, (Facet("year", "int", ((1, 1),), 0),), ())
    late = Snapshot.of(kept.place, stage.gateway.clock.now_ms() + 600_000, shape, identity=kept.identity)
    others = Snapshot.of(kept.place, late.watermark_ms + 1, shape, identity="2030-01-01T00:00:00Z")
    for each in (late, others):
        await store.publish(each)
    await stage.ok("DELETE", NS)
    assert await keys_of(stage, "snapshots") == [key_of(others)]


async def test_a_damaged_policy_does_not_outlive_its_namespace(stages):
    stage, _ = await standing(stages)
    await stage.ok("PUT", f"{NS}/snapshot-policy", {"facetFields": ["year"]})
    (key,) = await keys_of(stage, "policies")
    await stage.gateway.objects.put(key, b"{")
    assert (await stage.call("GET", f"{NS}/snapshot-policy")).status == 503
    deleted = await stage.ok("DELETE", NS)
    assert {"step": "snapshots", "status": "done"} in deleted["layer"]["steps"]
    assert await keys_of(stage, "policies") == []
