"""The HTTP library's part that both classes share: how a client is set up, and what its errors mean."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from pyreqwest.client import ClientBuilder, SyncClientBuilder
from pyreqwest.exceptions import (
    ClientClosedError,
    ConnectError,
    ConnectTimeoutError,
    DetailedPyreqwestError,
    PoolTimeoutError,
    RequestTimeoutError,
)

from hevlayer.client.errors import HevlayerConnectionError, HevlayerError, HevlayerTimeoutError

CONNECT_TIMEOUT_SECONDS = 5.0
IDLE_CONNECTION_SECONDS = 60.0
CONNECTIONS_MAX = 512

_BuilderT = TypeVar("_BuilderT", ClientBuilder, SyncClientBuilder)
# The connection was not there yet, so the server has seen nothing.
_UNSENT = (ConnectError, ConnectTimeoutError, PoolTimeoutError)


@dataclass(frozen=True, slots=True)
class Request:
    """A request that is ready to be sent."""

    method: str
    url: str
    headers: Mapping[str, str]
    content: bytes | None
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


def failure_of(error: Exception, request: Request) -> HevlayerError:
    """What an error of the library means to a caller. Texts of the library may hold the address, never a key."""
    where = f"{request.method} {request.url.partition('?')[0]}"
    cause = _cause(error)
    if isinstance(error, _UNSENT):
        return HevlayerConnectionError(f"{where}: no connection: {cause}", request_sent=False)
    if isinstance(error, RequestTimeoutError):
        return HevlayerTimeoutError(f"{where}: no whole answer in {request.timeout_seconds} s", request_sent=True)
    if isinstance(error, ClientClosedError):
        return HevlayerError(f"{where}: the client is closed")
    return HevlayerConnectionError(f"{where}: the connection broke: {cause}", request_sent=True)


def _cause(error: Exception) -> str:
    """The innermost cause: it says `Connection refused` where the others say where."""
    causes = error.details.get("causes") if isinstance(error, DetailedPyreqwestError) else None
    return causes[-1]["message"] if causes else str(error)
