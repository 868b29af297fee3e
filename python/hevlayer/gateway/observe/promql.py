"""PromQL passed through to the metrics store."""

from collections.abc import AsyncIterator

from hevlayer.errors import GatewayTimeoutError, LayerError, ServiceUnavailableError, UpstreamError
from hevlayer.gateway.responses import error_response
from hevlayer.gateway.router import RouteContext
from hevlayer.http.messages import Headers, Response
from hevlayer.stores.turbopuffer import Answer, Upstream
from hevlayer.wire.bodies import JSON_CONTENT_TYPE

FORM_BYTES_MAX = 1024 * 1024
# What of the store's answer describes its body; everything else is the store's own business.
_ANSWER_HEADERS = frozenset({b"content-type", b"content-encoding", b"vary"})
# The words of Prometheus's HTTP API for `errorType`.
_ERROR_TYPES = {ServiceUnavailableError: "unavailable", GatewayTimeoutError: "timeout", UpstreamError: "internal"}


class PromqlRoutes:
    """GET and POST /v2/metrics/query, /v2/metrics/query_range and their /api/v1 forms.

    The query is not rewritten, the caller's credentials stay here, and the answer is passed on as it arrives. Our own
    failures have the shape of Prometheus's, `{"status": "error", "errorType", "error"}`, since the readers of these
    routes are dashboards; `message` says the same to clients of ours. `backend` speaks to the base URL of a
    Prometheus-compatible server; None when none is configured.
    """

    def __init__(self, backend: Upstream | None) -> None:
        self._backend = backend

    async def promql(self, context: RouteContext) -> Response:
        """An instant query."""
        return await self._pass(context, b"/api/v1/query")

    async def promql_range(self, context: RouteContext) -> Response:
        """A range query."""
        return await self._pass(context, b"/api/v1/query_range")

    async def _pass(self, context: RouteContext, path: bytes) -> Response:
        if self._backend is None:
            return _refuse(
                context,
                ServiceUnavailableError("no metrics store: set METRICS_BACKEND_URL to a Prometheus-compatible server"),
            )
        request = context.request
        body = await request.body.read(FORM_BYTES_MAX)
        query = request.target.partition(b"?")[2]
        headers: Headers = [(b"accept", b"application/json")]
        headers.append((b"accept-encoding", request.header(b"accept-encoding") or b"identity"))
        content_type = request.header(b"content-type")
        if body and content_type is not None:
            headers.append((b"content-type", content_type))
        try:
            answer = await self._backend.send(
                request.method, path + (b"?" + query if query else b""), headers, body, idempotent=True
            )
        except GatewayTimeoutError:
            return _refuse(context, GatewayTimeoutError("the metrics store did not answer in time"))
        except UpstreamError:
            return _refuse(context, UpstreamError("the metrics store cannot be reached or broke its answer off"))
        return Response(answer.status, _described(answer), _body(answer))


def _body(answer: Answer) -> bytes | AsyncIterator[bytes]:
    return (answer.body or b"") if answer.stream is None else answer.stream


def _described(answer: Answer) -> Headers:
    kept = [(name, value) for name, value in answer.headers if name in _ANSWER_HEADERS]
    length = answer.header(b"content-length")
    if answer.stream is not None and length is not None:
        kept.append((b"content-length", length))
    return kept if any(name == b"content-type" for name, _ in kept) else [JSON_CONTENT_TYPE, *kept]


def _refuse(context: RouteContext, error: LayerError) -> Response:
    context.failure = error.code
    error.fields = {"errorType": _ERROR_TYPES[type(error)], "error": error.message}
    return error_response(error)
