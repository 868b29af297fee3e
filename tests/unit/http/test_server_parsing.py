"""What the server accepts, what it refuses, and with which answer."""

import orjson
import pytest
from http_stage import Stage, describe, until

from hevlayer.http.messages import Request, Response

HOST = b"Host: x\r\n"


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"GET /a%2Fb?q=%20 HTTP/1.1\r\n" + HOST, b"GET\n/a%2Fb?q=%20\n/a%2Fb\nq=%20\n"),
        (b"\r\n\r\nGET / HTTP/1.1\r\n" + HOST, b"GET\n/\n/\n\n"),
        (b"PATCH /p HTTP/1.1\r\n" + HOST + b"Content-Length: 0\r\n", b"PATCH\n/p\n/p\n\n"),
        (b"GET http://h:1/a?b HTTP/1.1\r\n" + HOST, b"GET\nhttp://h:1/a?b\n/a\nb\n"),
        (b"GET http://h?b/c HTTP/1.1\r\n" + HOST, b"GET\nhttp://h?b/c\n/\nb/c\n"),
        (b"OPTIONS * HTTP/1.1\r\n" + HOST, b"OPTIONS\n*\n*\n\n"),
        (b"GET / HTTP/1.0\r\n", b"GET\n/\n/\n\n"),
        (b"GET /\xc3\xa9 HTTP/1.1\r\n" + HOST, None),
    ],
)
async def test_targets_reach_the_handler_as_sent(stage: Stage, sent: bytes, answer: bytes | None) -> None:
    raw = await stage.raw(await stage.serve(describe))
    await raw.send(sent + b"\r\n")
    status, _, body = await raw.answer()
    assert (status, body) == (200, answer) if answer is not None else status == 400


@pytest.mark.parametrize(
    ("sent", "body"),
    [
        (b"Content-Length: 3\r\n\r\nabc", b"abc"),
        (b"Content-Length: 3 \r\n\r\nabc", b"abc"),
        (b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x=y\r\nc\r\n0\r\n\r\n", b"abc"),
        (b"Transfer-Encoding: CHUNKED\r\n\r\n3\r\nabc\r\n0\r\nTrailer: t\r\n\r\n", b"abc"),
        (b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nContent-Length: 3\r\n\r\nabc", b"abc"),
        (b"Upgrade: h2c\r\nConnection: Upgrade\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", b"abc"),
        (b"Upgrade: h2c\r\nConnection: Upgrade\r\n\r\n", b""),
    ],
)
@pytest.mark.parametrize("piece", [1, 7, 4096])
async def test_bodies_are_read_however_they_arrive(stage: Stage, sent: bytes, body: bytes, piece: int) -> None:
    raw = await stage.raw(await stage.serve(describe))
    message = b"POST /x HTTP/1.1\r\n" + HOST + sent
    for _ in range(2):
        # Twice on one connection: the first must leave no trace.
        for start in range(0, len(message), piece):
            await raw.send(message[start : start + piece])
        assert (await raw.answer())[2] == b"POST\n/x\n/x\n\n" + body


REFUSED = {
    "both lengths": (400, b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc"),
    "both lengths, other order": (400, b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n"),
    "content-length twice": (400, b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc"),
    "content-length list": (400, b"Content-Length: 3, 3\r\n\r\nabc"),
    "content-length signed": (400, b"Content-Length: +3\r\n\r\nabc"),
    "content-length hexadecimal": (400, b"Content-Length: 0x3\r\n\r\nabc"),
    "content-length empty": (400, b"Content-Length:\r\n\r\n"),
    "content-length too large": (400, b"Content-Length: 99999999999999999999999\r\n\r\n"),
    "folded header": (400, b"A: b\r\n c\r\n\r\n"),
    "space before colon": (400, b"A : b\r\n\r\n"),
    "no colon": (400, b"A\r\n\r\n"),
    "empty name": (400, b": b\r\n\r\n"),
    "bare line feeds": (400, b"A: b\n\n"),
    "bare carriage return": (400, b"A: b\rc\r\n\r\n"),
    "NUL in a value": (400, b"A: b\x00c\r\n\r\n"),
    "not chunked last": (501, b"Transfer-Encoding: gzip\r\n\r\n"),
    "chunked not last": (400, b"Transfer-Encoding: chunked, gzip\r\n\r\n"),
    "chunked twice": (400, b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "unknown coding": (501, b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    "coded body": (501, b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    "host twice": (400, b"Host: y\r\n\r\n"),
    "header too long": (431, b"A: " + b"b" * 70_000 + b"\r\n\r\n"),
    "headers too many": (431, b"A: b\r\n" * 300 + b"\r\n"),
}


@pytest.mark.parametrize(("status", "rest"), REFUSED.values(), ids=REFUSED.keys())
async def test_heads_that_could_smuggle_are_refused(stage: Stage, status: int, rest: bytes) -> None:
    seen: list[Request] = []

    async def handler(request: Request) -> Response:
        seen.append(request)
        return Response(200)

    raw = await stage.raw(await stage.serve(handler))
    await raw.send(b"POST / HTTP/1.1\r\n" + HOST + rest)
    got, headers, body = await raw.answer()
    assert got == status
    assert headers[b"connection"] == b"close"
    error = orjson.loads(body)
    assert set(error) == {"status", "error", "message"}
    assert error["status"] == "error"
    assert error["message"]
    assert await raw.read_all() == b""
    assert seen == []


@pytest.mark.parametrize(
    ("status", "head"),
    [
        (400, b"GET / HTTP/1.1\r\n\r\n"),
        (400, b"get / HTTP/1.1\r\nHost: x\r\n\r\n"),
        (400, b"FOO / HTTP/1.1\r\nHost: x\r\n\r\n"),
        (400, b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n"),
        (400, b"GET / HTTP/1.2\r\nHost: x\r\n\r\n"),
        (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
        (400, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        (505, b"GET /\r\n\r\n"),
        (505, b"GET / HTTP/2.0\r\n\r\n"),
        (505, b"GET / HTTP/2.0\r\nConnection: keep-alive\r\n\r\n"),
        (405, b"CONNECT h:1 HTTP/1.1\r\nHost: x\r\n\r\n"),
        (400, b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ],
)
async def test_start_lines_that_are_not_ours_are_refused(stage: Stage, status: int, head: bytes) -> None:
    raw = await stage.raw(await stage.serve(describe))
    await raw.send(head)
    assert (await raw.answer())[0] == status
    assert await raw.read_all() == b""


@pytest.mark.parametrize(
    "rest",
    [b"zz\r\n", b"3 \r\nabc\r\n", b"3\nabc\n", b"0x3\r\nabc\r\n", b"FFFFFFFFFFFFFFFFF\r\n", b"3\r\nabcdef\r\n"],
)
async def test_broken_chunks_reach_the_handler_as_an_error(stage: Stage, rest: bytes) -> None:
    errors: list[Exception] = []

    async def handler(request: Request) -> Response:
        try:
            return await describe(request)
        except Exception as error:
            errors.append(error)
            raise

    raw = await stage.raw(await stage.serve(handler))
    await raw.send(b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n")
    await raw.send(rest)
    status, headers, _ = await raw.answer()
    assert status == 500
    assert headers[b"connection"] == b"close"
    assert await raw.read_all() == b""
    assert [type(error).__name__ for error in errors] == ["BadRequestError"]


async def test_endless_chunk_extensions_and_trailers_are_cut(stage: Stage) -> None:
    server = await stage.serve(describe, head_bytes_max=1000)
    for start in (b"3;", b"0\r\nA: "):
        raw = await stage.raw(server)
        await raw.send(b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n" + start)
        for _ in range(8):
            await raw.send(b"e" * 500)
            await until(lambda: True)
        assert (await raw.answer())[0] == 500
        assert await raw.read_all() == b""


async def test_a_head_split_over_many_reads_is_bounded(stage: Stage) -> None:
    raw = await stage.raw(await stage.serve(describe, head_bytes_max=4000))
    await raw.send(b"GET / HTTP/1.1\r\n" + HOST + b"A: ")
    for _ in range(10):
        await raw.send(b"a" * 1000)
        await until(lambda: True)
    assert (await raw.answer())[0] == 431


async def test_large_chunked_bodies_are_not_taken_for_trailers(stage: Stage) -> None:
    async def count(request: Request) -> Response:
        return Response(200, [], str(len(await request.body.read(1 << 24))).encode())

    raw = await stage.raw(await stage.serve(count))
    await raw.send(b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n")
    for _ in range(100):
        await raw.send(b"".join(b"1388\r\n" + b"x" * 5000 + b"\r\n" for _ in range(10)))
    await raw.send(b"0\r\n\r\n")
    assert await raw.answer() == (200, {b"date": b"Tue, 14 Nov 2023 22:13:20 GMT", b"content-length": b"7"}, b"5000000")


async def test_header_names_are_lower_case_and_values_trimmed_and_repeated(stage: Stage) -> None:
    seen: list[Request] = []

    async def handler(request: Request) -> Response:
        seen.append(request)
        return Response(204)

    raw = await stage.raw(await stage.serve(handler))
    await raw.send(b"GET / HTTP/1.1\r\nHOST: x\r\nX-A:  1 \t\r\nx-a: 2\r\nX-B:\r\n\r\n")
    await raw.answer()
    assert seen[0].headers == [(b"host", b"x"), (b"x-a", b"1"), (b"x-a", b"2"), (b"x-b", b"")]
    assert seen[0].header(b"x-a") == b"1"
    assert seen[0].header(b"x-c") is None
    assert seen[0].peer == "127.0.0.1"
