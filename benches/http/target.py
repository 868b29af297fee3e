"""The server under measurement: `target.py MODE ORIGIN_PORT` prints its port and serves until it is terminated.

MODE `constant` answers 20 KB from memory, `relay` passes each request to the origin, `protocol` is the least that
llhttp on uvloop can do: the floor that the others are compared with.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable

import httptools
import uvloop

from hevlayer.clock import SystemClock
from hevlayer.http.client import HttpClient, Origin
from hevlayer.http.messages import Request, Response
from hevlayer.http.server import serve

ANSWER_BYTES = 20 * 1024
FORWARDED = frozenset({b"accept", b"accept-encoding", b"authorization", b"content-type", b"user-agent"})


class Floor(asyncio.Protocol):
    """Parses a request, starts a task, writes a constant: no limits, no order, no errors."""

    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % ANSWER_BYTES
    body = b"x" * ANSWER_BYTES

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.parser = httptools.HttpRequestParser(self)
        self.loop = asyncio.get_running_loop()
        self.headers: list[tuple[bytes, bytes]] = []

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_body(self, chunk: bytes) -> None:
        self.chunk = chunk

    def on_message_complete(self) -> None:
        self.headers = []
        self.loop.create_task(self.answer())

    async def answer(self) -> None:
        self.transport.writelines((self.head, self.body))  # type: ignore[attr-defined]


def relay_to(port: int) -> Callable[[Request], Awaitable[Response]]:
    client = HttpClient(Origin("http", "127.0.0.1", port), None, SystemClock())

    async def relay(request: Request) -> Response:
        headers = [header for header in request.headers if header[0] in FORWARDED]
        body = request.body.whole
        answer = await client.request(request.method, request.target, headers, body or b"")
        return Response(answer.status, answer.headers, answer.stream if answer.body is None else answer.body)

    return relay


async def constant(request: Request) -> Response:
    return Response(200, [(b"content-type", b"application/json")], Floor.body)


async def main(mode: str, origin_port: int) -> None:
    if mode == "protocol":
        listener = await asyncio.get_running_loop().create_server(Floor, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
    else:
        server = await serve(constant if mode == "constant" else relay_to(origin_port), port=0)
        port = server.port
    print(port, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2])))
