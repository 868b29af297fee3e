"""Counts the values of fields at the upstream: one grouped count a field.

Background work may take four of the upstream's permits, which is one aggregate, and one request for several fields
would take more than the upstream has. So the fields are counted one after the other, and counts around them tell
whether they were all of one moment. Rows stamped up to the cut can only become fewer: a row that is written gets a
later stamp, and a deleted one is gone. When there are as many of them at the end as at the beginning they were the
same ones all the time; and when no row has a later stamp they were all rows that there are.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hevlayer.errors import ValidationError
from hevlayer.gateway.permits import AGGREGATE_COST, QUERY_COST
from hevlayer.gateway.reads import Reads, ReadTarget, RefusedReadError, read_object
from hevlayer.gateway.scan.bodies import (
    Cut,
    conditions,
    count_body,
    ids_body,
    read_count,
    read_groups,
    read_rows,
    values_body,
)
from hevlayer.gateway.scan.request import Filter, FilterSelector
from hevlayer.gateway.snapshots.body import VALUES_CAP, Facet, Histogram, Skipped, Value, facet_of
from hevlayer.wire.reserved import STAMP_ATTRIBUTE

PAGE_ROWS = 1_000
# Grouped upstream; rows of the other types are paged.
_GROUPED = frozenset({"string", "int", "uint", "bool", "uuid", "datetime"})
_SCALARS = _GROUPED | {"float"}
_ARRAY = "[]"
_REFUSED = frozenset({400, 422})
_STRONG = {"level": "strong"}

Progress = Callable[[float, int], None]
"""Told after each field: (share done, rows counted)."""


def field_type(schema: Mapping[str, Any], name: str) -> str:
    """The type of a field as the upstream's metadata has it. Raises: ValidationError: it cannot be counted."""
    declared = schema.get(name)
    kind = declared.get("type") if isinstance(declared, Mapping) else declared
    if name == "id" or not isinstance(kind, str):
        raise ValidationError(f"field: the namespace has no attribute '{name}'")
    if kind.removeprefix(_ARRAY) not in _SCALARS:
        raise ValidationError(f"field: the values of '{name}', of type {kind}, cannot be counted")
    return kind


@dataclass(frozen=True, slots=True)
class Settled:
    """A histogram and whether all of it is of one moment."""

    histogram: Histogram
    at_one_moment: bool


class Materialiser:
    """Counts for one caller or one turn of the writer."""

    def __init__(self, reads: Reads, target: ReadTarget, *, page_rows: int = PAGE_ROWS) -> None:
        self._reads = reads
        self._target = target
        self._page_rows = page_rows

    async def count(
        self,
        types: Mapping[str, str],
        cut_ms: int | None,
        condition: Filter | None = None,
        progress: Progress | None = None,
    ) -> Histogram:
        """The histogram of fields, whose types are given, over rows stamped up to the cut (None: over all rows).

        Raises: RefusedReadError, UpstreamError, PermitTimeoutError.
        """
        cut = Cut(_STRONG, cut_ms)
        filters = conditions(FilterSelector(), condition, cut)
        row_count = await self._rows(filters, cut)
        facets: list[Facet] = []
        skipped: list[Skipped] = []
        for done, (name, kind) in enumerate(sorted(types.items()), 1):
            counted = await self._field(name, kind, filters, cut)
            if isinstance(counted, Facet):
                facets.append(counted)
            else:
                skipped.append(counted)
            if progress is not None:
                progress(done / (len(types) + 1), row_count)
        return Histogram(row_count, tuple(facets), tuple(skipped))

    async def count_settled(self, types: Mapping[str, str], cut_ms: int) -> Settled | None:
        """The same, and whether every row of the namespace was counted, each field's at the same moment.

        None: rows have later stamps, so that it is of no use to begin. Raises: as `count`.
        """
        cut = Cut(_STRONG, cut_ms)
        if await self._rows([STAMP_ATTRIBUTE, "Gt", cut_ms], cut):
            return None
        histogram = await self.count(types, cut_ms)
        # In this order: after it a row with a later stamp can only be one that the next snapshot tells of.
        later = await self._rows([STAMP_ATTRIBUTE, "Gt", cut_ms], cut)
        still = await self._rows(conditions(FilterSelector(), None, cut), cut)
        return Settled(histogram, later == 0 and still == histogram.row_count)

    async def _rows(self, filters: Filter | None, cut: Cut) -> int:
        return read_count(await self._query(count_body(filters, cut), AGGREGATE_COST))

    async def _field(self, name: str, kind: str, filters: Filter | None, cut: Cut) -> Facet | Skipped:
        counts = None
        if kind.removeprefix(_ARRAY) in _GROUPED:
            counts = await self._grouped(name, filters, cut, is_array=kind.startswith(_ARRAY))
        if counts is None:
            counts = await self._paged(name, filters, cut)
        missing = None if kind.startswith(_ARRAY) else counts.get(None, 0)
        found = [(value, count) for value, count in counts.items() if value is not None]
        return facet_of(name, kind, found, missing, more=len(counts) >= VALUES_CAP)

    async def _grouped(
        self, name: str, filters: Filter | None, cut: Cut, *, is_array: bool
    ) -> dict[Value | None, int] | None:
        """By the upstream's groups; None when it does not group by this field."""
        try:
            answer = await self._query(values_body(name, is_array=is_array, condition=filters, cut=cut), AGGREGATE_COST)
        except RefusedReadError as refusal:
            if refusal.answered in _REFUSED:
                return None
            raise
        return dict(read_groups(answer, name, is_array=is_array))

    async def _paged(self, name: str, filters: Filter | None, cut: Cut) -> dict[Value | None, int]:
        """By reading every row's value; stops when there are too many different ones."""
        counts: dict[Value | None, int] = {}
        beyond = filters
        while len(counts) < VALUES_CAP:
            rows = read_rows(await self._query(ids_body(self._page_rows, beyond, cut, [name]), QUERY_COST))
            for row in rows:
                value = row.get(name)
                for each in set(value) if isinstance(value, list) else (value,):
                    counts[each] = counts.get(each, 0) + 1
            if len(rows) < self._page_rows:
                break
            beyond = conditions(FilterSelector(), filters, Cut(None), ["id", "Gt", rows[-1]["id"]])
        return counts

    async def _query(self, body: bytes, cost: int) -> Mapping[str, Any]:
        return read_object(await self._reads.query(self._target, body, cost=cost))
