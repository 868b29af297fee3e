"""Sending and waiting under asyncio."""

import asyncio
import os

from pyreqwest.client import Client, ClientBuilder
from pyreqwest.exceptions import PyreqwestError

from hevlayer.client.errors import HevlayerError, RawAnswer
from hevlayer.client.http import Request, check_process, failure_of, set_up


class AsyncTransport:
    """A pool of connections."""

    def __init__(self, *, timeout_seconds: float, compression: bool) -> None:
        builder = set_up(ClientBuilder(), timeout_seconds=timeout_seconds, compression=compression)
        self._client: Client | None = builder.build()
        self._pid = os.getpid()

    async def send(self, request: Request) -> RawAnswer:
        """Raises: HevlayerError: no whole answer came."""
        check_process(self._pid)
        if self._client is None:
            raise HevlayerError("the client is closed")
        builder = self._client.request(request.method, request.url).headers(request.headers).timeout(request.timeout)
        if request.content is not None:
            builder = builder.body_bytes(request.content)
        try:
            response = await builder.build().send()
            content = bytes(await response.bytes())
        except PyreqwestError as error:
            raise failure_of(error, request) from error
        return RawAnswer(response.status, {name.lower(): value for name, value in response.headers.items()}, content)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def aclose(self) -> None:
        # Its idle connections close when nothing holds it any more.
        client, self._client = self._client, None
        if client is not None:
            await client.close()
