"""A server that records what it is asked and does what it is told, and both classes behind one face."""

import asyncio
import contextlib
import inspect
import json
import socket
import struct
import threading
import time
from dataclasses import dataclass, field

import hevlayer

SOCKET_TIMEOUT_SECONDS = 10


@dataclass(frozen=True)
class Answer:
    """An HTTP answer. `length_added` makes the announced length larger than the body; the connection then closes."""

    status: int = 200
    body: object = field(default_factory=dict)
    headers: dict = field(default_factory=dict)
    length_added: int = 0
    raw: bytes | None = None
    closes: bool = False


@dataclass(frozen=True)
class Reset:
    """The connection is reset; before the request was read, which may be before it was sent, or after."""

    reads: bool


@dataclass(frozen=True)
class Hang:
    """Nothing is answered until the server stops."""


@dataclass(frozen=True)
class Recorded:
    method: str
    target: str
    headers: dict
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)


class RecordingServer:
    """Answers each request with the next of its acts, then with the last one for ever."""

    def __init__(self, *acts):
        self._acts = list(acts) or [Answer()]
        self.requests = []
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._accept)]
        self._lock = threading.Lock()
        self._threads[0].start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def then(self, *acts):
        with self._lock:
            self._acts[:] = acts

    def _next(self):
        with self._lock:
            return self._acts.pop(0) if len(self._acts) > 1 else self._acts[0]

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            if self._stopping.is_set():
                connection.close()
                return
            self.connections += 1
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection):
        connection.settimeout(SOCKET_TIMEOUT_SECONDS)
        with connection, contextlib.suppress(OSError), connection.makefile("rb") as reader:
            while self._one(connection, reader):
                pass

    def _one(self, connection, reader):
        if self._acts[0] == Reset(reads=False):
            # An idle connection that is reset is no failed request: the client opens another one.
            reader.peek(1)
            self._next()
            _reset(connection)
            return False
        recorded = _read_request(reader)
        if recorded is None:
            return False
        self.requests.append(recorded)
        act = self._next()
        if isinstance(act, Hang):
            self._stopping.wait(SOCKET_TIMEOUT_SECONDS)
            return False
        if isinstance(act, Reset):
            _reset(connection)
            return False
        body = act.raw if act.raw is not None else json.dumps(act.body).encode()
        lines = [f"HTTP/1.1 {act.status} X", f"content-length: {len(body) + act.length_added}"]
        lines += [f"{name}: {value}" for name, value in act.headers.items()]
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)
        return not act.length_added and not act.closes

    def wait_until_idle(self, connections=0):
        """Whether so many connections came, and all have ended, in time."""
        deadline = time.monotonic() + SOCKET_TIMEOUT_SECONDS / 2
        while time.monotonic() < deadline:
            threads = self._threads[1:]
            if len(threads) >= connections and not any(thread.is_alive() for thread in threads):
                return True
            time.sleep(0.002)
        return False

    def stop(self):
        self._stopping.set()
        with contextlib.suppress(OSError), socket.create_connection(self._listener.getsockname(), 1):
            pass
        self._listener.close()
        for thread in self._threads:
            thread.join(SOCKET_TIMEOUT_SECONDS)


def _reset(connection):
    # Closing with a linger of nothing sends a reset.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def _read_request(reader):
    first = reader.readline().decode().split()
    if not first:
        return None
    headers = {}
    while (line := reader.readline().decode("utf-8").strip()) != "":
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    return Recorded(first[0], first[1], headers, reader.read(int(headers.get("content-length", 0))))


def refused_url():
    """An address where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}"


@contextlib.contextmanager
def full_queue():
    """An address that takes no more connections: as many wait there as may."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


PATIENT = {"delay_min_seconds": 0.001, "delay_max_seconds": 0.002}


class Face:
    """A client of either class, whose methods are all awaited."""

    def __init__(self, kind, **options):
        options.setdefault("retry", hevlayer.RetryPolicy(max_retries=options.pop("max_retries", 2), **PATIENT))
        self.kind = kind
        self.client = {"async": hevlayer.AsyncHevlayer, "sync": hevlayer.Hevlayer}[kind](**options)

    def __getattr__(self, name):
        method = getattr(self.client, name)
        if self.kind == "async":
            return method if not inspect.isasyncgenfunction(method) else self._collected(method)

        async def call(*arguments, **options):
            if inspect.isgeneratorfunction(method):
                return await asyncio.to_thread(lambda: list(method(*arguments, **options)))
            return await asyncio.to_thread(method, *arguments, **options)

        return call

    @staticmethod
    def _collected(method):
        async def call(*arguments, **options):
            return [each async for each in method(*arguments, **options)]

        return call

    async def end(self):
        if self.kind == "async":
            await self.client.aclose()
        else:
            await asyncio.to_thread(self.client.close)
