"""Sending and waiting in a thread."""

import os
import time
from functools import partial

from pyreqwest.client import SyncClient, SyncClientBuilder
from pyreqwest.exceptions import PyreqwestError

from hevlayer.client.errors import HevlayerError, RawAnswer
from hevlayer.client.http import Request, check_process, failure_of, set_up
from hevlayer.client.sync.side import Side


class Transport:
    """A pool of connections. It may be used by several threads at once, and can be interrupted in the main one."""

    def __init__(self, *, timeout_seconds: float, compression: bool) -> None:
        builder = set_up(SyncClientBuilder(), timeout_seconds=timeout_seconds, compression=compression)
        self._client: SyncClient | None = builder.build()
        self._pid = os.getpid()
        self._side: Side[RawAnswer] = Side()

    def send(self, request: Request) -> RawAnswer:
        """Raises: HevlayerError: no whole answer came."""
        check_process(self._pid)
        return self._side.run(partial(self._send, request))

    def _send(self, request: Request) -> RawAnswer:
        if self._client is None:
            raise HevlayerError("the client is closed")
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
        self._side.close()
        # Its idle connections close when nothing holds it any more.
        client, self._client = self._client, None
        if client is not None:
            client.close()
