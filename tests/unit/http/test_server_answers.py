"""How answers are written: framing, order, keep-alive, back-pressure, breaking off."""

import asyncio
import logging
from collections.abc import AsyncIterator

import orjson
import pytest
from http_stage import Raw, Stage, describe, until

from hevlayer.http.messages import Request, Response
from hevlayer.http.server import AbortConnection

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
DATE = b"Tue, 14 Nov 2023 22:13:20 GMT"


async def parts(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        await asyncio.sleep(0)
        yield chunk


def answering(response: Response) -> "object":
    async def handler(request: Request) -> Response:
        return response

    return handler


@pytest.mark.parametrize(
    ("method", "response", "headers", "body"),
    [
        ("GET", Response(200, [], b"abc"), {b"content-length": b"3"}, b"abc"),
        ("GET", Response(200, [], b""), {b"content-length": b"0"}, b""),
        ("GET", Response(200, [], b"x" * 100_000), {b"content-length": b"100000"}, b"x" * 100_000),
        ("GET", Response(200, [], [b"a", b"", b"bc"]), {b"content-length": b"3"}, b"abc"),
        ("GET", Response(200, [(b"content-length", b"9")], b"abc"), {b"content-length": b"3"}, b"abc"),
        ("GET", Response(200, [(b"date", b"then")], b""), {b"content-length": b"0", b"date": b"then"}, b""),
        ("GET", Response(299, [(b"connection", b"x"), (b"a", b"b")], b""), {b"content-length": b"0", b"a": b"b"}, b""),
        ("HEAD", Response(200, [], b"abc"), {b"content-length": b"3"}, b""),
        ("HEAD", Response(200, [], [b"abc"]), {b"content-length": b"3"}, b""),
        ("HEAD", Response(200, [(b"content-length", b"77")], b""), {b"content-length": b"77"}, b""),
        ("GET", Response(204, [], b"ignored"), {}, b""),
        ("GET", Response(304, [(b"content-length", b"7"), (b"a", b"b")]), {b"content-length": b"7", b"a": b"b"}, b""),
        ("GET", Response(304, []), {}, b""),
    ],
)  # fmt: skip
async def test_bodies_in_memory(
    stage: Stage, method: str, response: Response, headers: dict[bytes, bytes], body: bytes
) -> None:
    raw = await stage.raw(await stage.serve(answering(response)))
    for _ in range(2):
        await raw.send(GET.replace(b"GET", method.encode()))
        got = await raw.answer(head_only=method == "HEAD")
        assert got == (response.status, {b"date": DATE} | headers, body)


async def test_iterators_are_chunked_or_as_long_as_declared(stage: Stage) -> None:
    async def handler(request: Request) -> Response:
        headers = [(b"content-length", b"3")] if request.path == "/length" else []
        return Response(200, headers, parts(b"a", b"", b"bc"))

    raw = await stage.raw(await stage.serve(handler))
    await raw.send(GET + GET.replace(b"/ ", b"/length "))
    assert await raw.answer() == (200, {b"date": DATE, b"transfer-encoding": b"chunked"}, b"abc")
    assert await raw.answer() == (200, {b"date": DATE, b"content-length": b"3"}, b"abc")
    await raw.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    assert await raw.answer() == (200, {b"date": DATE, b"connection": b"close"}, b"abc")


@pytest.mark.parametrize(
    ("request_head", "connection"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", None),
        (b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"close"),
        (b"GET / HTTP/1.0\r\n\r\n", b"close"),
        (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", b"keep-alive"),
    ],
)
async def test_keep_alive(stage: Stage, request_head: bytes, connection: bytes | None) -> None:
    raw = await stage.raw(await stage.serve(describe))
    await raw.send(request_head)
    assert (await raw.answer())[1].get(b"connection") == connection
    if connection == b"close":
        assert await raw.read_all() == b""
    else:
        await raw.send(request_head)
        assert (await raw.answer())[0] == 200


async def test_pipelined_requests_are_answered_in_order(stage: Stage) -> None:
    release = asyncio.Event()

    async def handler(request: Request) -> Response:
        if request.path == "/0":
            await release.wait()
        return Response(200, [], request.path.encode())

    raw = await stage.raw(await stage.serve(handler))
    await raw.send(b"".join(GET.replace(b"/ ", b"/%d " % number) for number in range(50)))
    release.set()
    assert [(await raw.answer())[2] for _ in range(50)] == [b"/%d" % number for number in range(50)]


async def test_too_many_pipelined_requests_end_the_connection_after_the_answers(stage: Stage) -> None:
    raw = await stage.raw(await stage.serve(describe, pipelined_requests_max=3))
    await raw.send(GET * 10)
    assert [(await raw.answer())[0] for _ in range(5)] == [200, 200, 200, 200, 503]
    assert await raw.read_all() == b""


async def test_a_bad_request_behind_a_good_one_is_refused_in_its_turn(stage: Stage) -> None:
    release = asyncio.Event()

    async def handler(request: Request) -> Response:
        await release.wait()
        return Response(200)

    raw = await stage.raw(await stage.serve(handler))
    await raw.send(GET + b"nonsense\r\n\r\n")
    release.set()
    assert [(await raw.answer())[0] for _ in range(2)] == [200, 400]
    assert await raw.read_all() == b""


async def test_a_handler_that_raises_gives_a_500_that_says_nothing(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(request: Request) -> Response:
        raise RuntimeError("secret")

    raw = await stage.raw(await stage.serve(handler))
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            await raw.send(GET)
            status, _, body = await raw.answer()
            assert status == 500
            assert b"secret" not in body
            assert orjson.loads(body)["error"] == "internal_error"
    assert [record.message for record in caplog.records] == ["handler failed"] * 2


@pytest.mark.parametrize(
    "response", [Response(200, [(b"a", b"b\r\nc: d")]), Response(200, [(b"a\n", b"b")]), Response(42)]
)
async def test_an_answer_that_would_break_its_framing_is_not_sent(stage: Stage, response: Response) -> None:
    raw = await stage.raw(await stage.serve(answering(response)))
    await raw.send(GET)
    assert (await raw.read_all()) == b""


@pytest.mark.parametrize("reset", [True, False])
async def test_a_handler_may_break_the_connection(stage: Stage, reset: bool) -> None:
    async def handler(request: Request) -> Response:
        raise AbortConnection(reset=reset)

    raw = await stage.raw(await stage.serve(handler))
    await raw.send(GET)
    if reset:
        with pytest.raises(ConnectionResetError):
            await raw.read_all()
    else:
        assert await raw.read_all() == b""


@pytest.mark.parametrize("headers", [[], [(b"content-length", b"100")]])
@pytest.mark.parametrize("error", [RuntimeError("x"), AbortConnection(), AbortConnection(reset=False)])
async def test_a_body_that_breaks_off_is_never_taken_for_a_whole_one(
    stage: Stage, headers: list[tuple[bytes, bytes]], error: Exception
) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"abc"
        await asyncio.sleep(0.01)
        raise error

    raw = await stage.raw(await stage.serve(answering(Response(200, headers, body()))))
    await raw.send(GET)
    try:
        received = await raw.read_all()
    except ConnectionResetError:
        assert not isinstance(error, AbortConnection) or error.reset
        return
    assert not received.endswith(b"\r\n0\r\n\r\n")
    assert len(received) < 300
    if isinstance(error, AbortConnection) and not error.reset:
        assert b"abc" in received


@pytest.mark.parametrize("chunks", [(b"abcd",), (b"a", b"bcd"), (b"ab",)])
async def test_a_body_of_another_length_than_declared_ends_the_connection(
    stage: Stage, chunks: tuple[bytes, ...]
) -> None:
    raw = await stage.raw(await stage.serve(answering(Response(200, [(b"content-length", b"3")], parts(*chunks)))))
    await raw.send(GET)
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await raw.answer()


async def test_a_client_that_goes_away_closes_the_body_iterator(stage: Stage) -> None:
    closed = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        try:
            yield b"first"
            await asyncio.Event().wait()
        finally:
            closed.set()

    server = await stage.serve(answering(Response(200, [], body())))
    raw = await stage.raw(server)
    await raw.send(GET)
    await raw.reader.readuntil(b"first")
    raw.writer.transport.abort()
    async with asyncio.timeout(10):
        await closed.wait()
    await until(lambda: server.inflight == 0)


async def test_a_body_iterator_waits_for_a_slow_reader(stage: Stage) -> None:
    produced = 0
    chunk = b"x" * 65536

    async def body() -> AsyncIterator[bytes]:
        nonlocal produced
        for _ in range(1000):
            produced += 1
            yield chunk

    raw = await stage.raw(await stage.serve(answering(Response(200, [], body())), write_buffer_bytes=65536))
    raw.writer.transport.pause_reading()  # type: ignore[attr-defined]
    await raw.send(GET)
    seen = -1
    while seen != produced:
        seen = produced
        await asyncio.sleep(0.05)
    assert 0 < produced < 900
    raw.writer.transport.resume_reading()  # type: ignore[attr-defined]
    assert len((await raw.answer())[2]) == 1000 * len(chunk)


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_client_that_never_reads_is_dropped(stage: Stage, streamed: bool) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 65536

    body = endless() if streamed else b"x" * 50_000_000
    server = await stage.serve(answering(Response(200, [], body)), write_stall_timeout_seconds=5)
    raw = await stage.raw(server)
    raw.writer.transport.pause_reading()  # type: ignore[attr-defined]
    await raw.send(GET)
    for _ in range(300):
        stage.clock.seconds += 1
        await asyncio.sleep(0.01)
        if not server.connections:
            break
    await until(lambda: (server.connections, server.inflight) == (0, 0))


async def test_the_handler_outlives_its_client_unless_it_asks_otherwise(stage: Stage) -> None:
    log: list[str] = []
    gate = asyncio.Event()

    async def handler(request: Request) -> Response:
        log.append("started")
        if request.path == "/read":
            request.cancel_on_disconnect()
        try:
            await gate.wait()
        except asyncio.CancelledError:
            log.append("cancelled")
            raise
        log.append(f"finished, disconnected={request.disconnected}")
        return Response(200)

    server = await stage.serve(handler)
    for path in (b"/read", b"/write"):
        raw = await stage.raw(server)
        await raw.send(GET.replace(b"/ ", path + b" "))
        await until(lambda: log[-1:] == ["started"])
        await raw.close()
        if path == b"/read":
            await until(lambda: log[-1] == "cancelled")
    await asyncio.sleep(0.05)
    gate.set()
    await until(lambda: server.inflight == 0)
    assert log == ["started", "cancelled", "started", "finished, disconnected=True"]


async def test_a_half_closed_client_still_gets_its_answer(stage: Stage) -> None:
    async def handler(request: Request) -> Response:
        await until(lambda: request.disconnected)
        return Response(200, [], b"late")

    raw = await stage.raw(await stage.serve(handler))
    await raw.send(GET)
    raw.writer.write_eof()
    assert (await raw.answer())[2] == b"late"
    assert await raw.read_all() == b""


async def test_too_many_connections_get_a_503(stage: Stage) -> None:
    server = await stage.serve(describe, connections_max=2)
    kept = [await stage.raw(server) for _ in range(2)]
    for raw in kept:
        await raw.send(GET)
        assert (await raw.answer())[0] == 200
    refused = await stage.raw(server)
    assert (await refused.answer())[0] == 503
    assert await refused.read_all() == b""
    await kept[0].close()
    await refused.close()
    await until(lambda: server.connections == 1)
    again = await stage.raw(server)
    await again.send(GET)
    assert (await again.answer())[0] == 200


async def test_drain_finishes_what_runs_and_closes_what_idles(stage: Stage) -> None:
    gate = asyncio.Event()

    async def handler(request: Request) -> Response:
        if request.path == "/slow":
            await gate.wait()
        return Response(200)

    server = await stage.serve(handler)
    idle, slow = await stage.raw(server), await stage.raw(server)
    await idle.send(GET)
    await idle.answer()
    await slow.send(GET.replace(b"/ ", b"/slow "))
    await until(lambda: server.inflight == 1)
    assert await server.drain(0.01) is False
    assert await idle.read_all() == b""
    draining = asyncio.ensure_future(server.drain(10))
    await asyncio.sleep(0)
    gate.set()
    assert await draining is True
    assert (await slow.answer())[1][b"connection"] == b"close"
    assert await slow.read_all() == b""
    with pytest.raises(ConnectionRefusedError):
        await Raw.open(server.port)


async def test_close_cancels_what_still_runs(stage: Stage) -> None:
    cancelled = asyncio.Event()

    async def handler(request: Request) -> Response:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return Response(200)

    server = await stage.serve(handler)
    raw = await stage.raw(server)
    await raw.send(GET)
    await until(lambda: server.inflight == 1)
    await server.close()
    assert cancelled.is_set()
    assert (server.inflight, server.connections) == (0, 0)


@pytest.mark.parametrize(
    ("sent", "seconds", "status"),
    [
        (b"", 76, None),
        (GET, 76, None),
        (b"GET / HT", 21, 408),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab", 31, 408),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5000000\r\n\r\nab", 31, 500),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", 31, 500),
    ],
)
async def test_clients_that_say_nothing_more_are_let_go(
    stage: Stage, sent: bytes, seconds: float, status: int | None
) -> None:
    server = await stage.serve(describe)
    raw = await stage.raw(server)
    await raw.send(sent)
    if sent == GET:
        await raw.answer()
    await until(lambda: server.connections == 1)
    await asyncio.sleep(0.03)
    stage.clock.seconds += seconds - 2
    await asyncio.sleep(0.03)
    assert server.connections == 1
    stage.clock.seconds += 2
    if status is not None:
        assert (await raw.answer())[0] == status
    assert await raw.read_all() == b""


async def test_a_body_that_trickles_has_a_whole_time(stage: Stage) -> None:
    server = await stage.serve(describe, whole_body_timeout_seconds=50)
    raw = await stage.raw(server)
    await raw.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n")
    for _ in range(6):
        await raw.send(b"a")
        await asyncio.sleep(0.03)
        stage.clock.seconds += 10
    assert (await raw.answer())[0] == 408
