"""Leases on a real server: one holder at a time, and another when a session dies, however it dies."""

import asyncio
import contextlib

import asyncpg
import pytest

from hevlayer.clock import SystemClock
from hevlayer.stores.leases import run_leased
from hevlayer.stores.postgres.database import DatabaseError
from hevlayer.stores.postgres.leases import PostgresLeases, lock_key

# Guards against a test that hangs; nothing is asserted about it.
GUARD_SECONDS = 60
BEAT_SECONDS = 0.05
ANSWER_SECONDS = 0.5


@pytest.fixture
async def open_leases(open_database):
    """Makes the leases of another process each time."""
    opened, beating = [], []

    async def make(**options) -> PostgresLeases:
        database = await open_database(connect_seconds=5.0, query_seconds=5.0)
        leases = PostgresLeases(
            database, SystemClock(), **{"beat_seconds": BEAT_SECONDS, "answer_seconds": ANSWER_SECONDS, **options}
        )
        opened.append(leases)
        beating.append(asyncio.create_task(leases.run()))
        return leases

    yield make
    for task in beating:
        task.cancel()
    await asyncio.gather(*beating, return_exceptions=True)
    for leases in opened:
        await leases.close()


async def acquire(leases: PostgresLeases, name: str):
    """Asks again and again, also while the server is away."""
    async with asyncio.timeout(GUARD_SECONDS):
        while True:
            with contextlib.suppress(DatabaseError):
                lease = await leases.try_acquire(name)
                if lease is not None:
                    return lease
            await asyncio.sleep(0.02)


async def test_one_process_has_a_lease_until_it_gives_it_back(open_leases):
    here, there = await open_leases(), await open_leases()
    lease = await here.try_acquire("snapshots")
    assert lease is not None
    assert await there.try_acquire("snapshots") is None
    assert await here.try_acquire("snapshots") is None
    assert await there.try_acquire("retention") is not None
    await lease.release()
    await lease.release()
    again = await there.try_acquire("snapshots")
    assert again is not None
    assert await here.try_acquire("snapshots") is None


async def test_of_many_that_ask_at_once_one_gets_it(open_leases):
    processes = [await open_leases() for _ in range(4)]
    got = await asyncio.gather(*(leases.try_acquire("snapshots") for leases in processes * 5))
    assert sum(lease is not None for lease in got) == 1


async def test_a_process_that_ends_leaves_its_leases(open_leases):
    here, there = await open_leases(), await open_leases()
    await acquire(here, "snapshots")
    await here.close()
    await acquire(there, "snapshots")


async def test_a_session_ended_by_the_server_is_a_lost_lease(open_leases, url):
    here, there = await open_leases(), await open_leases()
    lease = await acquire(here, "snapshots")
    administrator = await asyncpg.connect(url)
    await administrator.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE application_name = 'hevlayer leases' AND datname = current_database()"
    )
    await administrator.close()
    await asyncio.wait_for(lease.lost(), GUARD_SECONDS)
    await lease.release()
    await acquire(there, "snapshots")
    assert await here.try_acquire("snapshots") is None


async def test_a_killed_server_loses_the_lease_and_gives_one_when_it_is_back(server, open_leases):
    here, there = await open_leases(), await open_leases()
    lease = await acquire(here, "snapshots")
    server.kill()
    await asyncio.wait_for(lease.lost(), GUARD_SECONDS)
    await acquire(there, "snapshots")
    assert await here.try_acquire("snapshots") is None


async def test_a_frozen_server_loses_the_lease_for_its_holder(server, open_leases):
    here = await open_leases()
    lease = await acquire(here, "snapshots")
    frozen = server.freeze()
    try:
        # Whether the session lives over there is not known, so the holder may not count on it.
        await asyncio.wait_for(lease.lost(), GUARD_SECONDS)
    finally:
        server.thaw(frozen)
    await acquire(here, "snapshots")


async def test_a_request_that_was_cancelled_holds_nothing(server, open_leases):
    here, there = await open_leases(answer_seconds=30.0), await open_leases()
    await acquire(here, "other")
    frozen = server.freeze()
    try:
        asking = asyncio.create_task(here.try_acquire("snapshots"))
        await asyncio.sleep(0.1)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
    finally:
        server.thaw(frozen)
    await acquire(there, "snapshots")


async def test_the_work_under_a_lease_moves_to_another_process(server, open_leases):
    names = ("here", "there")
    running: set[str] = set()
    started = asyncio.Queue()
    clock = Quick()

    async def work_of(name: str) -> None:
        running.add(name)
        started.put_nowait(name)
        try:
            await asyncio.Event().wait()
        finally:
            running.discard(name)

    loops = {}
    for name in names:
        leases = await open_leases()
        loops[name] = asyncio.create_task(run_leased(leases, "snapshots", lambda name=name: work_of(name), clock))
    async with asyncio.timeout(GUARD_SECONDS):
        first = await started.get()
        assert running == {first}
        loops[first].cancel()
        with pytest.raises(asyncio.CancelledError):
            await loops[first]
        second = await started.get()
        assert second != first
        assert running == {second}
        server.kill()
        assert await started.get() == second
    loops[second].cancel()
    await asyncio.gather(*loops.values(), return_exceptions=True)
    assert running == set()


class Quick(SystemClock):
    """The pauses of a test are short."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(min(seconds, 0.02))


def test_names_have_different_locks_and_always_the_same():
    assert lock_key("snapshots") == lock_key("snapshots")
    assert len({lock_key(f"retention {number}") for number in range(1_000)}) == 1_000
    assert all(-(2**63) <= lock_key(str(number)) < 2**63 for number in range(1_000))
