"""When a cache that fails is left alone."""

from enum import Enum

from hevlayer.clock import Clock

WINDOW_SECONDS = 10.0
FAILURES_MIN = 5
FAILURE_RATE = 0.5
OPEN_SECONDS = 5.0


class State(Enum):
    CLOSED = "closed"
    OPEN = "open"
    PROBING = "probing"


class Breaker:
    """Opens on a rate of failures within a window, never on one; then lets one probe through at a time."""

    __slots__ = ("_clock", "_failures", "_successes", "_until", "_window_ends", "state")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.state = State.CLOSED
        self._successes = 0
        self._failures = 0
        self._window_ends = 0.0
        self._until = 0.0

    def allows(self) -> bool:
        """Whether to try now. Whoever is let through records how it went."""
        if self.state is State.CLOSED:
            return True
        now = self._clock.monotonic()
        if now < self._until:
            return False
        # A probe that never reports back does not keep the breaker open for ever: the next one goes after this time.
        self.state = State.PROBING
        self._until = now + OPEN_SECONDS
        return True

    def succeeded(self) -> None:
        if self.state is State.CLOSED:
            self._successes += 1
        elif self.state is State.PROBING:
            self.state = State.CLOSED
            self._successes = self._failures = 0

    def failed(self) -> None:
        now = self._clock.monotonic()
        if self.state is not State.CLOSED:
            self.state = State.OPEN
            self._until = now + OPEN_SECONDS
            return
        if now >= self._window_ends:
            # Successes are counted without looking at the time, so a window begins at its first failure.
            self._window_ends = now + WINDOW_SECONDS
            self._successes = self._failures = 0
        self._failures += 1
        total = self._failures + self._successes
        if self._failures >= FAILURES_MIN and self._failures >= FAILURE_RATE * total:
            self.state = State.OPEN
            self._until = now + OPEN_SECONDS
