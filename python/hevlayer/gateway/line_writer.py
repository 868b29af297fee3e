"""Log lines to a descriptor that may block: a thread of its own writes them, and what does not fit is dropped."""

import os
import threading
from collections import deque
from collections.abc import Callable

BUFFER_BYTES_MAX = 4 * 1024 * 1024
# How long a stopping process waits for whoever reads its log.
SETTLE_SECONDS = 2.0


class LineWriter:
    """Takes text and returns at once. The thread starts with the first text; it does not keep the process alive.

    A pipe whose reader has stalled cannot be set to non-blocking instead: the flag would hold for every process that
    shares the pipe.
    """

    def __init__(
        self,
        descriptor: int,
        write: Callable[[int, bytes], int] = os.write,
        *,
        bytes_max: int = BUFFER_BYTES_MAX,
    ) -> None:
        self._descriptor = descriptor
        self._write = write
        self._bytes_max = bytes_max
        self._changed = threading.Condition()
        self._pending: deque[tuple[bytes, int]] = deque()
        self._pending_bytes = 0
        self._thread: threading.Thread | None = None
        self.dropped = 0
        """Lines that nobody will read: there was no room, or the descriptor failed."""

    def offer(self, text: bytes, lines: int) -> None:
        """Takes up whole lines, or drops them when those before them take up all the room."""
        with self._changed:
            if self._pending_bytes + len(text) > self._bytes_max:
                self.dropped += lines
                return
            self._pending.append((text, lines))
            self._pending_bytes += len(text)
            self._changed.notify_all()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="log writer", daemon=True)
                self._thread.start()

    def settle(self, seconds: float = SETTLE_SECONDS) -> bool:
        """Waits until all that was offered is written or dropped; False when it is not by then."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._pending, seconds)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._pending))
                text, lines = self._pending[0]
            written = self._put(text)
            with self._changed:
                self._pending.popleft()
                self._pending_bytes -= len(text)
                if not written:
                    self.dropped += lines
                self._changed.notify_all()

    def _put(self, text: bytes) -> bool:
        """A log that nobody reads any more (a closed pipe) is given up: serving goes on."""
        view = memoryview(text)
        try:
            while view:
                view = view[self._write(self._descriptor, view.tobytes()) :]
        except OSError:
            return False
        return True
