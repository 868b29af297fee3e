"""Scans that the document cache answers: only when it has every row, without a request upstream, and as the upstream
would at the same cut."""

import asyncio
import random
from collections import Counter
from functools import partial

import pytest
from work_stage import BEARER, FILMS

from hevlayer.errors import CacheUnavailableError
from hevlayer.gateway import adapters
from hevlayer.gateway.warm import warmer
from hevlayer.stores.doccache_aerospike import AerospikeEngine
from hevlayer.testing.aerospike_stand_in import StandIn
from hevlayer.testing.aerospike_wire import INTEGER
from hevlayer.testing.metrics import samples

SCANS = "/v2/namespaces/films/scans"
COMEDY = ["genres", "Contains", "Comedy"]
IDS = sorted(film["id"] for film in FILMS)
STAMP = "_hevlayer_upserted_at"
FILTERS = [
    None,
    COMEDY,
    ["year", "Gte", 1990],
    ["And", [["decade", "Eq", "1990s"], ["Not", COMEDY]]],
    ["Or", [["href", "Eq", None], ["thumbnail_width", "Lt", 200]]],
    ["decade", "In", ["1910s", "1920s", "1910s"]],
    ["title", "IGlob", "*the*"],
    ["cast", "Contains", "nobody at all"],
    ["id", "Gt", IDS[700]],
    ["And", []],
    ["Or", []],
]


@pytest.fixture(params=["embedded", "aerospike"])
async def stage(request, stages, monkeypatch):
    if request.param == "embedded":
        yield await stages()
        return
    # Gateways of one machine have one clock, and a server that they meet first need not keep quiet for it.
    monkeypatch.setattr(adapters, "AerospikeEngine", partial(AerospikeEngine, clock_skew_seconds=0.0))
    server = StandIn()
    await server.start()
    made = await stages(
        aerospike_hosts=server.address,
        aerospike_namespace="test",
        gateway_api_key=BEARER[1].decode().removeprefix("Bearer "),
        turbopuffer_api_key="tpuf_upstream",
        unknown_write_seconds=0.5,
        cache_timeout_ms=2_000,
    )
    made.servers = [server]
    yield made
    await stages.close()
    await server.stop()


async def count(stage, filters=None, source="auto", **more):
    return await stage.ok("POST", SCANS, {"mode": "count", "source": source, "filters": filters, **more})


async def results(stage, body):
    job = await stage.ok("POST", SCANS, body, status=202)
    done = await stage.done(f"{SCANS}/{job['id']}")
    return done, await stage.ok("GET", f"{SCANS}/{job['id']}/results?limit=10000")


async def warmed(stage, rows=None):
    await stage.films(rows=rows)
    assert (await stage.warm())["status"] == "completed"

    async def caught_up():
        return (await count(stage))["served_by"] == "cache" and (await count(stage))["count"] == len(rows or FILMS)

    # Stamps of the last millisecond are above the watermark until the next poll.
    await stage.until(caught_up)
    stage.up.clear()


async def test_a_warm_namespace_is_counted_without_a_request_upstream(stage):
    await warmed(stage)
    for filters in FILTERS:
        stage.up.clear()
        answer = await count(stage, filters)
        assert stage.queries() == []
        assert answer["served_by"] == "cache"
        assert (answer["bounded"], answer["timed_out"], answer["threads"]) == (False, False, 2)
        at_origin = await count(stage, filters, "origin")
        assert at_origin["served_by"] == "origin"
        assert answer["count"] == at_origin["count"], filters
        assert answer["count"] == (await count(stage, filters, "cache", threads=3))["count"]


@pytest.mark.parametrize("stage", ["embedded"], indirect=True)
async def test_rows_that_were_written_around_the_gateway_are_counted(stage):
    """They have no stamp, and neither has the schema."""
    rows = [{"id": film["id"], "decade": film["decade"]} for film in FILMS]
    await stage.around("POST", "/v2/namespaces/films", {"upsert_rows": rows})
    assert (await stage.warm())["status"] == "completed"

    async def is_stable():
        return (await stage.ok("GET", "/v2/namespaces/films/metadata"))["layer"]["is_stable"]

    await stage.until(is_stable)
    nineties = sum(row["decade"] == "1990s" for row in rows)
    for filters, expected in ((None, len(rows)), (["decade", "Eq", "1990s"], nineties)):
        answer = await count(stage, filters)
        assert (answer["served_by"], answer["count"]) == ("cache", expected)
    _, found = await results(stage, {"mode": "ids"})
    assert found["total"] == len(rows)
    refused = await stage.call("POST", SCANS, {"mode": "count", "filters": [STAMP, "Gt", 0], "source": "cache"})
    assert refused.status == 422
    # One stamped row more: the schema that was read before does not know the stamp yet.
    await stage.write("films", [{"id": "new", "decade": "1990s"}])

    async def is_counted():
        return (await count(stage, ["decade", "Eq", "1990s"], "origin"))["count"] == nineties + 1

    await stage.until(is_counted)
    assert (await count(stage, ["decade", "Eq", "1990s"]))["count"] == nineties + 1


async def test_ids_and_values_come_from_the_cache(stage):
    await warmed(stage)
    for filters in FILTERS:
        stage.up.clear()
        done, found = await results(stage, {"filters": filters})
        assert (done["effective_source"], done["source"], stage.queries()) == ("cache", "auto", [])
        assert done["documents_scanned"] == found["total"]
        _, expected = await results(stage, {"filters": filters, "source": "origin"})
        assert found == expected
    for field in ("decade", "year", "genres", "href", "title"):
        stage.up.clear()
        body = {"mode": "values", "field": field, "filters": ["year", "Gte", 1930]}
        done, found = await results(stage, body)
        assert (done["effective_source"], stage.queries()) == ("cache", [])
        _, expected = await results(stage, {**body, "source": "origin"})
        assert found == expected


async def test_a_cold_namespace_is_asked_upstream_and_warmed_once(stage):
    await stage.films()
    assert (await count(stage))["served_by"] == "origin"

    async def is_warm():
        return (await stage.cache_state())["state"] == "warm"

    await stage.until(is_warm)
    jobs = (await stage.ok("GET", "/v2/namespaces/films/warm-jobs"))["warm_jobs"]
    assert [job["status"] for job in jobs] == ["completed"]
    assert (await count(stage))["served_by"] == "cache"


async def test_the_cache_that_was_asked_for_and_cannot(stages):
    stage = await stages(warm_rows_max=500)
    await stage.write("films", [{"id": number, "year": number} for number in range(10_001)])
    for body in ({"mode": "count"}, {}, {"mode": "values", "field": "year"}):
        answer = await stage.call("POST", SCANS, {"source": "cache", **body})
        assert (answer.status, answer.body["error"], answer.body["cache_state"]) == (503, "cache_cold", "cold")
    # A namespace of so many rows is not warmed unless it is asked for.
    assert (await count(stage))["served_by"] == "origin"
    assert (await stage.ok("GET", "/v2/namespaces/films/warm-jobs"))["warm_jobs"] == []
    off = await stages(cache="off")
    await off.films()
    assert (await off.call("POST", SCANS, {"source": "cache", "mode": "count"})).status == 503
    assert (await count(off))["served_by"] == "origin"


async def test_what_needs_a_text_index_goes_upstream(stage):
    await warmed(stage)
    text = ["title", "ContainsAllTokens", "man"]
    answer = await count(stage, text)
    assert (answer["served_by"], answer["count"] > 0) == ("origin", True)
    assert (await count(stage, ["Not", text]))["served_by"] == "origin"
    refused = await stage.call("POST", SCANS, {"mode": "count", "source": "cache", "filters": ["And", [COMEDY, text]]})
    assert refused.status == 422
    assert "filters[1][1]" in refused.body["message"]
    for selector in ({"fts": {"field": "title", "query": "man"}}, {"ann": {"vector": [1, 2, 3], "radius": 1}}):
        assert (await stage.ok("POST", SCANS, {"mode": "count", **selector}))["served_by"] == "origin"
        assert (await stage.call("POST", SCANS, {"mode": "count", "source": "cache", **selector})).status == 422


async def test_filters_that_are_wrong_are_refused_by_either(stage):
    await warmed(stage)
    for filters in (["nope", "Eq", 1], ["year", "Eq", "x"], ["year", "Glob", "1*"], ["extract", "Eq", "x"]):
        for source in ("auto", "cache", "origin"):
            answer = await stage.call("POST", SCANS, {"mode": "count", "source": source, "filters": filters})
            assert answer.status == 422, (filters, source, answer)


async def test_a_new_attribute_is_known_at_once(stage):
    await warmed(stage)
    await stage.ok("POST", "/v2/namespaces/films", {"patch_rows": [{"id": IDS[0], "brand_new": 7}]})

    async def seen():
        return (await count(stage, ["brand_new", "Eq", 7]))["count"] == 1

    await stage.until(seen)


async def test_writes_are_counted_once_the_watermark_has_passed_them(stage):
    await warmed(stage)
    await stage.write("films", [{"id": f"new-{number}", "year": 3000, "vector": [1, 2, 3]} for number in range(5)])
    await stage.ok("POST", "/v2/namespaces/films", {"deletes": IDS[:3]})

    async def agrees():
        answer = await count(stage, ["year", "Gt", 0])
        return answer["served_by"] == "cache" and answer["count"] == len(FILMS) + 5 - 3

    await stage.until(agrees)
    assert (await count(stage, ["year", "Eq", 3000]))["count"] == 5


async def test_a_row_that_is_lost_makes_it_the_upstreams_again(stage):
    await warmed(stage)
    # Its value is not known in the form in which the upstream stores it.
    await stage.write("films", [{"id": IDS[0], "year": 1, "when": "2024-03-02", "vector": [1, 2, 3]}])
    answer = await count(stage)
    if answer["served_by"] == "cache":
        assert answer["count"] in (len(FILMS), len(FILMS) - 1)
    await stage.ok("POST", "/v2/namespaces/films", {"delete_by_filter": ["year", "Gt", 1990]})
    assert (await count(stage))["served_by"] == "origin"


async def test_a_cache_that_fails_is_no_failure_of_a_scan(stage, monkeypatch):
    await warmed(stage)

    async def fails(*arguments, **options):
        raise CacheUnavailableError("the disk is gone")

    monkeypatch.setattr(stage.gateway.cache._engine, "scan", fails)
    monkeypatch.setattr(stage.gateway.cache._engine, "columns", fails, raising=False)
    assert (await count(stage))["served_by"] == "origin"
    assert (await stage.call("POST", SCANS, {"mode": "count", "source": "cache"})).status == 503


async def test_rows_that_cannot_be_read_are_counted_upstream(stages):
    # Columns would answer in their place.
    stage = await stages(columns_bytes_max=0)
    await warmed(stage)
    for path in (stage.gateway.data_dir / "cache").rglob("*"):
        if path.suffix == ".seg":
            content = bytearray(path.read_bytes())
            for at in range(4_096, len(content), 4_096):
                content[at] ^= 0xFF
            with path.open("r+b") as file:
                file.write(content)
    answer = await count(stage)
    assert (answer["served_by"], answer["count"]) == ("origin", len(FILMS))
    assert (await stage.call("POST", SCANS, {"mode": "count", "source": "cache"})).status == 503
    done, found = await results(stage, {"filters": COMEDY})
    assert (done["effective_source"], found["total"]) == ("origin", sum("Comedy" in film["genres"] for film in FILMS))


async def test_a_deleted_namespace_is_not_counted(stage):
    await warmed(stage)
    await stage.ok("DELETE", "/v2/namespaces/films")
    for source in ("auto", "cache"):
        assert (await stage.call("POST", SCANS, {"mode": "count", "source": source})).status in (404, 503)
    await stage.films(rows=FILMS[:10])
    assert (await count(stage))["count"] == 10


async def test_scans_of_the_cache_are_measured(stage):
    await warmed(stage)
    await results(stage, {})
    text = (await stage.call("GET", "/metrics")).body.decode()
    for mode in ("count", "ids"):
        labels = {"namespace": "films", "mode": mode, "selector": "filter", "served_by": "cache", "status": "ok"}
        assert samples(text, "hevlayer_scan_total", **labels)


@pytest.mark.parametrize(("seed", "columns"), [(0, True), (1, True), (2, True), (3, False)])
async def test_cache_and_origin_agree_at_the_same_cut_under_writes(stages, seed, columns):
    """Rows with `hot` change all the time and are left out; all others only come to be, and are never changed."""
    # With a key of its own the gateway keeps the rows of acknowledged writes.
    keys = {"gateway_api_key": "tpuf_stage", "turbopuffer_api_key": "tpuf_origin"}
    stage = await stages(**keys) if columns else await stages(**keys, columns_bytes_max=0)
    dice = random.Random(seed)
    rows = [
        {"id": number, "hot": number % 3 == 0, "n": number % 7, "tags": [f"t{number % 5}"]} for number in range(900)
    ]
    await stage.write("films", rows, schema={"id": "uint"})

    async def kept_by_writes():
        # The rows of a write are known once a poll has told the schema of the cache's epoch.
        await stage.write("films", [{"id": 0, "hot": True, "n": 1, "tags": ["t0"]}])
        if (await stage.cache_state())["state"] == "warm":
            return True
        await stage.warm()
        return False

    await stage.until(kept_by_writes)

    async def answered_by_columns():
        before = stage.answers("columns")
        for wanted in (["n", "Lt", 4], ["tags", "Contains", "t1"], ["hot", "Eq", False]):
            await count(stage, wanted, "cache")
        return stage.answers("columns") == before + 3

    if columns:
        await stage.until(answered_by_columns)
    stop = asyncio.Event()
    added = Counter()

    async def write():
        number = 1_000
        while not stop.is_set():
            fresh = [{"id": number + each, "hot": False, "n": dice.randrange(7), "tags": ["t1"]} for each in range(3)]
            number += 3
            added.update(n=3)
            await stage.write("films", fresh)
            hot = 3 * dice.randrange(300)
            change = dice.choice(
                [
                    {"patch_rows": [{"id": hot, "n": dice.randrange(7)}]},
                    {"upsert_rows": [{"id": hot, "hot": True, "n": 1}]},
                    {"deletes": [hot]},
                ]
            )
            await stage.ok("POST", "/v2/namespaces/films", change)

    writer = asyncio.create_task(write())
    compared = 0
    try:
        while compared < 25 or added["n"] <= 10:
            wanted = ["And", [["hot", "Eq", False], dice.choice([["n", "Lt", 4], ["tags", "Contains", "t1"]])]]
            answer = await count(stage, wanted, "cache")
            cut = ["And", [[STAMP, "Lte", answer["watermark_ms"]], wanted]]
            body = {"aggregate_by": {"count": ["Count"]}, "filters": cut, "consistency": {"level": "strong"}}
            truth = await stage.ok("POST", "/v2/namespaces/films/query", body)
            assert answer["count"] == truth["aggregations"]["count"], cut
            compared += 1
    finally:
        stop.set()
        await writer
    assert (stage.answers("columns") > 25) == columns

    # And when nothing is written any more, of everything.
    async def agrees():
        ours, theirs = await count(stage, None, "cache"), await count(stage, None, "origin")
        return ours["count"] == theirs["count"]

    await stage.until(agrees)
    _, ours = await results(stage, {"source": "cache"})
    _, theirs = await results(stage, {"source": "origin"})
    assert ours == theirs


@pytest.mark.parametrize("stage", ["aerospike"], indirect=True)
async def test_a_hole_that_a_dead_gateway_only_counted_costs_one_warm(stage, monkeypatch):
    await warmed(stage)
    [server] = stage.servers
    for counts in [each for each in server.records.values() if b"r" in each.bins]:
        counts.bins[b"h"] = (INTEGER, (1).to_bytes(8))
    assert (await stage.call("POST", SCANS, {"mode": "count", "source": "cache"})).status == 503
    with monkeypatch.context() as shorter:
        shorter.setattr(warmer, "WAIT_MARGIN_SECONDS", 2 * warmer.CLOSED_POLL_SECONDS)
        failed = await stage.warm()
    assert failed["status"] == "failed"
    assert "begun anew" in str(failed["error"])
    again = await stage.warm()
    assert again["status"] == "completed", again
    assert (await count(stage, source="cache"))["count"] == len(FILMS)


@pytest.mark.parametrize("stage", ["aerospike"], indirect=True)
async def test_a_scan_that_does_not_stand_still_agrees_with_the_origin_at_its_cut(stage):
    """As above, where each row is read at a moment of its own; while a row may be missing the origin answers."""
    dice = random.Random(5)
    rows = [{"id": number, "hot": number % 3 == 0, "n": number % 7} for number in range(900)]
    await stage.write("films", rows, schema={"id": "uint"})

    async def kept_by_writes():
        await stage.write("films", [{"id": 0, "hot": True, "n": 1}])
        if (await stage.cache_state())["state"] == "warm":
            return True
        await stage.warm()
        return False

    await stage.until(kept_by_writes)
    stop = asyncio.Event()

    async def write():
        number = 1_000
        while not stop.is_set():
            await stage.write(
                "films", [{"id": number + each, "hot": False, "n": dice.randrange(7)} for each in range(3)]
            )
            number += 3
            hot = 3 * dice.randrange(300)
            change = dice.choice([{"upsert_rows": [{"id": hot, "hot": True, "n": 1}]}, {"deletes": [hot]}])
            await stage.ok("POST", "/v2/namespaces/films", change)

    writer = asyncio.create_task(write())
    served = Counter()
    try:
        while served["cache"] < 10:
            wanted = ["And", [["hot", "Eq", False], ["n", "Lt", dice.randrange(1, 7)]]]
            answer = await count(stage, wanted)
            served[answer["served_by"]] += 1
            if answer["served_by"] != "cache":
                # Once everything is indexed, the origin counts rows that were written since, too.
                assert served["origin"] < 500
                continue
            cut = ["And", [[STAMP, "Lte", answer["watermark_ms"]], wanted]]
            body = {"aggregate_by": {"count": ["Count"]}, "filters": cut, "consistency": {"level": "strong"}}
            truth = await stage.ok("POST", "/v2/namespaces/films/query", body)
            assert answer["count"] == truth["aggregations"]["count"], (answer, cut)
    finally:
        stop.set()
        await writer
