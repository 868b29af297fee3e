"""What a snapshot can tell about a filter or a field, exactly or not at all. Pure."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from hevlayer.gateway.snapshots.body import Facet, Snapshot, Value

_PYTHON_TYPES: dict[str, type] = {"string": str, "int": int, "uint": int, "bool": bool}


def asks_for_values(filters: Sequence[Any] | None) -> str | None:
    """The field of a filter that a snapshot may answer: one `Eq` or `In`; None for every other."""
    if filters is None or len(filters) != 3:
        return None
    field, operator, _ = filters
    return field if isinstance(field, str) and operator in ("Eq", "In") else None


def count_in(snapshot: Snapshot, filters: Sequence[Any] | None) -> int | None:
    """How many rows meet the filter; None when the snapshot does not say so exactly."""
    name = asks_for_values(filters)
    facet = None if name is None else snapshot.facet(name)
    if facet is None or filters is None or facet.type.startswith("[]"):
        # Of an array's values a snapshot does not tell which come together in one row.
        return None
    operator, wanted = filters[1], filters[2]
    if operator == "Eq":
        if wanted is None:
            return facet.missing_rows
        return _count(facet, [wanted])
    return _count(facet, wanted if isinstance(wanted, list) else [wanted])


def _count(facet: Facet, wanted: Sequence[Any]) -> int | None:
    values = {_as_stored(facet.type, each) for each in wanted}
    if None in values:
        return None
    return sum(count for value, count in facet.values if value in values)


def _as_stored(kind: str, value: object) -> Value | None:
    """The value as the snapshot has it; None when it may be equal to something that is written in another way."""
    if kind == "uuid":
        try:
            return str(UUID(value)) if isinstance(value, str) else None
        except ValueError:
            return None
    expected = _PYTHON_TYPES.get(kind)
    if expected is None or type(value) is not expected:
        return None
    assert isinstance(value, str | int | bool)
    return value
