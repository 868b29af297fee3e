"""Rows within a distance of a vector, in legs of the upstream's largest page.

The upstream answers at most 10,000 rows. A leg that is full, and whose last row still counts, has more: it counts with
the rows that it showed, or, where an exact number is asked for, is split at the middle id of its page.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hevlayer.errors import UpstreamError
from hevlayer.gateway.reads import WHOLE, Id, Span

LEG_ROWS_MAX = 10_000

Row = Mapping[str, Any]

ReadLeg = Callable[[Span], Awaitable[Sequence[Row]]]
"""The nearest rows of a span of ids, nearest first, at most `LEG_ROWS_MAX`, each with `$dist`."""

TakeRows = Callable[[Sequence[Row]], Awaitable[None]]
"""Does something with rows that count; each row once."""


@dataclass
class Tally:
    """What a search by distance has found so far. `count` is a lower bound while legs are left or saturated."""

    settled: int = 0
    saturated: int = 0
    legs: int = 0
    open_counts: dict[Span, int] = field(default_factory=dict)

    @property
    def count(self) -> int:
        return self.settled + sum(self.open_counts.values())

    @property
    def bounded(self) -> bool:
        return bool(self.saturated or self.open_counts)


class VectorSearch:
    """One search. `tally` is true at any time, so that a deadline may end it."""

    def __init__(
        self, read_leg: ReadLeg, distance_max: float, *, exhaustive: bool, take: TakeRows | None = None
    ) -> None:
        self._read_leg = read_leg
        self._distance_max = distance_max
        self._exhaustive = exhaustive
        self._take = take
        self.tally = Tally(open_counts={WHOLE: 0})

    async def run(self) -> None:
        """Raises: UpstreamError; what `read_leg` and `take` raise."""
        legs = [WHOLE]
        while legs:
            span = legs.pop()
            rows = await self._read_leg(span)
            self.tally.legs += 1
            near = [row for row in rows if _distance(row) <= self._distance_max]
            full = len(rows) >= LEG_ROWS_MAX and len(near) == len(rows)
            halves = _halves(span, near) if full and self._exhaustive else None
            if halves is None:
                if self._take is not None:
                    await self._take(near)
                self._settle(span, len(near), saturated=full)
                continue
            del self.tally.open_counts[span]
            self.tally.open_counts.update(halves)
            legs.extend(halves)

    def _settle(self, span: Span, rows: int, *, saturated: bool) -> None:
        del self.tally.open_counts[span]
        self.tally.settled += rows
        self.tally.saturated += saturated


def _halves(span: Span, rows: Sequence[Row]) -> dict[Span, int] | None:
    """The two halves of a span at the middle id of its rows, each with the rows that it is known to have."""
    ids: list[Id] = sorted(row["id"] for row in rows)
    middle = ids[(len(ids) - 1) // 2]
    lower, upper = Span(span.after, middle), Span(middle, span.through)
    if upper == span or middle == span.through:
        return None
    below = (len(ids) - 1) // 2 + 1
    return {lower: below, upper: len(ids) - below}


def _distance(row: Row) -> float:
    distance = row.get("$dist")
    if not isinstance(distance, int | float):
        raise UpstreamError("a row of the upstream's answer has no distance")
    return float(distance)
