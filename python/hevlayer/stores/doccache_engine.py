"""The port between the document cache's policy and an engine that keeps its records.

Several gateways, each with a policy of its own (`stores.doccache`), may share what one engine keeps: processes on one
directory, or machines on one server. `docs/cache-protocol.md` has the protocol and its proof; this is what an engine
must do for it. `hevlayer.testing.doccache_twin` does it with plain dictionaries and is the slow twin of every engine.

Rows are kept by namespace and id key (`kernels.id_key`). An id is in one of these states:

    missing   nothing is kept; a reader who saw that may fill it, with the ticket that the look-up gave
    row       served
    marked    by one or more open writes; neither served nor filled; the row that was there is kept beneath

What every engine promises:

* **Order.** What a call did is seen by every call, of any gateway, that starts after it returned.
* **Marks hold.** A marked id is neither served nor filled until every write that marked it was settled. A mark whose
  gateway died, or whose time is over, ends as an UNKNOWN outcome does. Marks stand across a restart. An engine that
  lost them begins without a row, and until their writes have ended for certain no look-up gives a ticket over 0, no
  fill takes effect and no settle leaves a row.
* **Contention.** When two marks stood on one id at one time (one of them may be on the whole namespace) nobody knows
  in which order their writes took effect: when the last of them ends the id is missing, whatever the settles said.
* **Fills are late-proof.** A fill takes effect only if nothing was marked, settled, cleared or lost on the id since its
  ticket was given. A ticket must be void after the engine lost the id's state: "missing" alone proves nothing.
* **It may lose, never go back.** Any row may be lost at any time. A mark or a settle may be lost only together with
  every row that it stands for, and then `settle` says False. No older state of an id ever comes back.
* **Soft.** Every method raises CacheUnavailableError when it fails or runs over its time budget, and nothing else;
  what it was asked to do may then be done, not done, or done in part.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol, runtime_checkable

from hevlayer.kernels.doccache import DocProjection, DocRows, DocScan, FetchHits
from hevlayer.kernels.filters import CancelFlag
from hevlayer.kernels.http import RequestHead

UNKNOWN_WRITE_SECONDS = 120.0
# The longest that a mark may stand whose write does not say how long it may take. Longer than any write's deadline.
MARK_SECONDS_MAX = 7_200.0
# Ids that an engine remembers as holes, a namespace; what is beyond them counts as lost.
HOLES_MAX = 100_000
# A moment or a state as a look-up saw it; see `Engine.lookup`.
Ticket = int


class WriteOutcome(Enum):
    """How a write ended."""

    APPLIED = "applied"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class NamespaceFacts:
    """What the cache holds of one namespace, and what it knows to be missing."""

    epoch: int = 0
    """Another number after every `clear`, and after the engine lost what it knew of the namespace; never one again."""
    rows: int = 0
    bytes: int = 0
    marked: int = 0
    """Ids with an open write."""
    closed: bool = False
    """A write whose ids are not known is open."""
    holes: int = 0
    """Ids that a write left missing and that no fill has closed since. Never too few; see `Engine.holes`."""
    lost: int = 0
    """Rows of this epoch that are gone otherwise: evicted, expired, damaged, too large to keep. Only grows, never too
    few; a row that expired counts from when somebody noticed."""
    note: str = ""
    """What `Engine.note` kept; empty when the epoch or `lost` changed since."""


@dataclass(frozen=True, slots=True)
class EngineStats:
    """An engine's sizes now and counters since it was opened by this process."""

    rows: int = 0
    bytes: int = 0
    capacity_bytes: int = 0
    namespace_capacity_bytes: int = 0
    """What one namespace may hold that has no bound of its own; 0: all."""
    open_writes: int = 0
    evicted_rows: int = 0
    evicted_segments: int = 0
    refused_fills: int = 0
    io_errors: int = 0
    connections: int = 0
    """Connections to a server; 0 for an engine without one."""
    connects: int = 0
    """Times that it was opened or connected; what `/health` calls the generation."""
    notes: tuple[str, ...] = ()
    """Sentences for `/health`: what an operator should know, such as a server without expiry."""


@dataclass(frozen=True, slots=True)
class NamespaceScan:
    """All that is cached of a namespace at one moment; of a server whose scans do not stand still, each row at one
    moment of the scan."""

    rows: DocScan
    """Each row once. Rows beneath the marks of open writes are left out, but for `rows.with_marked()`."""
    facts: NamespaceFacts
    """As of the same moment, or as of the whole scan: with a note only if nothing was lost meanwhile."""


@runtime_checkable
class ScansRows(Protocol):
    """An engine that can show all rows of a namespace."""

    async def scan(self, namespace: str, seconds: float, cancel: CancelFlag | None = None) -> NamespaceScan:
        """Raises: CacheUnavailableError, also when `seconds` were not enough or `cancel` was set meanwhile."""


@runtime_checkable
class TakesOver(Protocol):
    """An engine that gateways share which may not reach it."""

    async def take_over(self, owner: int, namespaces: Sequence[str] | None) -> None:
        """States what `owner` owed, which died before it could do so itself, and lets it end as `Engine.owe` tells of
        an owner that dies. May be done more than once. Raises: CacheUnavailableError."""


class Engine(Protocol):
    """One gateway's door to the records. See the module for what its methods promise together."""

    @property
    def name(self) -> str:
        """`embedded` or `aerospike`."""

    @property
    def loses_marks(self) -> bool:
        """Whether a mark may be lost alone, without every row of its id that was there before it is settled.

        Then a patch is not composed with the row beneath: a reader may have filled that after the loss.
        """

    # --- reads -------------------------------------------------------------------------------------------------------

    async def lookup(
        self, namespace: str, key: bytes, projection: DocProjection, id_type: str | None
    ) -> bytes | Ticket:
        """The document's JSON text; or a ticket.

        A ticket over 0 lets the reader fill this id with what it is about to ask the upstream for. One under 0 does
        not (the id is marked). Two look-ups of one id that got the same ticket, other than 0, had no write of it by any
        gateway between them, so that the second may share the first one's upstream request. 0 says nothing.
        """

    def lookup_now(self, namespace: str, key: bytes, projection: DocProjection, id_type: str | None) -> bytes | None:
        """What `lookup` would give, when that is a document and nothing need be waited for. None says nothing, also of
        a failure: `lookup` meets it again."""

    def answer_now(
        self, hits: FetchHits, head: RequestHead, now: float, date_line: bytes
    ) -> tuple[bytes, object, int, str, str] | None:
        """As `lookup_now`, for the head of a fetch that has come; see `FetchHits.answer`."""

    async def lookup_many(
        self, namespace: str, keys: Sequence[bytes], projection: DocProjection
    ) -> list[bytes | Ticket]:
        """As `lookup`, in the order of the keys, without an id type in the documents."""

    async def fill(self, namespace: str, rows: DocRows, keys: Sequence[bytes], tickets: Sequence[Ticket]) -> int:
        """Puts what a strongly consistent read answered that was asked after `tickets`, one for each of `keys`.

        A key that has no row among `rows` does not exist upstream: nothing is put, but it is no hole any more. Keys
        whose ticket is not over 0, that are marked, or that hold a row by now, are left alone, and rows of other ids
        are ignored. Returns: rows put.
        """

    async def begin_fill(self, namespace: str) -> Ticket:
        """A ticket for reads whose ids are not known beforehand, good for every id of the namespace and for
        `fill_page` only; 0: not now, a write of unknown ids is open."""

    async def fill_page(self, namespace: str, rows: DocRows, ticket: Ticket) -> tuple[int, list[bytes]]:
        """Puts the rows of a strongly consistent read that was asked after `ticket`, also in place of a row that is
        there and was not touched since: that one's life begins anew. At most `FILL_PAGE_SECONDS` after the ticket.

        Returns: rows put, and the keys of rows that are not held now (marked, touched meanwhile, too large, evicted);
        where a newer row stands the key is held.
        """

    # --- writes ------------------------------------------------------------------------------------------------------

    async def mark(self, token: int, namespace: str, keys: Sequence[bytes] | None, seconds: float) -> None:
        """Marks ids (None: the whole namespace) for a write that has not gone upstream yet and has ended for certain
        after `seconds`. When it returns, no look-up that starts serves one of them, in any gateway.

        After an error some ids may be marked; the policy settles the token all the same.
        """

    async def settle(
        self,
        token: int,
        namespace: str,
        keys: Sequence[bytes] | None,
        outcome: WriteOutcome,
        *,
        changed: Sequence[bytes] | None = None,
        rows: DocRows | None = None,
        deleted: Sequence[bytes] = (),
    ) -> bool:
        """Ends a write; `namespace` and `keys` are those of its mark.

        APPLIED: an id that is not contended becomes its row among `rows`, which is what the upstream now stores. All
        others are left missing: holes, save for those in `deleted`, which do not exist any more. With `changed`, the
        upstream said which ids it wrote: the other marked ids are as after REFUSED, and of a marked namespace only
        these ids are left missing. A marked namespace without `changed` gets a new epoch; its `rows` are ignored.
        REFUSED: nothing happened upstream: rows come back where the id is not contended.
        UNKNOWN: the marks stay for `UNKNOWN_WRITE_SECONDS`, then end as if APPLIED without rows.

        Returns: False: at least one of the marks was not there any more; the caller marks again and settles that.
        """

    async def beneath(self, token: int, namespace: str, keys: Sequence[bytes]) -> DocRows:
        """The rows beneath this write's marks, of ids that are not contended so far; for patches."""

    async def clear(self, namespace: str) -> None:
        """A new epoch: no row of the namespace from before is served again, no earlier ticket is good, holes, losses
        and the note are forgotten, and its space is given back in time. Marks stay, without rows beneath."""

    async def owe(self, owner: int, namespaces: Sequence[str] | None) -> None:
        """States all that `owner`, one policy, could not mark or clear: None is everything, empty is nothing.

        While a namespace is owed by anyone, nothing of it is served or filled; if its owner dies, it gets a new epoch
        first, and stays as marked for `UNKNOWN_WRITE_SECONDS`. An engine may stop serving more than that. This must
        work when a mark does not, as far as it can: on a full disk, with a lock that is held.
        """

    # --- completeness ------------------------------------------------------------------------------------------------

    async def facts(self, namespace: str) -> NamespaceFacts:
        """What it knows of the namespace; the zero facts, but for the epoch, when that is nothing."""

    async def holes(self, namespace: str, limit: int) -> list[bytes]:
        """Some of the keys that count as holes; empty if the engine only counts them."""

    async def note(self, namespace: str, text: str, epoch: int, lost: int) -> bool:
        """Keeps at most 1,000 characters for every gateway, if the namespace's `epoch` and `lost` are these still."""

    # --- limits and upkeep -------------------------------------------------------------------------------------------

    async def limit(self, namespace: str, capacity_bytes: int | None) -> None:
        """Bounds a namespace's share of the capacity, in this and the other gateways; None: no bound of its own."""

    async def set_ttl(self, seconds: float) -> None:
        """The longest life of a row from its fill, also for rows that are there."""

    async def maintain(self) -> None:
        """Evicts what is over a capacity, ends marks that are over; called every second."""

    async def stats(self) -> EngineStats: ...

    async def close(self) -> None:
        """Lets go of what it holds; a second close does nothing."""


# An engine need not keep what a read could fill for longer than this after its ticket was given.
FILL_PAGE_SECONDS = 300.0
