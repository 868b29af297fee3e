"""Write stamps and the writes in flight: the lower bound under which every write has a definite answer.

All of it runs on one event loop: taking a stamp and entering the ledger is one step that no poll can fall between.
"""

from collections import deque
from enum import Enum

from hevlayer.clock import Clock

UNKNOWN_WRITE_SECONDS = 120.0
# Unknown writes that end within this span share one entry, so that an upstream outage costs a bounded ledger.
UNKNOWN_BUCKET_SECONDS = 1.0


class Outcome(Enum):
    """How a write ended."""

    OK = "ok"
    REFUSED = "refused"
    UNKNOWN = "unknown"


class UnknownWrites:
    """Stamps of writes that may still take effect upstream, each until its time is over."""

    __slots__ = ("_buckets",)

    def __init__(self) -> None:
        # [opened_at, expires_at, oldest stamp], by time; merged on entry, so at most hold/bucket + 1 of them.
        self._buckets: deque[tuple[float, float, int]] = deque()

    def add(self, stamp_ms: int, now: float, hold_seconds: float) -> None:
        expires = now + hold_seconds
        if self._buckets:
            opened, last_expires, oldest = self._buckets[-1]
            if now - opened < UNKNOWN_BUCKET_SECONDS:
                self._buckets[-1] = (opened, max(expires, last_expires), min(oldest, stamp_ms))
                return
        self._buckets.append((now, expires, stamp_ms))

    def oldest(self, now: float) -> int | None:
        """The oldest stamp still counted at monotonic time `now`."""
        while self._buckets and self._buckets[0][1] <= now:
            self._buckets.popleft()
        return min((stamp for _, _, stamp in self._buckets), default=None)

    def __len__(self) -> int:
        return len(self._buckets)


class PollWindow:
    """The oldest stamp in flight at any moment while the window was open."""

    __slots__ = ("_ledger", "_namespace", "floor_ms")

    def __init__(self, ledger: "Stamper", namespace: str, floor_ms: int | None) -> None:
        self._ledger = ledger
        self._namespace = namespace
        self.floor_ms = floor_ms

    def close(self) -> int | None:
        self._ledger._close_window(self._namespace, self)
        return self.floor_ms


class _Flights:
    """One namespace's ledger. `stamps` is in stamp order, because stamps never go back."""

    __slots__ = ("stamps", "unknown", "windows")

    def __init__(self) -> None:
        self.stamps: dict[int, int] = {}
        self.unknown = UnknownWrites()
        self.windows: list[PollWindow] = []

    def oldest(self, now: float) -> int | None:
        unknown = self.unknown.oldest(now) if self.unknown else None
        flying = next(iter(self.stamps.values()), None)
        return lower(flying, unknown)


class Ticket:
    """One write from before its stamp to its definite answer. Settle it exactly once; later calls change nothing.

    A ticket that is dropped without an answer settles itself as UNKNOWN.
    """

    __slots__ = ("_ledger", "_namespace", "_number", "_open", "stamp_ms")

    def __init__(self, ledger: "Stamper", namespace: str, number: int, stamp_ms: int) -> None:
        self._ledger = ledger
        self._namespace = namespace
        self._number = number
        self._open = True
        self.stamp_ms = stamp_ms

    def settle(self, outcome: Outcome) -> None:
        if self._open:
            self._open = False
            self._ledger._settle(self._namespace, self._number, outcome)

    def __del__(self) -> None:
        self.settle(Outcome.UNKNOWN)


class Stamper:
    """Gives stamps and remembers which of them have no definite answer yet.

    A stamp is `max(now, last)`: it never goes back, also when the clock does, and is never ahead of a time that the
    clock has shown.
    """

    def __init__(self, clock: Clock, *, unknown_write_seconds: float = UNKNOWN_WRITE_SECONDS) -> None:
        self._clock = clock
        self._hold_seconds = unknown_write_seconds
        self._last_ms = 0
        self._next_number = 0
        self._flights: dict[str, _Flights] = {}
        self._everywhere = UnknownWrites()
        self.unknown_total = 0

    def now_ms(self) -> int:
        """The time of which no later stamp is older. Polls start by this clock, so a clock that goes back between a
        poll and a write cannot put the write below the poll's watermark."""
        now = self._clock.now_ms()
        if now > self._last_ms:
            self._last_ms = now
        return self._last_ms

    def begin(self, namespace: str) -> Ticket:
        """Stamps one write request; it is in flight until the ticket is settled."""
        stamp = self.now_ms()
        flights = self._flights.get(namespace)
        if flights is None:
            flights = self._flights[namespace] = _Flights()
        number = self._next_number
        self._next_number = number + 1
        flights.stamps[number] = stamp
        for window in flights.windows:
            window.floor_ms = lower(window.floor_ms, stamp)
        return Ticket(self, namespace, number, stamp)

    def _settle(self, namespace: str, number: int, outcome: Outcome) -> None:
        flights = self._flights[namespace]
        stamp = flights.stamps.pop(number)
        if outcome is Outcome.UNKNOWN:
            self.unknown_total += 1
            flights.unknown.add(stamp, self._clock.monotonic(), self._hold_seconds)
        else:
            self._discard_if_empty(namespace, flights)

    def recover(self, floor_ms: int) -> None:
        """Counts a write of any namespace at `floor_ms` as unknown: an earlier process did not stop cleanly."""
        self._everywhere.add(floor_ms, self._clock.monotonic(), self._hold_seconds)

    def floor_ms(self, namespace: str) -> int | None:
        """The oldest stamp in flight in `namespace` now, unknown outcomes included."""
        now = self._clock.monotonic()
        flights = self._flights.get(namespace)
        return lower(self._everywhere.oldest(now), flights.oldest(now) if flights else None)

    def open_window(self, namespace: str) -> PollWindow:
        """Starts to watch a poll; close it when the poll has its answer."""
        window = PollWindow(self, namespace, self.floor_ms(namespace))
        flights = self._flights.get(namespace)
        if flights is None:
            flights = self._flights[namespace] = _Flights()
        flights.windows.append(window)
        return window

    def _close_window(self, namespace: str, window: PollWindow) -> None:
        flights = self._flights.get(namespace)
        if flights is not None and window in flights.windows:
            flights.windows.remove(window)
            self._discard_if_empty(namespace, flights)

    def _discard_if_empty(self, namespace: str, flights: _Flights) -> None:
        if not flights.stamps and not flights.windows and not flights.unknown:
            del self._flights[namespace]

    def busy(self, namespace: str) -> bool:
        """A write is in flight or its outcome is unknown."""
        flights = self._flights.get(namespace)
        return flights is not None and bool(flights.stamps or flights.unknown)

    def oldest_anywhere(self) -> int | None:
        """The oldest stamp without a definite answer over all namespaces. Forgets what is over on the way."""
        now = self._clock.monotonic()
        oldest = self._everywhere.oldest(now)
        for namespace, flights in list(self._flights.items()):
            oldest = lower(oldest, flights.oldest(now))
            self._discard_if_empty(namespace, flights)
        return oldest

    def floors(self, namespaces_max: int) -> tuple[int, dict[str, int]]:
        """Lower bounds of every stamp that is in flight now or will be: one for all namespaces, and own ones for at
        most `namespaces_max` namespaces whose writes are older than that."""
        now = self._clock.monotonic()
        general = self.now_ms()
        everywhere = self._everywhere.oldest(now)
        if everywhere is not None:
            general = min(general, everywhere)
        own = {}
        for namespace, flights in self._flights.items():
            oldest = flights.oldest(now)
            if oldest is not None and oldest < general:
                own[namespace] = oldest
        if len(own) > namespaces_max:
            by_age = sorted(own.items(), key=lambda item: item[1])
            own = dict(by_age[:namespaces_max])
            general = min(general, by_age[namespaces_max][1])
        return general, own

    def writing(self) -> bool:
        """A write is in flight now, in any namespace."""
        return any(flights.stamps for flights in self._flights.values())


def lower(one: int | None, other: int | None) -> int | None:
    """The smaller of two bounds, None being no bound."""
    if one is None:
        return other
    if other is None:
        return one
    return min(one, other)
