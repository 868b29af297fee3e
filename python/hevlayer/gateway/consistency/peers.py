"""The other gateways' writes in flight: what keeps this one's watermarks below them.

Each process publishes lower bounds of its stamps in flight five times a second, and reads the others' with the same
statement. A poll that starts after a read may trust what was read: a bound that held once holds for all later writes
of that process. A process that the read did not show took its first stamp after it, so no watermark may pass the time
of the read either. While the board is away longer than `TRUST_SECONDS`, the safety margin alone stands for the others.
"""

import logging
from collections.abc import Sequence

from hevlayer.clock import Clock
from hevlayer.errors import LayerError
from hevlayer.gateway.consistency.stamps import Stamper, lower
from hevlayer.stores.floors import FloorBoard, Floors

PUBLISH_SECONDS = 0.2
SWEEP_SECONDS = 60.0
TRUST_SECONDS = 10.0
NAMESPACES_MAX = 1_000

log = logging.getLogger("hevlayer.consistency")


class PeerFloors:
    """Publishes and reads. `publish_once` before the first write, `run` under a supervisor, `stop` after the last."""

    def __init__(
        self, board: FloorBoard, stamper: Stamper, clock: Clock, *, namespaces_max: int = NAMESPACES_MAX
    ) -> None:
        """`namespaces_max`: namespaces with a floor of their own in what is published."""
        self._board = board
        self._stamper = stamper
        self._clock = clock
        self._namespaces_max = namespaces_max
        self._peers: Sequence[Floors] = ()
        self._read_ms: int | None = None
        self._read_at = 0.0
        self._swept_at = clock.monotonic()
        self._failing = False

    @property
    def is_trusted(self) -> bool:
        """Whether the others' floors are known well enough to be used."""
        return self._read_ms is not None and self._clock.monotonic() - self._read_at <= TRUST_SECONDS

    def floor_ms(self, namespace: str) -> int | None:
        """No watermark of a poll that starts now may reach this stamp; None: nothing is known."""
        if not self.is_trusted:
            return None
        floor = self._read_ms
        for peer in self._peers:
            floor = lower(floor, peer.of(namespace))
        return floor

    async def publish_once(self) -> None:
        """One exchange with the board; a failure is logged once and leaves what was known."""
        read_ms, read_at = self._stamper.now_ms(), self._clock.monotonic()
        general_ms, namespaces = self._stamper.floors(self._namespaces_max)
        try:
            peers = await self._board.publish(Floors(general_ms, namespaces))
            if self._clock.monotonic() - self._swept_at >= SWEEP_SECONDS:
                self._swept_at = self._clock.monotonic()
                await self._board.sweep()
        except LayerError as error:
            if not self._failing:
                log.warning("cannot exchange floors with the other gateways", extra={"reason": error.message})
            self._failing = True
            return
        self._failing = False
        self._peers, self._read_ms, self._read_at = peers, read_ms, read_at

    async def run(self) -> None:
        while True:
            await self._clock.sleep(PUBLISH_SECONDS)
            await self.publish_once()

    async def stop(self) -> None:
        """Takes this process's floors away, unless a write's outcome is still unknown."""
        if self._stamper.oldest_anywhere() is not None:
            return
        try:
            await self._board.retire()
        except LayerError as error:
            log.warning("floors are left behind until they expire", extra={"reason": error.message})
