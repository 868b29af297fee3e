"""Namespaces: metadata, the listing, delete and the warm hint."""

from hevlayer.gateway.namespaces.assembly import NamespaceRoutes
from hevlayer.gateway.namespaces.cleanup import Cleanup, CleanupStep, Deletion, own_steps
from hevlayer.gateway.namespaces.delete import DeleteRoutes
from hevlayer.gateway.namespaces.exchange import Exchanged, Exchanges, RelayedExchanges
from hevlayer.gateway.namespaces.listing import ListingRoutes
from hevlayer.gateway.namespaces.metadata import MetadataRoutes
from hevlayer.gateway.namespaces.warm import WarmRoutes

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
    "WarmRoutes",
    "own_steps",
]
