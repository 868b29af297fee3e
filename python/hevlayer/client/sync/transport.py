"""Sending and waiting in a thread."""

import time

from pyreqwest.client import SyncClientBuilder
from pyreqwest.exceptions import PyreqwestError

from hevlayer.client.errors import RawAnswer
from hevlayer.client.http import Request, failure_of, set_up


class Transport:
    """A pool of connections. It may be used by several threads at once."""

    def __init__(self, *, timeout_seconds: float, compression: bool) -> None:
        self._client = set_up(SyncClientBuilder(), timeout_seconds=timeout_seconds, compression=compression).build()

    def send(self, request: Request) -> RawAnswer:
        """Raises: HevlayerError: no whole answer came."""
        builder = self._client.request(request.method, request.url).headers(request.headers).timeout(request.timeout)
        if request.content is not None:
            builder = builder.body_bytes(request.content)
        try:
            response = builder.build().send()
            content = bytes(response.bytes())
        except PyreqwestError as error:
            raise failure_of(error, request) from error
        return RawAnswer(response.status, {name.lower(): value for name, value in response.headers.items()}, content)

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def close(self) -> None:
        self._client.close()
