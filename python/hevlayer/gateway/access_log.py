"""The access log: one JSON line per request, written in batches so that a request pays for no system call."""

import os
from collections.abc import Callable

from hevlayer.clock import Clock
from hevlayer.gateway.line_writer import SETTLE_SECONDS, LineWriter

FLUSH_SECONDS = 0.5
# A full buffer is handed over at once by the request that filled it.
BUFFER_LINES_MAX = 256
OFF = -1


class AccessLog:
    """Collects lines for a file descriptor. Never waits for it."""

    def __init__(self, descriptor: int, write: Callable[[int, bytes], int] = os.write) -> None:
        self._writer = LineWriter(descriptor, write)
        self._lines: list[str] = []
        self.enabled = descriptor != OFF

    def add(self, line: str) -> None:
        """Takes up one line of JSON text, without its line break."""
        lines = self._lines
        lines.append(line)
        if len(lines) >= BUFFER_LINES_MAX:
            self.flush()

    def flush(self) -> None:
        """Hands over what is there to be written."""
        if not self._lines:
            return
        lines, self._lines = self._lines, []
        count = len(lines)
        lines.append("")
        self._writer.offer("\n".join(lines).encode(), count)

    @property
    def dropped(self) -> int:
        """Lines that nobody will read."""
        return self._writer.dropped

    def settle(self, seconds: float = SETTLE_SECONDS) -> bool:
        """Blocks until all that was handed over is written or dropped; False when it is not by then."""
        return self._writer.settle(seconds)

    async def run(self, clock: Clock) -> None:
        """Flushes every `FLUSH_SECONDS`, until it is cancelled."""
        while True:
            await clock.sleep(FLUSH_SECONDS)
            self.flush()
