"""W3C trace context: the caller's `traceparent` is used, or one is minted once."""

import random
import re

_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(?:-.{0,256})?")
_NO_TRACE = b"0" * 32
_NO_SPAN = b"0" * 16
_NEITHER_ID_ZERO = 1 << 191 | 1
REQUEST_ID_CHARS_MAX = 128


def accept_traceparent(value: bytes | None) -> bytes | None:
    """The trace id (32 hex digits) of a valid `traceparent`, else None."""
    if value is None:
        return None
    found = _TRACEPARENT.fullmatch(value)
    if found is None or value[:2] == b"ff" or (value[:2] == b"00" and len(value) != 55):
        return None
    trace_id, span_id = found.groups()
    return None if trace_id == _NO_TRACE or span_id == _NO_SPAN else trace_id


def mint_traceparent(rng: random.Random) -> tuple[bytes, bytes]:
    """A new (traceparent, trace id), sampled."""
    digits = (rng.getrandbits(192) | _NEITHER_ID_ZERO).to_bytes(24, "big").hex()
    return f"00-{digits[:32]}-{digits[32:]}-01".encode("ascii"), digits[:32].encode("ascii")


def accept_request_id(value: bytes | None) -> str | None:
    """A caller's request id when it is short printable ASCII, else None: it goes into log lines."""
    if value is None or len(value) > REQUEST_ID_CHARS_MAX or not value.isascii():
        return None
    text = value.decode("ascii")
    return text if text and text.isprintable() else None
