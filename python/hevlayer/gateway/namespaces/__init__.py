"""Namespaces: metadata, the listing and delete."""

from hevlayer.gateway.namespaces.assembly import NamespaceRoutes
from hevlayer.gateway.namespaces.cleanup import Cleanup, CleanupStep, Deletion, own_steps
from hevlayer.gateway.namespaces.delete import DeleteRoutes
from hevlayer.gateway.namespaces.exchange import Exchanged, Exchanges, RelayedExchanges
from hevlayer.gateway.namespaces.listing import ListingRoutes
from hevlayer.gateway.namespaces.metadata import MetadataRoutes

__all__ = [
    "Cleanup",
    "CleanupStep",
    "DeleteRoutes",
    "Deletion",
    "Exchanged",
    "Exchanges",
    "ListingRoutes",
    "MetadataRoutes",
    "NamespaceRoutes",
    "RelayedExchanges",
    "own_steps",
]
