"""The metric catalog: the manifest of what `GET /metrics` exports, as dashboards read it."""

from collections.abc import Iterable

from hevlayer.metrics.registry import Declaration, catalog_entry

CATALOG_VERSION = "1"
FAMILIES = ("query", "upsert", "fetch", "cache", "pipeline", "storage", "saturation")


def catalog(declarations: Iterable[Declaration], family: str | None = None) -> dict[str, object]:
    """The whole catalog or one family of it, by family and name."""
    chosen = [declared for declared in declarations if family in (None, declared.family)]
    chosen.sort(key=lambda declared: (FAMILIES.index(declared.family), declared.name))
    return {"version": CATALOG_VERSION, "entries": [catalog_entry(declared) for declared in chosen]}
