"""The upstream queries of a scan, and what their answers say. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from hevlayer.errors import UpstreamError
from hevlayer.gateway.reads import Id
from hevlayer.gateway.scan.request import Filter, Selector, TextSelector, VectorSelector
from hevlayer.wire.reserved import STAMP_ATTRIBUTE

GROUPS_MAX = 10_000
COUNT_LABEL = "count"
_OTHER_LABEL = "row_count"
_EACH = "value"


@dataclass(frozen=True, slots=True)
class Cut:
    """How rows are read: at which level, and with rows stamped after `watermark_ms` hidden (None: none are).

    `level` None leaves the upstream's own default.
    """

    level: Mapping[str, object] | None
    watermark_ms: int | None = None


def conditions(selector: Selector, filters: Filter | None, cut: Cut, *more: Filter) -> Filter | None:
    """Everything that a row must meet, save for the distance to a vector."""
    parts: list[Filter] = [] if filters is None else [filters]
    if isinstance(selector, TextSelector):
        parts.append([selector.field, "ContainsAnyToken", selector.text])
    if cut.watermark_ms is not None:
        parts.append([STAMP_ATTRIBUTE, "Lte", cut.watermark_ms])
    parts.extend(more)
    if not parts:
        return None
    return parts[0] if len(parts) == 1 else ["And", parts]


def _body(query: dict[str, object], condition: Filter | None, cut: Cut) -> bytes:
    if condition is not None:
        query["filters"] = condition
    if cut.level is not None:
        query["consistency"] = cut.level
    return orjson.dumps(query)


def count_body(condition: Filter | None, cut: Cut) -> bytes:
    return _body({"aggregate_by": {COUNT_LABEL: ["Count"]}}, condition, cut)


def values_body(field: str, *, is_array: bool, condition: Filter | None, cut: Cut) -> bytes:
    """One group a value, an array's row in the group of each different element."""
    key: object = {_EACH: ["ForEachUnique", field]} if is_array else field
    query: dict[str, object] = {
        "aggregate_by": {_label(field, is_array=is_array): ["Count"]},
        "group_by": [key],
        "limit": GROUPS_MAX,
    }
    return _body(query, condition, cut)


def _label(field: str, *, is_array: bool) -> str:
    return _OTHER_LABEL if not is_array and field == COUNT_LABEL else COUNT_LABEL


def ids_body(rows: int, condition: Filter | None, cut: Cut, include: Sequence[str] = ()) -> bytes:
    """A page of rows in ascending order of their ids."""
    query: dict[str, object] = {"rank_by": ["id", "asc"], "limit": rows}
    if include:
        query["include_attributes"] = list(include)
    return _body(query, condition, cut)


def highest_body(condition: Filter | None, cut: Cut) -> bytes:
    return _body({"rank_by": ["id", "desc"], "limit": 1}, condition, cut)


def vector_body(
    selector: VectorSelector, rows: int, condition: Filter | None, cut: Cut, include: Sequence[str] = ()
) -> bytes:
    """The nearest rows."""
    query: dict[str, object] = {"rank_by": [selector.field, "ANN", selector.vector], "limit": rows}
    if include:
        query["include_attributes"] = list(include)
    return _body(query, condition, cut)


def read_count(answer: Mapping[str, Any]) -> int:
    """Raises: UpstreamError: it is no count."""
    try:
        count = answer["aggregations"][COUNT_LABEL]
    except (KeyError, TypeError) as error:
        raise UpstreamError("the upstream's answer to a count has no aggregation") from error
    if not isinstance(count, int):
        raise UpstreamError("the upstream's count is not a whole number")
    return count


@dataclass(frozen=True, slots=True)
class ValueCount:
    """A value as the upstream wrote it, and how many rows have it."""

    value: str | int | float | bool
    count: int


def read_groups(answer: Mapping[str, Any], field: str, *, is_array: bool) -> list[tuple[Any, int]]:
    """Each value and how many rows have it; None for rows without one. At `GROUPS_MAX` there may be more.

    Raises: UpstreamError: it is no such answer.
    """
    groups = answer.get("aggregation_groups")
    if not isinstance(groups, list):
        raise UpstreamError("the upstream's answer has no groups")
    key, label = _EACH if is_array else field, _label(field, is_array=is_array)
    try:
        found = [(group.get(key), group[label]) for group in groups]
    except (KeyError, TypeError, AttributeError) as error:
        raise UpstreamError("the upstream's groups have another shape than expected") from error
    if not all(isinstance(count, int) for _, count in found):
        raise UpstreamError("the upstream's groups have another shape than expected")
    return found


def read_values(answer: Mapping[str, Any], field: str, *, is_array: bool) -> tuple[list[ValueCount], bool]:
    """The values that rows have, and whether there may be more. Rows without one are in none.

    Raises: UpstreamError: it is no such answer.
    """
    groups = read_groups(answer, field, is_array=is_array)
    return [ValueCount(value, count) for value, count in groups if value is not None], len(groups) >= GROUPS_MAX


def read_rows(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Raises: UpstreamError: it has no rows with ids."""
    rows = answer.get("rows")
    if not isinstance(rows, list) or not all(isinstance(row, dict) and "id" in row for row in rows):
        raise UpstreamError("the upstream's answer has no rows")
    return rows


def row_ids(rows: Sequence[Mapping[str, Any]]) -> list[Id]:
    return [row["id"] for row in rows]


def value_text(value: str | int | float | bool) -> str:
    """A value as text: a string as it is, everything else as its JSON."""
    return value if isinstance(value, str) else orjson.dumps(value).decode()
