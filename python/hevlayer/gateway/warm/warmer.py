"""One warm: every row of a namespace from the upstream into the document cache, and the proof that none is missing."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from hevlayer.clock import Backoff, Clock
from hevlayer.errors import CacheColdError, UpstreamError
from hevlayer.gateway.jobs import RunningJob
from hevlayer.gateway.reads import Id, PageEnd, Reads, ReadTarget, Span, Walk, read_object
from hevlayer.gateway.warm.pages import (
    CHUNK_IDS,
    PageSizer,
    highest_body,
    id_of_key,
    json_of_key,
    page_body,
    rows_body,
)
from hevlayer.kernels.doccache import DocCacheError, DocProjection, DocRows
from hevlayer.stores.doccache import DocumentCache
from hevlayer.stores.doccache_warming import Warming
from hevlayer.stores.turbopuffer import AnswerTooLongError

# As many as background work has permits.
READERS_MAX = 4
# Writes without an answer keep rows, or the whole namespace, out of the cache until they can no longer take effect. A
# warm waits for that, and this much longer.
WAIT_MARGIN_SECONDS = 30.0
CLOSED_POLL_SECONDS = 0.25
# Rows that were written while their page was read are read again by their ids, so many in a round.
REPAIR_IDS_MAX = 10_000
REPAIR_PAUSE = Backoff(initial_seconds=0.25, cap_seconds=4.0)
REPAIR_ROUNDS_MAX = 1_000
# The last percent is for the rows that were written meanwhile.
PAGES_SHARE = 0.99

# How often it is looked whether rows were lost again, in pages.
LOSS_CHECK_PAGES = 16

NOTHING = DocProjection([])

Cut = Callable[[], int | None]
"""The stamp up to which every write has a definite answer now, epoch milliseconds; None: no such stamp is known."""


Owned = Callable[[], Awaitable[bool]]
"""Whether the rows that the cache keeps under the name are still those of the namespace that is warmed."""


class WarmIncompleteError(CacheColdError):
    """Every page was read, but rows are missing in the cache; it stays as warm as it is, and is not called complete."""


class Facts(Protocol):
    """What a warm needs to know of a namespace."""

    @property
    def id_type(self) -> str: ...

    @property
    def vectors(self) -> list[str]: ...


class Warmer:
    """The work of one warm job."""

    def __init__(
        self,
        cache: DocumentCache,
        reads: Reads,
        clock: Clock,
        target: ReadTarget,
        facts: Facts,
        *,
        cut: Cut,
        owned: Owned,
        unknown_write_seconds: float,
        rows_expected: int,
        page_rows: int | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._cache = cache
        self._reads = reads
        self._clock = clock
        self._target = target
        self._facts = facts
        self._cut = cut
        self._owned = owned
        self._wait_seconds = unknown_write_seconds + WAIT_MARGIN_SECONDS
        self._rows_expected = rows_expected
        self._sizer = PageSizer(page_rows)
        self._rng = rng or random.Random()  # noqa: S311 -- jitter, not a secret
        self._pages = 0

    async def run(self, job: RunningJob) -> None:
        """Raises: CacheColdError: the cache cannot take the rows. WarmIncompleteError. UpstreamError."""
        # Pages are strongly consistent, so they have every write that was answered before the first one was asked for,
        # whatever the upstream's index has.
        warming, through_ms = await self._begin(self._target.namespace)

        async def read_page(span: Span) -> PageEnd:
            return await self._read_page(warming, span)

        def report(share: float, rows: int) -> None:
            expected = rows / self._rows_expected if self._rows_expected else 0.0
            job.report(progress=PAGES_SHARE * min(1.0, share or expected), documents_scanned=rows)

        walk = Walk(read_page, self._read_highest, report, id_type=self._facts.id_type, readers_max=READERS_MAX)
        rows = await walk.run()
        job.report(progress=PAGES_SHARE, documents_scanned=rows)
        await self._finish(warming, through_ms)
        job.report(stable_as_of_ms=through_ms)

    async def _begin(self, namespace: str) -> tuple[Warming, int]:
        for _ in range(int(self._wait_seconds / CLOSED_POLL_SECONDS)):
            through_ms = self._cut()
            if through_ms is not None:
                warming = await self._cache.begin_warm(namespace)
                if warming is not None:
                    return warming, through_ms
                if not (await self._cache.stats()).available:
                    break
            await self._clock.sleep(CLOSED_POLL_SECONDS)
        raise CacheColdError("the document cache cannot take rows of this namespace now")

    async def _ticket(self, warming: Warming) -> int:
        for _ in range(int(self._wait_seconds / CLOSED_POLL_SECONDS)):
            ticket = await self._cache.page_ticket(warming)
            if ticket > 0:
                return ticket
            await self._clock.sleep(CLOSED_POLL_SECONDS)
        raise CacheColdError("the document cache took no rows for too long: it failed, or a write went on")

    async def _confirm_owner(self) -> None:
        """Between a ticket and its read: whoever takes the place from here on voids the ticket.

        Raises: WarmIncompleteError.
        """
        if not await self._owned():
            raise WarmIncompleteError("the document cache holds another caller's namespace of this name now")

    async def _read_page(self, warming: Warming, span: Span) -> PageEnd:
        ticket = await self._ticket(warming)
        await self._confirm_owner()
        wanted, answer = await self._query_page(span)
        rows = await self._rows(answer)
        self._sizer.saw(len(rows), len(answer))
        await self._cache.put_page(warming, ticket, rows)
        self._pages += 1
        if self._pages % LOSS_CHECK_PAGES == 0:
            await self._check_loss(warming)
        ends = rows.ends()
        if ends is None:
            return PageEnd(0, None, None, more=False)
        return PageEnd(len(rows), id_of_key(ends[0]), id_of_key(ends[1]), more=len(rows) >= wanted)

    async def _query_page(self, span: Span) -> tuple[int, bytes]:
        """The rows asked for, and the answer; fewer are asked for while the answer is too long."""
        while True:
            wanted = self._sizer.rows
            try:
                return wanted, await self._reads.query(self._target, page_body(span, wanted))
            except AnswerTooLongError:
                if wanted == 1:
                    raise
                self._sizer.overran(wanted)

    async def _rows(self, answer: bytes) -> DocRows:
        try:
            # Without the GIL, so that the loop goes on.
            return await asyncio.to_thread(DocRows, answer, self._facts.vectors)
        except DocCacheError as error:
            raise UpstreamError("the upstream's answer is not a query result") from error

    async def _read_highest(self) -> Id | None:
        answer = read_object(await self._reads.query(self._target, highest_body()))
        found = answer.get("rows") or [{}]
        highest = found[0].get("id")
        return highest if isinstance(highest, int | str) else None

    async def _check_loss(self, warming: Warming) -> None:
        """Raises: WarmIncompleteError: what is gone on reading would not bring back."""
        facts = await self._cache.facts(warming.namespace)
        if facts is not None and facts.epoch != warming.epoch:
            raise WarmIncompleteError("the namespace's rows were declared void while it was warmed; warm it again")
        if facts is not None and facts.lost != warming.lost:
            raise WarmIncompleteError(
                f"{facts.lost - warming.lost} rows left the document cache while it was warmed: it is too small for "
                "the namespace, or a row is too large for it"
            )
        if warming.overflowed:
            raise WarmIncompleteError(
                "too many rows could not be kept: they were written meanwhile, or the cache failed"
            )

    async def _finish(self, warming: Warming, through_ms: int) -> None:
        """Reads by id what was written while its page was read, until nothing is missing."""
        give_up_at = self._clock.monotonic() + self._wait_seconds
        is_miscounted = True
        for round_number in range(REPAIR_ROUNDS_MAX):
            await self._check_loss(warming)
            missing = await self._cache.missing(warming, REPAIR_IDS_MAX)
            is_miscounted = is_miscounted and not missing and await self._counts_holes(warming)
            for start in range(0, len(missing), CHUNK_IDS):
                await self._repair(warming, missing[start : start + CHUNK_IDS])
            if await self._cache.end_warm(warming, through_ms):
                return
            if self._clock.monotonic() >= give_up_at:
                break
            await self._clock.sleep(REPAIR_PAUSE.delay(round_number, self._rng))
        if is_miscounted:
            # For longer than any write takes: a process has died that had counted a row as missing and not made it so.
            await self._cache.new_epoch(warming.namespace)
            raise WarmIncompleteError(
                "the document cache had counted rows as missing that are not; it has begun anew: warm it again"
            )
        raise WarmIncompleteError(
            "some rows were written again and again, or had writes without an answer, for as long as this warm waited; "
            "warm when there are fewer writes"
        )

    async def _counts_holes(self, warming: Warming) -> bool:
        facts = await self._cache.facts(warming.namespace)
        return facts is not None and facts.holes > 0 and not facts.closed

    async def _repair(self, warming: Warming, keys: Sequence[bytes]) -> None:
        """What a write is at work on is left for a later round."""
        held = await self._cache.lookup_many(warming.namespace, keys, NOTHING)
        looked_up = zip(keys, held.tickets, held.documents, strict=True)
        open_to_fill = [(key, ticket) for key, ticket, document in looked_up if ticket > 0 or document is not None]
        if not open_to_fill:
            return
        await self._confirm_owner()
        free, tickets = zip(*open_to_fill, strict=True)
        try:
            answer = await self._reads.query(self._target, rows_body([json_of_key(key) for key in free]))
        except AnswerTooLongError:
            if len(free) == 1:
                raise
            half = len(free) // 2
            await self._repair(warming, free[:half])
            await self._repair(warming, free[half:])
            return
        await self._cache.refill(warming, free, tickets, await self._rows(answer))
