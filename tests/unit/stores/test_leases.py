"""Leases of one machine by file locks, and the loop that runs under a lease."""

import asyncio
import os
import signal
import subprocess
import sys
import threading

import pytest

from hevlayer.errors import ServiceUnavailableError
from hevlayer.stores.leases import RETRY_SECONDS, FileLeases, run_leased
from hevlayer.testing.clock import FakeClock

GUARD_SECONDS = 30
HOLDER = """
import asyncio, pathlib, sys
from hevlayer.stores.leases import FileLeases

async def main():
    lease = await FileLeases(pathlib.Path(sys.argv[1])).try_acquire("a/b")
    print(lease is not None, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_one_holder_at_a_time_also_within_one_process(tmp_path):
    here, there = FileLeases(tmp_path / "new"), FileLeases(tmp_path / "new")
    lease = await here.try_acquire("..")
    assert lease is not None
    assert await here.try_acquire("..") is None
    assert await there.try_acquire("..") is None
    assert await there.try_acquire("other") is not None
    await lease.release()
    await lease.release()
    assert await there.try_acquire("..") is not None
    await there.close()
    assert await here.try_acquire("..") is not None
    await here.close()


async def test_a_killed_process_leaves_its_lease(tmp_path):
    leases = FileLeases(tmp_path)
    with subprocess.Popen(  # noqa: ASYNC220 -- a test's helper
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE
    ) as holder:
        assert (await asyncio.to_thread(holder.stdout.readline)).strip() == b"True"
        assert await leases.try_acquire("a/b") is None
        os.kill(holder.pid, signal.SIGKILL)
        await asyncio.to_thread(holder.wait, GUARD_SECONDS)
    assert await leases.try_acquire("a/b") is not None
    await leases.close()


class Lease:
    def __init__(self, office):
        self.office = office
        self.gone = asyncio.Event()

    async def lost(self):
        await self.gone.wait()

    async def release(self):
        self.office.released += 1
        self.office.current = None


class Office:
    """Leases that a test gives and takes away."""

    def __init__(self):
        self.open = True
        self.failing = False
        self.current = None
        self.asked = 0
        self.released = 0

    async def try_acquire(self, name):
        self.asked += 1
        if self.failing:
            raise ServiceUnavailableError("away")
        if not self.open:
            return None
        self.current = Lease(self)
        return self.current

    async def close(self):
        pass


class Work:
    def __init__(self):
        self.started = 0
        self.running = 0
        self.ends = asyncio.Event()
        self.error = None

    async def __call__(self):
        self.started += 1
        self.running += 1
        try:
            await self.ends.wait()
        finally:
            self.running -= 1
        if self.error is not None:
            raise self.error


async def test_work_runs_only_while_the_lease_is_held():
    clock, office, work = FakeClock(), Office(), Work()
    office.open = False
    loop = asyncio.create_task(run_leased(office, "snapshots", work, clock))
    await clock.advance(3 * RETRY_SECONDS)
    assert (work.started, office.asked) == (0, 4)
    office.failing = True
    await clock.advance(2 * RETRY_SECONDS)
    office.failing, office.open = False, True
    await clock.advance(RETRY_SECONDS)
    assert work.running == 1
    office.open = False
    office.current.gone.set()
    await clock.settle()
    assert (work.running, office.released) == (0, 1)
    office.open = True
    await clock.advance(RETRY_SECONDS)
    assert (work.started, work.running) == (2, 1)
    work.ends.set()
    await asyncio.wait_for(loop, GUARD_SECONDS)
    assert office.released == 2


async def test_what_the_work_raises_is_raised_after_the_lease_is_given_back():
    office, work = Office(), Work()
    work.error = RuntimeError("broken")
    work.ends.set()
    with pytest.raises(RuntimeError, match="broken"):
        await run_leased(office, "snapshots", work, FakeClock())
    assert office.released == 1


async def test_a_cancelled_loop_stops_its_work_and_gives_the_lease_back():
    clock, office, work = FakeClock(), Office(), Work()
    loop = asyncio.create_task(run_leased(office, "snapshots", work, clock))
    await clock.settle()
    assert work.running == 1
    loop.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loop
    assert (work.running, office.released) == (0, 1)


async def test_a_lease_that_is_given_up_while_it_is_asked_for_is_free(tmp_path, monkeypatch):
    held = FileLeases(tmp_path)
    asked, go, locked = threading.Event(), threading.Event(), threading.Event()
    lock = held._lock

    def slow(name):
        asked.set()
        go.wait(30)
        try:
            return lock(name)
        finally:
            locked.set()

    monkeypatch.setattr(held, "_lock", slow)
    asking = asyncio.ensure_future(held.try_acquire("a"))
    await asyncio.to_thread(asked.wait, 30)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    go.set()
    # The thread has the lock before anyone else asks, so it must be given back.
    await asyncio.to_thread(locked.wait, 30)
    async with asyncio.timeout(30):
        while (lease := await FileLeases(tmp_path).try_acquire("a")) is None:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    await lease.release()
