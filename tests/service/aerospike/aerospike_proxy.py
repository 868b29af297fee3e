"""A proxy in front of one Aerospike node, which cuts, hangs and loses what goes through it.

It needs no control of the server, so the same suites run against a real one. The node's own address in its answers is
replaced by the proxy's, or a client would go around it.
"""

import asyncio
import contextlib
import struct
from collections.abc import Awaitable, Callable, Iterator
from enum import Enum

from hevlayer.testing.aerospike_stand_in import stop_listening

INFO, MESSAGE = 1, 3
HEADER_BYTES = 22
LAST = 0x01
FIELDS_OF_QUERIES = (11, 12)
_FRAME = struct.Struct(">Q")
_SIZE_MASK = (1 << 48) - 1
_ADDRESS_NAMES = (b"service-clear-std", b"service-clear-alt", b"service")
_STABLE = b"cluster-stable"


class Fault(Enum):
    """What becomes of one message, which is no info command, before its connection is cut."""

    REQUEST_LOST = "the server never gets it"
    ANSWER_LOST = "the server does it, the client does not hear of it"
    ANSWER_TORN = "the client gets half of the answer"


class Proxy:
    """One node's proxy. Its switches may be turned at any time."""

    def __init__(self, host: str, port: int) -> None:
        self._to = (host, port)
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.Task[None], list[asyncio.StreamWriter]] = {}
        self._running = asyncio.Event()
        self._running.set()
        self._port = 0
        self.refuses = False
        """Connections end at once, as on a machine without a server."""
        self.faults: list[Fault] = []
        """Of the next messages, in this order."""
        self.faults_after = 0
        """So many messages go through before those."""
        self.cluster_key: str | None = None
        """What the cluster says its key is; None: the truth."""
        self.stable = True
        self.messages = 0
        self.refusal: int | None = None
        """The code that each record of a batch is answered with, whatever became of it."""
        self.meanwhile: list[Callable[[], Awaitable[object]]] = []
        """Done before the next query of a set goes through, each of them once."""
        self.silent = False
        """Answers are their end marker alone."""

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        server, self._server = self._server, None
        self.go_on()
        if server is None:
            return
        await stop_listening(server)
        while self._open:
            self.cut()
            await asyncio.wait(list(self._open), timeout=1.0)
        await server.wait_closed()

    def cut(self) -> None:
        """Every connection breaks."""
        for writers in self._open.values():
            for writer in writers:
                writer.transport.abort()

    def hang(self) -> None:
        """Nothing goes through until `go_on`."""
        self._running.clear()

    def go_on(self) -> None:
        self._running.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        writers = self._open[task] = [writer]
        try:
            if self.refuses or self._server is None:
                return
            node_reader, node = await asyncio.open_connection(*self._to)
            writers.append(node)
            while True:
                head, request = await _frame(reader)
                await self._running.wait()
                is_info = head >> 48 & 0xFF != MESSAGE
                fault = None if is_info else self._next_fault()
                if fault is Fault.REQUEST_LOST:
                    return
                if not is_info and self.meanwhile and _is_query(request):
                    await self.meanwhile.pop(0)()
                node.write(_FRAME.pack(head) + request)
                last = False
                while not last:
                    head, answer = await _frame(node_reader)
                    last = is_info or _is_last(answer)
                    await self._running.wait()
                    if fault is Fault.ANSWER_LOST:
                        return
                    if is_info:
                        answer = self._rewritten(answer)
                        head = head & ~_SIZE_MASK | len(answer)
                    elif self.refusal is not None or self.silent:
                        answer = _refused(answer, None if self.silent else self.refusal)
                        head = head & ~_SIZE_MASK | len(answer)
                    whole = _FRAME.pack(head) + answer
                    writer.write(whole[: len(whole) // 2] if fault is Fault.ANSWER_TORN else whole)
                    await writer.drain()
                    if fault is Fault.ANSWER_TORN:
                        return
        except (asyncio.IncompleteReadError, ConnectionError, OSError):
            pass
        finally:
            for each in writers:
                each.transport.abort()
                with contextlib.suppress(ConnectionError, OSError):
                    await each.wait_closed()
            del self._open[task]

    def _next_fault(self) -> Fault | None:
        self.messages += 1
        if self.faults_after:
            self.faults_after -= 1
            return None
        return self.faults.pop(0) if self.faults else None

    def _rewritten(self, answer: bytes) -> bytes:
        lines = []
        for line in answer.split(b"\n"):
            name, tab, value = line.partition(b"\t")
            if name in _ADDRESS_NAMES:
                value = self.address.encode()
            elif name.startswith(_STABLE) and not self.stable:
                value = b"ERROR::cluster-not-specified-size"
            elif name.startswith(_STABLE) and self.cluster_key is not None:
                value = self.cluster_key.encode()
            lines.append(name + tab + value)
        return b"\n".join(lines)


def _is_query(request: bytes) -> bool:
    """Whether it names partitions, or where to go on in some."""
    at = HEADER_BYTES
    for _ in range(struct.unpack_from(">H", request, 18)[0]):
        size, kind = struct.unpack_from(">IB", request, at)
        if kind in FIELDS_OF_QUERIES:
            return True
        at += 4 + size
    return False


async def _frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    (head,) = _FRAME.unpack(await reader.readexactly(8))
    return head, await reader.readexactly(head & _SIZE_MASK)


def _heads(answer: bytes) -> Iterator[bytes]:
    """The header of each message in a frame; after them come fields and operations, 4 bytes of length before each."""
    at = 0
    while at < len(answer):
        head = answer[at : at + HEADER_BYTES]
        yield head
        at += HEADER_BYTES
        for _ in range(sum(struct.unpack_from(">HH", head, 18))):
            at += 4 + int.from_bytes(answer[at : at + 4])


def _is_last(answer: bytes) -> bool:
    """Whether a batch's or a query's answer ends with this frame: the LAST bit of its last message."""
    return any(head[3] & LAST for head in _heads(answer))


def _refused(answer: bytes, code: int | None) -> bytes:
    """The same answers without their contents, all of them refused; None: not even these."""
    ends = [head for head in _heads(answer) if head[3] & LAST]
    if code is None:
        return b"".join(ends)
    others = [head for head in _heads(answer) if not head[3] & LAST]
    return b"".join([*(head[:5] + bytes([code]) + head[6:18] + bytes(4) for head in others), *ends])


async def info(host: str, port: int, command: str) -> str:
    """One info command's answer. Raises: OSError, asyncio.IncompleteReadError."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        body = command.encode() + b"\n"
        writer.write(_FRAME.pack(2 << 56 | INFO << 48 | len(body)) + body)
        _, answer = await _frame(reader)
        return answer.decode().rstrip("\n").partition("\t")[2]
    finally:
        writer.close()
        await writer.wait_closed()
