"""Scans and result counts that the upstream answers: what they give, and what they ask for it."""

import asyncio
import time
from collections import Counter

import pytest
from work_stage import FILMS

from hevlayer.testing.metrics import samples

SCANS = "/v2/namespaces/films/scans"
COUNT = "/v2/namespaces/films/result-count"
LIVE = {"bounded": False, "timed_out": False, "shards_saturated": 0, "shards_total": 1}
COMEDY = ["genres", "Contains", "Comedy"]
IDS = sorted(film["id"] for film in FILMS)


@pytest.fixture
async def stage(stages):
    """Without a cache no warm is started, whose requests would be counted."""
    return await stages(cache="off")


def comedies():
    return sorted(film["id"] for film in FILMS if "Comedy" in film["genres"])


async def results(stage, body, query="limit=10000"):
    """The ended job of a scan and its results."""
    job = await stage.ok("POST", SCANS, body, status=202)
    done = await stage.done(f"{SCANS}/{job['id']}")
    return done, await stage.ok("GET", f"{SCANS}/{job['id']}/results?{query}")


# --- counts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("filters", "counts"),
    [
        (None, lambda film: True),
        (COMEDY, lambda film: "Comedy" in film["genres"]),
        (
            ["And", [["year", "Gte", 1990], ["Not", COMEDY]]],
            lambda film: film["year"] >= 1990 and "Comedy" not in film["genres"],
        ),
        (["href", "Eq", None], lambda film: film.get("href") is None),
        (["decade", "In", ["1910s", "1920s"]], lambda film: film["decade"] in ("1910s", "1920s")),
        (["title", "Glob", "The *"], lambda film: film["title"].startswith("The ")),
    ],
)
async def test_a_count_is_one_aggregate(stage, filters, counts):
    await stage.films()
    stage.up.clear()
    answer = await stage.ok("POST", SCANS, {"mode": "count", "filters": filters})
    assert answer.pop("elapsed_ms") >= 0
    answer.pop("watermark_ms", None)
    assert answer == {"count": sum(map(counts, FILMS)), "served_by": "origin", **LIVE}
    (query,) = stage.queries()
    assert query["aggregate_by"] == {"count": ["Count"]}
    assert (query.get("filters"), "limit" in query, "rank_by" in query) == (filters, False, False)


async def test_a_count_hides_what_is_stamped_after_the_watermark(stage):
    # The lag stands from the start: one that is set later would take the films out of the index again.
    await stage.index_lag(2_000)
    await stage.films()
    # Nothing is hidden before a watermark is known, and every film while it has not passed their write.
    written_ms = time.time_ns() // 1_000_000
    await stage.until(lambda: has_watermark(stage, written_ms))
    await stage.ok("POST", "/v2/namespaces/films", {"patch_rows": [{"id": IDS[0], "year": 1}]})
    answers = []

    async def hides():
        stage.up.clear()
        answers.append(await stage.ok("POST", SCANS, {"mode": "count", "source": "origin", "filters": YEARS}))
        return [query for query in stage.queries() if query.get("filters") != YEARS]

    await stage.until(hides)
    query = next(query for query in stage.queries() if query.get("filters") != YEARS)
    mine, stamp = query["filters"][1]
    assert (query["filters"][0], mine, stamp[:2]) == ("And", YEARS, ["_hevlayer_upserted_at", "Lte"])
    assert query["consistency"] == {"level": "eventual", "max_staleness_seconds": 1}
    # While the index has the row as it was before, it counts; later it is hidden.
    assert answers[-1]["count"] in (len(FILMS), len(FILMS) - 1)
    assert answers[-1]["watermark_ms"] == stamp[2]


YEARS = ["year", "Gt", 0]


async def has_watermark(stage, written_ms):
    told = (await stage.ok("GET", "/v2/namespaces/films/metadata"))["layer"]["stable_as_of"]
    return told is not None and told >= written_ms


async def test_counts_of_text_are_of_any_token(stage):
    await stage.films()
    title = Counter(word for film in FILMS for word in set(film["title"].lower().split()))
    word = next(word for word, count in title.items() if count > 3 and word.isalpha() and len(word) > 5)
    expected = sum(word in film["title"].lower() for film in FILMS)
    scan = await stage.ok("POST", SCANS, {"mode": "count", "fts": {"field": "title", "query": word}})
    stage.up.clear()
    counted = await stage.ok("POST", COUNT, {"query": {"field": "title", "fts": f"{word} zzzzqq"}})
    (query,) = stage.queries()
    assert query["filters"] == ["title", "ContainsAnyToken", f"{word} zzzzqq"]
    assert counted.pop("elapsed_ms") >= 0
    assert counted == {"count": scan["count"], **LIVE}
    assert 0 < scan["count"] <= expected
    both = {"query": {"field": "title", "fts": word}, "filters": ["year", "Lt", 0]}
    assert (await stage.ok("POST", COUNT, both))["count"] == 0
    for text in ("", "  ", "!?"):
        assert (await stage.ok("POST", COUNT, {"query": {"field": "title", "fts": text}}))["count"] == 0


def within(vector, most):
    return [film for film in FILMS if sum((a - b) ** 2 for a, b in zip(film["vector"], vector, strict=True)) <= most]


async def test_counts_by_distance(stage):
    await stage.films()
    vector, most = [3.5, 2.0, 1.5], 9.0
    expected = len(within(vector, most))
    assert 0 < expected < len(FILMS)
    for mode in ("bounded", "exhaustive"):
        body = {"query": {"vector": vector, "max_distance": most}, "mode": mode}
        answer = await stage.ok("POST", COUNT, body)
        assert (answer["count"], answer["bounded"], answer["approximate"]) == (expected, False, True)
    body = {"query": {"vector": vector, "max_distance": most}, "filters": COMEDY}
    found = [film for film in within(vector, most) if "Comedy" in film["genres"]]
    assert (await stage.ok("POST", COUNT, body))["count"] == len(found)
    scan = {"mode": "count", "ann": {"vector": vector, "radius": most}}
    assert (await stage.ok("POST", SCANS, scan))["count"] == expected


async def test_a_full_page_by_distance_is_saturated_or_split(stage, monkeypatch):
    monkeypatch.setattr("hevlayer.gateway.scan.vector.LEG_ROWS_MAX", 50)
    monkeypatch.setattr("hevlayer.gateway.scan.origin.LEG_ROWS_MAX", 50)
    await stage.films()
    vector, most = [3.5, 2.0, 1.5], 9.0
    body = {"query": {"vector": vector, "max_distance": most}}
    bounded = await stage.ok("POST", COUNT, body)
    assert (bounded["count"], bounded["bounded"], bounded["shards_saturated"]) == (50, True, 1)
    stage.up.clear()
    exact = await stage.ok("POST", COUNT, {**body, "mode": "exhaustive"})
    assert (exact["count"], exact["bounded"], exact["shards_saturated"]) == (len(within(vector, most)), False, 0)
    assert len(stage.queries()) > 3
    # The rows that are found are each found once.
    _, found = await results(stage, {"ann": {"vector": vector, "radius": most}})
    assert found["ids"] == sorted(film["id"] for film in within(vector, most))


async def test_a_count_that_takes_too_long_is_a_lower_bound(stage):
    await stage.films()
    held = asyncio.Event()
    read = stage.gateway.upstream.read

    async def hangs(method, target, bearer, body=b"", **options):
        if b"aggregate_by" in body:
            held.set()
            await asyncio.Event().wait()
        return await read(method, target, bearer, body, **options)

    stage.gateway.upstream.read = hangs
    answer = await stage.ok("POST", SCANS, {"mode": "count", "timeout_seconds": 0.05})
    assert (answer["count"], answer["bounded"], answer["timed_out"]) == (0, True, True)
    assert held.is_set()
    assert stage.gateway.permits.waiting == 0
    stage.gateway.upstream.read = read
    assert (await stage.ok("POST", SCANS, {"mode": "count"}))["count"] == len(FILMS)


# --- ids and values --------------------------------------------------------------------------------------------------


async def test_ids_come_in_pages_and_in_order(stage):
    await stage.films()
    stage.up.clear()
    job = await stage.ok("POST", SCANS, {"filters": COMEDY, "page_size": 20, "threads": 1}, status=202)
    assert (job["mode"], job["source"], job["effective_source"], job["namespace"]) == ("ids", "auto", "origin", "films")
    done = await stage.done(f"{SCANS}/{job['id']}")
    assert (done["status"], done["progress"], done["documents_scanned"]) == ("completed", 1.0, len(comedies()))
    found = await stage.ok("GET", f"{SCANS}/{job['id']}/results?limit=10000")
    assert found == {"ids": comedies(), "total": len(comedies()), "id_type": "string"}
    pages = stage.queries()
    assert len(pages) == len(comedies()) // 20 + 1
    assert all((page["rank_by"], page["limit"]) == (["id", "asc"], 20) for page in pages)
    assert pages[1]["filters"] == ["And", [COMEDY, ["id", "Gt", comedies()[19]]]]
    assert all("include_attributes" not in page for page in pages)
    assert [each["id"] for each in (await stage.ok("GET", SCANS))["scans"]] == [job["id"]]


@pytest.mark.parametrize("threads", [1, 2, 4, 64])
@pytest.mark.parametrize("page_size", [7, 333])
async def test_several_readers_find_each_id_once(stage, threads, page_size):
    await stage.films()
    done, found = await results(stage, {"threads": threads, "page_size": page_size, "source": "origin"})
    assert (done["status"], done["effective_source"], found["total"]) == ("completed", "origin", len(IDS))
    assert found["ids"] == IDS


@pytest.mark.parametrize(
    ("id_type", "ids"),
    [
        ("uint", [0, 1, 9, 10, 2**53 + 1, 2**64 - 1, *range(100, 160)]),
        ("uuid", [f"0f8fad5b-d9cb-469f-a165-{number:012x}" for number in (1, 2, 2**40, *range(30, 80))]),
        ("string", ["", "10", "9", "a", "ç", "日", "😀", *(f"k{number}" for number in range(50))][1:]),
    ],
)
async def test_ids_of_every_type(stage, id_type, ids):
    await stage.write("films", [{"id": each, "n": 1} for each in ids], schema={"id": id_type})
    _, found = await results(stage, {"page_size": 6})
    assert found == {"ids": list(map(str, sorted(ids))), "total": len(ids), "id_type": id_type}


async def test_results_come_in_slices(stage):
    await stage.films()
    job, found = await results(stage, {"page_size": 90}, "limit=100&offset=850")
    assert found["ids"] == IDS[850:950]
    path = f"{SCANS}/{job['id']}/results"
    assert (await stage.ok("GET", f"{path}?offset=999"))["ids"] == IDS[999:]
    assert (await stage.ok("GET", f"{path}?offset=1000"))["ids"] == []
    assert (await stage.ok("GET", f"{path}?offset=999999999999"))["ids"] == []
    assert (await stage.ok("GET", path))["ids"] == IDS[:1000]
    for query in ("limit=0", "limit=10001", "limit=x", "limit=-1", "offset=-1", "offset=1.5", "offset=9999999999999"):
        answer = await stage.call("GET", f"{path}?{query}")
        assert answer.status == 422
        assert query.partition("=")[0] in answer.body["message"]


@pytest.mark.parametrize("field", ["decade", "year", "genres", "href"])
async def test_values_are_one_aggregate(stage, field):
    await stage.films()
    stage.up.clear()
    done, found = await results(stage, {"mode": "values", "field": field, "filters": ["year", "Gte", 1930]})
    expected = Counter()
    for film in FILMS:
        held = film.get(field)
        if film["year"] >= 1930 and held is not None:
            expected.update({str(each) for each in held} if isinstance(held, list) else [str(held)])
    told = sorted(expected.items(), key=lambda each: (-each[1], each[0]))
    assert found["values"] == [{"v": value, "n": count} for value, count in told]
    assert (found["total"], found["truncated"]) == (len(expected), False)
    assert found["type"] == ("int" if field == "year" else "string")
    assert (done["mode"], done["field"], done["unique_values"]) == ("values", field, len(expected))
    (query,) = stage.queries()
    assert query["group_by"] == ([{"value": ["ForEachUnique", field]}] if field == "genres" else [field])
    assert query["filters"] == ["year", "Gte", 1930]


async def test_values_near_a_vector(stage):
    await stage.films()
    near = within([3.5, 2.0, 1.5], 9.0)
    body = {"mode": "values", "field": "genres", "ann": {"vector": [3.5, 2.0, 1.5], "radius": 9.0}}
    done, found = await results(stage, body)
    expected = Counter(genre for film in near for genre in set(film["genres"]))
    assert {each["v"]: each["n"] for each in found["values"]} == expected
    assert done["approximate"] is True


async def test_ids_of_a_text(stage):
    await stage.films()
    _, found = await results(stage, {"fts": {"field": "title", "query": "man"}, "page_size": 5})
    count = await stage.ok("POST", SCANS, {"mode": "count", "fts": {"field": "title", "query": "man"}})
    assert found["total"] == count["count"] == len(set(found["ids"]))
    titles = {film["id"]: film["title"].lower() for film in FILMS}
    assert found["ids"]
    assert all("man" in titles[each] or "men" in titles[each] for each in found["ids"])


# --- jobs ------------------------------------------------------------------------------------------------------------


async def test_a_scan_that_runs_has_no_results_yet_and_can_be_stopped(stage):
    await stage.films()
    read = stage.gateway.upstream.read
    pages = 0
    reached = asyncio.Event()

    async def hangs_later(method, target, bearer, body=b"", **options):
        nonlocal pages
        if b'"rank_by":["id","asc"]' in body:
            pages += 1
            if pages > 2:
                reached.set()
                await asyncio.Event().wait()
        return await read(method, target, bearer, body, **options)

    stage.gateway.upstream.read = hangs_later
    job = await stage.ok("POST", SCANS, {"page_size": 10}, status=202)
    await reached.wait()
    path = f"{SCANS}/{job['id']}"
    running = await stage.ok("GET", path)
    assert running["status"] == "running"
    assert running["documents_scanned"] > 0
    early = await stage.call("GET", f"{path}/results")
    assert (early.status, early.body["error"]) == (409, "conflict")
    assert (await stage.ok("DELETE", path))["status"] == "OK"
    assert (await stage.call("GET", path)).status == 404
    assert (await stage.call("GET", f"{path}/results")).status == 404
    assert (await stage.call("DELETE", path)).status == 404
    assert not stored(stage)


def stored(stage):
    folder = stage.gateway.data_dir / "objects" / "scans"
    return [path for path in folder.rglob("*") if path.is_file()] if folder.exists() else []


async def test_results_go_with_their_job(stages):
    stage = await stages(job_ttl_seconds=1.0)
    await stage.films()
    job, _ = await results(stage, {"page_size": 100})
    assert len(stored(stage)) > 10
    other, _ = await results(stage, {"mode": "values", "field": "decade"})
    await stage.ok("DELETE", f"{SCANS}/{job['id']}")
    assert len(stored(stage)) == 2
    await asyncio.sleep(1.05)
    stage.gateway.jobs._swept_at = -1e9
    await stage.gateway.jobs.tick()
    assert not stored(stage)
    assert (await stage.call("GET", f"{SCANS}/{other['id']}")).status == 404


async def test_jobs_of_another_namespace_are_not_there(stage):
    await stage.films()
    await stage.films("other")
    job, _ = await results(stage, {})
    for path in (f"/v2/namespaces/other/scans/{job['id']}", f"/v2/namespaces/other/scans/{job['id']}/results"):
        assert (await stage.call("GET", path)).status == 404
    assert (await stage.ok("GET", "/v2/namespaces/other/scans"))["scans"] == []
    # Nor are jobs of another kind.
    assert (await stage.call("GET", f"/v2/namespaces/films/warm-jobs/{job['id']}")).status == 404


async def test_another_bearer_does_not_see_them(stage):
    await stage.films()
    job, _ = await results(stage, {})
    answer = await stage.call("GET", f"{SCANS}/{job['id']}", headers=((b"authorization", b"Bearer tpuf_other"),))
    assert answer.status == 404


async def test_a_namespace_that_does_not_exist_is_the_upstreams_404(stage):
    for body in ({}, {"mode": "count"}, {"mode": "values", "field": "x"}):
        answer = await stage.call("POST", "/v2/namespaces/none/scans", body)
        assert answer.status == 404
    answer = await stage.call("POST", "/v2/namespaces/none/result-count", {"query": {"field": "t", "fts": "x"}})
    assert answer.status == 404


async def test_an_upstream_that_fails_later_fails_the_job(stage, monkeypatch):
    monkeypatch.setattr("hevlayer.gateway.reads.upstream.READ_ATTEMPTS_MAX", 1)
    await stage.films()
    read = stage.gateway.upstream.read
    pages = 0

    async def fails_later(method, target, bearer, body=b"", **options):
        nonlocal pages
        if b'"rank_by":["id","asc"]' in body:
            pages += 1
            if pages > 3:
                return 503, b'{"status":"error","error":"out of order"}'
        return await read(method, target, bearer, body, **options)

    stage.gateway.upstream.read = fails_later
    job = await stage.ok("POST", SCANS, {"page_size": 100, "threads": 1}, status=202)
    done = await stage.done(f"{SCANS}/{job['id']}")
    assert (done["status"], done["error"]) == ("failed", "the upstream answered 503: out of order")
    answer = await stage.call("GET", f"{SCANS}/{job['id']}/results")
    assert (answer.status, "out of order" in answer.body["message"]) == (409, True)


async def test_rows_written_during_a_scan_leave_the_others_found_once(stage):
    await stage.films()
    stop = asyncio.Event()

    async def write():
        number = 0
        while not stop.is_set():
            number += 1
            await stage.write("films", [{"id": f"new-{number:05}", "year": 1, "vector": [1, 2, 3]}])
            await stage.ok("POST", "/v2/namespaces/films", {"deletes": [f"new-{number - 5:05}"]})

    writer = asyncio.create_task(write())
    try:
        for _ in range(3):
            _, found = await results(stage, {"page_size": 25})
            assert len(set(found["ids"])) == len(found["ids"])
            assert set(IDS) <= set(found["ids"])
    finally:
        stop.set()
        await writer


async def test_scans_are_measured(stage):
    await stage.films()
    await stage.ok("POST", SCANS, {"mode": "count"})
    await results(stage, {})
    await stage.call("POST", SCANS, {"mode": "count", "filters": ["nope", "Eq", 1]})
    text = (await stage.call("GET", "/metrics")).body.decode()
    served = {"namespace": "films", "selector": "filter", "served_by": "origin", "status": "ok"}
    for labels in ({**served, "mode": "count"}, {**served, "mode": "ids"}, {"status": "validation_error"}):
        assert samples(text, "hevlayer_scan_total", **labels) == [1]


# --- what is refused -------------------------------------------------------------------------------------------------


REFUSED_SCANS = [
    ({"filters": ["year", "Near", 1]}, 422, "filters[1]"),
    ({"filters": ["And", [["year", "Eq", 1], ["year"]]]}, 422, "filters[1][1]"),
    ({"filters": ["year", "In", [1, [2]]]}, 422, "filters[2][1]"),
    ({"filters": ["year", "In", list(range(100_000))]}, 422, "filters[2]"),
    ({"filters": "year"}, 422, "filters"),
    ({"filters": []}, 422, "filters"),
    ({"filters": ["title", "Glob", "*" * 5_000]}, 422, "4096 bytes"),
    ({"filters": ["Or", [["title", "Regex", "a"]] * 200]}, 422, "at most 100 patterns"),
    ({"filters": ["year", "Eq", "x"], "mode": "count"}, 422, "year"),
    ({"filters": ["nope", "Eq", 1], "mode": "count"}, 422, "nope"),
    ({"filters": ["nope", "Eq", 1]}, 422, "nope"),
    ({"mode": "sum"}, 422, "mode"),
    ({"source": "disk"}, 422, "source"),
    ({"source": "snapshot"}, 422, "source"),
    ({"source": "snapshot", "mode": "count"}, 412, "snapshot"),
    ({"source": "snapshot", "mode": "values", "field": "year"}, 412, "snapshot"),
    ({"mode": "values"}, 422, "field"),
    ({"mode": "values", "field": "nope"}, 422, "nope"),
    ({"mode": "values", "field": "vector"}, 422, "vector"),
    ({"mode": "values", "field": ""}, 422, "field"),
    ({"field": "year"}, 422, "field"),
    ({"page_size": 0}, 422, "page_size"),
    ({"page_size": 10_001}, 422, "page_size"),
    ({"page_size": 1e300}, 422, "page_size"),
    ({"page_size": True}, 422, "page_size"),
    ({"threads": 0}, 422, "threads"),
    ({"threads": 65}, 422, "threads"),
    ({"timeout_seconds": 0}, 422, "timeout_seconds"),
    ({"timeout_seconds": 301}, 422, "timeout_seconds"),
    ({"timeout_seconds": -1}, 422, "timeout_seconds"),
    ({"timeout_seconds": "30"}, 422, "timeout_seconds"),
    ({"exhaustive": 1}, 422, "exhaustive"),
    ({"fts": {"field": "title"}}, 422, "fts.query"),
    ({"fts": "x"}, 422, "fts"),
    ({"fts": {"field": "title", "query": "x"}, "ann": {"vector": [1], "radius": 1}}, 422, "fts, ann"),
    ({"ann": {"vector": [], "radius": 1}}, 422, "ann.vector"),
    ({"ann": {"vector": [1, "x"], "radius": 1}}, 422, "ann.vector[1]"),
    ({"ann": {"vector": [1, 2, 3]}}, 422, "ann.radius"),
    ({"ann": {"vector": [1, 2], "radius": 1}, "mode": "count"}, 422, "dimension"),
    ({"fts": {"field": "year", "query": "x"}, "mode": "count"}, 422, "year"),
    ({"as_of": 1}, 422, "as_of"),
    ({"between": [1, 2]}, 422, "between"),
    ({"hybrid_text": {"field": "title", "query": "x"}}, 422, "hybrid_text"),
    ({"surprise": 1}, 422, "surprise"),
    ({"filters": ["year", "Eq", 1], "Filters": 1}, 422, "Filters"),
]


async def test_what_cannot_be_is_refused_with_its_place(stage):
    await stage.films()
    for body, status, told in REFUSED_SCANS:
        answer = await stage.call("POST", SCANS, body)
        assert answer.status == status, (body, answer)
        assert told in answer.body["message"], (body, answer)
    assert (await stage.ok("GET", SCANS))["scans"] == []
    assert not stored(stage)


async def test_a_deeply_nested_filter_is_refused(stage):
    await stage.films()
    for levels in (49, 127, 10_000, 1_000_000):
        filters = b'["Not",' * levels + b'["year","Eq",1]' + b"]" * levels
        answer = await stage.call("POST", SCANS, b'{"mode":"count","filters":' + filters + b"}")
        assert answer.status == 422
        assert "nested deeper" in answer.body["message"]


async def test_a_body_that_is_no_object_is_refused(stage):
    await stage.films()
    for text in (b"[]", b"{", b"1", b'{"mode":}', b"\xff", b'{"mode":"count","mode":"ids"}'):
        answer = await stage.call("POST", SCANS, text)
        assert answer.status in (400, 422)


REFUSED_COUNTS = [
    ({}, "query"),
    ({"query": []}, "query"),
    ({"query": {}}, "query"),
    ({"query": {"fts": "x"}}, "query.field"),
    ({"query": {"field": "title", "fts": 1}}, "query.fts"),
    ({"query": {"field": "title", "fts": "x" * 9_000}}, "query.fts"),
    ({"query": {"vector": [1, 2, 3]}}, "query.max_distance"),
    ({"query": {"vector": [1, 2, 3], "max_distance": -1}}, "query.max_distance"),
    ({"query": {"vector": [1, 2, 3], "max_distance": "1"}}, "query.max_distance"),
    ({"query": {"vector": [1] * 20_000, "max_distance": 1}}, "query.vector"),
    ({"query": {"vector": [1, 2, 3], "fts": "x", "max_distance": 1}}, "either"),
    ({"query": {"field": "title", "fts": "x", "max_distance": 1}}, "query.max_distance"),
    ({"query": {"field": "title", "fts": "x", "top_k": 1}}, "query.top_k"),
    ({"query": {"field": "title", "fts": "x"}, "mode": "ids"}, "mode"),
    ({"query": {"field": "title", "fts": "x"}, "timeout_seconds": 301}, "timeout_seconds"),
    ({"query": {"field": "title", "fts": "x"}, "filters": ["a", "B", 1]}, "filters[1]"),
    ({"query": {"field": "title", "fts": "x"}, "source": "cache"}, "source"),
]


async def test_a_result_count_that_cannot_be_is_refused(stage):
    await stage.films()
    for body, told in REFUSED_COUNTS:
        answer = await stage.call("POST", COUNT, body)
        assert answer.status == 422, (body, answer)
        assert told in answer.body["message"], (body, answer)
