"""One request and its answer as the bytes that stand on each side of the gateway."""

import asyncio
import re
from dataclasses import dataclass

from gateway_bench import Bench

from hevlayer.testing.recording import Canned

TRACEPARENT = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
DATE = b"Mon, 16 Nov 2026 10:00:00 GMT"
READ_SECONDS = 10.0
# Stands for the time of a write, as long as one in milliseconds.
STAMP = b"0000000000000"
_STAMPS = re.compile(rb'(?<="_hevlayer_upserted_at":)\[?\d{13}(?:,\d{13})*')
_DIGITS = re.compile(rb"\d{13}")

# What the official Python client sends, in its order. What stays behind: Host is ours, Connection is for one hop.
CLIENT_HEADERS = (
    b"Host: gateway.example:8080",
    b"Connection: keep-alive",
    b"Accept: application/json",
    b"Content-Type: application/json",
    b"User-Agent: Turbopuffer/Python 3.1.0",
    b"X-Stainless-Lang: python",
    b"X-Stainless-Package-Version: 3.1.0",
    b"Authorization: Bearer tpuf_caller",
    b"prefer: respond-async",
    b"x-stainless-retry-count: 0",
    b"x-stainless-read-timeout: 60",
    b"Accept-Encoding: identity",
    b"Traceparent: " + TRACEPARENT,
)
# The same upstream: names in lower case, order kept, then the two that the gateway writes.
FORWARDED_HEADERS = (
    b"accept: application/json",
    b"content-type: application/json",
    b"user-agent: Turbopuffer/Python 3.1.0",
    b"x-stainless-lang: python",
    b"x-stainless-package-version: 3.1.0",
    b"prefer: respond-async",
    b"x-stainless-retry-count: 0",
    b"x-stainless-read-timeout: 60",
    b"accept-encoding: identity",
    b"authorization: Bearer tpuf_caller",
    b"traceparent: " + TRACEPARENT,
)
# A route whose answer is changed asks for it uncompressed, whatever the client accepts.
FORWARDED_HEADERS_IDENTITY = (
    *(line for line in FORWARDED_HEADERS if not line.startswith(b"accept-encoding")),
    b"accept-encoding: identity",
)


@dataclass(frozen=True)
class Exchange:
    """`sent`: what reached the upstream, with `STAMP` for stamps; None when nothing did. `received`: what the
    client got."""

    sent: bytes | None
    received: bytes


def message(first: bytes, headers: tuple[bytes, ...], body: bytes = b"") -> bytes:
    return b"\r\n".join((first, *headers, b"", body))


def length(body: bytes) -> tuple[bytes, ...]:
    return (b"content-length: %d" % len(body),) if body else ()


def request(method: bytes, target: bytes, body: bytes = b"", headers: tuple[bytes, ...] = CLIENT_HEADERS) -> bytes:
    return message(b"%b %b HTTP/1.1" % (method, target), (*headers, *length(body)), body)


async def exchange(bench: Bench, raw: bytes, answer: bytes, *, close: bool = False) -> Exchange:
    """Sends `raw` on a connection of its own; the upstream answers with `answer`."""
    bench.upstream.default = Canned(answer, close=close)
    reader, writer = await asyncio.open_connection("127.0.0.1", bench.gateway.port)
    try:
        writer.write(raw)
        async with asyncio.timeout(READ_SECONDS):
            head = await reader.readuntil(b"\r\n\r\n")
            received = head + (b"" if raw.startswith(b"HEAD ") else await _body(head, reader))
    finally:
        writer.close()
        await writer.wait_closed()
    if not bench.upstream.requests:
        return Exchange(None, received)
    [recorded] = bench.upstream.requests
    host = b"host: " + bench.upstream.url.removeprefix("http://").encode() + b"\r\n"
    assert host in recorded.head
    sent = _STAMPS.sub(
        lambda found: _DIGITS.sub(STAMP, found[0]), recorded.head.replace(host, b"", 1) + b"\r\n" + recorded.body
    )
    return Exchange(sent, received)


async def _body(head: bytes, reader: asyncio.StreamReader) -> bytes:
    if found := re.search(rb"(?i)\r\ncontent-length: (\d+)\r\n", head):
        return await reader.readexactly(int(found[1]))
    return await reader.readuntil(b"0\r\n\r\n")
