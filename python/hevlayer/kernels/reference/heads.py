"""The slow twins of the messages that a gateway writes: lists of headers, joined."""

import re
from collections.abc import Sequence

Headers = Sequence[tuple[bytes, bytes]]

# For this hop only, or written anew.
_HOP = {
    b"connection",
    b"content-length",
    b"keep-alive",
    b"proxy-authenticate",
    b"proxy-authorization",
    b"proxy-connection",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
}
_HARMLESS = {b"keep-alive", b"close", b""}
_SPACE = b" \t\r\n"
_TAIL_BYTES = 64
_BILLING_TAIL_BYTES = 2048
_AMOUNT_MAX = (1 << 64) - 1


def _lines(headers: Headers) -> bytes:
    return b"".join(b"%b: %b\r\n" % pair for pair in headers)


def forwarded(
    method: bytes,
    target: bytes,
    headers: Headers,
    *,
    names: Sequence[bytes],
    prefixes: Sequence[bytes],
    base: bytes,
    prefix_bytes: int,
    host: bytes,
    authorization: bytes | None,
    traceparent: bytes,
    identity: bool,
    body: bytes,
) -> bytes:
    """As `RequestHead.forwarded`, of a request with these headers."""
    kept = [(name.lower(), value) for name, value in headers]
    kept = [pair for pair in kept if pair[0] in names or pair[0].startswith(tuple(prefixes))]
    if identity:
        kept = [pair for pair in kept if pair[0] != b"accept-encoding"]
    if authorization is not None:
        kept.append((b"authorization", authorization))
    if traceparent:
        kept.append((b"traceparent", traceparent))
    if identity:
        kept.append((b"accept-encoding", b"identity"))
    kept = [(b"host", host), *kept, (b"content-length", b"%d" % len(body))]
    return b"%b %b%b HTTP/1.1\r\n%b\r\n%b" % (method, base, target[prefix_bytes:], _lines(kept), body)


def relayed(
    headers: Headers,
    body: bytes,
    *,
    status_line: bytes,
    own: bytes,
    date: bytes,
    connection: bytes,
    stable_as_of_ms: int | None,
) -> tuple[bytes, int, int | None, int | None]:
    """As `ResponseHead.relayed`, of an answer with these headers and this body."""
    received = [(name.lower(), value) for name, value in headers]
    hops = {token.strip().lower() for name, value in received if name == b"connection" for token in value.split(b",")}
    hops -= _HARMLESS
    kept = [pair for pair in received if pair[0] not in _HOP and pair[0] not in hops]
    encodings = [value for name, value in received if name == b"content-encoding"]
    queried = returned = None
    if not encodings or encodings[0] == b"identity":
        queried, returned = billing(body)
        if stable_as_of_ms is not None:
            body = with_last_key(body, stable_as_of_ms)
    if any(name == b"date" for name, _ in kept):
        date = b""
    head = b"%b%b%b%bcontent-length: %d\r\n%b\r\n" % (status_line, _lines(kept), own, date, len(body), connection)
    return head + body, len(body), queried, returned


def with_last_key(body: bytes, stable_as_of_ms: int) -> bytes:
    """A JSON object with `stable_as_of` as its last key; what does not end like an object as it is."""
    text = body.rstrip(_SPACE)
    if not text.endswith(b"}"):
        return body
    if len(text) < _TAIL_BYTES and text[:-1].strip(_SPACE) == b"{":
        return b'{"stable_as_of":%d}' % stable_as_of_ms
    return b'%b,"stable_as_of":%d}%b' % (text[:-1], stable_as_of_ms, body[len(text) :])


def billing(body: bytes) -> tuple[int | None, int | None]:
    """The logical bytes billed as queried and returned, behind the last `"billing"` near the end."""
    tail = body[-_BILLING_TAIL_BYTES:]
    _, found, rest = tail.rpartition(b'"billing"')
    if not found:
        return None, None

    def amount(kind: bytes) -> int:
        parts = re.findall(rb'"billable_logical_bytes_%b"[ \t\r\n]*:[ \t\r\n]*([0-9]{1,20})' % kind, rest)
        return min(sum(min(int(part), _AMOUNT_MAX) for part in parts), _AMOUNT_MAX)

    return amount(b"queried"), amount(b"returned")
