"""What the document cache gives and takes: look-ups' answers, the token of a write, what it says of itself."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from hevlayer.stores.doccache_engine import EngineStats, Ticket


class CacheObserver(Protocol):
    """Where the cache's measurements go. Seconds are floats."""

    def observe_cache_lookup(
        self, namespace: str, seconds: float, hits: int, misses: int, payload_bytes: int
    ) -> None: ...

    def observe_backfill(self, seconds: float, records: int, *, ok: bool = True) -> None: ...

    def count_cache_error(self, operation: str) -> None: ...


class Miss:
    """Nothing to serve. `ticket` is what the engine saw (`Engine.lookup`): over 0 it lets what is read now be filled,
    and reads with one ticket other than 0 may share an answer; `failed` says that the cache could not be asked, or must
    not be believed."""

    __slots__ = ("failed", "ticket")

    def __init__(self, ticket: Ticket, *, failed: bool) -> None:
        self.ticket = ticket
        self.failed = failed


MARKED = Miss(0, failed=False)
UNAVAILABLE = Miss(0, failed=True)


class Batch:
    """Documents in the order of the keys, None where missing, and a ticket for each key (0 for what was found)."""

    __slots__ = ("documents", "failed", "tickets")

    def __init__(self, documents: list[bytes | None], tickets: list[Ticket], *, failed: bool) -> None:
        self.documents = documents
        self.tickets = tickets
        self.failed = failed


class WriteToken:
    """One write between its mark and its settle. One that is dropped without a settle counts as UNKNOWN."""

    __slots__ = ("_orphans", "keys", "marked", "namespace", "settled", "token")

    def __init__(self, token: int, namespace: str, keys: Sequence[bytes] | None, orphans: "deque[WriteToken]") -> None:
        self.token = token
        self.namespace = namespace
        self.keys = keys
        self.marked = False
        self.settled = False
        self._orphans = orphans

    def __del__(self) -> None:
        if not self.settled:
            self._orphans.append(self)


@dataclass(frozen=True, slots=True)
class CacheStats:
    """What `/health` and metrics say of the cache."""

    available: bool
    breaker: str
    debts: int
    errors: dict[str, int] = field(default_factory=dict)
    engine: EngineStats | None = None
    problem: str = ""
