"""The document over HTTP."""

from hevlayer.gateway.openapi.document import build_document
from hevlayer.gateway.router import RouteContext
from hevlayer.http.messages import Response
from hevlayer.wire.bodies import JSON_CONTENT_TYPE, encode


class OpenApiRoutes:
    """GET /openapi.json."""

    def __init__(self) -> None:
        self._body = b""

    async def openapi(self, context: RouteContext) -> Response:
        """The document; made at the first request, the same bytes ever after."""
        if not self._body:
            self._body = encode(build_document())
        return Response(200, [JSON_CONTENT_TYPE], self._body)
