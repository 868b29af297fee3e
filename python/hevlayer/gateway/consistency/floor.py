"""What survives an unclean stop: a lower bound of the stamps that may have been in flight.

The file is replaced whole, in a thread, at most every 200 ms while writes are in flight and every ten seconds
otherwise. It need not be current: stamps never go back, so a bound that held once holds for all later writes too.
"""

import asyncio
import itertools
import logging
import os
import threading
from dataclasses import dataclass
from pathlib import Path

import msgspec

from hevlayer.clock import Clock
from hevlayer.gateway.consistency.stamps import Stamper
from hevlayer.wire.bodies import UNREADABLE_JSON

BUSY_WRITE_SECONDS = 0.2
IDLE_WRITE_SECONDS = 10.0

log = logging.getLogger("hevlayer.consistency")


class FloorRecord(msgspec.Struct, frozen=True):
    """`floor_ms` bounds every write without a definite answer from below. `clean`: there was none, and none follows."""

    clean: bool
    floor_ms: int


@dataclass(frozen=True, slots=True)
class Recovery:
    """What a start found. `floor_ms` is None after a clean stop or on a first start."""

    floor_ms: int | None


def plan_recovery(content: bytes | None) -> Recovery:
    """What the file of an earlier process means; an unreadable one bounds nothing, so every stamp may be in flight."""
    if content is None:
        return Recovery(None)
    try:
        record = msgspec.json.decode(content, type=FloorRecord)
    except UNREADABLE_JSON:
        return Recovery(0)
    return Recovery(None if record.clean else record.floor_ms)


class FloorKeeper:
    """Keeps the file. `start` before the first write, `run` under a supervisor, `stop` after the last one.

    `slot` tells the processes apart that share a state directory; a process that takes another's place takes its slot.
    """

    def __init__(self, clock: Clock, stamper: Stamper, state_directory: Path, *, slot: int = 0) -> None:
        self._clock = clock
        self._stamper = stamper
        self._path = state_directory / f"writes-in-flight-{slot}.json"
        self._failing = False
        # A write that was under way when the loop was cancelled ends before the one of `stop` begins, and never after.
        self._lock = threading.Lock()
        self._asked = itertools.count(1)
        self._written = 0

    async def start(self) -> Recovery:
        """Reads what the last process left, counts it, and records that this process may have writes in flight.

        Raises: OSError: the state directory cannot be written.
        """
        recovery = plan_recovery(await asyncio.to_thread(self._read))
        if recovery.floor_ms is not None:
            log.warning("unclean stop: the watermark waits for old writes", extra={"floor_ms": recovery.floor_ms})
            self._stamper.recover(recovery.floor_ms)
        await self._write(self._record(clean=False), durable=True)
        return recovery

    async def run(self) -> None:
        written_at = self._clock.monotonic()
        was_writing = False
        while True:
            await self._clock.sleep(BUSY_WRITE_SECONDS)
            writing = self._stamper.writing()
            due = self._clock.monotonic() - written_at >= IDLE_WRITE_SECONDS
            if writing or was_writing or due:
                await self._store()
                written_at = self._clock.monotonic()
            was_writing = writing

    async def stop(self) -> None:
        """Records a clean stop, unless a write's outcome is still unknown."""
        clean = self._stamper.oldest_anywhere() is None
        await self._write(self._record(clean=clean), durable=True)

    async def _store(self) -> None:
        record = self._record(clean=False)
        try:
            await self._write(record, durable=False)
        except OSError as error:
            # The older, lower bound on disk still holds.
            if not self._failing:
                log.warning("cannot record writes in flight", extra={"error": str(error)})
            self._failing = True
        else:
            self._failing = False

    def _record(self, *, clean: bool) -> FloorRecord:
        now = self._stamper.now_ms()
        oldest = self._stamper.oldest_anywhere()
        return FloorRecord(clean=clean, floor_ms=now if oldest is None else min(oldest, now))

    def _read(self) -> bytes | None:
        try:
            return self._path.read_bytes()
        except FileNotFoundError:
            return None

    async def _write(self, record: FloorRecord, *, durable: bool) -> None:
        await asyncio.to_thread(self._replace, next(self._asked), record, durable=durable)

    def _replace(self, number: int, record: FloorRecord, *, durable: bool) -> None:
        with self._lock:
            if number < self._written:
                return
            self._path.parent.mkdir(parents=True, exist_ok=True)
            temporary = self._path.with_suffix(".tmp")
            with temporary.open("wb") as file:
                file.write(msgspec.json.encode(record))
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            temporary.replace(self._path)
            self._written = number
