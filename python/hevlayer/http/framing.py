"""Bytes of message heads: status lines, header blocks, dates, the one error body."""

import time
from collections.abc import Sequence
from http import HTTPStatus
from operator import itemgetter
from typing import Final

import orjson

from hevlayer.http.messages import Headers

STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}

# What frames a message belongs to whoever owns the connection, never to who wrote the headers.
FRAMING_HEADERS = frozenset({b"connection", b"content-length", b"keep-alive", b"transfer-encoding", b"upgrade"})
BODILESS_STATUSES = frozenset({204, 304})

# Looked for as integers: several times faster in bytes than one-byte strings.
_LF: Final = 0x0A
_CR: Final = 0x0D
_NAME: Final = itemgetter(0)
_LINE: Final = b": ".join

_WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def status_line(status: int) -> bytes:
    """The start line of an answer; a status without a known phrase gets an empty one."""
    line = STATUS_LINES.get(status)
    if line is None:
        if not 200 <= status <= 599:
            raise ValueError(f"status: must be between 200 and 599, is {status}")
        line = STATUS_LINES[status] = b"HTTP/1.1 %d \r\n" % status
    return line


def header_names(headers: Headers) -> set[bytes]:
    """The names that occur."""
    return set(map(_NAME, headers))


def header_block(headers: Headers, names: set[bytes]) -> bytes:
    """`name: value` lines, each with its CRLF, of the headers that do not frame the message. `names` are theirs.

    Raises: ValueError: a name or value holds a line break, which would let it write headers of its own.
    """
    if not names.isdisjoint(FRAMING_HEADERS):
        headers = [header for header in headers if header[0] not in FRAMING_HEADERS]
    if not headers:
        return b""
    block = b"\r\n".join(map(_LINE, headers))
    breaks = len(headers) - 1
    if block.count(_LF) != breaks or block.count(_CR) != breaks:
        raise ValueError("headers: a name or a value holds a line break")
    return block + b"\r\n"


def http_date(epoch_seconds: float) -> bytes:
    """The IMF-fixdate of RFC 9110, whatever the process's locale."""
    at = time.gmtime(epoch_seconds)
    return (
        f"{_WEEKDAYS[at.tm_wday]}, {at.tm_mday:02d} {_MONTHS[at.tm_mon - 1]} {at.tm_year:04d} "
        f"{at.tm_hour:02d}:{at.tm_min:02d}:{at.tm_sec:02d} GMT"
    ).encode()


def error_body(code: str, message: str) -> bytes:
    """The error body that every answer of ours has."""
    return orjson.dumps({"status": "error", "error": code, "message": message})


def total_length(parts: Sequence[bytes]) -> int:
    """Bytes in all parts together."""
    return sum(map(len, parts))
