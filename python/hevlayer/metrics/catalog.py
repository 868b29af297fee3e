"""The metric catalog: the manifest of what `GET /metrics` exports, as dashboards read it."""

from collections.abc import Iterable

from hevlayer.metrics.declaration import Declaration, catalog_entry

CATALOG_VERSION = "1"
FAMILIES = ("query", "upsert", "fetch", "cache", "pipeline", "storage", "saturation")


def in_order(declarations: Iterable[Declaration]) -> list[Declaration]:
    """By family, in the order of FAMILIES, and name."""
    return sorted(declarations, key=lambda declared: (FAMILIES.index(declared.family), declared.name))


def catalog(declarations: Iterable[Declaration], family: str | None = None) -> dict[str, object]:
    """The whole catalog or one family of it, in order."""
    chosen = in_order(declared for declared in declarations if family in (None, declared.family))
    return {"version": CATALOG_VERSION, "entries": [catalog_entry(declared) for declared in chosen]}
