"""constant_server.py PORT BYTES: our own HTTP server with a constant answer, the yardstick for a cached fetch."""

import asyncio
import sys

import uvloop

from hevlayer.http.messages import Request, Response
from hevlayer.http.server import ServerConfig, serve


async def main() -> None:
    port, size = int(sys.argv[1]), int(sys.argv[2])
    response = Response(200, [(b"content-type", b"application/json")], b"x" * size)

    async def answer(_request: Request) -> Response:
        return response

    await serve(answer, host="127.0.0.1", port=port, config=ServerConfig())
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main())
