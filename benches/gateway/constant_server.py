"""constant_server.py PORT BYTES [at-once]: our own HTTP server with a constant answer, a cached fetch's yardstick.

It logs and measures nothing and asks nobody for a key. Without `at-once` a handler gives the answer, as in any small
service; with it the server writes bytes that are ready, which is the least that it can do for a request.
"""

import asyncio
import sys

import uvloop

from hevlayer.http.messages import Request, Response
from hevlayer.http.server import ServerConfig, serve
from hevlayer.kernels.http import RequestHead


async def main() -> None:
    port, size = int(sys.argv[1]), int(sys.argv[2])
    body = b"x" * size
    response = Response(200, [(b"content-type", b"application/json")], body)

    async def answer(_request: Request) -> Response:
        return response

    ready = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n%%bcontent-length: %d\r\n\r\n%b" % (size, body)

    def at_once(_head: RequestHead, _peer: str, date_line: bytes) -> bytes:
        return ready % date_line

    given = at_once if "at-once" in sys.argv[3:] else None
    await serve(answer, at_once=given, host="127.0.0.1", port=port, config=ServerConfig())
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main())
