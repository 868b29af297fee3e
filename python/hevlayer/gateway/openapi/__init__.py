"""The OpenAPI document of the gateway: built from the route table and the shapes written down here."""

from hevlayer.gateway.openapi.document import build_document, operation_id
from hevlayer.gateway.openapi.routes import OpenApiRoutes

__all__ = ["OpenApiRoutes", "build_document", "operation_id"]
