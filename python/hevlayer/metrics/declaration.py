"""One metric, declared once: what is exported, what the catalog says, what a dashboard may ask, when to alert."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]
Family = Literal["query", "upsert", "fetch", "cache", "pipeline", "storage", "saturation"]


@dataclass(frozen=True, slots=True)
class Alert:
    """The alert that a metric backs. `held_for` is a Prometheus duration."""

    summary: str
    expr: str
    held_for: str


@dataclass(frozen=True, slots=True)
class Declaration:
    """One metric, declared once: what is exported, what the catalog says and what a dashboard may ask."""

    name: str
    kind: Kind
    family: Family
    labels: tuple[str, ...]
    help: str
    example_promql: str
    alert: Alert | None = None
    buckets: tuple[float, ...] = ()


def catalog_entry(declaration: Declaration) -> dict[str, object]:
    """One entry of the metric catalog, as its clients read it."""
    entry: dict[str, object] = {
        "name": declaration.name,
        "kind": declaration.kind,
        "family": declaration.family,
        "labels": list(declaration.labels),
        "description": declaration.help,
        "example_promql": declaration.example_promql,
    }
    if declaration.alert is not None:
        alert = declaration.alert
        entry["alert"] = {"summary": alert.summary, "expr": alert.expr, "for": alert.held_for}
    return entry
