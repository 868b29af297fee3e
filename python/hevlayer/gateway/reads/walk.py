"""Walks a namespace by id: every row once, in pages, several ranges at a time."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from hevlayer.gateway.reads.spans import WHOLE, Id, Scale, Span

# A range narrower than this share of all is read to its end by the one who has it.
SPLIT_SHARE_MIN = 1 / 4096


@dataclass(frozen=True, slots=True)
class PageEnd:
    """What a page of a span turned out to be. `more`: it was full, so the span goes on after `last`."""

    rows: int
    first: Id | None
    last: Id | None
    more: bool


ReadPage = Callable[[Span], Awaitable[PageEnd]]
"""Reads, and does away with, the first page of a span. Called for several spans at a time."""

ReadHighest = Callable[[], Awaitable[Id | None]]
"""The highest id there is now; only a hint."""

Report = Callable[[float, int], None]
"""Told after each page: the share of the ids that are done, 0..1, and the rows so far."""


class Walk:
    """One walk. A row that is written or deleted meanwhile may be met or not; every other one is met exactly once."""

    def __init__(
        self, read_page: ReadPage, read_highest: ReadHighest, report: Report, *, id_type: str, readers_max: int
    ) -> None:
        self._read_page = read_page
        self._read_highest = read_highest
        self._report = report
        self._id_type = id_type
        self._readers_max = readers_max
        self._scale: Scale | None = None
        self._reading: dict[int, Span] = {}
        self._spans = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self.rows = 0

    async def run(self, span: Span = WHOLE) -> int:
        """Returns the number of rows. The first reader that fails ends the others, and its error is raised."""
        page = await self._page(span)
        if page is None or page.last is None:
            return self.rows
        rest = Span(page.last, span.through)
        if self._readers_max > 1 and page.first is not None:
            highest = await self._read_highest() if span.through is None else span.through
            if highest is not None:
                self._scale = Scale(page.first, highest, self._id_type)
        self._start(rest)
        try:
            while self._tasks:
                done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
                self._tasks -= done
                for task in done:
                    task.result()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        return self.rows

    def _start(self, span: Span) -> None:
        self._spans += 1
        self._reading[self._spans] = span
        self._tasks.add(asyncio.ensure_future(self._read(self._spans)))

    async def _read(self, number: int) -> None:
        while True:
            self._share(number)
            span = self._reading[number]
            page = await self._page(span)
            if page is None or page.last is None:
                del self._reading[number]
                self._report(self._done(), self.rows)
                return
            self._reading[number] = Span(page.last, span.through)
            self._report(self._done(), self.rows)

    async def _page(self, span: Span) -> PageEnd | None:
        """None: it was the span's last."""
        page = await self._read_page(span)
        self.rows += page.rows
        return page if page.more and page.last is not None and page.last != span.through else None

    def _share(self, number: int) -> None:
        """Gives away the upper half of a range, if another reader may start and no other range is much wider."""
        scale, span = self._scale, self._reading[number]
        if scale is None or len(self._reading) >= self._readers_max:
            return
        width = scale.width(span)
        if width < SPLIT_SHARE_MIN or 2 * width < max(map(scale.width, self._reading.values())):
            return
        middle = scale.middle(span)
        if middle is not None:
            self._reading[number] = Span(span.after, middle)
            self._start(Span(middle, span.through))

    def _done(self) -> float:
        if self._scale is None:
            return 0.0
        return max(0.0, 1.0 - sum(map(self._scale.width, self._reading.values())))
