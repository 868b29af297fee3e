"""What the client sends, and what it makes of good answers."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from http_stage import Raw, Stage, until

from hevlayer.http.client import ClientResponse, Origin
from hevlayer.http.errors import RequestBodyError
from hevlayer.http.messages import Headers, Request, Response

INTERIM = b"HTTP/1.1 100 C\r\n\r\nHTTP/1.1 103 E\r\nA: b\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\n"


async def parts(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        await asyncio.sleep(0)
        yield chunk


async def canned(stage: Stage, answer: bytes, *, piece: int = 1 << 20, keep: bool = False) -> int:
    """A peer that answers each request head (without a body) with the same bytes, `piece` at a time."""

    async def script(raw: Raw) -> None:
        while True:
            await raw.reader.readuntil(b"\r\n\r\n")
            for start in range(0, len(answer), piece):
                await raw.send(answer[start : start + piece])
                await asyncio.sleep(0)
            if not keep:
                return

    return await stage.peer(script)


async def get(stage: Stage, port: int, method: str = "GET", **limits: float) -> ClientResponse:
    return await stage.client(port, **limits).request(method, b"/", [])


@pytest.mark.parametrize(
    ("method", "body", "length", "sent"),
    [
        ("GET", b"", None, b"GET /t?q HTTP/1.1\r\nhost: %b\r\na: b\r\n\r\n"),
        ("DELETE", b"", None, b"DELETE /t?q HTTP/1.1\r\nhost: %b\r\na: b\r\n\r\n"),
        ("POST", b"", None, b"POST /t?q HTTP/1.1\r\nhost: %b\r\na: b\r\ncontent-length: 0\r\n\r\n"),
        ("POST", b"xyz", None, b"POST /t?q HTTP/1.1\r\nhost: %b\r\na: b\r\ncontent-length: 3\r\n\r\nxyz"),
        ("POST", [b"x", b"", b"yz"], None, b"POST /t?q HTTP/1.1\r\nhost: %b\r\na: b\r\ncontent-length: 3\r\n\r\nxyz"),
        ("POST", (b"x", b"yz"), 3, b"POST /t?q HTTP/1.1\r\nhost: %b\r\na: b\r\ncontent-length: 3\r\n\r\nxyz"),
        (
            "POST",
            (b"x", b"", b"yz"),
            None,
            b"POST /t?q HTTP/1.1\r\nhost: %b\r\na: b\r\ntransfer-encoding: chunked\r\n\r\n"
            b"1\r\nx\r\n2\r\nyz\r\n0\r\n\r\n",
        ),
    ],
)
async def test_the_bytes_of_a_request(
    stage: Stage, method: str, body: bytes | list[bytes] | tuple[bytes, ...], length: int | None, sent: bytes
) -> None:
    received = bytearray()
    answered = asyncio.Event()

    async def script(raw: Raw) -> None:
        expected = sent % b"127.0.0.1:%d" % port
        received.extend(await raw.reader.readexactly(len(expected)))
        await raw.send(OK + b"content-length: 0\r\n\r\n")
        await answered.wait()

    port = await stage.peer(script)
    headers: Headers = [(b"a", b"b"), (b"content-length", b"99"), (b"connection", b"close"), (b"upgrade", b"h2c")]
    given = parts(*body) if isinstance(body, tuple) else body
    answer = await stage.client(port).request(method, b"/t?q", headers, given, content_length=length)
    assert (answer.status, bytes(received)) == (200, sent % b"127.0.0.1:%d" % port)
    answered.set()


async def test_a_given_host_replaces_ours(stage: Stage) -> None:
    seen: list[Request] = []

    async def handler(request: Request) -> Response:
        seen.append(request)
        return Response(200)

    server = await stage.serve(handler)
    await stage.client(server.port).request("GET", b"/", [(b"host", b"elsewhere")])
    assert seen[0].headers == [(b"host", b"elsewhere")]


@pytest.mark.parametrize(
    ("url", "authority"),
    [
        ("http://h", b"h"),
        ("http://h:81/", b"h:81"),
        ("https://h:443", b"h"),
        ("https://h:80", b"h:80"),
        ("http://[::1]:9", b"[::1]:9"),
    ],
)
def test_the_authority_of_an_origin(url: str, authority: bytes) -> None:
    assert Origin.parse(url).authority == authority


@pytest.mark.parametrize("url", ["ftp://h", "h:80", "/path", "http://"])
def test_an_origin_needs_a_scheme_and_a_host(url: str) -> None:
    with pytest.raises(ValueError, match="url: must be"):
        Origin.parse(url)


@pytest.mark.parametrize("target", [b"", b"/a b", b"/a\r\nx: y", b"/a\n"])
async def test_targets_that_would_break_the_framing_are_refused(stage: Stage, target: bytes) -> None:
    client = stage.client(1)
    with pytest.raises(ValueError, match="target"):
        await client.request("GET", target, [])
    with pytest.raises(ValueError, match="line break"):
        await client.request("GET", b"/", [(b"a", b"b\r\nc: d")])


@pytest.mark.parametrize("piece", [1, 13, 1 << 20])
@pytest.mark.parametrize(
    ("method", "answer", "status", "body", "reused"),
    [
        ("GET", OK + b"Content-Length: 3\r\n\r\nabc", 200, b"abc", True),
        ("GET", OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\nT: t\r\n\r\n", 200, b"abc", True),
        ("GET", OK + b"Content-Length: 0\r\n\r\n", 200, b"", True),
        ("GET", OK + b"Connection: close\r\nContent-Length: 3\r\n\r\nabc", 200, b"abc", False),
        ("GET", b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc", 200, b"abc", False),
        ("GET", b"HTTP/1.1 204 No\r\nContent-Length: 3\r\n\r\n", 204, b"", True),
        ("GET", b"HTTP/1.1 304 No\r\nContent-Length: 3\r\n\r\n", 304, b"", True),
        ("GET", b"HTTP/1.1 301 No\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", 301, b"", True),
        ("HEAD", OK + b"Content-Length: 3\r\n\r\n", 200, b"", True),
        ("GET", INTERIM + OK + b"Content-Length: 1\r\n\r\nz", 200, b"z", True),
    ],
)
async def test_answers(
    stage: Stage, method: str, answer: bytes, status: int, body: bytes, reused: bool, piece: int
) -> None:
    client = stage.client(await canned(stage, answer, piece=piece, keep=reused))
    for _ in range(3):
        got = await client.request(method, b"/", [])
        assert (got.status, got.body, got.stream) == (status, body, None)
        assert got.header(b"a") is None
    assert client.opened == (1 if reused else 3)
    assert client.idle == (1 if reused else 0)


async def test_a_body_without_a_length_ends_with_the_connection(stage: Stage) -> None:
    answer = await get(stage, await canned(stage, OK + b"A:  b \r\n\r\nabc"))
    assert (answer.body, answer.headers) == (b"abc", [(b"a", b"b")])
    assert stage.clients[0].connections == 0


async def test_nothing_is_inflated(stage: Stage) -> None:
    head = OK + b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\n"
    answer = await get(stage, await canned(stage, head + b"\x1f\x8b\x08"))
    assert (answer.body, answer.header(b"content-encoding")) == (b"\x1f\x8b\x08", b"gzip")


@pytest.mark.parametrize("chunked", [True, False])
async def test_long_answers_are_streamed(stage: Stage, chunked: bool) -> None:
    size = 3_000_000

    async def handler(request: Request) -> Response:
        body = b"x" * size
        return Response(200, [], parts(body[:1], body[1:1000], body[1000:]) if chunked else body)

    server = await stage.serve(handler)
    client = stage.client(server.port)
    for _ in range(2):
        answer = await client.request("GET", b"/", [], max_buffer_bytes=100)
        assert answer.body is None
        assert answer.stream is not None
        assert len(await answer.stream.read(size)) == size
        await answer.stream.aclose()
    whole = await client.request("GET", b"/", [], max_buffer_bytes=size)
    assert whole.body == b"x" * size
    assert (client.opened, client.idle) == (1, 1)


async def test_a_slow_reader_slows_the_peer(stage: Stage) -> None:
    produced = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal produced
        for _ in range(1000):
            produced += 1
            yield b"x" * 65536

    async def handler(request: Request) -> Response:
        return Response(200, [], body())

    server = await stage.serve(handler, write_buffer_bytes=65536)
    client = stage.client(server.port)
    answer = await client.request("GET", b"/", [])
    seen = -1
    while seen != produced:
        seen = produced
        await asyncio.sleep(0.05)
    assert 0 < produced < 900
    assert answer.stream is not None
    assert answer.stream.size < 2_000_000
    assert len(await answer.read(1 << 30)) == 65_536_000
    assert client.idle == 1


async def test_a_stream_that_is_closed_early_closes_its_connection(stage: Stage) -> None:
    closed = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x" * 65536
        finally:
            closed.set()

    async def handler(request: Request) -> Response:
        return Response(200, [], body())

    client = stage.client((await stage.serve(handler)).port)
    answer = await client.request("GET", b"/", [])
    assert answer.stream is not None
    async with answer.stream as stream:
        assert await anext(stream)
    async with asyncio.timeout(10):
        await closed.wait()
    assert client.connections == 0
    with pytest.raises(StopAsyncIteration):
        await anext(answer.stream)


async def test_a_stream_bound_is_kept(stage: Stage) -> None:
    async def handler(request: Request) -> Response:
        return Response(200, [], b"x" * 5000)

    client = stage.client((await stage.serve(handler)).port)
    answer = await client.request("GET", b"/", [], max_buffer_bytes=10)
    with pytest.raises(ValueError, match="more than 4999 bytes"):
        await answer.read(4999)
    answer = await client.request("GET", b"/", [])
    with pytest.raises(ValueError, match="more than 4999 bytes"):
        await answer.read(4999)


async def test_large_bodies_are_sent_whole(stage: Stage) -> None:
    async def handler(request: Request) -> Response:
        return Response(200, [], str(len(await request.body.read(1 << 30))).encode())

    server = await stage.serve(handler)
    client = stage.client(server.port)
    assert (await client.request("POST", b"/", [], b"x" * 20_000_000)).body == b"20000000"
    assert (await client.request("POST", b"/", [], [b"x" * 999_999] * 20)).body == b"19999980"
    body = parts(*[b"x" * 100_000] * 100)
    assert (await client.request("POST", b"/", [], body, content_length=10_000_000)).body == b"10000000"
    assert client.opened == 1


async def test_an_early_answer_stops_the_upload(stage: Stage) -> None:
    closed = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        try:
            yield b"x"
            await asyncio.Event().wait()
        finally:
            closed.set()

    async def script(raw: Raw) -> None:
        await raw.reader.readuntil(b"x")
        await raw.send(b"HTTP/1.1 413 No\r\nContent-Length: 0\r\n\r\n")
        await raw.reader.read(-1)

    client = stage.client(await stage.peer(script))
    assert (await client.request("POST", b"/", [], body(), content_length=10)).status == 413
    async with asyncio.timeout(10):
        await closed.wait()
    assert client.connections == 0


@pytest.mark.parametrize(("chunks", "what"), [((b"abcd",), "longer"), ((b"ab",), "2 bytes")])
async def test_an_upload_of_another_length_is_cut(stage: Stage, chunks: tuple[bytes, ...], what: str) -> None:
    received = bytearray()

    async def script(raw: Raw) -> None:
        await raw.reader.readuntil(b"\r\n\r\n")
        received.extend(await raw.reader.read(-1))

    client = stage.client(await stage.peer(script))
    with pytest.raises(RequestBodyError, match=what):
        await client.request("POST", b"/", [], parts(*chunks), content_length=3)
    assert len(received) < 3


async def test_an_upload_whose_source_fails_is_cut_and_the_error_comes_back(stage: Stage) -> None:
    received = bytearray()
    done = asyncio.Event()

    async def broken() -> AsyncIterator[bytes]:
        yield b"abc"
        raise KeyError("source")

    async def script(raw: Raw) -> None:
        try:
            while data := await raw.reader.read(1000):
                received.extend(data)
        finally:
            done.set()

    client = stage.client(await stage.peer(script))
    with pytest.raises(KeyError):
        await client.request("POST", b"/", [], broken())
    async with asyncio.timeout(10):
        await done.wait()
    assert not received.endswith(b"0\r\n\r\n")
    assert client.connections == 0


async def test_connections_are_used_last_in_first_out_and_let_go_when_idle(stage: Stage) -> None:
    async def handler(request: Request) -> Response:
        await asyncio.sleep(0.01)
        return Response(200)

    server = await stage.serve(handler)
    client = stage.client(server.port, idle_connections_max=3)
    await asyncio.gather(*(client.request("GET", b"/", []) for _ in range(5)))
    assert (client.opened, client.idle) == (5, 3)
    for _ in range(4):
        await client.request("GET", b"/", [])
    assert client.opened == 5
    stage.clock.seconds += 31
    await until(lambda: client.connections == 0)
    await until(lambda: server.connections == 0)
