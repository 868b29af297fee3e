"""An HTTP/1.1 server that calls one function per request."""

import asyncio
import os
import socket
import ssl
from collections.abc import Awaitable, Callable

from hevlayer.clock import Clock, SystemClock
from hevlayer.http.connection import ServerConnection
from hevlayer.http.errors import AbortConnection
from hevlayer.http.framing import http_date
from hevlayer.http.messages import AtOnce, Handler, Reply, Request, Response, Starter, TakeOn
from hevlayer.http.server_config import ServerConfig
from hevlayer.kernels.http import BodyRoom

__all__ = ["AbortConnection", "HttpServer", "ServerConfig", "serve"]


class HttpServer:
    """A listening server and its connections. Made by `serve`.

    `inflight` counts the requests whose handler or answer is under way. `now` is a coarse monotonic time: the sweep
    sets it, so that a request needs no look at the clock.
    """

    def __init__(
        self,
        starter: Starter,
        config: ServerConfig,
        clock: Clock,
        at_once: AtOnce | None = None,
        take_on: TakeOn | None = None,
    ) -> None:
        self.config = config
        self.loop = asyncio.get_running_loop()
        self.inflight = 0
        self.requests = 0
        self.draining = False
        self.now = clock.monotonic()
        self.date_line = b""
        self.starter = starter
        self.at_once = at_once
        self.take_on = take_on
        self.body_room = BodyRoom(config.whole_bodies_bytes_max)
        self._clock = clock
        self._kept_on: set[asyncio.Future[Response]] = set()
        self._connections: set[ServerConnection] = set()
        self._listener: asyncio.Server | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self._idle_waiter: asyncio.Future[None] | None = None
        self._closed = False
        self._port = 0

    @property
    def port(self) -> int:
        """The TCP port that was bound; stays known after the listener is closed."""
        return self._port

    @property
    def connections(self) -> int:
        """Open client connections."""
        return len(self._connections)

    async def listen(
        self, host: str, port: int, sock: socket.socket | None, ssl_context: ssl.SSLContext | None
    ) -> None:
        """Binds. Raises: OSError: the address cannot be bound."""
        factory: Callable[[], ServerConnection] = lambda: ServerConnection(self)  # noqa: E731
        handshake = self.config.tls_handshake_timeout_seconds if ssl_context is not None else None
        backlog = self.config.backlog
        if sock is not None:
            listener = await self.loop.create_server(
                factory, sock=sock, ssl=ssl_context, backlog=backlog, ssl_handshake_timeout=handshake
            )
        else:
            try:
                listener = await self.loop.create_server(
                    factory, host, port, ssl=ssl_context, backlog=backlog, ssl_handshake_timeout=handshake
                )
            except OSError as error:
                # The loop's own text has the address in Python's notation, or, for a name, not at all.
                code = error.errno or 0
                reason = os.strerror(code) if code > 0 else error.strerror or str(error)
                raise OSError(error.errno, f"cannot listen on {host}:{port}: {reason}") from error
        self._listener = listener
        self._port = int(listener.sockets[0].getsockname()[1])

    # --- for the connections ---

    def adopt(self, connection: ServerConnection) -> bool:
        """Takes up a connection; False when there are too many."""
        admitted = len(self._connections) < self.config.connections_max
        self._connections.add(connection)
        if self._sweeper is None and not self._closed:
            self._tick()
        return admitted

    def forget(self, connection: ServerConnection) -> None:
        self._connections.discard(connection)
        self._settle()

    def finished(self) -> None:
        """One request less in flight."""
        self.inflight -= 1
        self.requests += 1
        if self._idle_waiter is not None:
            self._settle()

    def keep_on(self, answering: Awaitable[Response]) -> None:
        """Lets work finish whose answer nobody waits for."""
        work = asyncio.ensure_future(answering)
        self._kept_on.add(work)
        work.add_done_callback(self._kept_on.discard)

    def _settle(self) -> None:
        waiter = self._idle_waiter
        if waiter is not None and self.inflight == 0 and not waiter.done():
            waiter.set_result(None)

    # --- time ---

    def _tick(self) -> None:
        self.now = self._clock.monotonic()
        self.date_line = b"date: %b\r\n" % http_date(self._clock.now_ms() / 1000)
        self._sweeper = self.loop.call_later(self.config.sweep_seconds, self._sweep)

    def _sweep(self) -> None:
        self._sweeper = None
        if not self._connections or self._closed:
            return
        self._tick()
        for connection in list(self._connections):
            connection.sweep(self.now)

    # --- the end ---

    async def drain(self, seconds: float) -> bool:
        """Stops accepting, closes idle connections, and waits for the requests in flight, whose answers say
        `connection: close`. Returns whether all were finished in time."""
        self.draining = True
        if self._listener is not None:
            self._listener.close()
        for connection in list(self._connections):
            connection.close_if_idle()
        if self.inflight:
            self._idle_waiter = self.loop.create_future()
            try:
                await asyncio.wait_for(self._idle_waiter, seconds)
            except TimeoutError:
                return False
            finally:
                self._idle_waiter = None
        return True

    async def close(self) -> None:
        """Stops listening, drops every connection and cancels the handlers still running."""
        self.draining = self._closed = True
        if self._listener is not None:
            self._listener.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        tasks = [connection.task for connection in self._connections if connection.task is not None]
        for connection in list(self._connections):
            connection.abort()
        if tasks:
            await asyncio.gather(*tasks, return_exceptions=True)
        # The loop reports the closed transports in its next rounds.
        for _ in range(CLOSE_ROUNDS_MAX):
            if not self._connections:
                return
            await asyncio.sleep(0)


CLOSE_ROUNDS_MAX = 100


def starting(handler: Handler) -> Starter:
    """A starter that leaves each request to a task of the server's."""

    def start(request: Request, _reply: Reply) -> Awaitable[Response]:
        return handler(request)

    return start


async def serve(
    handler: Handler | None = None,
    *,
    starter: Starter | None = None,
    at_once: AtOnce | None = None,
    take_on: TakeOn | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    config: ServerConfig | None = None,
    sock: socket.socket | None = None,
    ssl_context: ssl.SSLContext | None = None,
    clock: Clock | None = None,
) -> HttpServer:
    """Starts a server in the running loop.

    Args:
        handler: called once per request; its task is not cancelled when the client goes away, unless the handler
            asks for it (`Request.cancel_on_disconnect`).
        starter: in place of a handler, for what answers some requests without a task. It must not raise.
        at_once, take_on: asked first, for what needs neither a request nor a task.
        port: TCP port, 0 for any free one.
        sock: a bound socket to use in place of `host` and `port`.
    Raises: OSError: the address cannot be bound.
    """
    if starter is None:
        assert handler is not None, "serve needs a handler or a starter"
        starter = starting(handler)
    server = HttpServer(starter, config or ServerConfig(), clock or SystemClock(), at_once, take_on)
    await server.listen(host, port, sock, ssl_context)
    return server
