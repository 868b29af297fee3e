"""CPU of our own code per request, without sockets: parser, protocol, task, future, head. The best of many rounds.

PYTHONPATH=python python benches/http/logic.py [--profile]
"""

import argparse
import asyncio
import cProfile
import json
import pstats
import time
from collections.abc import Awaitable, Callable
from typing import Any

import uvloop

from hevlayer.clock import SystemClock
from hevlayer.http.client import ClientConfig, HttpClient, Origin
from hevlayer.http.client_connection import UpstreamConnection
from hevlayer.http.connection import ServerConnection
from hevlayer.http.messages import Request, Response
from hevlayer.http.server import HttpServer, ServerConfig

REQUESTS = 100
CONNECTIONS = 32
ROUNDS = 15
BODY = b"x" * 20480
REQUEST = (
    b"POST /v2/namespaces/films/query HTTP/1.1\r\nHost: localhost:8080\r\nauthorization: Bearer secret\r\n"
    b"content-type: application/json\r\naccept: application/json\r\naccept-encoding: gzip\r\n"
    b"user-agent: client/1.0\r\ncontent-length: 3900\r\n\r\n" + b"y" * 3900
)
ANSWER = (
    b"HTTP/1.1 200 OK\r\nserver: nginx/1.22.1\r\ndate: Sat, 21 Nov 2026 09:22:50 GMT\r\n"
    b"content-type: application/json\r\ncontent-length: 20480\r\nconnection: keep-alive\r\nx-request-id: 1234\r\n\r\n"
    + BODY
)
FORWARDED = frozenset({b"accept", b"accept-encoding", b"authorization", b"content-type", b"user-agent"})


class Pipe:
    """A transport that takes what is written and calls `on_write`."""

    def __init__(self, on_write: Callable[[], object]) -> None:
        self.on_write = on_write

    def set_write_buffer_limits(self, high: int) -> None: ...

    def get_extra_info(self, name: str) -> Any:
        return ("127.0.0.1", 1) if name == "peername" else None

    def write(self, data: bytes) -> None:
        self.on_write()

    def writelines(self, parts: list[bytes]) -> None:
        self.on_write()

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False

    def abort(self) -> None: ...


async def drive(server: HttpServer, handler: Callable[[Request], Awaitable[Response]], requests: int) -> None:
    """One client's connection, one request after the other."""
    loop = server.loop
    written: asyncio.Future[None] = loop.create_future()
    connection = ServerConnection(server, handler)
    connection.connection_made(Pipe(lambda: written.set_result(None)))  # type: ignore[arg-type]
    for _ in range(requests):
        written = loop.create_future()
        connection.data_received(REQUEST)
        await written


async def measure(handler: Callable[[Request], Awaitable[Response]], profile: bool) -> float:
    server = HttpServer(handler, ServerConfig(), SystemClock())
    profiler = cProfile.Profile()
    best = float("inf")
    for number in range(ROUNDS):
        if profile and number == ROUNDS - 1:
            profiler.enable()
        started = time.process_time_ns()
        await asyncio.gather(*(drive(server, handler, REQUESTS) for _ in range(CONNECTIONS)))
        best = min(best, (time.process_time_ns() - started) / REQUESTS / CONNECTIONS / 1000)
    if profile:
        profiler.disable()
        pstats.Stats(profiler).sort_stats("tottime").print_stats(25)
    return best


def answering_client() -> HttpClient:
    """A client whose connections answer in the loop's next round."""
    client = HttpClient(Origin("http", "127.0.0.1", 1), ClientConfig(), SystemClock())

    def connect() -> None:
        upstream = UpstreamConnection(client)
        upstream.connection_made(
            Pipe(lambda: client.loop.call_soon(upstream.data_received, ANSWER))  # type: ignore[arg-type]
        )
        client._connections.add(upstream)
        client.release(upstream)

    for _ in range(CONNECTIONS):
        connect()
    return client


async def main(profile: bool) -> None:
    answer = Response(200, [(b"content-type", b"application/json")], BODY)

    async def constant(request: Request) -> Response:
        return answer

    async def relay(request: Request) -> Response:
        headers = [header for header in request.headers if header[0] in FORWARDED]
        got = await client.request(request.method, request.target, headers, request.body.whole or b"")
        return Response(got.status, got.headers, got.body if got.body is not None else b"")

    floor = await measure(constant, False)
    client = answering_client()
    results = {"constant_us": floor, "relay_us": await measure(relay, profile)}
    print(json.dumps({name: round(value, 2) for name, value in results.items()}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--profile", action="store_true")
    uvloop.run(main(parser.parse_args().profile))
