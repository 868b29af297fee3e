"""The HTTP library's part that both classes share: how a client is set up, and what its errors mean."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeVar

from pyreqwest.client import ClientBuilder, SyncClientBuilder
from pyreqwest.exceptions import (
    ClientClosedError,
    DetailedPyreqwestError,
    PoolTimeoutError,
    RequestTimeoutError,
)

from hevlayer.client.errors import HevlayerConnectionError, HevlayerError, HevlayerTimeoutError

CONNECT_TIMEOUT_SECONDS = 5.0
IDLE_CONNECTION_SECONDS = 60.0
CONNECTIONS_MAX = 512

_BuilderT = TypeVar("_BuilderT", ClientBuilder, SyncClientBuilder)
# The library's classes do not tell a connection that never came from one that broke under a request: it calls both a
# ConnectError. The first of them has this among its causes. Were the text to change, nothing would count as unsent,
# which costs a retry or a way around the gateway, and never writes twice.
_NEVER_CONNECTED = "client error (Connect)"


@dataclass(frozen=True, slots=True)
class Request:
    """A request that is ready to be sent. Its headers hold a key, so no print of it shows them."""

    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)
    content: bytes | None = field(repr=False)
    timeout_seconds: float

    @property
    def timeout(self) -> timedelta:
        return timedelta(seconds=self.timeout_seconds)


def set_up(builder: _BuilderT, *, timeout_seconds: float, compression: bool) -> _BuilderT:
    """One pool, no redirects (a key must not follow one), and gzip only where it was asked for."""
    return (
        builder.http1_only()
        .follow_redirects(False)
        .gzip(compression)
        .brotli(False)
        .zstd(False)
        .deflate(False)
        .tcp_nodelay(True)
        .max_connections(CONNECTIONS_MAX)
        .pool_max_idle_per_host(CONNECTIONS_MAX)
        .pool_idle_timeout(timedelta(seconds=IDLE_CONNECTION_SECONDS))
        .pool_timeout(timedelta(seconds=timeout_seconds))
        .connect_timeout(timedelta(seconds=min(CONNECT_TIMEOUT_SECONDS, timeout_seconds)))
    )


def check_process(pid: int) -> None:
    """Raises: HevlayerError: this is not the process `pid`. The library's threads are not in a forked one, and a call
    there would never end, its time-out neither."""
    if os.getpid() != pid:
        raise HevlayerError("the client was made before this process was forked; make one in each process (spawn them)")


def failure_of(error: Exception, request: Request) -> HevlayerError:
    """What an error of the library means to a caller. Texts of the library may hold the address, never a key."""
    where = f"{request.method} {request.url.partition('?')[0]}"
    causes = _causes(error)
    if isinstance(error, PoolTimeoutError):
        busy = f"{where}: all {CONNECTIONS_MAX} connections were in use for {request.timeout_seconds} s"
        return HevlayerTimeoutError(busy, request_sent=False)
    if _NEVER_CONNECTED in causes:
        return HevlayerConnectionError(f"{where}: no connection: {causes[-1]}", request_sent=False)
    if isinstance(error, RequestTimeoutError):
        return HevlayerTimeoutError(f"{where}: no whole answer in {request.timeout_seconds} s", request_sent=True)
    if isinstance(error, ClientClosedError):
        return HevlayerError(f"{where}: the client is closed")
    return HevlayerConnectionError(f"{where}: the connection broke: {causes[-1]}", request_sent=True)


def _causes(error: Exception) -> list[str]:
    """From the outermost to the innermost, which says `Connection refused` where the others say where."""
    details = error.details.get("causes") if isinstance(error, DetailedPyreqwestError) else None
    return [cause["message"] for cause in details or ()] or [str(error)]
