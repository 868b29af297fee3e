"""A recording upstream: keeps the raw bytes of every request and answers canned bytes."""

import asyncio
import re
from collections import deque
from dataclasses import dataclass, field
from types import TracebackType

_CONTENT_LENGTH = re.compile(rb"(?im)^content-length:\s*(\d+)\s*$")
_CHUNKED = re.compile(rb"(?im)^transfer-encoding:\s*chunked\s*$")
OK_BODY = b'{"status":"OK"}'


@dataclass(frozen=True, slots=True)
class Recorded:
    """One request as it stood on the wire; `body` without chunked framing."""

    head: bytes
    body: bytes

    @property
    def line(self) -> bytes:
        return self.head.split(b"\r\n", 1)[0]

    @property
    def target(self) -> bytes:
        return self.line.split(b" ")[1]

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """Names in lower case, in order."""
        pairs = (line.split(b":", 1) for line in self.head.split(b"\r\n")[1:] if line)
        return [(name.lower(), value.strip()) for name, value in pairs]

    def header(self, name: bytes) -> bytes | None:
        return next((value for key, value in self.headers if key == name), None)


@dataclass(frozen=True, slots=True)
class Canned:
    """What to do with one request: wait, then send `raw` as it is, then perhaps close.

    `before` holds the answer back until the event is set. `reset` closes without an answer. `rest` is sent after `raw`,
    once its event is set.
    """

    raw: bytes = b""
    before: asyncio.Event | None = None
    reset: bool = False
    close: bool = False
    rest: tuple[asyncio.Event, bytes] | None = None


def answer(
    status: int = 200, body: bytes = OK_BODY, headers: tuple[tuple[bytes, bytes], ...] = (), *, reason: bytes = b"OK"
) -> Canned:
    """A whole HTTP answer with a content-length."""
    lines = [b"HTTP/1.1 %d %b" % (status, reason)]
    if not any(name.lower() == b"content-type" for name, _ in headers):
        lines.append(b"content-type: application/json")
    lines += [b"%b: %b" % pair for pair in headers]
    lines.append(b"content-length: %d" % len(body))
    return Canned(b"\r\n".join(lines) + b"\r\n\r\n" + body)


@dataclass
class RecordingUpstream:
    """Use as an async context manager. `script` is answered in order, then `default` for ever."""

    default: Canned = field(default_factory=answer)
    script: deque[Canned] = field(default_factory=deque)
    requests: list[Recorded] = field(default_factory=list)
    by_target: dict[bytes, Canned] = field(default_factory=dict)
    """Answers by path (without the query), before the script."""
    received_bytes: int = 0
    keep_bodies: bool = True
    _server: asyncio.Server | None = None
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)
    _connections: set[asyncio.StreamWriter] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aenter__(self) -> "RecordingUpstream":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in list(self._connections):
            writer.close()
        await self._server.wait_closed()

    async def arrived(self, count: int, *, seconds: float = 10.0) -> None:
        """Until `count` requests have come whole. Raises: TimeoutError."""
        async with asyncio.timeout(seconds):
            while len(self.requests) < count:
                self._arrived.clear()
                await self._arrived.wait()

    @property
    def open_connections(self) -> int:
        return len(self._connections)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._connections.add(writer)
        try:
            while await self._exchange(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            self._connections.discard(writer)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n"))[:-2]
        body = await self._read_body(head, reader)
        recorded = Recorded(head, body)
        self.requests.append(recorded)
        self._arrived.set()
        path = recorded.target.split(b"?", 1)[0]
        canned = self.by_target.get(path) or (self.script.popleft() if self.script else self.default)
        if canned.before is not None:
            await canned.before.wait()
        if canned.reset:
            writer.transport.abort()
            return False
        writer.write(canned.raw)
        if canned.rest is not None:
            gate, rest = canned.rest
            await gate.wait()
            writer.write(rest)
        await writer.drain()
        return not canned.close

    async def _read_body(self, head: bytes, reader: asyncio.StreamReader) -> bytes:
        parts: list[bytes] = []
        if _CHUNKED.search(head):
            while size := int((await reader.readline()).strip(), 16):
                self._keep(parts, await reader.readexactly(size))
                await reader.readexactly(2)
            await reader.readline()
        elif found := _CONTENT_LENGTH.search(head):
            left = int(found[1])
            while left:
                chunk = await reader.read(min(left, 1 << 18))
                if not chunk:
                    raise asyncio.IncompleteReadError(b"", left)
                left -= len(chunk)
                self._keep(parts, chunk)
        return b"".join(parts)

    def _keep(self, parts: list[bytes], chunk: bytes) -> None:
        self.received_bytes += len(chunk)
        if self.keep_bodies:
            parts.append(chunk)
