"""A client that sends queries byte for byte, the answers that an upstream may give, and which way each query went."""

import asyncio
import gzip
import json
import re
import time

from gateway_bench import Bench

from hevlayer.testing.recording import Canned, answer

QUERY = b'{"rank_by":["v","ANN",[0.10, 1e-3]] , "limit":10}'
ROWS = (
    b'{"rows":[{"id":7,"$dist":0.01}],"billing":{"billable_logical_bytes_queried":256,'
    b'"billable_logical_bytes_returned":12},"performance":{"server_total_ms":3}}'
)
TRACEPARENT = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
HEADERS = (
    b"Host: g",
    b"Authorization: Bearer tpuf_caller_secret",
    b"Traceparent: " + TRACEPARENT,
    b"X-Request-Id: r-1",
    b"Accept-Encoding: gzip",
    b"Cookie: c",
    b"x-layer-secret: s",
)
DATE = re.compile(rb"(?m)^date: [^\r]*\r\n")


def message(
    body: bytes = QUERY, *more: bytes, path: bytes = b"/v2/namespaces/a/query", version: bytes = b"1.1"
) -> bytes:
    lines = (b"POST %b HTTP/%b" % (path, version), *HEADERS, *more, b"Content-Length: %d" % len(body), b"", body)
    return b"\r\n".join(lines)


class Ways:
    """A client's connection, and how often a request went the general way."""

    def __init__(self, bench: Bench, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.bench = bench
        self.reader = reader
        self.writer = writer
        self.general = 0
        if not bench.records:
            self._keep_records()
        for route in bench.gateway.pipeline.routes:
            if route.operation in ("query", "fetch"):
                self._count(route)

    def _count(self, route) -> None:
        handler = route.handler

        async def counted(context):
            self.general += 1
            return await handler(context)

        route.handler = counted

    def _keep_records(self) -> None:
        writer = self.bench.gateway.history.recorder._writer
        add = writer.add

        def kept(feed, namespace, line):
            self.bench.records.append(line.rest)
            add(feed, namespace, line)

        writer.add = kept

    async def ask(self, raw: bytes) -> bytes:
        self.writer.write(raw)
        return await self.read()

    async def read(self) -> bytes:
        """One answer, byte for byte but for its date, and for where its chunks are cut."""
        async with asyncio.timeout(10):
            head = await self.reader.readuntil(b"\r\n\r\n")
            if found := re.search(rb"\r\ncontent-length: (\d+)\r\n", head):
                return DATE.sub(b"", head) + await self.reader.readexactly(int(found[1]))
            parts = [DATE.sub(b"", head)]
            while size := int(await self.reader.readuntil(b"\r\n"), 16):
                parts.append((await self.reader.readexactly(size + 2))[:size])
            assert await self.reader.readexactly(2) == b"\r\n"
            return b"".join(parts)


def at_rest(bench: Bench) -> bool:
    gateway = bench.gateway
    return gateway.metrics.upstream_inflight.value == 0 and gateway._requests_in_flight() == 0


def raw_answer(head: bytes, body: bytes) -> Canned:
    return Canned(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n" + body)


SIZED = b"Content-Length: %d\r\n"
ANSWERS = {
    "as ever": answer(200, ROWS),
    "its own date": answer(200, ROWS, ((b"Date", b"then"), (b"X-A", b"1"), (b"x-a", b"2"), (b"ETag", b""))),
    "headers for one hop": answer(200, ROWS, ((b"Connection", b"X-Hop, keep-alive"), (b"X-HOP", b"1"), (b"TE", b"t"))),
    "compressed": answer(200, gzip.compress(ROWS, mtime=0), ((b"Content-Encoding", b"gzip"),)),
    "identity": answer(200, ROWS, ((b"Content-Encoding", b"identity"),)),
    "chunked": raw_answer(
        b"Transfer-Encoding: chunked\r\n", b"4\r\n" + ROWS[:4] + b"\r\n2;x\r\n{}\r\n0\r\nT: t\r\n\r\n"
    ),
    "white space behind": answer(200, ROWS + b" \r\n"),
    "an empty object": answer(200, b"{ }\n"),
    "empty": answer(200, b""),
    "no object": answer(200, b"[]"),
    "another billing": answer(200, b'{"rows":[],"billing":{"billable_logical_bytes_returned":1,"x":"}"}}'),
    "an error": answer(400, b'{"status":"error","error":"no"}', reason=b"Bad Request"),
    "a text error": answer(503, b"busy", ((b"Content-Type", b"text/plain"), (b"Retry-After", b"3"))),
    "accepted": answer(202, b"{}", ((b"Location", b"/v2/x"),)),
    "long": answer(200, b'{"rows":["' + b"x" * (2 << 20) + b'"]}'),
    "long and chunked": raw_answer(
        b"Transfer-Encoding: chunked\r\n", b'180000\r\n{"rows":["' + b"x" * 1572854 + b'\r\n3\r\n"]}\r\n0\r\n\r\n'
    ),
}


BROKEN = {
    "reset": (Canned(reset=True), 502, b"upstream_error"),
    "closed": (Canned(close=True), 502, b"upstream_error"),
    "no HTTP": (Canned(b"SSH-2.0-x\r\n"), 502, b"upstream_error"),
    "cut off": (Canned(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", close=True), 502, b"upstream_error"),
    "hanging": (Canned(before=asyncio.Event()), 504, b"gateway_timeout"),
}


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def taken(bench: Bench) -> int:
    return bench.gateway.vouched_queries.taken


async def vouch(ways: Ways, body: bytes = QUERY) -> None:
    """The first query goes the general way, the second one makes the voucher."""
    for _ in range(2):
        await ways.ask(message(body))


class ThreeWays:
    """Sends one request in each of the ways."""

    def __init__(self, ways: Ways) -> None:
        self.ways = ways
        self.bench = ways.bench
        self._route = next(r for r in self.bench.gateway.pipeline.routes if r.operation == "query")
        self._quick = self._route.quick
        self._take_on = self.bench.gateway._server.take_on

    async def ask(self, raw: bytes) -> tuple[list[bytes], int]:
        """The answers of the general way, the quick one and this one; and how many this one took on."""
        server, route = self.bench.gateway._server, self._route
        server.take_on = None
        route.quick = None
        answers = [await self.ways.ask(raw)]
        route.quick = self._quick
        answers.append(await self.ways.ask(raw))
        server.take_on = self._take_on
        before = taken(self.bench)
        answers.append(await self.ways.ask(raw))
        return answers, taken(self.bench) - before


async def records(bench: Bench) -> list[bytes]:
    """What the history was given, without its times."""
    await bench.gateway.history.recorder.drain()
    return list(bench.records)


def lines(bench: Bench) -> list[dict[str, object]]:
    """The access log without its times."""
    found = [json.loads(line) for line in bench.access_log.splitlines()]
    for line in found:
        assert line.pop("us") >= line.pop("upstream_us") >= 0
        del line["time_ms"]
    return found
