"""Error answers: which can come from the gateway, which are relayed, and which any route may give."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from hevlayer.gateway.openapi.shapes import Schema, either, integer, ref, string

JSON = "application/json"
TEXT = "text/plain"


class Refusal(NamedTuple):
    """An error status: the name of its response component, and what it means here."""

    name: str
    text: str


REFUSALS: dict[int, Refusal] = {
    400: Refusal("BadRequest", "The request cannot be read, or the upstream refuses what it says."),
    401: Refusal("Unauthorized", "The key or bearer is missing or not accepted."),
    403: Refusal("Forbidden", "The bearer may not do this."),
    404: Refusal("NotFound", "There is no such namespace, document, metric, region or route."),
    405: Refusal("MethodNotAllowed", "The path has other methods; `allow` lists them."),
    408: Refusal("RequestTimeout", "The request did not arrive in time."),
    409: Refusal("Conflict", "The upstream refuses this while something else is going on."),
    412: Refusal("PreconditionFailed", "The source that was asked for cannot answer this."),
    413: Refusal("PayloadTooLarge", "The body is larger than the limit, as sent or inflated."),
    422: Refusal("Unprocessable", "The body is JSON but breaks a rule, which the message names."),
    429: Refusal("TooManyRequests", "The upstream is asked too much at once."),
    431: Refusal("HeadersTooLarge", "The request's headers are too many or too long."),
    500: Refusal("InternalError", "A failure that the log explains, or the upstream's own."),
    501: Refusal("NotImplemented", "A transfer coding other than chunked."),
    502: Refusal("BadGateway", "The upstream cannot be reached, broke off, or answered something else than it should."),
    503: Refusal("Unavailable", "Not now: draining, out of space, or a part that this needs is missing."),
    504: Refusal("GatewayTimeout", "The upstream did not answer in time."),
    505: Refusal("HttpVersionNotSupported", "Neither HTTP/1.0 nor HTTP/1.1."),
}

# What the HTTP layer may answer before a route is looked at, and what a defect answers.
ANYWHERE = (400, 408, 431, 500, 501, 503, 505)
# What the upstream may answer, or we in its place.
UPSTREAM = (400, 401, 403, 404, 408, 409, 429, 500, 502, 503, 504)

_HEADERS: Mapping[int, Mapping[str, Any]] = {
    401: {"WWW-Authenticate": {"description": "`Bearer`.", "schema": string()}},
    405: {"Allow": {"description": "The methods of this path.", "schema": string()}},
    429: {"Retry-After": {"description": "Seconds, when the upstream says so.", "schema": string()}},
    503: {"Retry-After": {"description": "Seconds.", "schema": string()}},
}


def response(text: str, content: Mapping[str, Schema] | None = None, headers: Mapping[str, Any] | None = None) -> Any:
    """A response object; `content` is a schema by media type."""
    answer: dict[str, Any] = {"description": text}
    if headers:
        answer["headers"] = dict(headers)
    if content:
        answer["content"] = {kind: {"schema": schema} for kind, schema in content.items()}
    return answer


def refusal_components() -> dict[str, Any]:
    """Two response components for each error status: our own, and `Relayed…`, which may be the upstream's."""
    components: dict[str, Any] = {}
    for status, (name, text) in REFUSALS.items():
        own = either(ref("Error"), ref("MalformedBody")) if status == 400 else ref("Error")
        headers = {"traceparent": _TRACE, **_HEADERS.get(status, {})}
        components[name] = response(text, {JSON: own}, headers)
        relayed = either(ref("Error"), ref("MalformedBody"), ref("UpstreamError"))
        components[f"Relayed{name}"] = response(text, {JSON: relayed, TEXT: string()}, headers)
    return components


def refusals(*statuses: int, relayed: bool) -> dict[str, Any]:
    """References to error responses by status."""
    prefix = "Relayed" if relayed else ""
    return {
        str(status): {"$ref": f"#/components/responses/{prefix}{REFUSALS[status].name}"} for status in sorted(statuses)
    }


_TRACE = {"description": "The W3C trace context of this request, as sent or minted.", "schema": string()}
CONSISTENCY = {
    "description": "How the query was read.",
    "schema": {"type": "string", "enum": ["stable", "filtered", "eventual", "upstream", "stale-watermark"]},
}
STABLE_AS_OF = {
    "description": "The watermark, epoch milliseconds; absent while none is known.",
    "schema": integer(minimum=0),
}
CACHE = {
    "description": "Where the answer came from; over a batch, the worst case.",
    "schema": {"type": "string", "enum": ["hit", "partial", "miss", "miss-on-error"]},
}
TRACE = {"traceparent": _TRACE}
ETAG = {"description": "Changes with the answer's text.", "schema": string()}
NOT_MODIFIED = response("The caller's copy is current.", headers={"etag": ETAG})
