"""The metrics themselves, and the catalog that describes them."""

import asyncio
import hashlib
from collections.abc import AsyncIterator

from hevlayer.errors import NotFoundError, ValidationError
from hevlayer.gateway.responses import json_response
from hevlayer.gateway.router import RouteContext
from hevlayer.http.messages import Response
from hevlayer.metrics import CONTENT_TYPE, FAMILIES, Metrics, catalog
from hevlayer.metrics.declaration import catalog_entry

ETAG_DIGITS = 32


class MetricRoutes:
    """GET /metrics, GET /v2/metrics/catalog and GET /v2/metrics/catalog/{name}."""

    def __init__(self, metrics: Metrics) -> None:
        self._registry = metrics.registry

    async def metrics(self, context: RouteContext) -> Response:
        """The Prometheus text exposition."""
        headers = [(b"content-type", CONTENT_TYPE), (b"cache-control", b"no-store")]
        return Response(200, headers, self._exposition())

    async def _exposition(self) -> AsyncIterator[bytes]:
        for part in self._registry.exposition_parts():
            yield part
            # A scrape of many namespaces is tens of milliseconds; requests go on in between.
            await asyncio.sleep(0)

    async def metrics_catalog(self, context: RouteContext) -> Response:
        """All metrics, or those of `?family=`."""
        family = context.query_parameters().get("family")
        if family is not None and family not in FAMILIES:
            raise ValidationError(f"family must be one of {', '.join(FAMILIES)}")
        return _tagged(context, catalog(self._registry.declarations(), family))

    async def metrics_catalog_entry(self, context: RouteContext) -> Response:
        name = context.parameter("name")
        for declaration in self._registry.declarations():
            if declaration.name == name:
                return _tagged(context, catalog_entry(declaration))
        raise NotFoundError(f"no metric {name!r} in the catalog")


def _tagged(context: RouteContext, value: object) -> Response:
    """The value under an ETag of its text: a dashboard asks often for what changes with releases only."""
    response = json_response(200, value)
    assert isinstance(response.body, bytes)
    tag = b'"' + hashlib.sha256(response.body).hexdigest()[:ETAG_DIGITS].encode("ascii") + b'"'
    headers = [(b"etag", tag), (b"cache-control", b"no-cache")]
    if _matches(context.request.header(b"if-none-match"), tag):
        return Response(304, headers, b"")
    return Response(200, [*response.headers, *headers], response.body)


def _matches(sent: bytes | None, tag: bytes) -> bool:
    """Whether an `If-None-Match` names the tag; compared weakly, as RFC 9110 has it for this header."""
    if sent is None:
        return False
    named = [each.strip().removeprefix(b"W/") for each in sent.split(b",")]
    return tag in named or named == [b"*"]
