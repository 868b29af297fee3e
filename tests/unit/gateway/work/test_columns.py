"""Scans that typed columns of cached rows answer: as rows do, and as the upstream does at the same cut."""

import asyncio
import random

import pytest
from test_cached_scans import FILTERS, IDS, SCANS, count, results, warmed
from work_stage import FILMS

from hevlayer.errors import CacheUnavailableError
from hevlayer.kernels.filters import FilterSchema

FIELDS = ("decade", "year", "genres", "href")


@pytest.fixture(autouse=True)
def quick_upkeep(monkeypatch):
    monkeypatch.setattr("hevlayer.gateway.scan.columns.UPKEEP_SECONDS", 0.05)


async def from_columns(stage, body):
    """Asks until columns have answered; gives that answer."""

    async def answered():
        before = stage.answers("columns")
        answer = await stage.ok("POST", SCANS, {"mode": "count", "source": "cache", **body})
        if stage.answers("columns") > before:
            found.append(answer)
        return bool(found)

    found = []
    await stage.until(answered)
    return found[-1]


async def all_columns(stage):
    """Has every attribute that the tests read in a column."""
    for filters in FILTERS:
        await count(stage, filters, "cache")
        await count(stage, filters, "cache")
    for field in FIELDS:
        await stage.ok("POST", SCANS, {"mode": "count", "source": "cache", "filters": [field, "Eq", None]})
        await stage.ok("POST", SCANS, {"mode": "count", "source": "cache", "filters": [field, "Eq", None]})
    for filters in FILTERS:
        await from_columns(stage, {"filters": filters})


async def test_counts_ids_and_values_come_from_columns(stage):
    await warmed(stage)
    await all_columns(stage)
    before = stage.answers("rows")
    for filters in FILTERS:
        stage.up.clear()
        answer = await count(stage, filters)
        assert (answer["served_by"], stage.queries()) == ("cache", [])
        assert answer["count"] == (await count(stage, filters, "origin"))["count"], filters
        _, found = await results(stage, {"filters": filters, "source": "cache"})
        _, expected = await results(stage, {"filters": filters, "source": "origin"})
        assert found == expected, filters
    for field in FIELDS:
        body = {"mode": "values", "field": field, "filters": ["year", "Gte", 1930]}
        _, found = await results(stage, {**body, "source": "cache"})
        _, expected = await results(stage, {**body, "source": "origin"})
        assert found == expected, field
    assert stage.answers("rows") == before


async def held(stage):
    """The sizes that /metrics shows."""
    text = stage.gateway.metrics.registry.exposition().decode()
    names = ("layer_columns", "layer_columns_bytes", "layer_columns_capacity_bytes", "layer_columns_changed_rows")
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("layer_columns"))
    return [float(lines[name]) for name in names], lines


async def test_columns_are_shown_and_follow_writes(stages):
    stage = await stages(gateway_api_key="tpuf_stage", turbopuffer_api_key="tpuf_origin")
    await warmed(stage)
    await from_columns(stage, {"filters": ["year", "Gte", 1990]})

    async def shown():
        (columns, size, capacity, _), lines = await held(stage)
        assert capacity == 1 << 30
        built = lines.get('layer_columns_build_seconds_count{status="ok"}', 0)
        return columns >= 2 and size > 1_000 and float(built) >= 1

    await stage.until(shown)
    await stage.write("films", [{"id": f"new-{number}", "year": 3000, "vector": [1, 2, 3]} for number in range(7)])
    await stage.ok("POST", "/v2/namespaces/films", {"deletes": IDS[:3]})

    async def agrees():
        before = stage.answers("columns")
        answer = await count(stage, ["year", "Gt", 0])
        return answer["count"] == len(FILMS) + 7 - 3 and stage.answers("columns") > before

    async def are_changed():
        return (await held(stage))[0][3] >= 7

    await stage.until(agrees)
    await stage.until(are_changed)
    assert (await count(stage, ["year", "Eq", 3000], "cache"))["count"] == 7


async def test_many_changes_have_the_columns_built_anew(stages, monkeypatch):
    monkeypatch.setattr("hevlayer.gateway.scan.columns.CHANGED_ROWS_MIN", 10)
    stage = await stages(gateway_api_key="tpuf_stage", turbopuffer_api_key="tpuf_origin")
    await warmed(stage)
    await from_columns(stage, {"filters": ["year", "Gte", 1990]})
    new = [{"id": f"new-{number:03}", "year": 3000, "vector": [1, 2, 3]} for number in range(300)]
    await stage.write("films", new)

    async def anew():
        await count(stage, ["year", "Gte", 1990])
        files = stage.gateway.columns.files
        return [(file.rows, file.changed_rows) for file in files] == [(len(FILMS) + 300, 0)]

    await stage.until(anew)
    assert (await count(stage, ["year", "Eq", 3000], "cache"))["count"] == 300


async def test_the_namespace_that_was_not_used_makes_room(stages):
    def rows(start):
        return [{"id": number, "year": number % 50, "text": f"{number:064}"} for number in range(start, start + 2_000)]

    stage = await stages(columns_bytes_max=250_000)
    for name in ("first", "second"):
        await stage.write(name, rows(0))
        await stage.warm(name)
    for name in ("first", "second"):

        async def answered(name=name):
            before = stage.answers("columns")
            body = {"mode": "count", "source": "cache", "filters": ["text", "Gte", "0"]}
            answer = await stage.ok("POST", f"/v2/namespaces/{name}/scans", body)
            return answer["count"] == 2_000 and stage.answers("columns") > before

        await stage.until(answered)

    async def made_room():
        _, lines = await held(stage)
        dropped = float(lines.get('layer_columns_dropped_total{reason="budget"}', 0))
        return dropped >= 1 and len(stage.gateway.columns.files) == 1

    await stage.until(made_room)
    assert len(list(stage.gateway.data_dir.rglob("*.columns"))) == 1
    body = {"mode": "count", "source": "cache", "filters": ["text", "Gte", "0"]}
    for name in ("first", "second"):
        assert (await stage.ok("POST", f"/v2/namespaces/{name}/scans", body))["count"] == 2_000


async def test_without_a_budget_rows_answer(stages):
    stage = await stages(columns_bytes_max=0)
    await warmed(stage)
    for _ in range(5):
        assert (await count(stage, ["year", "Gte", 1990]))["served_by"] == "cache"
    assert stage.answers("columns") == 0
    assert not list(stage.gateway.data_dir.rglob("*.columns"))


async def test_a_build_that_fails_is_counted_and_rows_answer(stage, monkeypatch):
    async def fails(*arguments, **options):
        raise CacheUnavailableError("the disk is full")

    monkeypatch.setattr(stage.gateway.cache.keeps_columns, "build_columns", fails)
    await warmed(stage)
    failed = 'layer_columns_build_seconds_count{status="failed"}'

    async def tried():
        assert (await count(stage, ["year", "Gte", 1990]))["served_by"] == "cache"
        return float((await held(stage))[1].get(failed, 0)) == 1

    await stage.until(tried)
    assert stage.answers("columns") == 0


async def test_a_namespace_that_is_made_anew_has_no_old_columns(stages):
    stage = await stages(gateway_api_key="tpuf_stage", turbopuffer_api_key="tpuf_origin")
    await warmed(stage)
    await from_columns(stage, {"filters": ["year", "Gte", 1990]})
    await stage.ok("DELETE", "/v2/namespaces/films")
    await stage.films(rows=FILMS[:600])
    await stage.warm()
    expected = sum(film["year"] >= 1990 for film in FILMS[:600])

    async def settled():
        answer = await count(stage, ["year", "Gte", 1990])
        assert answer["count"] <= expected
        return answer["served_by"] == "cache" and answer["count"] == expected

    await stage.until(settled)
    assert (await from_columns(stage, {"filters": ["year", "Gte", 1990]}))["count"] == expected


async def test_films_are_counted_as_upstream_at_the_same_cut_while_others_change(stages):
    """Every third film changes all the time and is left out of the comparison."""
    stage = await stages(gateway_api_key="tpuf_stage", turbopuffer_api_key="tpuf_origin")
    dice = random.Random(11)
    films = [{**film, "hot": number % 3 == 0} for number, film in enumerate(FILMS)]
    await warmed(stage, films)
    await all_columns(stage)
    await from_columns(stage, {"filters": ["hot", "Eq", False]})
    stop = asyncio.Event()
    changed = []

    async def write():
        while not stop.is_set():
            film = films[3 * dice.randrange(len(films) // 3)]
            change = dice.choice(
                [
                    {"patch_rows": [{"id": film["id"], "year": dice.randrange(1900, 2030)}]},
                    {"upsert_rows": [{**film, "genres": ["Comedy"]}]},
                    {"deletes": [film["id"]]},
                ]
            )
            await stage.ok("POST", "/v2/namespaces/films", change)
            changed.append(film["id"])

    writer = asyncio.create_task(write())
    by_columns = stage.answers("columns")
    try:
        for filters in FILTERS * 3:
            wanted = ["And", [["hot", "Eq", False], *([filters] if filters else [])]]
            answer = await count(stage, wanted, "cache")
            cut = ["And", [["_hevlayer_upserted_at", "Lte", answer["watermark_ms"]], wanted]]
            body = {"aggregate_by": {"count": ["Count"]}, "filters": cut, "consistency": {"level": "strong"}}
            truth = await stage.ok("POST", "/v2/namespaces/films/query", body)
            assert answer["count"] == truth["aggregations"]["count"], wanted
    finally:
        stop.set()
        await writer
    assert len(changed) > 5
    assert stage.answers("columns") - by_columns > len(FILTERS)


async def test_columns_of_other_types_are_given_up_and_rows_answer(stage, monkeypatch):
    keeper = stage.gateway.cache.keeps_columns
    build, asked, builds = keeper.build_columns, [], []

    async def of_other_types(namespace, schema, attributes, cancel):
        """The first ones that have the year say that it is unsigned."""
        if asked or "year" not in attributes:
            return await build(namespace, schema, attributes, cancel)
        builds.append(attributes)
        other = FilterSchema(b'{"id":"string","year":"uint","_hevlayer_upserted_at":"int"}')
        return await build(namespace, other, ["_hevlayer_upserted_at", "year"], cancel)

    monkeypatch.setattr(keeper, "build_columns", of_other_types)
    await warmed(stage)
    recent = ["year", "Gte", 1990]
    expected = sum(film["year"] >= 1990 for film in FILMS)

    async def built():
        assert (await count(stage, recent, "cache"))["count"] == expected
        return len(builds) > 0

    await stage.until(built)
    by_columns = stage.answers("columns")
    for source in ("cache", "auto"):
        by_rows = stage.answers("rows")
        answer = await count(stage, recent, source)
        assert (answer["count"], answer["served_by"]) == (expected, "cache")
        # Who has answered is told, not who was asked first.
        assert (stage.answers("columns"), stage.answers("rows")) == (by_columns, by_rows + 1)
    job, found = await results(stage, {"filters": recent, "source": "cache"})
    assert (job["status"], found["total"]) == ("completed", expected)
    body = {"mode": "values", "field": "year"}
    _, found = await results(stage, {**body, "source": "cache"})
    asked.append(True)
    assert found == (await results(stage, {**body, "source": "origin"}))[1]

    async def built_anew():
        assert (await count(stage, recent, "cache"))["count"] == expected
        lines = (await held(stage))[1]
        given_up = float(lines.get('layer_columns_dropped_total{reason="types"}', 0))
        return given_up >= 1 and ["year" in file.columns for file in stage.gateway.columns.files] == [True]

    await stage.until(built_anew)
    dropped = (await held(stage))[1]['layer_columns_dropped_total{reason="types"}']
    assert (await from_columns(stage, {"filters": recent}))["count"] == expected
    assert (await held(stage))[1]['layer_columns_dropped_total{reason="types"}'] == dropped


async def test_rows_whose_time_is_over_are_answered_by_no_column(stages, monkeypatch):
    """Half of the rows are written anew half-way: the columns hold some that are old and some that are not."""
    life_seconds = 86_400
    keys = {"gateway_api_key": "tpuf_stage", "turbopuffer_api_key": "tpuf_origin"}
    stage = await stages(cache_ttl_seconds=life_seconds, **keys)
    rows = [{"id": number, "n": number % 7} for number in range(700)]
    small = ["n", "Lt", 3]
    await stage.write("films", rows)

    async def kept_by_writes():
        # The rows of a write are known once a poll has told the schema of the cache's epoch.
        await stage.write("films", rows[:1])
        if (await stage.cache_state())["state"] == "warm":
            return True
        await stage.warm()
        return False

    await stage.until(kept_by_writes)
    await from_columns(stage, {"filters": small})
    clock, later = stage.gateway.clock, [0]
    now_ms = clock.now_ms
    monkeypatch.setattr(clock, "now_ms", lambda: now_ms() + later[0])
    later[0] = life_seconds * 500
    await stage.write("films", rows[:350])

    async def caught_up():
        return (await from_columns(stage, {"filters": small}))["count"] == 300

    await stage.until(caught_up)
    later[0] = life_seconds * 1_000
    before = stage.answers("columns")
    refused = await stage.call("POST", SCANS, {"mode": "count", "source": "cache", "filters": small})
    assert (refused.status, refused.body["error"]) == (503, "cache_cold")
    answer = await count(stage, small)
    assert (answer["served_by"], answer["count"]) == ("origin", 300)
    _, found = await results(stage, {"mode": "values", "field": "n"})
    assert {each["v"]: each["n"] for each in found["values"]} == {str(n): 100 for n in range(7)}
    assert stage.answers("columns") == before

    async def warm_again():
        await stage.warm()
        answer = await count(stage, small)
        assert answer["count"] == 300
        return answer["served_by"] == "cache"

    await stage.until(warm_again)
    assert (await from_columns(stage, {"filters": small}))["count"] == 300
