"""Warms: every row comes into the cache, and only then is it called warm."""

import asyncio
from urllib.parse import quote

import orjson
import pytest
from work_stage import FILMS

from hevlayer.errors import UpstreamError, ValidationError
from hevlayer.gateway.fetch import CacheOwners
from hevlayer.gateway.reads import Span
from hevlayer.gateway.warm.hint import read_steps, upstream_target
from hevlayer.gateway.warm.pages import PAGE_BYTES_TARGET, PageSizer, id_of_key, json_of_key, page_body
from hevlayer.kernels.splice import id_key
from hevlayer.stores.doccache import DocumentCache
from hevlayer.stores.turbopuffer import AnswerTooLongError

WARM = "/v2/namespaces/films/warm"
SHARE_BYTES = 1 << 20


async def test_a_warm_puts_every_row(stage):
    await stage.films()
    assert (await stage.cache_state())["state"] == "cold"
    started = await stage.call("POST", WARM)
    assert started.status == 202
    job = started.body
    assert (job["namespace"], job["status"], job["progress"], job["documents_scanned"]) == ("films", "running", 0.0, 0)
    done = await stage.done(f"{WARM}-jobs/{job['id']}")
    assert (done["status"], done["progress"], done["documents_scanned"]) == ("completed", 1.0, len(FILMS))
    assert done["completed_at"] >= done["created_at"]
    state = await stage.cache_state()
    assert (state["state"], state["warm_inflight"]) == ("warm", False)
    assert state["warmed_through_ms"] >= done["stable_as_of"]
    stage.up.clear()
    for film in FILMS[::50]:
        answer = await stage.call("GET", f"/v2/namespaces/films/documents/{film['id']}")
        assert answer.headers[b"x-layer-cache"] == b"hit"
        # An empty array of a type that is not known yet is no value upstream.
        wanted = {name: value for name, value in film.items() if name not in ("id", "vector") and value != []}
        held = {name: value for name, value in answer.body["attributes"].items() if value != []}
        assert held == wanted
    assert stage.queries() == []


async def test_pages_go_by_id_strongly_consistent(stage):
    await stage.films()
    job = await stage.ok("POST", f"{WARM}?page_size=100", status=202)
    await stage.done(f"{WARM}-jobs/{job['id']}")
    pages = [query for query in stage.queries() if query.get("include_attributes") is True]
    assert len(pages) >= 10
    for page in pages:
        assert (page["rank_by"], page["limit"]) == (["id", "asc"], 100)
        assert page["consistency"] == {"level": "strong"}
    assert "filters" not in pages[0]
    assert all("id" in str(page["filters"]) for page in pages[1:])


async def test_one_warm_at_a_time_and_none_while_complete(stage):
    await stage.films()
    first, second = await asyncio.gather(
        stage.ok("POST", f"{WARM}?page_size=10", status=202), stage.ok("POST", f"{WARM}?page_size=10", status=202)
    )
    assert first["id"] == second["id"]
    await stage.done(f"{WARM}-jobs/{first['id']}")
    stage.up.clear()
    third = await stage.ok("POST", WARM, status=202)
    assert (third["status"], third["documents_scanned"]) == ("completed", 0)
    assert third["id"] != first["id"]
    assert stage.queries() == []
    jobs = (await stage.ok("GET", f"{WARM}-jobs"))["warm_jobs"]
    assert {job["id"] for job in jobs} == {first["id"], third["id"]}


async def test_a_write_keeps_it_complete_or_makes_it_cold(stage):
    """Whatever a write does to completeness, what is served is the new row."""
    await stage.films()
    await stage.warm()
    film = FILMS[3]
    await stage.ok("POST", "/v2/namespaces/films", {"patch_rows": [{"id": film["id"], "year": 1}]})
    document = await stage.ok("GET", f"/v2/namespaces/films/documents/{film['id']}")
    assert document["attributes"]["year"] == 1
    await stage.warm()
    assert (await stage.cache_state())["state"] == "warm"


async def test_rows_written_during_a_warm_are_read_again(stage):
    """Each page is overtaken by a write of one of its rows."""
    await stage.films()
    query = stage.gateway.upstream.read
    written = 0

    async def overtaken(method, target, bearer, body=b"", **options):
        nonlocal written
        answer = await query(method, target, bearer, body, **options)
        if b'"include_attributes":true' in body and b'"In"' not in body and written < 30:
            film = FILMS[written * 33]
            written += 1
            patch = {"patch_rows": [{"id": film["id"], "year": 3000 + written}]}
            await stage.ok("POST", "/v2/namespaces/films", patch)
        return answer

    stage.gateway.upstream.read = overtaken
    job = await stage.ok("POST", f"{WARM}?page_size=40", status=202)
    done = await stage.done(f"{WARM}-jobs/{job['id']}")
    assert (done["status"], written) == ("completed", 30)
    assert (await stage.cache_state())["state"] == "warm"
    stage.gateway.upstream.read = query
    for number in range(written):
        document = await stage.ok("GET", f"/v2/namespaces/films/documents/{FILMS[number * 33]['id']}")
        assert document["attributes"]["year"] == 3001 + number


async def lost_answer(stage, body):
    """A write that the upstream applies, and whose answer never comes."""
    send = stage.gateway.upstream.send

    async def loses(method, target, headers, content=b"", **options):
        await send(method, target, headers, content, **options)
        raise UpstreamError("the connection was reset")

    stage.gateway.upstream.send = loses
    answer = await stage.call("POST", "/v2/namespaces/films", body)
    stage.gateway.upstream.send = send
    assert answer.status == 502


@pytest.mark.parametrize(
    "body",
    [
        {"patch_rows": [{"id": FILMS[3]["id"], "year": 1}]},
        {"patch_by_filter": {"filters": ["id", "Eq", FILMS[3]["id"]], "patch": {"year": 1}}},
    ],
    ids=["ids", "by filter"],
)
async def test_a_warm_waits_for_writes_without_an_answer(stages, body):
    stage = await stages(unknown_write_seconds=1.0)
    await stage.films()
    await lost_answer(stage, body)
    stage.up.clear()
    assert (await stage.warm())["status"] == "completed"
    assert len(stage.queries()) < 20
    assert (await stage.cache_state())["state"] == "warm"
    answer = await stage.call("GET", f"/v2/namespaces/films/documents/{FILMS[3]['id']}")
    assert (answer.headers[b"x-layer-cache"], answer.body["attributes"]["year"]) == (b"hit", 1)


async def test_a_warm_does_not_wait_for_ever(stages, monkeypatch):
    monkeypatch.setattr("hevlayer.gateway.warm.warmer.WAIT_MARGIN_SECONDS", -99.5)
    stage = await stages(unknown_write_seconds=100.0)
    await stage.films()
    await lost_answer(stage, {"patch_rows": [{"id": FILMS[3]["id"], "year": 1}]})
    job = await stage.warm()
    assert (job["status"], "writes without an answer" in job["error"]) == ("failed", True)
    assert (await stage.cache_state())["state"] == "cold"


async def test_a_warm_asks_whose_the_rows_are_after_each_ticket(stage, monkeypatch):
    """Another caller's namespace may take the name's place in the cache; what is read after that is not kept."""
    await stage.films()
    steps = []

    def told(owner, name, step):
        before = getattr(owner, name)

        async def calls(*arguments):
            steps.append(step)
            return await before(*arguments)

        monkeypatch.setattr(owner, name, calls)

    told(DocumentCache, "page_ticket", "ticket")
    told(CacheOwners, "admit", "owner")
    job = await stage.ok("POST", f"{WARM}?page_size=100", status=202)
    assert (await stage.done(f"{WARM}-jobs/{job['id']}"))["status"] == "completed"
    assert steps.count("ticket") >= 10
    for number, step in enumerate(steps):
        assert step != "ticket" or "owner" in steps[number + 1 : number + 5]
    assert steps.count("owner") == steps.count("ticket") + 1


async def test_a_warm_ends_when_the_cache_holds_another_namespace(stage, monkeypatch):
    await stage.films()
    admit = CacheOwners.admit
    asked = 0

    async def until_the_third(self, namespace, identity):
        nonlocal asked
        asked += 1
        return asked <= 3 and await admit(self, namespace, identity)

    monkeypatch.setattr(CacheOwners, "admit", until_the_third)
    job = await stage.ok("POST", f"{WARM}?page_size=100", status=202)
    done = await stage.done(f"{WARM}-jobs/{job['id']}")
    assert (done["status"], "another caller's namespace" in done["error"]) == ("failed", True)
    assert done["documents_scanned"] <= 200
    assert (await stage.cache_state())["state"] == "cold"


async def test_a_gateway_with_a_key_has_one_caller_only(stages, monkeypatch):
    monkeypatch.setattr(CacheOwners, "admit", None)
    stage = await stages(gateway_api_key="tpuf_stage", turbopuffer_api_key="tpuf_upstream")
    await stage.films()
    assert (await stage.warm())["status"] == "completed"


async def test_a_warm_that_is_deleted_stops(stage):
    await stage.films()
    read = stage.gateway.upstream.read
    held = asyncio.Event()

    async def hangs(method, target, bearer, body=b"", **options):
        if b'"include_attributes":true' in body:
            held.set()
            await asyncio.Event().wait()
        return await read(method, target, bearer, body, **options)

    stage.gateway.upstream.read = hangs
    job = await stage.ok("POST", WARM, status=202)
    await held.wait()
    assert (await stage.cache_state())["state"] == "warming"
    listed = (await stage.ok("GET", "/v2/namespaces"))["namespaces"]
    assert listed[0]["cache_state"] == {"state": "warming", "warmed_through_ms": None, "warm_inflight": True}
    assert (await stage.ok("DELETE", f"{WARM}-jobs/{job['id']}"))["status"] == "OK"
    assert (await stage.call("GET", f"{WARM}-jobs/{job['id']}")).status == 404
    assert (await stage.cache_state())["state"] == "cold"
    stage.gateway.upstream.read = read
    assert (await stage.warm())["status"] == "completed"


async def test_health_tells_what_is_warm(stage):
    await stage.films()
    await stage.films("other")
    await stage.warm()
    states = {row["namespace"]: row for row in (await stage.ok("GET", "/health"))["cache_state"]}
    assert (states["films"]["state"], states["other"]["state"]) == ("warm", "cold")
    assert states["films"]["warmed_through"] > 0


async def test_a_deleted_namespace_is_cold_and_has_no_jobs(stage):
    await stage.films()
    job = await stage.warm()
    await stage.ok("DELETE", "/v2/namespaces/films")
    await stage.films()
    assert (await stage.cache_state())["state"] == "cold"
    assert (await stage.call("GET", f"{WARM}-jobs/{job['id']}")).status == 404


async def test_a_namespace_that_does_not_exist_is_the_upstreams_404(stage):
    for path in ("/v2/namespaces/none/warm", "/v2/namespaces/none/warm?page_size=5"):
        answer = await stage.call("POST", path)
        assert answer.status == 404
        assert "none" in str(answer.body)


@pytest.mark.parametrize("size", ["0", "-1", "10001", "x", "1.5", "", "١"])
async def test_a_page_size_has_bounds(stage, size):
    await stage.films()
    answer = await stage.call("POST", f"{WARM}?page_size={quote(size)}")
    assert answer.status == 422
    assert "page_size" in answer.body["message"]


async def test_without_a_cache_a_warm_is_503_cache_cold(stages):
    stage = await stages(cache="off")
    await stage.films()
    answer = await stage.call("POST", WARM)
    assert (answer.status, answer.body["error"], answer.body["cache_state"]) == (503, "cache_cold", "cold")
    hint = await stage.call("GET", "/v1/namespaces/films/hint_cache_warm")
    assert (hint.status, hint.body["documents"]["status"]) == (202, "skipped")
    assert "no document cache" in hint.body["documents"]["reason"]


async def test_an_upstream_that_fails_for_a_while_is_asked_again(stage, monkeypatch):
    monkeypatch.setattr("hevlayer.gateway.reads.upstream.RETRY_BACKOFF.__class__.delay", lambda *_: 0.001)
    await stage.films()
    read = stage.gateway.upstream.read
    failures = iter([429, 503, 500])

    async def fails(method, target, bearer, body=b"", **options):
        if b'"include_attributes":true' in body:
            for status in failures:
                return status, b'{"error":"busy"}'
        return await read(method, target, bearer, body, **options)

    stage.gateway.upstream.read = fails
    assert (await stage.warm())["status"] == "completed"


async def test_pages_that_are_too_long_are_asked_for_in_parts(stage):
    """Also the rows that are read again by id."""
    await stage.films()
    read = stage.gateway.upstream.read
    lengths = []

    async def short(method, target, bearer, body=b"", **options):
        if b'"include_attributes":true' in body:
            lengths.append(orjson.loads(body)["limit"])
            if lengths[-1] > 30:
                raise AnswerTooLongError("the upstream's answer is longer than 30 bytes")
            film = FILMS[len(lengths) % 90]
            if b'"In"' not in body:
                await stage.ok("POST", "/v2/namespaces/films", {"patch_rows": [{"id": film["id"], "year": 7}]})
        return await read(method, target, bearer, body, **options)

    stage.gateway.upstream.read = short
    job = await stage.ok("POST", f"{WARM}?page_size=90", status=202)
    done = await stage.done(f"{WARM}-jobs/{job['id']}")
    assert (done["status"], done["documents_scanned"]) == ("completed", len(FILMS))
    assert lengths[:3] == [90, 45, 22]
    assert (await stage.cache_state())["state"] == "warm"


async def test_a_row_that_is_too_long_alone_fails_the_job(stage):
    await stage.films()
    read = stage.gateway.upstream.read

    async def never(method, target, bearer, body=b"", **options):
        if b'"include_attributes":true' in body:
            raise AnswerTooLongError("the upstream's answer is longer than 30 bytes")
        return await read(method, target, bearer, body, **options)

    stage.gateway.upstream.read = never
    job = await stage.warm()
    assert (job["status"], job["error"]) == ("failed", "the upstream's answer is longer than 30 bytes")


async def test_an_upstream_that_refuses_fails_the_job(stage):
    await stage.films()
    read = stage.gateway.upstream.read

    async def refuses(method, target, bearer, body=b"", **options):
        if b'"include_attributes":true' in body:
            return 403, '{"status":"error","error":"🙅 no"}'.encode()
        return await read(method, target, bearer, body, **options)

    stage.gateway.upstream.read = refuses
    job = await stage.warm()
    assert (job["status"], job["error"]) == ("failed", "the upstream answered 403: 🙅 no")
    assert (await stage.cache_state())["state"] == "cold"


async def test_a_cache_that_is_too_small_is_not_called_warm(stages):
    stage = await stages(cache_capacity_bytes=1 << 20)
    rows = [{"id": number, "text": f"{number:06}" * 500} for number in range(2_000)]
    await stage.write("films", rows)
    job = await stage.warm()
    assert job["status"] == "failed"
    assert "too small" in job["error"] or "could not be kept" in job["error"]
    assert (await stage.cache_state())["state"] == "cold"


async def test_a_namespace_that_is_over_its_share_leaves_the_others_theirs(stages):
    stage = await stages(cache_namespace_capacity_bytes=SHARE_BYTES)
    await stage.films()
    assert (await stage.warm())["status"] == "completed"
    rows = [{"id": number, "text": f"{number:06}" * 500} for number in range(2_000)]
    await stage.write("large", rows)
    assert (await stage.warm(namespace="large"))["status"] == "failed"
    cache = stage.gateway.cache
    await cache.maintain()
    facts = await cache.facts("large")
    assert 0 < facts.bytes <= SHARE_BYTES
    assert facts.lost > 0
    assert (await cache.facts("films")).lost == 0
    assert (await stage.cache_state())["state"] == "warm"
    assert (await cache.stats()).engine.namespace_capacity_bytes == SHARE_BYTES


# --- the hint --------------------------------------------------------------------------------------------------------

HINT = "/v1/namespaces/films/hint_cache_warm"


async def test_the_hint_starts_a_warm_and_tells_its_steps(stage):
    await stage.films()
    hint = await stage.call("GET", HINT)
    assert hint.status == 202
    assert (hint.body["status"], hint.body["message"]) == ("ACCEPTED", "cache warm hint accepted")
    assert hint.body["turbopuffer"] == {"enabled": True, "status": "started"}
    assert hint.body["snapshots"] == {"enabled": True, "status": "no_snapshot"}
    assert (hint.body["documents"]["enabled"], hint.body["documents"]["status"]) == (True, "started")
    await stage.done(f"{WARM}-jobs/{hint.body['documents']['job']['id']}")
    assert (await stage.ok("GET", HINT, status=202))["documents"] == {"enabled": True, "status": "completed"}


async def test_steps_can_be_switched_off(stage):
    await stage.films()
    stage.up.clear()
    hint = await stage.ok("GET", f"{HINT}?turbopuffer=false&documents=false&snapshots=false")
    skipped = {"enabled": False, "status": "skipped"}
    assert (hint["turbopuffer"], hint["documents"], hint["snapshots"]) == (skipped, skipped, skipped)
    assert not [target for _, target, _ in stage.up if "hint_cache_warm" in target]
    assert not (await stage.ok("GET", f"{WARM}-jobs"))["warm_jobs"]


async def test_a_hint_takes_a_page_size(stage):
    await stage.films()
    hint = await stage.ok("GET", f"{HINT}?page_size=100", status=202)
    await stage.done(f"{WARM}-jobs/{hint['documents']['job']['id']}")
    assert {query["limit"] for query in stage.queries() if query.get("include_attributes") is True} == {100}
    answer = await stage.call("GET", f"{HINT}?page_size=0")
    assert (answer.status, "page_size" in answer.body["message"]) == (422, True)


async def test_a_hint_leaves_large_namespaces_to_those_who_ask(stages):
    stage = await stages(warm_rows_max=500)
    rows = [{"id": number, "n": number} for number in range(10_001)]
    await stage.write("films", rows)
    hint = await stage.ok("GET", HINT, status=202)
    assert hint["documents"]["status"] == "skipped"
    assert "10001 rows" in hint["documents"]["reason"]
    assert (await stage.warm())["documents_scanned"] == len(rows)


@pytest.mark.parametrize("query", ["", "?turbopuffer=false"])
async def test_a_hint_for_nothing_is_the_upstreams_404(stage, query):
    answer = await stage.call("GET", f"/v1/namespaces/none/hint_cache_warm{query}")
    assert answer.status == 404
    assert "was not found" in str(answer.body)


@pytest.mark.parametrize(
    ("query", "asked"),
    [
        ("", (True, True, True)),
        ("turbopuffer=false&documents=0&snapshots=true", (False, False, True)),
        ("documents=FALSE&other=maybe", (True, False, True)),
    ],
)
def test_steps_are_on_unless_switched_off(query, asked):
    assert tuple(read_steps(query).values()) == asked


@pytest.mark.parametrize("query", ["documents=yes", "turbopuffer=", "snapshots=2"])
def test_a_switch_that_is_neither_is_refused_by_name(query):
    with pytest.raises(ValidationError, match=rf"{query.partition('=')[0]} must be true or false"):
        read_steps(query)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"/v1/namespaces/a%2Fb/hint_cache_warm", b"/v1/namespaces/a%2Fb/hint_cache_warm"),
        (b"/v1/x?documents=false&page_size=5", b"/v1/x"),
        (b"/v1/x?a=1&documents=false&b=%20&turbopuffer=true", b"/v1/x?a=1&b=%20"),
    ],
)
def test_our_switches_do_not_go_upstream(target, expected):
    assert upstream_target(target) == expected


# --- pages -----------------------------------------------------------------------------------------------------------


def test_pages_grow_towards_their_size_in_bytes():
    sizer = PageSizer()
    sizes = []
    for _ in range(10):
        sizes.append(sizer.rows)
        sizer.saw(sizer.rows, sizer.rows * 1_000)
    assert sizes[0] < sizes[1] < sizes[2]
    assert sizes[-1] == PAGE_BYTES_TARGET // 1_000
    sizer.saw(sizer.rows, sizer.rows * 10_000_000)
    assert sizer.rows == 1


def test_a_caller_s_page_size_stands():
    sizer = PageSizer(7)
    sizer.saw(7, 10)
    assert sizer.rows == 7


@pytest.mark.parametrize("value", [0, 7, 2**64 - 1, "a", "ç/日", ""])
def test_ids_come_back_from_their_keys(value):
    key = id_key(value)
    assert id_of_key(key) == value
    assert json_of_key(key) == (b"%d" % value if isinstance(value, int) else f'"{value}"'.encode())


def test_a_page_s_bounds_are_in_its_body():
    assert b'"filters":["And",[["id","Gt",3],["id","Lte",9]]]' in page_body(Span(3, 9), 10)
    assert b'"filters":["id","Gt","x"]' in page_body(Span("x", None), 10)
    assert b"filters" not in page_body(Span(), 10)
