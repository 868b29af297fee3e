"""A TCP proxy in front of the S3 server that fails in the ways that networks and stores do."""

import asyncio
from pathlib import Path

CHUNK_BYTES = 1 << 16


class FaultyProxy:
    """Passes bytes both ways, until told otherwise. Faults apply to connections as they are used.

    `refuse`: connections are reset at once. `hang`: nothing is answered. `answer`: this is answered to each request
    instead of the server's own, `answers_left` times, and the connection closed if `answer_ends`. `lose_answers`: so
    many requests reach the server and then the connection is reset. `cut_after`: an answer is cut after so many bytes,
    `cuts` times. `cut_request`: only so many bytes of a request reach the server, as when the client dies.
    `delay_seconds`: before each chunk of an answer.
    """

    def __init__(self, upstream: Path) -> None:
        self._upstream = upstream
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.requests: list[str] = []
        """First lines of all requests, in order."""
        self.reset()

    def reset(self) -> None:
        self.refuse = False
        self.hang = False
        self.answer: bytes | None = None
        self.answers_left = 1_000_000
        self.answer_ends = False
        self.lose_answers = 0
        self.cut_after: int | None = None
        self.cuts = 0
        self.cut_request: int | None = None
        self.delay_seconds = 0.0
        self.requests.clear()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        upstream = None
        try:
            # One connection of the server for each of ours; requests are told apart so that faults hit whole ones.
            while True:
                if self.refuse:
                    break
                request = await self._read_message(reader, invite=writer)
                if request is None or self.refuse:
                    break
                self.requests.append(request.split(b" HTTP/", 1)[0].decode())
                if self.hang:
                    await asyncio.Event().wait()
                if self.answer is not None and self.answers_left > 0:
                    self.answers_left -= 1
                    # The answer to HEAD has no body.
                    is_head = request.startswith(b"HEAD ")
                    writer.write(self.answer.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" if is_head else self.answer)
                    await writer.drain()
                    if self.answer_ends:
                        break
                    continue
                if upstream is None:
                    upstream = await asyncio.open_unix_connection(str(self._upstream))
                upstream[1].write(request[: self.cut_request])
                if self.cut_request is not None:
                    await upstream[1].drain()
                    break
                answer = await self._read_message(upstream[0], head=request.startswith(b"HEAD "))
                if answer is None:
                    break
                if self.lose_answers > 0:
                    self.lose_answers -= 1
                    break
                if self.cut_after is not None and self.cuts > 0:
                    self.cuts -= 1
                    writer.write(answer[: self.cut_after])
                    await writer.drain()
                    break
                for start in range(0, len(answer), CHUNK_BYTES):
                    if self.delay_seconds:
                        await asyncio.sleep(self.delay_seconds)
                    writer.write(answer[start : start + CHUNK_BYTES])
                    await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._tasks.discard(task)
            for each in (writer, upstream[1] if upstream else None):
                if each is not None:
                    each.close()

    @staticmethod
    async def _read_message(
        reader: asyncio.StreamReader, *, head: bool = False, invite: asyncio.StreamWriter | None = None
    ) -> bytes | None:
        """One whole HTTP message; None at the end of the stream. A client that waits to be invited is, by `invite`."""
        try:
            start = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return None
        headers = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(b":") for line in start.split(b"\r\n")[1:])
        }
        if invite is not None and b"expect" in headers:
            lines = [line for line in start.split(b"\r\n") if not line.lower().startswith(b"expect:")]
            start = b"\r\n".join(lines)
            invite.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if head or start.startswith((b"HTTP/1.1 204", b"HTTP/1.1 304")):
            return start
        if start.startswith(b"HTTP/1.1 100"):
            return start + (await FaultyProxy._read_message(reader) or b"")
        if headers.get(b"transfer-encoding", b"").lower() == b"chunked":
            body = b""
            while True:
                size = await reader.readuntil(b"\r\n")
                chunk = await reader.readexactly(int(size.split(b";")[0], 16) + 2)
                body += size + chunk
                if size.strip() == b"0":
                    return start + body
        length = int(headers.get(b"content-length", b"0"))
        return start + (await reader.readexactly(length) if length else b"")


def http_answer(status: str, code: str) -> bytes:
    """An answer as S3 spells errors."""
    body = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>{code}</Message></Error>'.encode()
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/xml\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body
