"""The automatic writer under writes, failures and beside another one: what it keeps is true, or nothing is kept."""

import asyncio

import orjson
import pytest
from snapshot_stage import (
    NS,
    WATCHED,
    counts_of,
    expected,
    history,
    outcomes,
    shown,
    until_outcome,
    until_written,
)
from work_stage import FILMS

from hevlayer.clock import Backoff
from hevlayer.gateway.consistency import NamespaceView, Status
from hevlayer.gateway.snapshots import writer
from hevlayer.gateway.snapshots.writer import is_due
from hevlayer.stores import leases
from hevlayer.stores.objects import (
    ObjectStoreBusyError,
    ObjectStoreDeniedError,
    ObjectStoreFullError,
    ObjectStoreTimeoutError,
)

TWO_FIELDS = {**WATCHED, "facet_fields": '{"films": ["genres", "year"]}'}


def hurried(monkeypatch):
    """The writer looks more often than anybody would want."""
    monkeypatch.setattr(writer, "TURN_SECONDS", 0.02)
    monkeypatch.setattr(writer, "AGAIN", Backoff(initial_seconds=0.01, cap_seconds=0.01))


def once_before(stage, matches, act):
    """Acts before an upstream query that matches is sent, once the first field has been counted."""
    read, left, fields = stage.gateway.upstream.read, [act], []

    async def reading(method, target, bearer, body=b"", **options):
        if left and target.endswith(b"/query"):
            query = orjson.loads(body)
            if fields and matches(query):
                await left.pop()()
            fields.extend(query.get("group_by", ()))
        return await read(method, target, bearer, body, **options)

    stage.gateway.upstream.read = reading
    return left


ACTIONS = {
    "a counted row is deleted": {"deletes": [FILMS[0]["id"]]},
    "a counted row is rewritten": {"upsert_rows": [{**FILMS[1], "year": 3001, "genres": ["New"]}]},
    "a row is added": {"upsert_rows": [{**FILMS[1], "id": "added", "year": 3001, "genres": ["New"]}]},
    "one goes and one comes": {
        "deletes": [FILMS[0]["id"]],
        "upsert_rows": [{**FILMS[1], "id": "added", "year": 3001, "genres": ["New"]}],
    },
    "many are deleted by a filter": {"delete_by_filter": ["year", "Lt", 1960]},
}
BEFORE = {
    "the second field": lambda query: query.get("group_by") == ["year"],
    "the count of later rows": lambda query: query.get("filters", ["", ""])[1] == "Gt",
}


def truth(actions):
    films = {film["id"]: film for film in FILMS}
    for gone in actions.get("deletes", ()):
        del films[gone]
    for row in actions.get("upsert_rows", ()):
        films[row["id"]] = row
    if "delete_by_filter" in actions:
        films = {key: film for key, film in films.items() if film["year"] >= 1960}
    return list(films.values())


@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("action", ACTIONS)
async def test_counts_of_two_moments_are_never_kept(stages, monkeypatch, action, before):
    hurried(monkeypatch)
    stage = await stages(**{**WATCHED, "facet_fields": ""})
    await stage.films()

    async def act():
        await stage.ok("POST", NS, ACTIONS[action])

    left = once_before(stage, BEFORE[before], act)
    await stage.ok("PUT", f"{NS}/snapshot-policy", {"facetFields": ["genres", "year"]})
    entries = await until_written(stage)
    assert not left
    assert await outcomes(stage, "unsettled") >= 1
    films = truth(ACTIONS[action])
    body = await shown(stage, entries[-1]["sha"])
    assert body["row_count"] == len(films)
    assert counts_of(body, "year") == expected("year", films)
    assert counts_of(body, "genres") == expected("genres", films)


async def test_nothing_happens_without_watched_fields(stage):
    await stage.films(rows=FILMS[:5])
    await stage.gateway.snapshots.writer.turn()
    assert stage.queries() == []


async def test_a_watched_namespace_that_is_not_there_is_seldom_asked_for(stages, monkeypatch):
    stage = await stages(**{**WATCHED, "facet_fields": '{"nowhere": ["year"]}'})
    looking, asked_for = stage.gateway.snapshots.writer, []
    monkeypatch.setattr(stage.gateway.registry, "configure", asked_for.append)
    monkeypatch.setattr(looking, "_asked_at", float("-inf"))
    monkeypatch.setattr(writer, "ABSENT_SECONDS", 600.0)
    stage.gateway.registry.forget("nowhere")
    for _ in range(10):
        await looking.turn()
    assert asked_for == ["nowhere"]


async def test_pass_through_without_an_upstream_key_writes_nothing(stages):
    stage = await stages(**{**TWO_FIELDS, "turbopuffer_api_key": ""})
    await stage.films(rows=FILMS[:5])
    await stage.gateway.snapshots.writer.turn()
    await stage.gateway.snapshots.writer.settle()
    assert await history(stage) == []
    assert stage.queries() == []
    ready = await stage.ok("GET", "/ready")
    assert "TURBOPUFFER_API_KEY" in str(ready)


async def test_callers_of_a_recreated_namespace_do_not_see_the_old_one(stages):
    """Without a gateway key a namespace is known by its name and its creation."""
    stage = await stages(**TWO_FIELDS)
    await stage.films(rows=FILMS[:5])
    (old,) = await until_written(stage)
    # Around the gateway: nothing tells it to forget.
    direct = stage.gateway.upstream
    key = b"tpuf_own"
    assert (await direct.read("DELETE", b"/v2/namespaces/films", key))[0] == 200
    stage.gateway.grants._held.clear()
    await stage.write("films", [{"id": "x", "year": 1900, "genres": []}])
    stage.gateway.grants._held.clear()
    assert (await stage.call("GET", f"{NS}/snapshots/{old['sha']}")).status == 404
    found = await until_written(stage)
    assert old not in found
    assert counts_of(await shown(stage, found[0]["sha"]), "year") == {"1900": 1}


@pytest.mark.parametrize(
    "error", [ObjectStoreTimeoutError, ObjectStoreBusyError, ObjectStoreFullError, ObjectStoreDeniedError]
)
async def test_a_store_that_fails_costs_nothing_but_time(stages, monkeypatch, error):
    hurried(monkeypatch)
    stage = await stages(**TWO_FIELDS)
    put, failures = stage.gateway.objects.put_if_absent, []

    async def failing(key, body):
        if len(failures) < 3:
            failures.append(key)
            raise error("the object store failed")
        return await put(key, body)

    monkeypatch.setattr(stage.gateway.objects, "put_if_absent", failing)
    await stage.films(rows=FILMS[:5])
    # Callers' requests go on.
    await stage.ok("POST", f"{NS}/query", {"rank_by": ["id", "asc"], "limit": 1})
    (entry,) = await until_written(stage)
    assert len(failures) == 3
    assert await outcomes(stage, "failed") == 3
    assert counts_of(await shown(stage, entry["sha"]), "year") == expected("year", FILMS[:5])


async def test_one_of_two_gateways_writes_and_the_other_takes_over(stages, monkeypatch, tmp_path):
    monkeypatch.setattr(leases, "RETRY_SECONDS", 0.05)
    hurried(monkeypatch)
    shared = {**TWO_FIELDS, "objects_dir": tmp_path / "shared", "gateway_api_key": ""}
    first = await stages(**shared)
    # One machine: the leases are the same files.
    (tmp_path / "data-1").mkdir()
    (tmp_path / "data-1" / "leases").symlink_to(tmp_path / "data-0" / "leases")
    second = await stages(origin=first.origin, **shared)
    await second.films(rows=FILMS[:5])
    (entry,) = await until_written(second)
    await until_outcome(first, "written")
    assert sum([await outcomes(second, each.value) for each in writer.Outcome]) == 0
    await first.client.close()
    await first.gateway.stop()
    stages.made.remove(first)
    stages.origins.append(first.origin)
    await second.write("films", [{**FILMS[0], "year": 3000}])
    newer, older = await until_written(second, 2)
    assert older == entry
    await until_outcome(second, "written")
    assert counts_of(await shown(second, newer["sha"]), "year")["3000"] == 1


async def test_two_writers_at_once_keep_one_body(stages, monkeypatch, tmp_path):
    """A lease that is lost may have two holders for a moment."""
    shared = {**TWO_FIELDS, "objects_dir": tmp_path / "shared"}
    first = await stages(**shared)
    second = await stages(origin=first.origin, **shared)
    await first.films(rows=FILMS[:5])
    for stage in (first, second):
        await stage.ok("GET", f"{NS}/metadata")

        async def looked(stage=stage):
            return await outcomes(stage, "written") + await outcomes(stage, "unchanged") > 0

        await stage.until(looked)
    entries = await history(first)
    assert len({entry["sha"] for entry in entries}) == 1
    assert await history(second) == entries


async def test_bodies_past_their_retention_go_but_for_the_latest(stages, monkeypatch):
    hurried(monkeypatch)
    monkeypatch.setattr(writer, "PRUNE_SECONDS", 0.0)
    stage = await stages(**TWO_FIELDS)
    await stage.films(rows=FILMS[:5])
    await until_written(stage)
    await stage.write("films", [{**FILMS[0], "year": 3000}])
    newest, _ = await until_written(stage, 2)
    await stage.ok("PUT", f"{NS}/snapshot-policy", {"retention": "1ms"})

    async def pruned():
        return await history(stage) == [newest]

    await stage.until(pruned)
    # Again and again, and the latest stays.
    await asyncio.sleep(0.1)
    assert await history(stage) == [newest]


@pytest.mark.parametrize(
    ("status", "watermark_ms", "counted_ms", "last_ms", "due"),
    [
        (Status.STABLE, 1_000, 0, None, True),
        (Status.STABLE, 1_000, 0, 900, False),
        (Status.STABLE, 1_100, 0, 900, True),
        (Status.STABLE, 1_100, 1_100, 900, False),
        (Status.STABLE, 1_100, 1_050, 900, False),
        (Status.STABLE, None, 0, None, False),
        (Status.UPDATING, 1_000, 0, None, False),
        (Status.UNKNOWN, 1_000, 0, None, False),
    ],
)
def test_when_a_snapshot_is_due(status, watermark_ms, counted_ms, last_ms, due):
    view = NamespaceView(status=status, watermark_ms=watermark_ms)
    assert is_due(view, counted_ms, last_ms, interval_ms=200) is due
