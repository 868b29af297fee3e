"""Stable reads: stamps, writes in flight, the namespaces watched and their watermarks."""

from hevlayer.gateway.consistency.floor import FloorKeeper
from hevlayer.gateway.consistency.peers import PeerFloors
from hevlayer.gateway.consistency.registry import EpochListener, Registry
from hevlayer.gateway.consistency.stamps import Outcome, Stamper, Ticket
from hevlayer.gateway.consistency.view import COLD, NamespaceView, SchemaFacts, Status, VectorField
from hevlayer.gateway.consistency.watcher import Credentials, MetadataReader, Watcher, WatcherMetrics

__all__ = [
    "COLD",
    "Credentials",
    "EpochListener",
    "FloorKeeper",
    "MetadataReader",
    "NamespaceView",
    "Outcome",
    "PeerFloors",
    "Registry",
    "SchemaFacts",
    "Stamper",
    "Status",
    "Ticket",
    "VectorField",
    "Watcher",
    "WatcherMetrics",
]
