"""Scans: ids, counts and values of the rows that meet a filter, a text or a distance; and counts of ranked queries."""

from hevlayer.gateway.scan.cached import CachedScans
from hevlayer.gateway.scan.columns import Columns
from hevlayer.gateway.scan.results import Results
from hevlayer.gateway.scan.routes import ScanRoutes
from hevlayer.gateway.scan.service import CacheAccess, Scans
from hevlayer.gateway.scan.snapshot import SnapshotScans

__all__ = ["CacheAccess", "CachedScans", "Columns", "Results", "ScanRoutes", "Scans", "SnapshotScans"]
