"""Leases: which of several processes runs a loop that should run once. Overlap stays possible, for a moment, when a
lease is lost; so whatever runs under one is idempotent or put-if-absent.
"""

import asyncio
import fcntl
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import IO, Protocol

from hevlayer.clock import Clock
from hevlayer.errors import LayerError
from hevlayer.wire.names import encode_name

RETRY_SECONDS = 5.0

log = logging.getLogger("hevlayer.leases")


class Lease(Protocol):
    """The right to run something, until it is released or lost."""

    async def lost(self) -> None:
        """Returns when another process may have the lease."""

    async def release(self) -> None:
        """Gives it back. Never raises; a lease that was lost is no more to give."""


class Leases(Protocol):
    """Leases by name."""

    async def try_acquire(self, name: str) -> Lease | None:
        """None while another holder has it, in this process or in another.

        Raises: LayerError: the store of leases cannot be asked.
        """

    async def close(self) -> None:
        """Gives everything back."""


class _FileLease:
    def __init__(self, leases: "FileLeases", name: str, file: IO[bytes]) -> None:
        self._leases = leases
        self._name = name
        self._file = file

    async def lost(self) -> None:
        # The kernel takes a file lock from nobody who lives.
        await asyncio.get_running_loop().create_future()

    async def release(self) -> None:
        self._leases.held.pop(self._name, None)
        self._file.close()


def _unlock(locking: "asyncio.Future[IO[bytes] | None]") -> None:
    if not locking.cancelled() and locking.exception() is None and (file := locking.result()) is not None:
        file.close()


class FileLeases:
    """Leases among the processes of one machine that share a directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.held: dict[str, Lease] = {}

    async def try_acquire(self, name: str) -> Lease | None:
        locking = asyncio.ensure_future(asyncio.to_thread(self._lock, name))
        try:
            file = await asyncio.shield(locking)
        except asyncio.CancelledError:
            # The thread goes on; a lock that nobody holds would keep the others out.
            locking.add_done_callback(_unlock)
            raise
        if file is None:
            return None
        lease = self.held[name] = _FileLease(self, name, file)
        return lease

    def _lock(self, name: str) -> IO[bytes] | None:
        self._directory.mkdir(parents=True, exist_ok=True)
        file = (self._directory / f"{encode_name(name)}.lock").open("ab")
        try:
            # The lock belongs to this opening of the file: another one, of this process too, does not get it.
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
        except BaseException:
            file.close()
            raise
        return file

    async def close(self) -> None:
        for lease in list(self.held.values()):
            await lease.release()


async def run_leased(leases: Leases, name: str, work: Callable[[], Awaitable[None]], clock: Clock) -> None:
    """Runs `work` while this process has the lease, and again whenever it gets it again, until `work` returns.

    Raises: what `work` raises; the lease is given back first.
    """
    away = False
    while True:
        try:
            lease = await leases.try_acquire(name)
        except (LayerError, OSError) as error:
            lease = None
            if not away:
                log.warning("a lease cannot be asked for", extra={"lease": name, "reason": str(error)})
            away = True
        else:
            away = False
        if lease is None:
            await clock.sleep(RETRY_SECONDS)
            continue
        try:
            if await _until_lost(lease, work):
                return
        finally:
            await lease.release()
        log.warning("a lease was lost, its work is stopped", extra={"lease": name})


async def _until_lost(lease: Lease, work: Callable[[], Awaitable[None]]) -> bool:
    """Whether the work came to its end."""
    working = asyncio.ensure_future(_call(work))
    losing = asyncio.ensure_future(lease.lost())
    try:
        await asyncio.wait((working, losing), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            return False
        working.result()
        return True
    finally:
        for task in (working, losing):
            task.cancel()
        await asyncio.gather(working, losing, return_exceptions=True)


async def _call(work: Callable[[], Awaitable[None]]) -> None:
    await work()
