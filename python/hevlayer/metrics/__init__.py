"""Metrics: declared once, observed through `Metrics`, listed by the catalog."""

from hevlayer.metrics.billing import Billing, read_billing
from hevlayer.metrics.catalog import CATALOG_VERSION, FAMILIES, catalog
from hevlayer.metrics.exposition import CONTENT_TYPE
from hevlayer.metrics.recorder import NAMESPACE_LABELS_MAX, Metrics, status_label
from hevlayer.metrics.registry import MetricRegistry

__all__ = [
    "CATALOG_VERSION",
    "CONTENT_TYPE",
    "FAMILIES",
    "NAMESPACE_LABELS_MAX",
    "Billing",
    "MetricRegistry",
    "Metrics",
    "catalog",
    "read_billing",
    "status_label",
]
