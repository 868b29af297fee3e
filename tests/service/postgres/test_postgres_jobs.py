"""Jobs in a real PostgreSQL: the port's suite, several gateways at once, a gateway and a server that die."""

import asyncio
from dataclasses import replace

import pytest

from hevlayer.clock import SystemClock
from hevlayer.gateway.jobs import JobKind, Jobs, JobStatus, JobStoreError
from hevlayer.gateway.jobs.durable import PostgresJobStore
from hevlayer.testing.jobs import LEASE_MS, NOW_MS, TTL_MS, JobStoreContract, job

# Guards against a test that hangs; nothing is asserted about it.
GUARD_SECONDS = 60


class TestPostgresJobStore(JobStoreContract):
    @pytest.fixture
    async def store(self, database):
        return PostgresJobStore(database)


@pytest.fixture
async def gateways(open_database):
    """The stores of three gateways over one database."""
    return [PostgresJobStore(await open_database()) for _ in range(3)]


async def test_a_job_of_one_gateway_is_seen_changed_and_deleted_by_another(gateways):
    here, there, _ = gateways
    first = await here.add(job(1))
    assert await there.list_jobs(JobKind.WARM, "films", "", limit=5) == [first]
    assert await here.save(first.advanced(progress=0.25))
    assert (await there.get(first.id)).progress == 0.25
    await there.delete(first.id)
    assert not await here.save(first.advanced(progress=0.5))


async def test_of_exclusive_jobs_added_at_once_by_several_gateways_one_runs(gateways):
    kept = await asyncio.gather(
        *(gateways[number % 3].add(job(number, exclusive="warm films")) for number in range(30))
    )
    assert len({each.id for each in kept}) == 1
    assert len(await gateways[0].list_jobs(JobKind.WARM, "films", "", limit=99)) == 1


async def test_sweeps_at_once_tell_each_expired_job_to_one_gateway(gateways):
    ended = []
    for number in range(40):
        added = await gateways[0].add(job(number))
        ended.append(added.ended(NOW_MS, 10))
        await gateways[0].save(ended[-1])
    removed = await asyncio.gather(*(store.sweep(NOW_MS + 10, TTL_MS) for store in gateways * 3))
    told = [each.id for part in removed for each in part]
    # A sweep leaves alone what another holds, so the last word is the next sweep's.
    told += [each.id for each in await gateways[0].sweep(NOW_MS + 10, TTL_MS)]
    assert sorted(told) == [each.id for each in ended]


async def test_the_ended_jobs_next_to_expire_make_room(database):
    store = PostgresJobStore(database, jobs_max=2)
    for number in range(5):
        added = await store.add(job(number))
        if number != 1:
            await store.save(added.ended(NOW_MS + number, TTL_MS))
    assert [each.id for each in await store.sweep(NOW_MS + 10, TTL_MS)] == [job(0).id, job(2).id]
    left = await store.list_jobs(JobKind.WARM, "films", "", limit=9)
    assert sorted(each.id for each in left) == [job(number).id for number in (1, 3, 4)]


@pytest.mark.parametrize("text", ["a\0b", "\ud800", "日本", "'; DROP TABLE hevlayer.jobs; --", "x" * 100_000])
async def test_any_text_is_kept(database, text):
    store = PostgresJobStore(database)
    first = replace(job(1, namespace=text[:600], exclusive=text), details={"text": text})
    assert await store.add(first) == first
    failed = first.ended(NOW_MS, TTL_MS, text)
    await store.save(failed)
    assert await store.get(first.id) == failed
    assert await store.get(text) is None
    assert await store.list_jobs(JobKind.WARM, text[:600], "", limit=9) == [failed]


async def test_a_gateway_that_dies_leaves_a_job_that_another_ends(gateways):
    _, there, third = gateways
    lost = await there.add(job(1, exclusive="warm films"))
    assert await third.sweep(NOW_MS + LEASE_MS - 1, TTL_MS) == []
    assert (await third.get(lost.id)).status is JobStatus.RUNNING
    await third.sweep(NOW_MS + LEASE_MS, TTL_MS)
    assert (await third.get(lost.id)).status is JobStatus.FAILED
    # The process was frozen and not dead: it learns at its next word that the job is over.
    assert not await there.save(lost.advanced(progress=0.9))
    assert (await third.get(lost.id)).progress == 0.0


async def get_for_ever(store: PostgresJobStore, job_id: str) -> None:
    while True:
        await store.get(job_id)


async def test_jobs_outlive_a_killed_server(server, database):
    store = PostgresJobStore(database)
    first = await store.add(job(1))
    server.kill()
    async with asyncio.timeout(GUARD_SECONDS):
        with pytest.raises(JobStoreError, match="away"):
            await get_for_ever(store, first.id)
        while True:
            try:
                assert await store.get(first.id) == first
            except JobStoreError:
                await asyncio.sleep(0.02)
            else:
                return


async def test_a_frozen_server_is_the_store_s_error_within_the_deadline(server, open_database):
    store = PostgresJobStore(await open_database(query_seconds=0.3, connect_seconds=0.3))
    first = await store.add(job(1))
    frozen = server.freeze()
    try:
        async with asyncio.timeout(GUARD_SECONDS):
            for call in (
                store.add(job(2, exclusive="x")),
                store.get(first.id),
                store.list_jobs(JobKind.WARM, "films", "", limit=1),
                store.save(first),
                store.delete(first.id),
                store.delete_namespace("films", NOW_MS),
                store.sweep(NOW_MS, TTL_MS),
            ):
                with pytest.raises(JobStoreError):
                    await call
    finally:
        server.thaw(frozen)


class Counted:
    def observe_job(self, kind: str, status: str, seconds: float) -> None:
        pass


async def test_deleting_through_another_gateway_stops_the_job(gateways):
    here = Jobs(gateways[0], SystemClock(), Counted())
    there = Jobs(gateways[1], SystemClock(), Counted())
    stopped = asyncio.Event()

    async def work(_running) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    started = await here.start(JobKind.WARM, "films", "", work)
    assert [each.id for each in await there.list_jobs(JobKind.WARM, "films", "")] == [started.id]
    await asyncio.sleep(0)
    await there.delete(JobKind.WARM, "films", "", started.id)
    here._local[started.id].report(progress=0.5)
    async with asyncio.timeout(GUARD_SECONDS):
        await here.tick()
        await stopped.wait()
    assert here.running == 0
    await here.close()
