"""Request bodies: whole or arriving, asked for, unread, cut off."""

import asyncio

import pytest
from http_stage import Stage, until

from hevlayer.errors import BadRequestError, PayloadTooLargeError, RequestTimeoutError
from hevlayer.http.messages import Request, Response
from hevlayer.http.request_body import BUFFER_BYTES_MAX

HEAD = b"POST / HTTP/1.1\r\nHost: x\r\n"


async def test_small_bodies_are_whole_and_large_ones_arrive(stage: Stage) -> None:
    kinds = []

    async def handler(request: Request) -> Response:
        kinds.append((request.body.whole is not None, request.body.content_length))
        return Response(200, [], str(len(await request.body.read(1 << 20))).encode())

    raw = await stage.raw(await stage.serve(handler, whole_body_bytes_max=1000))
    for size in (0, 1000, 1001, 200_000):
        await raw.send(HEAD + b"Content-Length: %d\r\n\r\n" % size + b"x" * size)
        assert (await raw.answer())[2] == b"%d" % size
    await raw.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
    assert (await raw.answer())[2] == b"0"
    assert kinds == [(True, 0), (True, 1000), (False, 1001), (False, 200_000), (False, None)]


@pytest.mark.parametrize(
    ("head", "framed"),
    [
        (b"POST / HTTP/1.0\r\nContent-Length: 300000\r\n\r\n", False),
        (HEAD + b"Connection: close\r\nContent-Length: 300000\r\n\r\n", False),
        (HEAD + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n", True),
    ],
)
@pytest.mark.parametrize("trailing", [b"", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"])
async def test_the_last_body_of_a_connection_is_read_to_its_end(
    stage: Stage, head: bytes, framed: bool, trailing: bytes
) -> None:
    calls = 0

    async def handler(request: Request) -> Response:
        nonlocal calls
        calls += 1
        return Response(200, [], str(len(await request.body.read(1 << 20))).encode())

    raw = await stage.raw(await stage.serve(handler, whole_body_bytes_max=1000))
    await raw.send(head)
    for _ in range(3):
        await asyncio.sleep(0.01)
        await raw.send(b"186a0\r\n" + b"x" * 100_000 + b"\r\n" if framed else b"x" * 100_000)
    await raw.send((b"0\r\n\r\n" if framed else b"") + trailing)
    assert (await raw.answer())[2] == b"300000"
    assert await raw.read_all() == b""
    assert calls == 1


async def test_a_body_that_nobody_reads_stops_the_socket(stage: Stage) -> None:
    gate = asyncio.Event()
    bodies = []

    async def handler(request: Request) -> Response:
        bodies.append(request.body)
        await gate.wait()
        return Response(200, [], str(len(await request.body.read(1 << 30))).encode())

    raw = await stage.raw(await stage.serve(handler))
    size = 40_000_000
    await raw.send(HEAD + b"Content-Length: %d\r\n\r\n" % size)
    sending = asyncio.ensure_future(raw.send(b"x" * size))
    await until(lambda: bool(bodies) and bodies[0].full)
    await asyncio.sleep(0.05)
    assert bodies[0].size < BUFFER_BYTES_MAX + 512 * 1024
    gate.set()
    assert (await raw.answer())[2] == b"%d" % size
    await sending


@pytest.mark.parametrize("framing", [b"Content-Length: 2000000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n"])
async def test_a_body_over_the_limit_is_refused_and_the_client_sees_the_answer(stage: Stage, framing: bytes) -> None:
    async def handler(request: Request) -> Response:
        try:
            await request.body.read(100_000)
        except PayloadTooLargeError as error:
            return Response(413, [], error.message.encode())
        return Response(200)

    server = await stage.serve(handler)
    raw = await stage.raw(server)
    chunk = b"x" * 2_000_000 if b"Length" in framing else b"7d0\r\n" + b"x" * 2000 + b"\r\n"
    sending = asyncio.ensure_future(raw.send(HEAD + framing + chunk * (1 if b"Length" in framing else 1000)))
    status, headers, body = await raw.answer()
    assert (status, headers[b"connection"]) == (413, b"close")
    assert b"at most 100000 bytes" in body
    await sending
    await asyncio.sleep(0.03)
    stage.clock.seconds += 3
    await until(lambda: server.connections == 0)


async def test_an_unread_small_rest_is_read_away(stage: Stage) -> None:
    async def handler(request: Request) -> Response:
        return Response(200, [], request.path.encode())

    raw = await stage.raw(await stage.serve(handler, whole_body_bytes_max=10))
    for _ in range(3):
        await raw.send(HEAD + b"Content-Length: 100000\r\n\r\n" + b"x" * 50_000)
        status, headers, _ = await raw.answer()
        assert (status, b"connection" in headers) == (200, False)
        await raw.send(b"x" * 50_000)


async def test_the_client_is_told_to_go_on_when_the_body_is_wanted(stage: Stage) -> None:
    async def handler(request: Request) -> Response:
        if request.path == "/no":
            return Response(401)
        return Response(200, [], await request.body.read(100))

    server = await stage.serve(handler)
    raw = await stage.raw(server)
    expecting = HEAD + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\n"
    for _ in range(2):
        await raw.send(expecting)
        assert (await raw.answer())[0] == 100
        await raw.send(b"abc")
        assert (await raw.answer())[2] == b"abc"
    await raw.send(expecting + b"abc")
    assert (await raw.answer())[2] == b"abc"
    await raw.send(expecting.replace(b"/ ", b"/no "))
    status, headers, _ = await raw.answer()
    assert (status, headers[b"connection"]) == (401, b"close")


async def test_an_answer_made_from_an_expected_body_asks_for_it_first(stage: Stage) -> None:
    async def handler(request: Request) -> Response:
        return Response(200, [], request.body.chunks())

    raw = await stage.raw(await stage.serve(handler))
    await raw.send(HEAD + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\n")
    assert (await raw.answer())[0] == 100
    await raw.send(b"abc")
    assert (await raw.answer())[2] == b"abc"


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 2000000\r\n\r\nab", b"Transfer-Encoding: chunked\r\n\r\n5\r\nab"]
)
@pytest.mark.parametrize("abort", [True, False])
async def test_a_client_that_leaves_mid_body_is_an_error_for_the_reader(
    stage: Stage, framing: bytes, abort: bool
) -> None:
    errors: list[Exception] = []

    async def handler(request: Request) -> Response:
        try:
            await request.body.read(1 << 30)
        except BadRequestError as error:
            errors.append(error)
        return Response(200)

    server = await stage.serve(handler)
    raw = await stage.raw(server)
    await raw.send(HEAD + framing)
    await until(lambda: server.inflight == 1)
    if abort:
        raw.writer.transport.abort()
    else:
        await raw.close()
    await until(lambda: server.inflight == 0 and server.connections == 0)
    assert len(errors) == 1


async def test_a_client_that_leaves_before_a_small_body_is_complete_reaches_no_handler(stage: Stage) -> None:
    called = []

    async def handler(request: Request) -> Response:
        called.append(request)
        return Response(200)

    server = await stage.serve(handler)
    raw = await stage.raw(server)
    await raw.send(HEAD + b"Content-Length: 5\r\n\r\nab")
    await until(lambda: server.connections == 1)
    await raw.close()
    await until(lambda: server.connections == 0)
    assert called == []


async def test_a_body_that_trickles_is_given_up(stage: Stage) -> None:
    async def handler(request: Request) -> Response:
        try:
            return Response(200, [], str(len(await request.body.read(1 << 24))).encode())
        except RequestTimeoutError as error:
            return Response(error.status, [], error.message.encode())

    server = await stage.serve(handler, body_grace_seconds=100.0, body_bytes_per_second_min=1000)
    slow, quick = await stage.raw(server), await stage.raw(server)
    size = 3_000_000
    for raw in (slow, quick):
        await raw.send(HEAD + b"Content-Length: %d\r\n\r\n" % size)
    for _ in range(6):
        # Never silent for long enough to count as stalled.
        for raw, part in ((slow, b"x"), (quick, b"x" * (size // 6))):
            await raw.send(part)
        await asyncio.sleep(0.03)
        stage.clock.seconds += 20.0
        await asyncio.sleep(0.03)
    status, _, told = await slow.answer()
    assert (status, told) == (408, b"request body: fewer than 1000 bytes a second")
    assert (await quick.answer())[2] == b"%d" % size


async def test_the_time_in_which_a_body_is_not_read_is_not_the_client_s(stage: Stage) -> None:
    gate = asyncio.Event()
    bodies = []

    async def handler(request: Request) -> Response:
        bodies.append(request.body)
        await gate.wait()
        return Response(200, [], str(len(await request.body.read(1 << 24))).encode())

    server = await stage.serve(handler, body_grace_seconds=100.0, body_bytes_per_second_min=1_000_000)
    raw = await stage.raw(server)
    size = 8_000_000
    await raw.send(HEAD + b"Content-Length: %d\r\n\r\n" % size)
    sending = asyncio.ensure_future(raw.send(b"x" * size))
    await until(lambda: bool(bodies) and bodies[0].full)
    for _ in range(5):
        stage.clock.seconds += 100.0
        await asyncio.sleep(0.03)
    gate.set()
    assert (await raw.answer())[2] == b"%d" % size
    await sending


async def test_bodies_that_find_no_room_beside_others_arrive(stage: Stage) -> None:
    served, whole = asyncio.Event(), []

    async def handler(request: Request) -> Response:
        whole.append(request.body.whole is not None)
        body = await request.body.read(1 << 20)
        if request.path == "/held":
            await served.wait()
        return Response(200, [], b"%d" % len(body))

    server = await stage.serve(handler, whole_bodies_bytes_max=50_000)
    first, second = await stage.raw(server), await stage.raw(server)
    message = HEAD + b"Content-Length: 30000\r\n\r\n" + b"x" * 30_000
    await first.send(message.replace(b" / ", b" /held "))
    await until(lambda: whole == [True])
    await second.send(message)
    assert (await second.answer())[2] == b"30000"
    assert whole == [True, False]
    assert server.body_room.used == 30_000
    served.set()
    assert (await first.answer())[2] == b"30000"
    await until(lambda: server.body_room.used == 0)
    await second.send(message)
    assert (await second.answer())[2] == b"30000"
    assert whole == [True, False, True]
