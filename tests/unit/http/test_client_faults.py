"""Peers that refuse, hang, reset, lie and close: which error comes, and that nothing is left behind."""

import asyncio
import contextlib
import os
import random
import socket
import struct
import threading
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from http_stage import Raw, Stage, until

from hevlayer.http.errors import (
    AbortConnection,
    ConnectError,
    ConnectionReset,
    ConnectTimeout,
    FirstByteTimeout,
    HttpClientError,
    PoolTimeout,
    ProtocolError,
    TotalTimeout,
    TruncatedBody,
)
from hevlayer.http.messages import Request, Response

OK = b"HTTP/1.1 200 OK\r\n"
Script = Callable[[Raw], Awaitable[None]]


def reset(raw: Raw) -> None:
    fd = os.dup(raw.writer.get_extra_info("socket").fileno())
    with socket.socket(fileno=fd) as twin:
        twin.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raw.writer.transport.abort()


def saying(answer: bytes, *, then: str = "close") -> Script:
    async def script(raw: Raw) -> None:
        await raw.reader.readuntil(b"\r\n\r\n")
        await raw.send(answer)
        if then == "reset":
            # The bytes must have left before the reset overtakes them.
            await asyncio.sleep(0.02)
            reset(raw)
        elif then == "hang":
            await raw.reader.read(-1)

    return script


BROKEN: dict[str, tuple[bytes, type[HttpClientError]]] = {
    "closed without a word": (b"", ConnectionReset),
    "closed within the head": (b"HTTP/1.1 200 O", ConnectionReset),
    "garbage": (b"SSH-2.0-OpenSSH_9.6\r\n", ProtocolError),
    "TLS record": (b"\x15\x03\x01\x00\x02\x02\x46", ProtocolError),
    "another version": (b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n", ProtocolError),
    "content-length twice": (OK + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", ProtocolError),
    "content-lengths differ": (OK + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", ProtocolError),
    "content-length negative": (OK + b"Content-Length: -3\r\n\r\nabc", ProtocolError),
    "content-length no number": (OK + b"Content-Length: abc\r\n\r\nabc", ProtocolError),
    "both framings": (OK + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", ProtocolError),
    "coded body": (OK + b"Transfer-Encoding: gzip\r\n\r\nabc", ProtocolError),
    "folded header": (OK + b"A: b\r\n c\r\n\r\n", ProtocolError),
    "header too long": (OK + b"A: " + b"b" * 500_000, ProtocolError),
    "headers too many": (OK + b"A: b\r\n" * 300 + b"\r\n", ProtocolError),
    "endless interim answers": (b"HTTP/1.1 102 P\r\n\r\n" * 100_000, ProtocolError),
    "switching protocols": (b"HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", ProtocolError),
    "bare line feeds": (OK + b"Content-Length: 0\n\n", ProtocolError),
    "body too short": (OK + b"Content-Length: 5\r\n\r\nabc", TruncatedBody),
    "no last chunk": (OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", TruncatedBody),
    "chunk too short": (OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nabc", TruncatedBody),
    "chunk size broken": (OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n", ProtocolError),
    "chunk too long": (OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nabcdef\r\n", ProtocolError),
    "endless extension": (OK + b"Transfer-Encoding: chunked\r\n\r\n2;" + b"e" * 500_000, ProtocolError),
}


@pytest.mark.parametrize(("answer", "error"), BROKEN.values(), ids=BROKEN.keys())
@pytest.mark.parametrize("then", ["close", "reset"])
async def test_broken_answers(stage: Stage, answer: bytes, error: type[HttpClientError], then: str) -> None:
    client = stage.client(await stage.peer(saying(answer, then=then)))
    with pytest.raises(error) as raised:
        await client.request("POST", b"/", [], b"x")
    assert type(raised.value) is error
    assert (raised.value.sent, raised.value.outcome_known) == (True, False)
    assert client.connections == 0


@pytest.mark.parametrize("then", ["close", "reset"])
@pytest.mark.parametrize(
    "answer",
    [OK + b"Content-Length: 50\r\n\r\n" + b"x" * 20, OK + b"Transfer-Encoding: chunked\r\n\r\n14\r\n" + b"x" * 20],
)
async def test_streams_that_break_off(stage: Stage, answer: bytes, then: str) -> None:
    client = stage.client(await stage.peer(saying(answer, then=then)))
    response = await client.request("GET", b"/", [], max_buffer_bytes=10)
    assert response.stream is not None
    with pytest.raises(TruncatedBody):
        await response.stream.read(100)
    with pytest.raises(TruncatedBody):
        await anext(response.stream)


async def test_a_reset_body_without_a_length_is_truncated(stage: Stage) -> None:
    client = stage.client(await stage.peer(saying(OK + b"\r\nabc", then="reset")))
    with pytest.raises(TruncatedBody):
        await client.request("GET", b"/", [])


@pytest.mark.parametrize(
    ("script", "seconds", "error"),
    [
        (saying(b"", then="hang"), 61, FirstByteTimeout),
        (saying(b"HTTP/1.1 200 O", then="hang"), 61, FirstByteTimeout),
        (saying(b"HTTP/1.1 102 P\r\n\r\n", then="hang"), 61, FirstByteTimeout),
        (saying(OK + b"Content-Length: 5\r\n\r\nab", then="hang"), 31, TotalTimeout),
        (saying(b"", then="hang"), 121, TotalTimeout),
    ],
)
async def test_hanging_peers(stage: Stage, script: Script, seconds: float, error: type[HttpClientError]) -> None:
    client = stage.client(await stage.peer(script))
    task = asyncio.ensure_future(client.request("POST", b"/", [], b"x"))
    await until(lambda: client.connections == 1)
    await asyncio.sleep(0.05)
    stage.clock.seconds += seconds - 2
    if seconds < 100:
        await asyncio.sleep(0.03)
        assert not task.done()
    stage.clock.seconds += 2
    with pytest.raises(error) as raised:
        await task
    assert (raised.value.sent, raised.value.timeout) == (True, True)
    assert client.connections == 0


async def test_a_trickling_answer_ends_with_the_whole_time(stage: Stage) -> None:
    async def trickle(raw: Raw) -> None:
        await raw.reader.readuntil(b"\r\n\r\n")
        await raw.send(OK + b"Content-Length: 5000\r\n\r\n")
        while True:
            await raw.send(b"x")
            await asyncio.sleep(0.01)
            stage.clock.seconds += 1

    client = stage.client(await stage.peer(trickle))
    with pytest.raises(TotalTimeout):
        await client.request("POST", b"/", [], b"x", total_timeout=20)


async def test_a_stream_ends_with_the_whole_time_and_when_it_stalls(stage: Stage) -> None:
    client = stage.client(await stage.peer(saying(OK + b"Content-Length: 5000\r\n\r\nab", then="hang")))
    for seconds in (31, 121):
        response = await client.request("GET", b"/", [], max_buffer_bytes=0)
        assert response.stream is not None
        assert await anext(response.stream) == b"ab"
        stage.clock.seconds += seconds
        with pytest.raises(TotalTimeout):
            await anext(response.stream)
    assert client.connections == 0


async def test_a_stream_nobody_reads_is_dropped(stage: Stage) -> None:
    async def flood(raw: Raw) -> None:
        await raw.reader.readuntil(b"\r\n\r\n")
        await raw.send(OK + b"\r\n")
        while True:
            await raw.send(b"x" * 65536)

    client = stage.client(await stage.peer(flood), total_timeout_seconds=100_000)
    await client.request("GET", b"/", [])
    for _ in range(100):
        stage.clock.seconds += 20
        await asyncio.sleep(0.02)
        if not client.connections:
            break
    assert client.connections == 0


async def test_a_peer_that_takes_no_body(stage: Stage) -> None:
    async def deaf(raw: Raw) -> None:
        raw.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await released.wait()

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 65536

    released = asyncio.Event()
    client = stage.client(await stage.peer(deaf), total_timeout_seconds=100_000)
    for body in (b"x" * 50_000_000, endless()):
        task = asyncio.ensure_future(client.request("POST", b"/", [], body))
        await until(lambda: client.connections == 1)
        for _ in range(200):
            stage.clock.seconds += 2
            await asyncio.sleep(0.01)
            if task.done():
                break
        with pytest.raises(FirstByteTimeout, match="took nothing"):
            await task
    released.set()


async def test_nobody_listens(stage: Stage) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    client = stage.client(port)
    with pytest.raises(ConnectError) as raised:
        await client.request("POST", b"/", [], b"x")
    assert (raised.value.sent, raised.value.outcome_known) == (False, True)


async def test_a_peer_that_does_not_accept(stage: Stage) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        held = []
        # The backlog's places are taken; the next connection gets no answer.
        for _ in range(4):
            other = socket.socket()
            other.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                other.connect(full.getsockname())
            held.append(other)
        client = stage.client(full.getsockname()[1])
        with pytest.raises(ConnectTimeout) as raised:
            await client.request("POST", b"/", [], b"x", connect_timeout=0.05)
        assert raised.value.outcome_known
        for other in held:
            other.close()


@pytest.mark.parametrize(
    ("method", "idempotent", "again"),
    [("GET", None, True), ("POST", True, True), ("POST", None, False), ("GET", False, False)],
)
async def test_a_kept_connection_that_died_is_replaced_for_reads_only(
    stage: Stage, method: str, idempotent: bool | None, again: bool
) -> None:
    seen = []

    async def once(raw: Raw) -> None:
        for last in (False, True):
            seen.append((await raw.reader.readuntil(b"\r\n\r\n")).split()[1])
            if not last:
                await raw.send(OK + b"Content-Length: 0\r\n\r\n")

    client = stage.client(await stage.peer(once))
    await client.request("GET", b"/a", [])
    request = client.request(method, b"/b", [], idempotent=idempotent)
    if again:
        assert (await request).status == 200
        assert seen == [b"/a", b"/b", b"/b"]
    else:
        with pytest.raises(ConnectionReset) as raised:
            await request
        assert raised.value.sent
        assert seen == [b"/a", b"/b"]


async def test_a_fresh_connection_that_dies_is_not_tried_again(stage: Stage) -> None:
    count = 0

    async def script(raw: Raw) -> None:
        nonlocal count
        count += 1
        await raw.reader.readuntil(b"\r\n\r\n")

    client = stage.client(await stage.peer(script))
    with pytest.raises(ConnectionReset):
        await client.request("GET", b"/", [])
    assert count == 1


async def test_a_connection_that_closed_while_idle_is_not_used(stage: Stage) -> None:
    async def script(raw: Raw) -> None:
        await raw.reader.readuntil(b"\r\n\r\n")
        await raw.send(OK + b"Content-Length: 0\r\n\r\n")

    client = stage.client(await stage.peer(script))
    for _ in range(3):
        assert (await client.request("POST", b"/", [])).status == 200
        await until(lambda: client.connections == 0)
    assert client.opened == 3


async def test_a_write_asks_a_long_idle_connection_first(stage: Stage) -> None:
    """The peer lives in a thread, so that it can close while our loop stands still and has not heard of it."""
    closing, closed = threading.Event(), threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))

    def peer() -> None:
        for number in range(2):
            taken, _ = listener.accept()
            with taken:
                taken.recv(65536)
                taken.sendall(OK + b"Content-Length: 1\r\n\r\n%d" % number)
                if not number:
                    closing.wait(10)
            closed.set()

    thread = threading.Thread(target=peer)
    thread.start()
    with listener:
        client = stage.client(listener.getsockname()[1])
        assert (await client.request("POST", b"/", [])).body == b"0"
        stage.clock.seconds += 2
        closing.set()
        assert closed.wait(10)
        assert (await client.request("POST", b"/", [])).body == b"1"
        await asyncio.to_thread(thread.join, 10)


@pytest.mark.parametrize("extra", [b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"H", b"garbage"])
async def test_an_answer_nobody_asked_for_never_answers_the_next_request(stage: Stage, extra: bytes) -> None:
    count = 0

    async def script(raw: Raw) -> None:
        nonlocal count
        count += 1
        await raw.reader.readuntil(b"\r\n\r\n")
        await raw.send(OK + b"Content-Length: 1\r\n\r\n%d" % count + extra)
        await raw.reader.read(-1)

    client = stage.client(await stage.peer(script))
    for number in (b"1", b"2", b"3"):
        assert (await client.request("POST", b"/", [])).body == number
    assert client.connections == 0


async def test_bytes_on_an_idle_connection_close_it(stage: Stage) -> None:
    async def script(raw: Raw) -> None:
        await raw.reader.readuntil(b"\r\n\r\n")
        await raw.send(OK + b"Content-Length: 0\r\n\r\n")
        await asyncio.sleep(0.02)
        await raw.send(OK + b"Content-Length: 0\r\n\r\n")
        await raw.reader.read(-1)

    client = stage.client(await stage.peer(script))
    await client.request("POST", b"/", [])
    assert client.connections == 1
    await until(lambda: client.connections == 0)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200", OK + b"Content-Length: 5\r\n\r\nab"])
async def test_a_cancelled_request_closes_its_connection(stage: Stage, answer: bytes) -> None:
    closed = asyncio.Event()

    async def script(raw: Raw) -> None:
        await raw.reader.readuntil(b"\r\n\r\n")
        await raw.send(answer)
        await raw.reader.read(-1)
        closed.set()

    client = stage.client(await stage.peer(script))
    task = asyncio.ensure_future(client.request("GET", b"/", []))
    await until(lambda: client.connections == 1)
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(10):
        await closed.wait()
    assert client.connections == 0


async def test_a_reader_that_is_cancelled_closes_its_stream(stage: Stage) -> None:
    client = stage.client(await stage.peer(saying(OK + b"\r\nab", then="hang")))
    response = await client.request("GET", b"/", [], max_buffer_bytes=0)
    assert response.stream is not None
    task = asyncio.ensure_future(response.stream.read(100))
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert client.connections == 0


class TestPool:
    @staticmethod
    async def slow(stage: Stage, gate: asyncio.Event, **limits: float):  # type: ignore[no-untyped-def]
        async def handler(request: Request) -> Response:
            await gate.wait()
            return Response(200)

        server = await stage.serve(handler)
        return server, stage.client(server.port, **limits)

    async def test_waiting_is_bounded_in_number_and_time(self, stage: Stage) -> None:
        gate = asyncio.Event()
        _, client = await self.slow(stage, gate, connections_max=2, waiters_max=3)
        tasks = [asyncio.ensure_future(client.request("POST", b"/", [])) for _ in range(5)]
        await until(lambda: client.waiting == 3)
        with pytest.raises(PoolTimeout, match="already wait") as raised:
            await client.request("POST", b"/", [])
        assert raised.value.outcome_known
        stage.clock.seconds += 11
        for task in tasks[2:]:
            with pytest.raises(PoolTimeout, match="all busy"):
                await task
        gate.set()
        assert [(await task).status for task in tasks[:2]] == [200, 200]
        assert (client.waiting, client.idle) == (0, 2)

    async def test_connections_go_from_hand_to_hand(self, stage: Stage) -> None:
        gate = asyncio.Event()
        _, client = await self.slow(stage, gate, connections_max=2)
        tasks = [asyncio.ensure_future(client.request("POST", b"/", [])) for _ in range(20)]
        await until(lambda: client.waiting == 18)
        tasks[5].cancel()
        gate.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert sum(isinstance(result, asyncio.CancelledError) for result in results) == 1
        assert (client.opened, client.idle, client.waiting) == (2, 2, 0)

    async def test_a_waiter_gets_the_place_of_a_connection_that_died(self, stage: Stage) -> None:
        async def script(raw: Raw) -> None:
            await raw.reader.readuntil(b"\r\n\r\n")
            await asyncio.sleep(0.01)

        client = stage.client(await stage.peer(script), connections_max=1)
        results = await asyncio.gather(*(client.request("POST", b"/", []) for _ in range(5)), return_exceptions=True)
        assert [type(result) for result in results] == [ConnectionReset] * 5
        assert client.opened == 5

    async def test_close_fails_what_is_under_way(self, stage: Stage) -> None:
        _, client = await self.slow(stage, asyncio.Event(), connections_max=1)
        tasks = [asyncio.ensure_future(client.request("POST", b"/", [])) for _ in range(3)]
        await until(lambda: client.waiting == 2 and client.connections == 1)
        await client.close()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(result) for result in results] == [ConnectionReset, ConnectError, ConnectError]
        with pytest.raises(ConnectError):
            await client.request("GET", b"/", [])


async def test_soak_of_mixed_requests_and_faults_leaves_nothing_behind(stage: Stage) -> None:
    """2,000 requests of every shape against faults of every kind, some of them cancelled."""
    rng = random.Random(20)
    total = 2000

    async def chunks(count: int, fault: Exception | None) -> AsyncIterator[bytes]:
        for _ in range(count):
            yield b"y" * 5000
        if fault is not None:
            raise fault

    async def handler(request: Request) -> Response:
        kind = request.path
        if kind == "/reset":
            raise AbortConnection
        if kind == "/close":
            raise AbortConnection(reset=False)
        if kind == "/hang":
            await asyncio.sleep(0.05)
        if kind == "/early":
            return Response(413)
        body = await request.body.read(1 << 24)
        if kind == "/truncated":
            return Response(200, [(b"content-length", b"50000")], chunks(5, AbortConnection(reset=False)))
        if kind == "/broken":
            return Response(200, [], chunks(5, AbortConnection()))
        if kind == "/stream":
            return Response(200, [], chunks(50, None))
        return Response(200, [], str(len(body)).encode())

    server = await stage.serve(handler, whole_body_bytes_max=20_000)
    client = stage.client(server.port, connections_max=20)
    kinds = [b"/ok"] * 6 + [b"/reset", b"/close", b"/hang", b"/early", b"/truncated", b"/broken", b"/stream"]
    outcomes: dict[str, int] = {}

    async def one(number: int) -> None:
        kind = rng.choice(kinds)
        size = rng.choice([0, 100, 30_000, 100_000])
        body: bytes | AsyncIterator[bytes] = b"z" * size
        if rng.random() < 0.3:
            body = chunks(size // 5000, None)
        try:
            async with asyncio.timeout(rng.choice([None, None, None, 0.03])):
                answer = await client.request("POST", kind, [], body, max_buffer_bytes=60_000)
                data = b""
                if answer.stream is not None:
                    async with answer.stream as stream:
                        if rng.random() < 0.5:
                            data = await stream.read(1 << 24)
                        else:
                            await anext(stream)
                else:
                    data = answer.body or b""
                if kind == b"/ok":
                    assert data == str(size if isinstance(body, bytes) else size // 5000 * 5000).encode()
                assert kind not in (b"/reset", b"/close", b"/truncated", b"/broken")
                outcome = str(answer.status)
        except (HttpClientError, TimeoutError) as error:
            outcome = type(error).__name__
            if kind == b"/ok" and outcome not in ("TimeoutError", "PoolTimeout"):
                raise
        outcomes[outcome] = outcomes.get(outcome, 0) + 1

    for start in range(0, total, 100):
        await asyncio.gather(*(one(number) for number in range(start, start + 100)))
    assert sum(outcomes.values()) == total
    assert {"200", "413", "ConnectionReset", "TruncatedBody", "TimeoutError"} <= set(outcomes)
    await until(lambda: server.inflight == 0)
    await until(lambda: client.connections == client.idle)
    assert client.waiting == 0
    await client.close()
    await until(lambda: server.connections == 0)
