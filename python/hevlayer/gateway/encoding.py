"""gzip for bodies that we changed: they leave as they would have without us."""

import asyncio
import zlib
from collections.abc import AsyncIterator

from hevlayer.gateway.scanning import OFF_LOOP_BYTES
from hevlayer.http.messages import Response

# The upstream leaves small answers as they are, whatever the client accepts.
COMPRESSED_BYTES_MIN = 1024
GZIP_LEVEL = 1


async def compressed(response: Response) -> Response:
    """An answer that we changed, whose body is whole and plain, as gzip; a small one as it is."""
    body = response.body
    assert not isinstance(body, AsyncIterator)
    plain = body if isinstance(body, bytes) else b"".join(body)
    if len(plain) < COMPRESSED_BYTES_MIN:
        return response
    packed = gzip(plain) if len(plain) < OFF_LOOP_BYTES else await asyncio.to_thread(gzip, plain)
    return Response(response.status, [*response.headers, (b"content-encoding", b"gzip")], packed)


def gzip(body: bytes) -> bytes:
    """The body as one gzip member, compressed lightly: it crosses one hop."""
    packer = zlib.compressobj(GZIP_LEVEL, wbits=zlib.MAX_WBITS | 16)
    return packer.compress(body) + packer.flush()
