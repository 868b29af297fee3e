"""Queries that are sent upstream before they become requests: as the two other ways send and answer them, with the same
record, counts and line, and only for whom and as long as those ways would read them so."""

import asyncio
import gzip
import json
import random
import re

import pytest
from gateway_bench import eventually
from quick_ways import ANSWERS, QUERY, ROWS, ThreeWays, at_rest, lines, message, now_ms, records, taken, vouch

from hevlayer.gateway.consistency import Status
from hevlayer.http.messages import Response
from hevlayer.testing.recording import Canned, answer

KEYED = {"gateway_api_key": "gk", "turbopuffer_api_key": "tpuf_up"}


# --- equality --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", list(Status))
@pytest.mark.parametrize("given", ANSWERS.values(), ids=ANSWERS.keys())
async def test_bytes_record_and_line_are_those_of_the_other_ways(bench, ways, given, status):
    bench.upstream.default = given
    if status is not Status.UNKNOWN:
        bench.see("a", status, now_ms() - 100)
    three = ThreeWays(ways)
    answers, took = await three.ask(message())
    # Compared outside of `assert`: a difference of megabytes would be explained at length.
    equal = answers[0] == answers[1] == answers[2]
    assert equal
    assert took == 1
    sent = bench.upstream.requests
    assert sent[0] == sent[1] == sent[2]
    assert len(sent) == 3
    await eventually(lambda: at_rest(bench))
    found = await records(bench)
    assert len(found) in (0, 3)
    assert len(set(found)) <= 1
    logged = lines(bench)
    assert logged[0] == logged[1] == logged[2]
    assert bench.upstream.open_connections == 1


WORDS = ["a", "é", "日本", '\\"', "\\u00e9", "\\ud83d\\ude00", "x" * 300, "", " ", "\\n"]


def some_value(rng: random.Random, depth: int = 0) -> str:
    kind = rng.randrange(7 if depth < 3 else 5)
    if kind == 0:
        return rng.choice(["true", "false", "null"])
    if kind == 1:
        return rng.choice(["0", "-1", "1e3", "0.1250", "18446744073709551615"])
    if kind == 2:
        return "[" + ", ".join(f"{rng.random():.6f}" for _ in range(rng.randrange(1, 40))) + "]"
    if kind in (3, 4):
        return f'"{rng.choice(WORDS)}"'
    parts = [some_value(rng, depth + 1) for _ in range(rng.randrange(4))]
    if kind == 5:
        return "[" + ",".join(parts) + "]"
    return "{" + " , ".join(f'"k{index}" :{part}' for index, part in enumerate(parts)) + "}"


def some_query(rng: random.Random) -> bytes:
    members = {
        "rank_by": rng.choice(['["v","ANN",[0.1,2,3e-1]]', '["a","asc"]', '["t","BM25","é"]', some_value(rng)]),
        "filters": rng.choice(['["a","Eq",1]', '["And",[["a","Gt",1],["b","In",["x","y"]]]]', some_value(rng)]),
        "include_attributes": rng.choice(["true", "false", '["a","b"]', '["_hevlayer_upserted_at"]']),
        "exclude_attributes": rng.choice(['["a"]', "[]"]),
        "limit": "10",
        "consistency": '{"level":"strong"}',
        "queries": '[{"rank_by":["a","asc"]}]',
        "vector": "[1,2]",
        "nearest_to_id": '"x"',
        rng.choice(WORDS): some_value(rng),
    }
    often = ("rank_by", "filters", "limit", "include_attributes")
    chosen = [name for name in members if rng.random() < (0.6 if name in often else 0.12)]
    rng.shuffle(chosen)
    space = rng.choice(["", " ", "\n\t"])
    return ("{" + f",{space}".join(f'"{name}":{space}{members[name]}' for name in chosen) + "}").encode()


def some_row(rng: random.Random) -> str:
    row_id = rng.choice(["7", '"x\\u00e9"', '"日本"'])
    return f'{{"id":{row_id},"$dist":{rng.random():.4f},"t":"{rng.choice(WORDS)}","v":{some_value(rng)}}}'


def some_answer(rng: random.Random) -> Canned:
    rows = ",".join(some_row(rng) for _ in range(rng.randrange(130)))
    billing = rng.choice(
        ['"billing":{"billable_logical_bytes_queried":25,"billable_logical_bytes_returned":1}', '"x":{}']
    )
    body = f'{{"rows":[{rows}],{billing},"performance":{{}}}}'.encode()
    headers = rng.choice([(), ((b"X-A", b"1"), (b"Connection", b"x-a")), ((b"Date", b"then"), (b"ETag", b'"e"'))])
    if rng.random() < 0.1:
        return answer(200, gzip.compress(body, mtime=0), ((b"Content-Encoding", b"gzip"),))
    if rng.random() < 0.1:
        return Canned(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
    return answer(rng.choice([200, 200, 200, 200, 400, 429, 503]), body, headers)


async def test_generated_queries_and_answers_are_treated_alike_in_all_ways(bench, ways):
    rng = random.Random(20261121)
    three = ThreeWays(ways)
    all_taken = recorded = 0
    for number in range(150):
        bench.see("a", rng.choice(list(Status)), now_ms() - rng.choice([100, 10_000_000]))
        body = some_query(rng)
        more = [header for header in (b"X-A: 1", b"X-Stainless-Lang: python", b"Prefer: x") if rng.random() < 0.3]
        bench.upstream.default = some_answer(rng)
        first = len(bench.upstream.requests)
        answers, took = await three.ask(message(body, *more))
        equal = answers[0] == answers[1] == answers[2]
        assert equal, (number, body)
        sent = bench.upstream.requests[first:]
        third = len(sent) // 3
        assert sent[:third] == sent[third : 2 * third] == sent[2 * third :], (number, body)
        all_taken += took
        found, recorded = (await records(bench))[recorded:], len(bench.records)
        assert len(found) == (3 if answers[0][9:12] == b"200" else 0), (number, body)
        assert len(set(found)) <= 1, (number, body)
    assert all_taken > 60
    logged = lines(bench)
    for number in range(0, len(logged), 3):
        assert logged[number] == logged[number + 1] == logged[number + 2]
    assert at_rest(bench)


async def test_the_counts_are_those_of_the_other_ways(benches, open_ways):
    texts = []
    for way in range(3):
        bench = await benches()
        bench.see("a", Status.STABLE, now_ms() - 100)
        ways = await open_ways(bench)
        await vouch(ways)
        bench.see("a", Status.STABLE, now_ms() - 100)
        await ways.ask(message())
        if way < 2:
            bench.gateway._server.take_on = None
        if way == 0:
            next(r for r in bench.gateway.pipeline.routes if r.operation == "query").quick = None
        before = taken(bench)
        for given in ("as ever", "another billing", "no object", "an error", "compressed"):
            bench.upstream.default = ANSWERS[given]
            for body in (QUERY, b'{"rank_by":["a","asc"],"filters":["a","Eq",1]}', b'{"filters":["a","Eq",1]}'):
                await ways.ask(message(body))
        assert taken(bench) - before == (15 if way == 2 else 0)
        texts.append(bench.gateway.metrics.registry.exposition().decode())
    skipped = re.compile(r"^(#|process_|\S*(_bucket|_sum|age_seconds|pending_bytes)\b)")
    counts = [sorted(line for line in text.splitlines() if not skipped.match(line)) for text in texts]
    assert counts[0] == counts[1] == counts[2]
    assert any("query_duration_seconds_count" in line for line in counts[2])
    assert any("billable_bytes_queried" in line for line in counts[2])


async def test_a_caller_s_own_scope_is_in_the_record(benches, open_ways):
    for settings in ({}, KEYED):
        bench = await benches(**settings)
        bench.upstream.default = answer(200, ROWS)
        ways = await open_ways(bench)
        raw = message() if not settings else message().replace(b"tpuf_caller_secret", b"gk")
        answers, took = await ThreeWays(ways).ask(raw)
        assert took == 1
        assert answers[0] == answers[2]
        found = await records(bench)
        assert found[0] == found[1] == found[2]
        assert (b'"scope"' in found[2]) == (not settings)


async def test_trace_ids_are_minted_for_a_caller_without(bench, ways):
    raw = re.sub(rb"(Traceparent|X-Request-Id): [^\r]*\r\n", b"", message())
    seen = set()
    for _ in range(4):
        got = await ways.ask(raw)
        told = re.search(rb"\r\ntraceparent: (00-([0-9a-f]{32})-[0-9a-f]{16}-01)\r\n", got)
        assert told is not None
        assert (b"traceparent", told[1]) in bench.upstream.requests[-1].headers
        seen.add(told[2].decode())
    assert len(seen) == 4
    assert taken(bench) == 2
    assert {line["trace_id"] for line in lines(bench)} == seen
    assert all(line["request_id"] == line["trace_id"] for line in lines(bench))
    assert {json.loads(b"{" + rest[1:])["trace_id"] for rest in await records(bench)} == seen


# --- what a voucher stands for ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "more"),
    [
        (b'{"queries":[{"rank_by":["a","asc"]}]}', ()),
        (b'{"rank_by":["a","asc"],"consistency":{"level":"strong"}}', ()),
        (
            b'{"rank_by":["a","asc"],"rerank_by":{"model":"m","query":"q","attribute":"t"},"include_attributes":true}',
            (),
        ),
        (b'{"vector":[1,2],"top_k":3}', ()),
        (b'{"rank_by":', ()),
        (b"", ()),
        (b'{"rank_by":["a","asc"],"x":"' + b"y" * 300_000 + b'"}', ()),
        (QUERY, (b"X-Hevlayer-Tags: a,b",)),
        (QUERY, (b"X-Hevlayer-Tags: not allowed",)),
        (QUERY, (b"X-Hevlayer-Search-Query: films",)),
        (QUERY, (b"Connection: close",)),
    ],
)
async def test_what_is_not_plain_is_left_to_the_other_ways(bench, ways, body, more):
    await vouch(ways)
    await ways.ask(message())
    before = taken(bench)
    assert before == 1
    await ways.ask(message(body, *more))
    assert taken(bench) == before


async def test_nobody_is_served_for_whom_there_is_no_voucher(benches, open_ways):
    bench = await benches(**KEYED)
    bench.upstream.default = answer(200, ROWS)
    ways = await open_ways(bench)
    good = message().replace(b"tpuf_caller_secret", b"gk")
    for _ in range(3):
        assert (await ways.ask(good)).startswith(b"HTTP/1.1 200 ")
    assert taken(bench) == 1
    asked = len(bench.upstream.requests)
    for wrong in (b"wrong", b"gkk", b"g", b"GK"):
        assert (await ways.ask(message().replace(b"tpuf_caller_secret", wrong))).startswith(b"HTTP/1.1 401 ")
    assert (await ways.ask(message().replace(b"Authorization: Bearer tpuf_caller_secret\r\n", b""))).startswith(
        b"HTTP/1.1 401 "
    )
    assert len(bench.upstream.requests) == asked
    assert taken(bench) == 1
    assert (b"authorization", b"Bearer tpuf_up") in bench.upstream.requests[-1].headers


async def test_each_caller_has_its_own_voucher_and_credential(bench, ways):
    await vouch(ways)
    other = message().replace(b"tpuf_caller_secret", b"tpuf_other")
    await ways.ask(other)
    assert taken(bench) == 0
    await ways.ask(other)
    await ways.ask(message())
    assert taken(bench) == 2
    shown = [dict(request.headers)[b"authorization"] for request in bench.upstream.requests[-2:]]
    assert shown == [b"Bearer tpuf_other", b"Bearer tpuf_caller_secret"]


@pytest.mark.parametrize(("token_bytes", "name_bytes"), [(40_000, 1), (7, 2_000)])
async def test_long_callers_and_names_take_no_room_among_the_vouchers(bench, ways, token_bytes, name_bytes):
    await vouch(ways)
    path = b"/v2/namespaces/%b/query" % (b"a" * name_bytes)
    long = message(path=path).replace(b"tpuf_caller_secret", b"t" * token_bytes)
    for _ in range(3):
        assert (await ways.ask(long)).startswith(b"HTTP/1.1 200 ")
    assert taken(bench) == 0
    await ways.ask(message())
    assert taken(bench) == 1


async def test_what_changes_about_a_namespace_ends_its_voucher(bench, ways):
    watermark = now_ms() - 100
    bench.see("a", Status.STABLE, watermark)
    await vouch(ways)
    await ways.ask(message())
    assert taken(bench) == 1
    bench.see("a", Status.UPDATING, watermark)
    got = await ways.ask(message())
    assert b"x-layer-consistency: filtered\r\n" in got
    assert taken(bench) == 1
    assert await ways.ask(message()) == got
    assert taken(bench) == 2
    assert b'"_hevlayer_upserted_at","Lte",%d' % watermark in bench.upstream.requests[-1].body
    bench.gateway.registry.forget("a")
    await ways.ask(message())
    assert taken(bench) == 2


async def test_a_voucher_ends_when_its_watermark_is_too_old(benches, open_ways):
    bench = await benches(watermark_age_ms_max=60_000)
    bench.upstream.default = answer(200, ROWS)
    ways = await open_ways(bench)
    queries = bench.gateway.vouched_queries
    real_now = queries.now
    bench.see("a", Status.UPDATING, now_ms())
    await vouch(ways)
    await ways.ask(message())
    queries.now = lambda: real_now() + 50
    await ways.ask(message())
    assert taken(bench) == 2
    queries.now = lambda: real_now() + 61
    await ways.ask(message())
    assert taken(bench) == 2


async def test_a_voucher_ends_after_its_time(bench, ways):
    await vouch(ways)
    queries = bench.gateway.vouched_queries
    real_now = queries.now
    queries.now = lambda: real_now() + 600.0
    await ways.ask(message())
    assert taken(bench) == 0
    await ways.ask(message())
    assert taken(bench) == 1


async def test_a_namespace_that_becomes_sharded_ends_its_voucher(bench, ways, monkeypatch):
    await vouch(ways)
    await ways.ask(message())
    assert taken(bench) == 1
    asked = []

    def scatters(namespace: str) -> bool:
        asked.append(namespace)
        return namespace == "a"

    monkeypatch.setattr(bench.gateway.vouched_queries.routes.scatterer, "scatters", scatters)
    monkeypatch.setattr(bench.gateway._server, "starter", lambda _request, reply: _refused())
    assert (await ways.ask(message())).startswith(b"HTTP/1.1 421 ")
    assert taken(bench) == 1
    assert asked == ["a"]


async def _refused() -> Response:
    return Response(421)


async def test_without_an_idle_connection_a_query_waits_in_the_general_way(bench, ways, open_ways):
    await vouch(ways)
    gate = asyncio.Event()
    bench.upstream.script.append(Canned(answer(200, ROWS).raw, before=gate))
    ways.writer.write(message())
    await bench.upstream.arrived(3)
    assert taken(bench) == 1
    other = await open_ways(bench)
    assert (await other.ask(message())).startswith(b"HTTP/1.1 200 ")
    assert taken(bench) == 1
    assert bench.upstream.open_connections == 2
    gate.set()
    assert (await ways.read()).startswith(b"HTTP/1.1 200 ")
    assert at_rest(bench)


async def test_queries_that_another_trail_hears_of_become_requests(benches, open_ways):
    class Heard:
        def __init__(self) -> None:
            self.queries = 0

        def queried(self, context, served) -> None:
            self.queries += 1

        def fetched(self, context, doc_ids, served_from) -> None: ...

    trail = Heard()
    bench = await benches(trail=trail)
    bench.upstream.default = answer(200, ROWS)
    ways = await open_ways(bench)
    for _ in range(4):
        await ways.ask(message())
    assert trail.queries == 4
    assert taken(bench) == 0


async def test_history_that_is_off_keeps_nothing(benches, open_ways):
    for settings in ({"history": "off"}, {"history_off_namespaces": "b,a"}):
        bench = await benches(**settings)
        bench.upstream.default = answer(200, ROWS)
        ways = await open_ways(bench)
        for _ in range(4):
            await ways.ask(message())
        assert taken(bench) == 2
        assert await records(bench) == []


async def test_a_full_queue_drops_records_and_counts_them(bench, ways):
    await vouch(ways)
    recorder = bench.gateway.history.recorder
    recorder._queue_bytes_max = recorder._bytes
    await ways.ask(message())
    assert len(await records(bench)) == 2
    recorder._queue_bytes_max, recorder._queue_records_max = 1 << 20, 0
    await ways.ask(message())
    assert taken(bench) == 2
    assert len(await records(bench)) == 2
    text = bench.gateway.metrics.registry.exposition().decode()
    dropped = [line for line in text.splitlines() if "history" in line and 'outcome="dropped"' in line]
    assert [line.split()[-1] for line in dropped] == ["2.0"]
