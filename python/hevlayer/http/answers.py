"""How answers are written: their framing, whole or as they are made."""

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final, cast

from hevlayer.http.framing import BODILESS_STATUSES, header_block, header_names, status_line, total_length
from hevlayer.http.messages import Headers, Request, Response
from hevlayer.http.request_body import ArrivingBody
from hevlayer.kernels.http import HTTP_1_0, KEEP_ALIVE

if TYPE_CHECKING:
    from hevlayer.http.server import HttpServer

# Below this a head and its body are copied into one buffer: cheaper than a gathered write.
JOIN_BYTES_MAX: Final = 4096


class AnswerWriter:
    """The writing half of a connection."""

    __slots__ = ("_arriving", "_cancel_allowed", "_gone", "_server", "_transport", "_write_paused", "_write_waiter")

    def __init__(self, server: "HttpServer") -> None:
        self._server = server
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._arriving: ArrivingBody | None = None
        self._cancel_allowed = False
        self._gone = False
        self._write_paused = False
        self._write_waiter: asyncio.Future[None] | None = None

    def cancel_on_disconnect(self, allowed: bool) -> None:
        """Lets the handler's task be cancelled when the client goes away, or forbids it again."""

    def keeps(self, request: Request, flags: int) -> bool:
        """Whether the connection outlives the answer to `request`."""
        if not flags & KEEP_ALIVE or self._server.draining or self._gone:
            return False
        body = self._arriving
        if body is not None and body is request.body:
            remaining = body.remaining
            return (
                not (body.continue_owed or body.failed)
                and remaining is not None
                and remaining <= self._server.config.drain_body_bytes_max
            )
        return True

    @staticmethod
    def line_of(keep: bool, flags: int) -> bytes:
        """The header line `connection`, or b"" where HTTP/1.1 needs none."""
        if not keep:
            return b"connection: close\r\n"
        return b"connection: keep-alive\r\n" if flags & HTTP_1_0 else b""

    def head(self, response: Response, flags: int, keep: bool, framing: bytes) -> bytes:
        """An answer's head; `framing` are the lines that say how long its body is."""
        headers = response.headers
        names = header_names(headers)
        framing += self.line_of(keep, flags)
        date = b"" if b"date" in names else self._server.date_line
        return b"".join((status_line(response.status), header_block(headers, names), date, framing, b"\r\n"))

    def write_whole(self, request: Request, response: Response, body: bytes, flags: int) -> bool:
        """Writes an answer whose body is in memory; returns whether the connection is kept."""
        keep = self.keeps(request, flags)
        status = response.status
        if status in BODILESS_STATUSES:
            declared = _declared_length(response.headers)
            framing = b"" if status == 204 or declared is None else b"content-length: %d\r\n" % declared
            self._transport.write(self.head(response, flags, keep, framing))
            return keep
        size = len(body)
        if request.method == "HEAD":
            declared = _declared_length(response.headers)
            size, body = (size if declared is None else declared), b""
        head = self.head(response, flags, keep, b"content-length: %d\r\n" % size)
        if len(body) <= JOIN_BYTES_MAX:
            self._transport.write(head + body)
        else:
            self._transport.writelines((head, body))
        return keep

    async def write_parts(self, request: Request, response: Response, flags: int) -> bool:
        """Writes an answer whose body is a sequence or an iterator; returns whether the connection is kept."""
        body = response.body
        if isinstance(body, (bytes, bytearray, memoryview)):
            return self.write_whole(request, response, bytes(body), flags)
        if not hasattr(body, "__aiter__"):
            if request.method == "HEAD" or response.status in BODILESS_STATUSES:
                return self.write_whole(request, response, b"".join(body), flags)
            keep = self.keeps(request, flags)
            head = self.head(response, flags, keep, b"content-length: %d\r\n" % total_length(body))
            self._transport.writelines((head, *body))
            return keep
        try:
            # An answer nobody reads may be dropped: whatever it reports has already happened.
            self.cancel_on_disconnect(True)
            return await self._write_stream(request, response, cast(AsyncIterator[bytes], body), flags)
        finally:
            self._cancel_allowed = False
            close = getattr(body, "aclose", None)
            if close is not None:
                await close()

    async def _write_stream(self, request: Request, response: Response, body: AsyncIterator[bytes], flags: int) -> bool:
        arriving = self._arriving
        if arriving is not None and arriving is request.body and arriving.continue_owed:
            # The answer may be made from the request's body, and nothing can be asked of the client once it started.
            arriving.ask()
        keep = self.keeps(request, flags)
        length = _declared_length(response.headers)
        transport = self._transport
        if request.method == "HEAD" or response.status in BODILESS_STATUSES:
            framing = b"" if length is None else b"content-length: %d\r\n" % length
            transport.write(self.head(response, flags, keep, framing))
            return keep
        chunked = length is None and not flags & HTTP_1_0
        if chunked:
            framing = b"transfer-encoding: chunked\r\n"
        elif length is None:
            framing, keep = b"", False
        else:
            framing = b"content-length: %d\r\n" % length
        transport.write(self.head(response, flags, keep, framing))
        written = 0
        async for chunk in body:
            if not chunk:
                continue
            if transport.is_closing():
                raise ConnectionResetError("the client went away")
            written += len(chunk)
            if chunked:
                transport.writelines((b"%x\r\n" % len(chunk), chunk, b"\r\n"))
            else:
                if length is not None and written > length:
                    raise ValueError(f"response body: longer than its content-length of {length} bytes")
                transport.write(chunk)
            if self._write_paused:
                await self.writable()
        if chunked:
            transport.write(b"0\r\n\r\n")
        elif length is not None and written < length:
            raise ValueError(f"response body: {written} bytes, its content-length says {length}")
        return keep

    async def writable(self) -> None:
        """Until the client has read enough, or is gone. The sweep ends a wait without progress."""
        while self._write_paused and not self._transport.is_closing():
            self._write_waiter = self._server.loop.create_future()
            try:
                await self._write_waiter
            finally:
                self._write_waiter = None


def _declared_length(headers: Headers) -> int | None:
    for name, value in headers:
        if name == b"content-length":
            return int(value)
    return None
