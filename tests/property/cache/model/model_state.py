"""What the protocol's model is made of: where each write and read is, what each gateway owes, and what is explored."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from model_engines import MISSING, Ideal

INITIAL = (0, 0)
# Writes whose ids are not known when they begin.
WHOLE = frozenset({"by_filter", "by_filter_ids", "copy", "drop"})


class Phase:
    """Where a write or a read is."""

    IDLE = 0
    UNMARKED = 1
    SENT = 2
    COMMITTED = 3
    PATCHING = 4
    VOIDING = 5
    VOIDED = 6
    OWING = 7
    DONE = 8
    LOOKED = 9
    ASKED = 10


class Writer(NamedTuple):
    phase: int = Phase.IDLE
    is_marked: bool = False
    outcome: str = ""
    position: int = 0
    """Where its commit stands in the history that is kept; 0 for not committed, or long ago."""
    may_commit: bool = False
    """Its answer was lost before it was committed: it may yet be."""
    beneath: Any = MISSING


class Reader(NamedTuple):
    phase: int = Phase.IDLE
    ticket: Any = None
    value: Any = MISSING


class Gateway(NamedTuple):
    owed: frozenset[int] = frozenset()
    """Writers whose effect the cache could not be told."""
    repaying: frozenset[int] = frozenset()
    published: bool = False
    """The other gateways can read that it owes."""
    left: bool = False
    """The one before it, which died, published that it owes."""
    knows: bool = False
    """It has read that another one owes."""
    trusts: bool = True
    """It has looked at what the others owe lately enough."""


class State(NamedTuple):
    history: tuple[Any, ...]
    """What the upstream held since the last acknowledged write, oldest first."""
    writers: tuple[Writer, ...]
    readers: tuple[Reader, ...]
    gateways: tuple[Gateway, ...]
    cache: Any
    owed_by: frozenset[int]
    """Gateways that stated to the engine that they owe."""
    late: tuple[Any, ...]
    """Calls that failed and may yet take effect."""
    faults: int
    losses: int
    deaths: int
    clears: int


@dataclass(frozen=True)
class Scenario:
    """What is explored: writes by kind and gateway, reads by kind and gateway, and how much may go wrong."""

    writes: tuple[tuple[str, int], ...]
    """(kind, gateway): `upsert`, `patch`, `delete`, `by_filter` (the ids are not told), `by_filter_ids`,
    `copy` (another namespace's rows take the place of these), `drop` (the namespace is deleted)."""
    reads: tuple[tuple[str, int], ...] = (("read", 0), ("read", 1))
    """(kind, gateway): `read` or `page`."""
    engine: Callable[[], Any] = Ideal
    faults: int = 0
    losses: int = 0
    deaths: int = 0
    clears: int = 0
    statements_fail: bool = False
    """The engine may also fail to be told of debts."""
    shared_debts: bool = False
    """Debts can be published in a store that all gateways look at."""
    patches_kept: bool = True
    """A patch of a cached row becomes a row, for engines that never lose a mark alone."""
    mutations: frozenset[str] = frozenset()

    @property
    def gateways(self) -> int:
        return 1 + max(number for _, number in (*self.writes, *self.reads))
