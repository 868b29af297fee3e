"""`stable_as_of` in the body of a query's answer, put before its last brace without parsing it."""

from collections.abc import AsyncIterator
from typing import cast

# More white space than this behind an answer's last brace, and the body is left as it is.
TAIL_BYTES = 64
_JSON_SPACE = b" \t\r\n"
_BRACE = ord("}")


def with_stable_as_of(body: bytes, stable_as_of_ms: int) -> tuple[bytes, ...]:
    """A JSON object with `stable_as_of` as its last key; anything else as it is. In parts: nothing is copied."""
    end = len(body)
    if not body.endswith(b"}"):
        end = len(body.rstrip(_JSON_SPACE))
        if end == 0 or body[end - 1] != _BRACE:
            return (body,)
    # An empty object has no key to put a comma behind.
    if end < TAIL_BYTES and body[: end - 1].strip(_JSON_SPACE) == b"{":
        return (b'{"stable_as_of":%d}' % stable_as_of_ms,)
    view = memoryview(body)
    last = b',"stable_as_of":%d}' % stable_as_of_ms + body[end:]
    # Whoever writes buffers to a socket takes a view of bytes as well as bytes.
    return cast("bytes", view[: end - 1]), last


async def stream_with_stable_as_of(stream: AsyncIterator[bytes], stable_as_of_ms: int) -> AsyncIterator[bytes]:
    """The same for an answer that comes in pieces: its last `TAIL_BYTES` are held back until it ends."""
    held = b""
    close = getattr(stream, "aclose", None)
    try:
        async for chunk in stream:
            held += chunk
            if len(held) > TAIL_BYTES:
                yield held[:-TAIL_BYTES]
                held = held[-TAIL_BYTES:]
        yield b"".join(with_stable_as_of(held, stable_as_of_ms))
    finally:
        if close is not None:
            await close()
