"""The port between the document cache's policy and an engine that keeps its records.

An engine fails softly: every method raises CacheUnavailableError when it fails or runs over its time budget, and never
anything else. It keeps marks and rows; budgets, debts and the breaker are the policy's (`stores.doccache`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from hevlayer.kernels.doccache import DocProjection, DocRows

UNKNOWN_WRITE_SECONDS = 120.0
# The longest that a write may stay open: after this its mark counts as settled. Longer than any write's deadline.
MARK_SECONDS_MAX = 7_200.0


class WriteOutcome(Enum):
    """How a write ended."""

    APPLIED = "applied"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class CacheState:
    """What the cache holds of one namespace. `closed`: a write whose ids are not known is open."""

    rows: int = 0
    bytes: int = 0
    marked: int = 0
    closed: bool = False


@dataclass(frozen=True, slots=True)
class EngineStats:
    """An engine's sizes now and counters since it was opened."""

    rows: int = 0
    bytes: int = 0
    capacity_bytes: int = 0
    open_writes: int = 0
    evicted_rows: int = 0
    evicted_segments: int = 0
    refused_fills: int = 0
    io_errors: int = 0


class Engine(Protocol):
    """Keeps records and marks, keyed by namespace and id key (`kernels.id_key`).

    Its contract, beside each method's:

    * A marked id is neither served nor filled until every write that marked it is settled; an UNKNOWN one settles
      itself when its time is over.
    * A fill is refused for an id that was marked, settled or cleared after the fill's ticket was given.
    * What a mark covers is not served after a crash and restart either.
    """

    async def lookup(self, namespace: str, key: bytes, projection: DocProjection, id_type: str | None) -> bytes | int:
        """The document's JSON text, or a ticket for filling what is missing (0: it may not be filled)."""

    async def lookup_many(self, namespace: str, keys: Sequence[bytes], projection: DocProjection) -> list[bytes | int]:
        """As `lookup`, in the order of the keys, without an id type in the documents."""

    async def fill(self, namespace: str, rows: DocRows, ticket: int) -> int:
        """Puts the rows that are still missing and were not touched since the ticket; gives how many."""

    async def mark(self, token: int, namespace: str, keys: Sequence[bytes] | None) -> None:
        """Marks ids (None: the namespace) for a write that has not gone upstream yet."""

    async def settle(self, token: int, outcome: WriteOutcome) -> bool:
        """Ends a write: APPLIED leaves its ids missing, REFUSED brings back rows that no other write touched, UNKNOWN
        keeps the mark for `UNKNOWN_WRITE_SECONDS`. False: the mark was not there any more."""

    async def clear(self, namespace: str) -> None:
        """A new epoch: no row of the namespace from before is served again, and no older ticket is good."""

    async def owe(self, owing: bool) -> None:
        """While owing, what is on disk must not be served by a later process."""

    async def maintain(self) -> None:
        """Evicts what is over the capacity."""

    async def state(self, namespace: str) -> CacheState: ...

    async def stats(self) -> EngineStats: ...

    async def close(self) -> None:
        """Lets go of what it holds; a second close does nothing."""
