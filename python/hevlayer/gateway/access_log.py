"""The access log: one JSON line per request, written in batches so that a request pays for no system call."""

import os
from collections.abc import Callable

from hevlayer.clock import Clock
from hevlayer.wire.bodies import encode

FLUSH_SECONDS = 0.5
# A full buffer is written at once by the request that filled it: nothing is dropped and memory is bounded.
BUFFER_LINES_MAX = 256
OFF = -1


class AccessLog:
    """Collects lines and writes them to a file descriptor."""

    def __init__(self, descriptor: int, write: Callable[[int, bytes], int] = os.write) -> None:
        self._descriptor = descriptor
        self._write = write
        self._lines: list[str] = []
        self.enabled = descriptor != OFF

    def add(self, line: str) -> None:
        """Takes up one line of JSON text, without its line break."""
        lines = self._lines
        lines.append(line)
        if len(lines) >= BUFFER_LINES_MAX:
            self.flush()

    def flush(self) -> None:
        """Writes what is there. A log that nobody reads any more (a closed pipe) is dropped: serving goes on."""
        if not self._lines:
            return
        lines, self._lines = self._lines, []
        lines.append("")
        view = memoryview("\n".join(lines).encode())
        try:
            while view:
                view = view[self._write(self._descriptor, view.tobytes()) :]
        except OSError:
            return

    async def run(self, clock: Clock) -> None:
        """Flushes every `FLUSH_SECONDS`, until it is cancelled."""
        while True:
            await clock.sleep(FLUSH_SECONDS)
            self.flush()


def json_text(text: str) -> str:
    """A JSON string, with its quotes; lone surrogates, which UTF-8 cannot carry, become `?`."""
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    return encode(text).decode()
