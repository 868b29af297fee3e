"""Queries that are served without a task: the same bytes on both sides as the general way gives, whatever happens.

The first request of a gateway finds no idle connection to the upstream and goes the general way; the next are quick.
"""

import asyncio
import gzip
import json
import time

import pytest
from gateway_bench import eventually
from quick_ways import ANSWERS, BROKEN, QUERY, ROWS, TRACEPARENT, at_rest, message

from hevlayer.gateway.consistency import Status
from hevlayer.testing.metrics import samples
from hevlayer.testing.recording import Canned, answer


@pytest.mark.parametrize("status", list(Status))
@pytest.mark.parametrize("given", ANSWERS.values(), ids=ANSWERS.keys())
async def test_the_answer_is_the_general_way_s(bench, ways, given, status):
    bench.upstream.default = given
    if status is not Status.UNKNOWN:
        bench.see("a", status, time.time_ns() // 1_000_000 - 100)
    answers = [await ways.ask(message()) for _ in range(3)]
    # Compared outside of `assert`: a difference of megabytes would be explained at length.
    equal = answers[0] == answers[1] == answers[2]
    assert equal
    assert ways.general == 1
    sent = bench.upstream.requests
    assert sent[0] == sent[1] == sent[2]
    await eventually(lambda: at_rest(bench))
    assert bench.upstream.open_connections == 1


@pytest.mark.parametrize(
    "body",
    [
        b'{"queries":[{"rank_by":["a","asc"]},{"aggregate_by":{"n":["Count"]},"filters":["a","Eq",1]}]}',
        b'{"rank_by":["a","asc"],"include_attributes":true}',
        b'{"rank_by":["a","asc"],"include_attributes":["b"],"filters":["a","Eq",1]}',
        b'{"rank_by":["a","asc"],"consistency":{"level":"strong"}}',
        b"{}",
        b'{"rank_by":["v","ANN",[' + b"0.5," * 2000 + b"1]]}",
    ],
)
async def test_the_request_is_the_general_way_s(bench, ways, body):
    bench.see("a", Status.UPDATING, time.time_ns() // 1_000_000 - 100)
    for path in (b"/v2/namespaces/a/query", b"/aws-us-east-1/v2/namespaces/%61/query?x=%20"):
        general = ways.general
        answers = [await ways.ask(message(body, path=path)) for _ in range(2)]
        assert answers[0] == answers[1]
        assert bench.upstream.requests[-1] == bench.upstream.requests[-2]
    assert general == ways.general == 1


@pytest.mark.parametrize(
    ("body", "more"),
    [
        (b'{"vector":[1,2],"top_k":3}', ()),
        (
            b'{"rank_by":["a","asc"],"rerank_by":{"model":"m","query":"q","attribute":"t"},"include_attributes":true}',
            (),
        ),
        (gzip.compress(QUERY), (b"Content-Encoding: gzip",)),
        (b'{"rank_by":["a","asc"],"x":"' + b"y" * 300_000 + b'"}', ()),
        (b'{"rank_by":', ()),
        (b'{"as_of":1}', ()),
        (b"", ()),
    ],
)
async def test_what_is_not_plain_goes_the_general_way(bench, ways, body, more):
    await ways.ask(message())
    answers = [await ways.ask(message(body, *more)) for _ in range(2)]
    assert answers[0] == answers[1]
    assert ways.general == 3


async def test_both_ways_are_logged_and_counted_alike(bench, ways):
    bench.see("a", Status.STABLE, time.time_ns() // 1_000_000 - 100)
    for _ in range(4):
        await ways.ask(message(b'{"queries":[{"rank_by":["a","asc"],"filters":["a","Eq",1]}]}'))
    assert ways.general == 1
    lines = [json.loads(line) for line in bench.access_log.splitlines()]
    for line in lines:
        assert line["us"] >= line.pop("upstream_us") > 0
        del line["us"], line["time_ms"]
    assert lines[0] == lines[1] == lines[2] == lines[3]
    assert lines[0]["request_id"] == "r-1"
    assert lines[0]["consistency"] == "stable"
    text = bench.gateway.metrics.registry.exposition().decode()
    counts = [line for line in text.splitlines() if line.endswith(" 4.0") and not line.startswith("#")]
    for name in ("query_duration_seconds_count", "http_requests_total", "multi_query"):
        assert any(name in line for line in counts), name
    assert samples(text, "hevlayer_tpuf_billable_bytes_queried_total", namespace="a") == [1024]


async def test_a_429_is_tried_again_with_the_watermark(bench, ways):
    watermark = time.time_ns() // 1_000_000 - 100
    bench.see("a", Status.STABLE, watermark)
    await ways.ask(message())
    bench.upstream.script.append(answer(429, b"slow down", reason=b"Too Many Requests"))
    got = await ways.ask(message())
    assert b"x-layer-consistency: filtered\r\n" in got
    assert got.startswith(b"HTTP/1.1 200 OK\r\n")
    assert len(bench.upstream.requests) == 3
    assert b'"_hevlayer_upserted_at","Lte",%d' % watermark in bench.upstream.requests[2].body
    assert ways.general == 1
    assert at_rest(bench)


@pytest.mark.parametrize(("broken", "status", "code"), BROKEN.values(), ids=BROKEN.keys())
async def test_an_upstream_that_fails_is_told_and_leaves_nothing_behind(benches, open_ways, broken, status, code):
    bench = await benches(first_byte_timeout_seconds=0.2)
    bench.upstream.default = answer(200, ROWS)
    ways = await open_ways(bench)
    good = await ways.ask(message())
    bench.upstream.script.append(broken)
    got = await ways.ask(message())
    assert got.startswith(b"HTTP/1.1 %d " % status)
    assert b'"error":"%b"' % code in got
    assert b"traceparent: " + TRACEPARENT in got
    assert len(bench.upstream.requests) == 2
    assert ways.general == 1
    assert await ways.ask(message()) == good
    assert at_rest(bench)


async def test_a_client_that_leaves_does_not_stop_its_query(bench, ways, open_ways):
    await ways.ask(message())
    gate = asyncio.Event()
    bench.upstream.script.append(Canned(answer(200, ROWS).raw, before=gate))
    ways.writer.write(message())
    await bench.upstream.arrived(2)
    ways.writer.transport.abort()
    other = await open_ways(bench)
    await other.ask(message())
    assert not at_rest(bench)
    gate.set()
    await eventually(lambda: at_rest(bench))
    assert bench.access_log.count(b'"status":200') == 3


async def test_pipelined_queries_are_answered_in_order(bench, ways):
    await ways.ask(message())
    for number in range(40):
        bench.upstream.script.append(answer(200, b"[%d]" % number))
    ways.writer.write(message() * 40)
    for number in range(40):
        assert (await ways.read()).endswith(b"\r\n\r\n[%d]" % number)
    assert ways.general == 1


@pytest.mark.parametrize(
    ("version", "more", "line"),
    [
        (b"1.1", (), None),
        (b"1.1", (b"Connection: close",), b"connection: close\r\n"),
        (b"1.0", (), b"connection: close\r\n"),
        (b"1.0", (b"Connection: keep-alive",), b"connection: keep-alive\r\n"),
    ],
)
async def test_the_connection_is_kept_as_the_client_asks(bench, ways, version, more, line):
    await ways.ask(message())
    got = await ways.ask(message(QUERY, *more, version=version))
    assert ways.general == 1
    assert (line in got) if line is not None else (b"connection:" not in got)
    if line == b"connection: close\r\n":
        async with asyncio.timeout(10):
            assert await ways.reader.read() == b""
    else:
        assert (await ways.ask(message())).startswith(b"HTTP/1.1 200 ")


async def test_a_drain_lets_a_query_finish_and_closes(bench, ways):
    await ways.ask(message())
    gate = asyncio.Event()
    bench.upstream.script.append(Canned(answer(200, ROWS).raw, before=gate))
    ways.writer.write(message())
    await bench.upstream.arrived(2)
    stopping = asyncio.ensure_future(bench.gateway.stop())
    await eventually(lambda: bench.gateway.drain_state.draining and bench.gateway._server.draining)
    gate.set()
    assert b"connection: close\r\n" in await ways.read()
    await stopping
    assert at_rest(bench)


async def test_a_stop_does_not_wait_for_a_query_that_hangs(benches, open_ways):
    bench = await benches(drain_seconds=0.05)
    bench.upstream.default = answer(200, ROWS)
    ways = await open_ways(bench)
    await ways.ask(message())
    bench.upstream.script.append(Canned(before=asyncio.Event()))
    ways.writer.write(message())
    await bench.upstream.arrived(2)
    async with asyncio.timeout(10):
        await bench.gateway.stop()
    assert at_rest(bench)


async def test_a_client_that_does_not_read_is_waited_for(bench, ways):
    bench.upstream.default = answer(200, b'{"rows":["' + b"x" * 900_000 + b'"]}')
    expected = await ways.ask(message())
    ways.writer.write(message() * 20)
    await bench.upstream.arrived(2)
    await asyncio.sleep(0.1)
    assert [await ways.read() for _ in range(20)] == [expected] * 20
    assert ways.general == 1


KEYED = {"gateway_api_key": "gk", "turbopuffer_api_key": "tpuf_up"}
ROW = b'{"rows":[{"id":"d1","title":"a film","vector":[1,2]}],"billing":{}}'
SCHEMA = b'{"id":{"type":"string"},"title":{"type":"string"},"vector":{"type":"[2]f32"}}'


def fetch(path: bytes = b"d1", bearer: bytes = b"gk") -> bytes:
    return (
        b"GET /v2/namespaces/a/documents/%b HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer %b\r\nTraceparent: %b\r\n\r\n"
        % (path, bearer, TRACEPARENT)
    )


async def test_a_cached_document_is_the_general_way_s(benches, open_ways):
    bench = await benches(**KEYED)
    bench.upstream.default = answer(200, ROW)
    bench.upstream.by_target[b"/v1/namespaces/a/schema"] = answer(200, SCHEMA)
    ways = await open_ways(bench)
    for projection in (b"", b"?include_attributes=title"):
        missed = await ways.ask(fetch(b"d1" + projection))
        assert (b"x-layer-cache: miss\r\n" in missed) == (projection == b"")
        general = await ways.ask(fetch(b"%641" + projection))
        count = ways.general
        for _ in range(3):
            assert await ways.ask(fetch(b"d1" + projection)) == general
        assert b"x-layer-cache: hit\r\n" in general
        assert ways.general == count
    asked = len(bench.upstream.requests)
    for refused in (b"wrong", b"gkk", b"g"):
        assert (await ways.ask(fetch(bearer=refused))).startswith(b"HTTP/1.1 401 ")
    assert len(bench.upstream.requests) == asked
    lines = [json.loads(line) for line in bench.access_log.splitlines()]
    assert {line["status"] for line in lines} == {200, 401}
    text = bench.gateway.metrics.registry.exposition().decode()
    labels = {"operation": "single", "namespace": "a", "cache_result": "hit"}
    assert samples(text, "layer_fetch_duration_seconds_count", **labels) == [9]


async def test_a_caller_who_must_prove_access_is_not_served_quickly(benches, open_ways):
    bench = await benches()
    bench.upstream.default = answer(200, ROW)
    bench.upstream.by_target[b"/v1/namespaces/a/schema"] = answer(200, SCHEMA)
    bench.upstream.by_target[b"/v2/namespaces/a/metadata"] = answer(403, b"{}", reason=b"Forbidden")
    ways = await open_ways(bench)
    for _ in range(2):
        assert (await ways.ask(fetch(bearer=b"other"))).startswith(b"HTTP/1.1 403 ")
