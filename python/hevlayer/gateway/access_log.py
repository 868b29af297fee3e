"""The access log: one JSON line per request, written in batches so that a request pays for no system call."""

import os
from collections.abc import Callable

import orjson

from hevlayer.clock import Clock

FLUSH_SECONDS = 0.5
# A full buffer is written at once by the request that filled it: nothing is dropped and memory is bounded.
BUFFER_LINES_MAX = 256
OFF = -1


class AccessLog:
    """Collects lines and writes them to a file descriptor."""

    def __init__(self, descriptor: int, write: Callable[[int, bytes], int] = os.write) -> None:
        self._descriptor = descriptor
        self._write = write
        self._lines: list[bytes] = []

    @property
    def enabled(self) -> bool:
        return self._descriptor != OFF

    def add(self, line: dict[str, object]) -> None:
        """Takes one line up. Its values must be JSON values."""
        lines = self._lines
        try:
            lines.append(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
        except TypeError:
            # Only text with lone surrogates gets here; they cannot be written as UTF-8.
            clean = {key: _clean(value) for key, value in line.items()}
            lines.append(orjson.dumps(clean, option=orjson.OPT_APPEND_NEWLINE))
        if len(lines) >= BUFFER_LINES_MAX:
            self.flush()

    def flush(self) -> None:
        """Writes what is there. A log that nobody reads any more (a closed pipe) is dropped: serving goes on."""
        if not self._lines:
            return
        lines, self._lines = self._lines, []
        view = memoryview(b"".join(lines))
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


def _clean(value: object) -> object:
    return value.encode("utf-8", "replace").decode("utf-8") if isinstance(value, str) else value
