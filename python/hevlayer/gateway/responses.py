"""Answers that we write ourselves."""

from hevlayer.errors import LayerError, MethodNotAllowedError, UnauthorizedError
from hevlayer.http.messages import Headers, Response
from hevlayer.wire.bodies import JSON_CONTENT_TYPE, encode, error_body

RETRY_AFTER_SECONDS = 1
TEXT_CONTENT_TYPE = (b"content-type", b"text/plain; charset=utf-8")


def json_response(status: int, value: object, headers: Headers | None = None) -> Response:
    """An answer with `value` as JSON text."""
    return Response(status, [JSON_CONTENT_TYPE, *(headers or [])], encode(value))


def relayed_answer(status: int, body: bytes) -> Response:
    """An upstream answer to a request of ours, whose headers were not kept, as the answer to a caller's."""
    is_json = body[:1] in (b"{", b"[")
    return Response(status, [JSON_CONTENT_TYPE if is_json else TEXT_CONTENT_TYPE], body)


def error_response(error: LayerError, **fields: object) -> Response:
    """An error as an answer."""
    headers: Headers = [JSON_CONTENT_TYPE]
    if isinstance(error, UnauthorizedError):
        headers.append((b"www-authenticate", b"Bearer"))
    elif isinstance(error, MethodNotAllowedError):
        allowed = error.fields.get("allow")
        if isinstance(allowed, list):
            headers.append((b"allow", ", ".join(allowed).encode()))
    elif error.status == 503:
        headers.append((b"retry-after", b"%d" % RETRY_AFTER_SECONDS))
    return Response(error.status, headers, error_body(error, **fields))
