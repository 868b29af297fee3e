"""Headers on the wire: what may go upstream, what may come back, and our own names."""

import re

from hevlayer.http.messages import Headers

CONSISTENCY = b"x-layer-consistency"
STABLE_AS_OF = b"x-layer-stable-as-of"
SHARDS = b"x-layer-shards"

# Everything a Turbopuffer client sends that the upstream may read. Authorization, host, framing and tracing are
# written by us; cookies, hop-by-hop headers and x-layer-* never pass.
REQUEST_ALLOWED = frozenset(
    {
        b"accept",
        b"accept-encoding",
        b"accept-language",
        b"content-encoding",
        b"content-type",
        b"idempotency-key",
        b"prefer",
        b"tracestate",
        b"user-agent",
        b"x-request-id",
    }
)
REQUEST_ALLOWED_PREFIXES = (b"x-stainless-", b"x-turbopuffer-")

# Hop-by-hop headers, and the length of a body that our own server frames.
_RESPONSE_DROPPED = frozenset(
    {
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
)
_QUALITY_ZERO = re.compile(r";\s*q\s*=\s*0(\.0{0,3})?\s*$")
_NAMED_BY_CONNECTION_HARMLESS = frozenset({b"keep-alive", b"close", b""})


def request_headers(sent: Headers, authorization: bytes | None, traceparent: bytes) -> Headers:
    """The headers to send upstream: the allowed ones as sent, in order, then ours."""
    allowed, prefixes = REQUEST_ALLOWED, REQUEST_ALLOWED_PREFIXES
    kept = [pair for pair in sent if pair[0] in allowed or pair[0].startswith(prefixes)]
    if authorization is not None:
        kept.append((b"authorization", authorization))
    if traceparent:
        kept.append((b"traceparent", traceparent))
    return kept


def response_headers(received: Headers) -> Headers:
    """The upstream's headers without hop-by-hop ones and without the length, in order, repetitions kept."""
    dropped = _RESPONSE_DROPPED
    kept = [pair for pair in received if pair[0] not in dropped]
    for pair in received:
        if pair[0] == b"connection" and pair[1].lower() not in _NAMED_BY_CONNECTION_HARMLESS:
            named = _named_by_connection(received)
            return [pair for pair in kept if pair[0] not in named]
    return kept


def _named_by_connection(received: Headers) -> frozenset[bytes]:
    """Headers that a `Connection` header declares to be for this hop only."""
    names: set[bytes] = set()
    for key, value in received:
        if key == b"connection":
            names.update(name.strip().lower() for name in value.split(b","))
    return frozenset(names - _NAMED_BY_CONNECTION_HARMLESS)


def accepts_gzip(accept_encoding: bytes | None) -> bool:
    """Whether the client names gzip and does not refuse it by `q=0`."""
    for item in (accept_encoding or b"").decode("latin-1").lower().split(","):
        if item.partition(";")[0].strip() in ("gzip", "x-gzip"):
            return _QUALITY_ZERO.search(item) is None
    return False


def without(headers: Headers, *names: bytes) -> Headers:
    return [pair for pair in headers if pair[0] not in names]


def replaced(headers: Headers, name: bytes, value: bytes) -> Headers:
    """The headers with every `name` gone and one at the end."""
    return [*(pair for pair in headers if pair[0] != name), (name, value)]
