"""Bodies on their way in and out: gzip in both directions, and the upstream's error shape."""

import re
import zlib

import orjson

from hevlayer.http.messages import Headers, Response

GZIP_RESPONSE_BYTES_MIN = 1024
_GZIP_LEVEL = 1
_GZIP_WBITS = 31
_INFLATE_STEP_BYTES = 1 << 20
_QUALITY_ZERO = re.compile(r";\s*q\s*=\s*0(\.0{0,3})?\s*$")

JSON_TYPE = b"application/json"
UNKNOWN_ERROR = "🐡 Unknown error, if this persists, please contact support!! We'll be happy to help :)"


class BodyError(Exception):
    """A request body that cannot be inflated. `status` is 400 or 413."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def too_large(bytes_max: int) -> BodyError:
    return BodyError(413, f"💔 request body is too large, the limit is {bytes_max} bytes")


def inflate(body: bytes, encoding: bytes | None, bytes_max: int) -> bytes:
    """The body without its content encoding.

    Raises: BodyError: 400 when it is broken or in an encoding other than gzip, 413 when it grows past `bytes_max`.
    """
    name = (encoding or b"identity").strip().lower()
    if name in (b"identity", b""):
        return body
    if name not in (b"gzip", b"x-gzip"):
        raise BodyError(400, f"💔 unsupported content encoding {name.decode('latin-1')!r}, expected gzip or identity")
    decoder = zlib.decompressobj(_GZIP_WBITS)
    parts: list[bytes] = []
    total = 0
    rest = body
    try:
        while not decoder.eof:
            part = decoder.decompress(rest, _INFLATE_STEP_BYTES)
            rest = decoder.unconsumed_tail
            if not part and not rest:
                break
            total += len(part)
            if total > bytes_max:
                raise too_large(bytes_max)
            parts.append(part)
    except zlib.error as error:
        raise BodyError(400, f"💔 request body is not valid gzip: {error}") from None
    if not decoder.eof or decoder.unused_data:
        reason = "bytes follow its end" if decoder.eof else "it is truncated"
        raise BodyError(400, f"💔 request body is not valid gzip: {reason}")
    return b"".join(parts)


def accepts_gzip(accept_encoding: bytes | None) -> bool:
    """Whether the client names gzip and does not refuse it by `q=0`."""
    for item in (accept_encoding or b"").decode("latin-1").lower().split(","):
        if item.partition(";")[0].strip() in ("gzip", "x-gzip"):
            return _QUALITY_ZERO.search(item) is None
    return False


def deflate(body: bytes) -> bytes:
    encoder = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _GZIP_WBITS)
    return encoder.compress(body) + encoder.flush()


def error_body(message: str) -> bytes:
    return orjson.dumps({"status": "error", "error": message})


def respond(status: int, body: bytes, content_type: bytes = JSON_TYPE, *, encoded: bool = False) -> Response:
    """A whole answer. `encoded`: the body is gzip already."""
    headers: Headers = [(b"content-type", content_type), (b"content-length", b"%d" % len(body))]
    if encoded:
        headers.append((b"content-encoding", b"gzip"))
    return Response(status, headers, body)


def respond_error(status: int, message: str) -> Response:
    return respond(status, error_body(message))
