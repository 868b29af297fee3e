"""The table of one process is a store of jobs, and bounded."""

import pytest

from hevlayer.gateway.jobs import JobTableFullError, MemoryJobStore
from hevlayer.testing.jobs import LEASE_MS, NOW_MS, TTL_MS, JobStoreContract, job


class TestMemoryJobStore(JobStoreContract):
    @pytest.fixture
    def store(self):
        return MemoryJobStore()


async def test_the_oldest_ended_jobs_make_room_and_are_told_to_the_sweep():
    store = MemoryJobStore(jobs_max=3)
    for number in range(3):
        await store.add(job(number))
    with pytest.raises(JobTableFullError, match="3 jobs"):
        await store.add(job(3))
    ended = job(1).ended(NOW_MS, TTL_MS)
    await store.save(ended)
    await store.add(job(3))
    assert len(store) == 3
    assert await store.get(ended.id) is None
    assert await store.sweep(NOW_MS + LEASE_MS - 1, TTL_MS) == [ended]
    assert await store.sweep(NOW_MS + LEASE_MS - 1, TTL_MS) == []
