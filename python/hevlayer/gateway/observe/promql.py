"""PromQL passed through to the metrics store."""

from hevlayer.errors import GatewayTimeoutError, ServiceUnavailableError, UpstreamError
from hevlayer.gateway.router import RouteContext
from hevlayer.http.messages import Headers, Response, find_header
from hevlayer.stores.turbopuffer import Upstream

FORM_BYTES_MAX = 1024 * 1024
ANSWER_BYTES_MAX = 64 * 1024 * 1024


class PromqlRoutes:
    """GET and POST /v2/metrics/query, /v2/metrics/query_range and their /api/v1 forms.

    The query is not rewritten, and the caller's credentials stay here. `backend` speaks to the base URL of a
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
        request = context.request
        if self._backend is None:
            raise ServiceUnavailableError("no metrics store: set METRICS_BACKEND_URL to a Prometheus-compatible server")
        body = await request.body.read(FORM_BYTES_MAX)
        query = request.target.partition(b"?")[2]
        headers: Headers = [(b"accept", b"application/json"), (b"accept-encoding", b"identity")]
        content_type = request.header(b"content-type")
        if body and content_type is not None:
            headers.append((b"content-type", content_type))
        try:
            answer = await self._backend.send(
                request.method, path + (b"?" + query if query else b""), headers, body, idempotent=True
            )
            plain = await self._backend.whole(answer, ANSWER_BYTES_MAX)
        except GatewayTimeoutError as error:
            raise GatewayTimeoutError("the metrics store did not answer in time") from error
        except UpstreamError as error:
            raise UpstreamError("the metrics store cannot be reached or broke its answer off") from error
        kind = find_header(answer.headers, b"content-type") or b"application/json"
        return Response(answer.status, [(b"content-type", kind)], plain)
