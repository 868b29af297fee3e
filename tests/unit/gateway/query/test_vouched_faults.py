"""Queries that were sent upstream before they became requests, and then something goes wrong."""

import asyncio

import pytest
from gateway_bench import Bench, eventually
from quick_ways import BROKEN, ROWS, TRACEPARENT, at_rest, lines, message, now_ms, taken, vouch

from hevlayer.gateway.consistency import Status
from hevlayer.http.connection import ServerConnection
from hevlayer.testing.recording import Canned, answer


def let_time_pass(bench: Bench) -> None:
    """The first byte of each answer that is awaited is overdue now."""
    client = bench.gateway.upstream._client
    for connection in client._connections:
        connection._first_byte_at = 0.0
    client.sweep()


@pytest.mark.parametrize(("broken", "status", "code"), BROKEN.values(), ids=BROKEN.keys())
async def test_an_upstream_that_fails_is_told_and_leaves_nothing_behind(bench, ways, broken, status, code):
    await vouch(ways)
    good = await ways.ask(message())
    bench.upstream.script.append(broken)
    ways.writer.write(message())
    await bench.upstream.arrived(4)
    if broken.before is not None:
        let_time_pass(bench)
    got = await ways.read()
    assert taken(bench) == 2
    assert got.startswith(b"HTTP/1.1 %d " % status)
    assert b'"error":"%b"' % code in got
    assert b"traceparent: " + TRACEPARENT in got
    assert len(bench.upstream.requests) == 4
    assert ways.general == 1
    assert lines(bench)[-1]["error"] == code.decode()
    assert await ways.ask(message()) == good
    assert at_rest(bench)


async def test_a_body_that_comes_slowly_is_one_answer(bench, ways):
    await vouch(ways)
    good = await ways.ask(message())
    raw = answer(200, ROWS).raw
    asked = len(bench.upstream.requests)
    for cut in (1, 20, raw.index(b"\r\n\r\n") + 2, raw.index(b"\r\n\r\n") + 4, len(raw) - 1):
        gate = asyncio.Event()
        bench.upstream.script.append(Canned(raw[:cut], rest=(gate, raw[cut:])))
        ways.writer.write(message())
        await bench.upstream.arrived(asked := asked + 1)
        await asyncio.sleep(0.01)
        gate.set()
        assert await ways.read() == good
    assert taken(bench) == 6
    assert at_rest(bench)


async def test_a_429_is_tried_again_with_the_watermark(bench, ways):
    watermark = now_ms() - 100
    bench.see("a", Status.STABLE, watermark)
    await vouch(ways)
    bench.upstream.script.append(answer(429, b"slow down", reason=b"Too Many Requests"))
    got = await ways.ask(message())
    assert taken(bench) == 1
    assert b"x-layer-consistency: filtered\r\n" in got
    assert got.startswith(b"HTTP/1.1 200 OK\r\n")
    assert len(bench.upstream.requests) == 4
    assert b'"_hevlayer_upserted_at","Lte",%d' % watermark in bench.upstream.requests[3].body
    assert at_rest(bench)


async def test_a_client_that_leaves_does_not_stop_its_query(bench, ways, open_ways):
    await vouch(ways)
    gate = asyncio.Event()
    bench.upstream.script.append(Canned(answer(200, ROWS).raw, before=gate))
    ways.writer.write(message())
    await bench.upstream.arrived(3)
    assert taken(bench) == 1
    ways.writer.transport.abort()
    other = await open_ways(bench)
    await other.ask(message())
    assert not at_rest(bench)
    gate.set()
    await eventually(lambda: at_rest(bench))
    assert bench.access_log.count(b'"status":200') == 4


async def test_a_client_that_leaves_before_an_unusual_answer_leaves_nothing_behind(bench, ways):
    await vouch(ways)
    gate = asyncio.Event()
    bench.upstream.script.append(Canned(answer(503, b"busy").raw, before=gate))
    ways.writer.write(message())
    await bench.upstream.arrived(3)
    ways.writer.transport.abort()
    await eventually(lambda: all(each.disconnected for each in bench.gateway._server._connections))
    gate.set()
    await eventually(lambda: at_rest(bench))
    assert bench.access_log.count(b'"status":503') == 1


async def test_pipelined_queries_are_answered_in_order(bench, ways):
    await vouch(ways)
    for number in range(40):
        bench.upstream.script.append(answer(200 if number % 7 else 503, b"[%d]" % number))
    ways.writer.write(message() * 40)
    for number in range(40):
        assert (await ways.read()).endswith(b"\r\n\r\n[%d]" % number)
    assert taken(bench) == 1
    assert ways.general == 1


async def test_a_drain_lets_a_query_finish_and_closes(bench, ways):
    await vouch(ways)
    gate = asyncio.Event()
    bench.upstream.script.append(Canned(answer(200, ROWS).raw, before=gate))
    ways.writer.write(message())
    await bench.upstream.arrived(3)
    assert taken(bench) == 1
    stopping = asyncio.ensure_future(bench.gateway.stop())
    await eventually(lambda: bench.gateway.drain_state.draining and bench.gateway._server.draining)
    gate.set()
    assert b"connection: close\r\n" in await ways.read()
    await stopping
    assert at_rest(bench)


async def test_a_gateway_that_stops_takes_nothing_on(bench, ways):
    await vouch(ways)
    await ways.ask(message())
    assert taken(bench) == 1
    state = bench.gateway.drain_state
    state.phase = type(state.phase).REFUSING
    assert (await ways.ask(message())).startswith(b"HTTP/1.1 503 ")
    assert taken(bench) == 1


async def test_a_stop_does_not_wait_for_a_query_that_hangs(benches, open_ways):
    bench = await benches(drain_seconds=0.05)
    bench.upstream.default = answer(200, ROWS)
    ways = await open_ways(bench)
    await vouch(ways)
    bench.upstream.script.append(Canned(before=asyncio.Event()))
    ways.writer.write(message())
    await bench.upstream.arrived(3)
    assert taken(bench) == 1
    async with asyncio.timeout(10):
        await bench.gateway.stop()
    assert at_rest(bench)


async def test_a_client_that_does_not_read_is_waited_for(bench, ways):
    bench.upstream.default = answer(200, b'{"rows":["' + b"x" * 900_000 + b'"]}')
    await vouch(ways)
    expected = await ways.ask(message())
    for _ in range(3):
        ways.writer.write(message())
    await bench.upstream.arrived(4)
    await asyncio.sleep(0.05)
    assert [await ways.read() for _ in range(3)] == [expected] * 3
    assert taken(bench) >= 2
    assert await ways.ask(message()) == expected


async def test_a_fault_of_our_own_is_answered(bench, ways, monkeypatch):
    await vouch(ways)

    def broken(_connection: ServerConnection) -> bytes:
        raise RuntimeError("broken on purpose")

    monkeypatch.setattr(ServerConnection, "connection_line", broken)
    got = await ways.ask(message())
    assert got.startswith(b"HTTP/1.1 500 ")
    assert taken(bench) == 1
    assert at_rest(bench)
