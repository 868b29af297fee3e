"""An HTTP/1.1 client for one origin, with a keep-alive pool."""

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import cast

from hevlayer.clock import Clock
from hevlayer.http.client_config import ClientConfig, Origin
from hevlayer.http.client_connection import INFINITE, JOIN_BYTES_MAX, Receiver, UpstreamConnection
from hevlayer.http.client_response import ClientResponse, ResponseStream
from hevlayer.http.errors import (
    ConnectError,
    ConnectionReset,
    ConnectTimeout,
    PoolTimeout,
)
from hevlayer.http.framing import header_block, header_names, total_length
from hevlayer.http.messages import Headers

__all__ = ["ClientConfig", "ClientResponse", "HttpClient", "Origin", "Receiver", "ResponseStream"]

IDEMPOTENT_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
BODYLESS_METHODS = frozenset({"GET", "HEAD", "DELETE", "OPTIONS"})

Body = bytes | Sequence[bytes] | AsyncIterator[bytes]


class HttpClient:
    """Requests to one origin. Never follows a redirect, never decompresses, never sends a request twice unless it is
    idempotent and the kept connection it was sent on turned out to be dead.
    """

    def __init__(self, origin: Origin, config: ClientConfig | None, clock: Clock) -> None:
        self.origin = origin
        self.config = config or ClientConfig()
        self.loop = asyncio.get_running_loop()
        self.now = clock.monotonic
        # The time of the last sweep: good enough to tell a stalled body, and free.
        self.sweep_time = self.now()
        self.opened = 0
        """Connections opened so far."""
        self._tls: ssl.SSLContext | None = self.config.tls_context() if origin.scheme == "https" else None
        self._host_line = b" HTTP/1.1\r\nhost: " + origin.authority + b"\r\n"
        self._idle: list[UpstreamConnection] = []
        self._connections: set[UpstreamConnection] = set()
        self._connecting = 0
        self._waiters: deque[tuple[float, asyncio.Future[UpstreamConnection | None]]] = deque()
        self._sweeper: asyncio.TimerHandle | None = None
        self._sweeping_fast = False
        self._closed = False

    @property
    def connections(self) -> int:
        """Open connections, idle ones included."""
        return len(self._connections)

    @property
    def idle(self) -> int:
        return len(self._idle)

    @property
    def waiting(self) -> int:
        """Requests that wait for a connection."""
        return len(self._waiters)

    async def request(
        self,
        method: str,
        target: bytes,
        headers: Headers,
        body: Body = b"",
        *,
        content_length: int | None = None,
        connect_timeout: float | None = None,
        first_byte_timeout: float | None = None,
        total_timeout: float | None = None,
        max_buffer_bytes: int | None = None,
        idempotent: bool | None = None,
    ) -> ClientResponse:
        """Sends one request and waits for its answer's head, or for all of it when it is small.

        Args:
            target: request target as it goes on the wire.
            headers: lower-case names; `host` is added when absent, framing headers are ours.
            content_length: length of an iterator body in bytes; None sends it chunked.
            connect_timeout, first_byte_timeout, total_timeout: seconds, None for the configured ones. The first
                byte is awaited from the moment the request has left.
            max_buffer_bytes: a longer answer comes as a stream.
            idempotent: may be sent again when a kept connection dies without an answer; None: by the method. Only a
                body in memory is ever sent again.
        Raises: HttpClientError; ValueError: a header or the target would break the message's framing; whatever the
            body's iterator raises.
        """
        if idempotent is None:
            idempotent = method in IDEMPOTENT_METHODS
        streamed = type(body) is not bytes and isinstance(body, AsyncIterator)
        try:
            head = self._render_head(method, target, headers, body, content_length)
            retries = 1 if idempotent and not streamed else 0
            config = self.config
            now = self.now()
            if total_timeout is None:
                total_timeout = config.total_timeout_seconds
            total_at = INFINITE if total_timeout is None else now + total_timeout
            connection = self._take_idle(now, probe=not idempotent)
            reused = connection is not None
            if connection is None:
                connection, reused = await self._acquire(connect_timeout, total_at)
        except BaseException:
            if streamed:
                await _close_iterator(body)
            raise
        message = head + body if type(body) is bytes and len(body) <= JOIN_BYTES_MAX else head
        while True:
            waiter: asyncio.Future[ClientResponse] = self.loop.create_future()
            connection.begin(
                message,
                waiter,
                is_head=method == "HEAD",
                now=now,
                first_byte_seconds=(
                    config.first_byte_timeout_seconds if first_byte_timeout is None else first_byte_timeout
                ),
                total_at=total_at,
                whole_bytes_max=config.whole_body_bytes_max if max_buffer_bytes is None else max_buffer_bytes,
            )
            if message is head and body:
                connection.send_body((body,) if isinstance(body, bytes) else body, content_length, now)
            if not self._sweeping_fast:
                self._sweep_faster()
            try:
                return await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                    # The answer came in the same instant; only a stream still holds its connection.
                    stream = waiter.result().stream
                    if stream is not None:
                        await stream.aclose()
                else:
                    connection.abandon()
                raise
            except ConnectionReset:
                if not (reused and retries) or connection.answered:
                    raise
            retries -= 1
            reused = False
            connection = await self._fresh(connect_timeout, total_at)
            now = self.now()

    def begin(self, message: bytes, receiver: Receiver, *, first_byte_seconds: float, total_seconds: float) -> bool:
        """Sends a whole message that must not be sent twice, when an idle connection can take it now; the receiver
        gets its answer. False: nothing was sent; `request` waits for a connection."""
        now = self.now()
        connection = self._take_idle(now, probe=True)
        if connection is None:
            return False
        connection.begin(
            message,
            receiver,
            is_head=False,
            now=now,
            first_byte_seconds=first_byte_seconds,
            total_at=now + total_seconds,
            whole_bytes_max=self.config.whole_body_bytes_max,
        )
        if not self._sweeping_fast:
            self._sweep_faster()
        return True

    def _render_head(
        self, method: str, target: bytes, headers: Headers, body: Body, content_length: int | None
    ) -> bytes:
        if not target or target.split() != [target]:
            raise ValueError("target: must not be empty or hold a space or a line break")
        names = header_names(headers)
        host_line = b" HTTP/1.1\r\n" if b"host" in names else self._host_line
        block = header_block(headers, names)
        if type(body) is bytes:
            size = len(body)
            if not size and method in BODYLESS_METHODS:
                return b"".join((method.encode("ascii"), b" ", target, host_line, block, b"\r\n"))
        elif isinstance(body, AsyncIterator):
            if content_length is None:
                framing = b"transfer-encoding: chunked\r\n\r\n"
                return b"".join((method.encode("ascii"), b" ", target, host_line, block, framing))
            size = content_length
        else:
            size = total_length(cast(Sequence[bytes], body))
        return b"".join((method.encode("ascii"), b" ", target, host_line, block, b"content-length: %d\r\n\r\n" % size))

    # --- the pool ---

    def _take_idle(self, now: float, *, probe: bool) -> UpstreamConnection | None:
        """The connection used last that can serve; the others are closed on the way."""
        idle = self._idle
        while idle:
            connection = idle.pop()
            age = now - connection.idle_since
            doubtful = probe and age > self.config.probe_idle_seconds
            if (
                connection.usable
                and age <= self.config.idle_timeout_seconds
                and not (doubtful and not connection.alive())
            ):
                return connection
            connection.abandon()
        return None

    async def _acquire(self, connect_timeout: float | None, total_at: float) -> tuple[UpstreamConnection, bool]:
        """A connection and whether it was used before."""
        if self._closed:
            raise ConnectError("the client is closed")
        config = self.config
        if len(self._connections) + self._connecting >= config.connections_max:
            if len(self._waiters) >= config.waiters_max:
                raise PoolTimeout(f"connections: {len(self._waiters)} requests already wait for one")
            waiter: asyncio.Future[UpstreamConnection | None] = self.loop.create_future()
            self._waiters.append((min(total_at, self.now() + config.pool_timeout_seconds), waiter))
            if not self._sweeping_fast:
                self._sweep_faster()
            try:
                connection = await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                    given = waiter.result()
                    if given is None:
                        self._connecting -= 1
                        self._offer_place()
                    else:
                        self.release(given)
                raise
            if connection is not None and connection.usable:
                return connection, True
            if connection is not None:
                connection.abandon()
                self._connecting += 1
        else:
            self._connecting += 1
        return await self._connect(connect_timeout, total_at), False

    async def _fresh(self, connect_timeout: float | None, total_at: float) -> UpstreamConnection:
        """A connection that nothing was sent on. The dead one before it has just given its place back."""
        if self._closed:
            raise ConnectError("the client is closed")
        self._connecting += 1
        return await self._connect(connect_timeout, total_at)

    async def _connect(self, connect_timeout: float | None, total_at: float) -> UpstreamConnection:
        """Opens a connection in a place already counted in `_connecting`."""
        origin = self.origin
        seconds = self.config.connect_timeout_seconds if connect_timeout is None else connect_timeout
        seconds = min(seconds, total_at - self.now())
        connection = UpstreamConnection(self)
        connected = False
        try:
            async with asyncio.timeout(seconds):
                await self.loop.create_connection(
                    lambda: connection,
                    origin.host,
                    origin.port,
                    ssl=self._tls,
                    server_hostname=(origin.server_name or origin.host) if self._tls is not None else None,
                )
            connected = connection.usable and not self._closed
        except TimeoutError as error:
            raise ConnectTimeout(f"{origin.host}:{origin.port}: no connection within {seconds:g} s") from error
        except (OSError, ssl.SSLError, UnicodeError) as error:
            raise ConnectError(f"{origin.host}:{origin.port}: {error}") from error
        finally:
            self._connecting -= 1
            if connected:
                self._connections.add(connection)
            else:
                connection.abandon()
        if not connected:
            raise ConnectError(f"{origin.host}:{origin.port}: closed as soon as it was open")
        self.opened += 1
        return connection

    def release(self, connection: UpstreamConnection) -> None:
        """Takes back a connection whose request is over: to the longest waiting request, else to the idle ones."""
        while self._waiters:
            _, waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return
        if self._closed or len(self._idle) >= self.config.idle_connections_max:
            connection.abandon()
            return
        connection.idle_since = self.sweep_time
        self._idle.append(connection)

    def forget(self, connection: UpstreamConnection) -> None:
        """A connection is closed; its place is free."""
        self._connections.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self._offer_place()

    def _offer_place(self) -> None:
        while self._waiters and len(self._connections) + self._connecting < self.config.connections_max:
            _, waiter = self._waiters.popleft()
            if not waiter.done():
                self._connecting += 1
                waiter.set_result(None)

    # --- time ---

    def _sweep_faster(self) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
        self._sweeping_fast = True
        self.sweep_time = self.now()
        self._sweeper = self.loop.call_later(self.config.sweep_seconds, self._tick)

    def _tick(self) -> None:
        self._sweeper = None
        self.sweep()
        if self._closed or not (self._connections or self._waiters):
            self._sweeping_fast = False
            return
        self._sweeping_fast = len(self._connections) > len(self._idle) or bool(self._waiters)
        seconds = self.config.sweep_seconds if self._sweeping_fast else self.config.idle_sweep_seconds
        self._sweeper = self.loop.call_later(seconds, self._tick)

    def sweep(self) -> None:
        """Ends requests, waits and idle connections whose time is over."""
        self.sweep_time = now = self.now()
        for connection in list(self._connections):
            connection.sweep(now)
        horizon = now - self.config.idle_timeout_seconds
        for connection in [idle for idle in self._idle if idle.idle_since < horizon]:
            connection.abandon()
        if self._waiters:
            for at, waiter in self._waiters:
                if at < now and not waiter.done():
                    waiter.set_exception(PoolTimeout("connections: all busy for the whole time allowed"))
            self._waiters = deque(entry for entry in self._waiters if not entry[1].done())

    async def close(self) -> None:
        """Closes every connection; requests in flight fail with ConnectionReset."""
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        for _, waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(ConnectError("the client is closed"))
        self._waiters.clear()
        for connection in list(self._connections):
            connection.close(ConnectionReset("the client is closed"))
        await asyncio.sleep(0)


async def _close_iterator(body: Body) -> None:
    close = getattr(body, "aclose", None)
    if close is not None:
        await close()
