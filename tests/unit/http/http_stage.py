"""Servers that speak raw bytes, a clock that tests move, and a check that nothing is left behind."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from hevlayer.http.client import ClientConfig, HttpClient, Origin
from hevlayer.http.messages import Handler, Request, Response
from hevlayer.http.server import HttpServer, ServerConfig, serve

WAIT_SECONDS = 10.0


class MovedClock:
    """Monotonic time that only the test moves."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def now_ms(self) -> int:
        return 1_700_000_000_000

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("nothing here sleeps")


async def until(condition: Callable[[], bool]) -> None:
    """Gives the loop turns until the condition holds; fails when it never does."""
    async with asyncio.timeout(WAIT_SECONDS):
        while not condition():  # noqa: ASYNC110 -- what is waited for tells nobody
            await asyncio.sleep(0.002)


class Raw:
    """A client that writes the bytes it is given."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, port: int) -> "Raw":
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=1 << 22))

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def read_all(self) -> bytes:
        """Until the server closes."""
        async with asyncio.timeout(WAIT_SECONDS):
            return await self.reader.read(-1)

    async def answer(self, *, head_only: bool = False) -> tuple[int, dict[bytes, bytes], bytes]:
        """One answer: status, headers, body (chunked ones decoded)."""
        async with asyncio.timeout(WAIT_SECONDS):
            head = await self.reader.readuntil(b"\r\n\r\n")
            line, *rest = head[:-4].split(b"\r\n")
            headers = {}
            for text in rest:
                name, _, value = text.partition(b": ")
                assert name not in headers, f"{name!r} twice"
                headers[name] = value
            status = int(line.split()[1])
            body = b""
            if head_only or status in (100, 204, 304):
                pass
            elif headers.get(b"transfer-encoding") == b"chunked":
                chunks = []
                while size := int(await self.reader.readline(), 16):
                    chunks.append(await self.reader.readexactly(size))
                    assert await self.reader.readexactly(2) == b"\r\n"
                body = b"".join(chunks)
                assert await self.reader.readexactly(2) == b"\r\n"
            elif b"content-length" in headers:
                body = await self.reader.readexactly(int(headers[b"content-length"]))
            else:
                body = await self.reader.read(-1)
            return status, headers, body

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


@dataclass
class Stage:
    """What a test sets up, torn down in order; afterwards no connection and no task may be left."""

    clock: MovedClock = field(default_factory=MovedClock)
    servers: list[HttpServer] = field(default_factory=list)
    clients: list[HttpClient] = field(default_factory=list)
    raws: list[Raw] = field(default_factory=list)
    listeners: list[asyncio.Server] = field(default_factory=list)

    async def serve(self, handler: Handler, **limits: float) -> HttpServer:
        limits.setdefault("sweep_seconds", 0.01)
        server = await serve(handler, port=0, config=ServerConfig(**limits), clock=self.clock)  # type: ignore[arg-type]
        self.servers.append(server)
        return server

    async def raw(self, server: HttpServer) -> Raw:
        raw = await Raw.open(server.port)
        self.raws.append(raw)
        return raw

    def client(self, port: int, **limits: float) -> HttpClient:
        limits.setdefault("sweep_seconds", 0.01)
        limits.setdefault("idle_sweep_seconds", 0.02)
        client = HttpClient(Origin("http", "127.0.0.1", port), ClientConfig(**limits), self.clock)  # type: ignore[arg-type]
        self.clients.append(client)
        return client

    async def peer(self, script: Callable[[Raw], Awaitable[None]]) -> int:
        """A raw server that runs `script` for each connection and then closes it; returns its port."""

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            raw = Raw(reader, writer)
            try:
                await script(raw)
            except (ConnectionError, asyncio.IncompleteReadError):
                pass
            finally:
                await raw.close()

        listener = await asyncio.start_server(accept, "127.0.0.1", 0)
        self.listeners.append(listener)
        return int(listener.sockets[0].getsockname()[1])

    async def tear_down(self) -> None:
        for raw in self.raws:
            await raw.close()
        for client in self.clients:
            await client.close()
        for server in self.servers:
            await server.close()
        for listener in self.listeners:
            listener.close()
        me = asyncio.current_task()
        await until(lambda: all(task is me or task.done() for task in asyncio.all_tasks()))
        assert [server.connections for server in self.servers] == [0] * len(self.servers)
        assert [server.inflight for server in self.servers] == [0] * len(self.servers)
        assert [client.connections for client in self.clients] == [0] * len(self.clients)


async def describe(request: Request) -> Response:
    """Answers with what it was asked."""
    body = await request.body.read(1 << 24)
    lines = [request.method.encode(), request.target, request.path.encode(), request.query.encode(), body]
    return Response(200, [(b"content-type", b"text/plain")], b"\n".join(lines))
