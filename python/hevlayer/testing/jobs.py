"""What every store of jobs must do, as tests: give a subclass a `store` fixture that yields an empty one."""

from dataclasses import replace

from hevlayer.gateway.jobs import JobKind, JobRecord, JobStatus, JobStore

NOW_MS = 1_790_000_000_000
LEASE_MS = 60_000
TTL_MS = 3_600_000


def job(number: int, *, namespace: str = "films", scope: str = "", exclusive: str = "", at: int = 0) -> JobRecord:
    """A running job made at `NOW_MS + at`; its id is told by its number."""
    created = NOW_MS + at
    return JobRecord(
        id=f"00000000-0000-4000-8000-{number:012}",
        kind=JobKind.WARM,
        namespace=namespace,
        scope=scope,
        created_at_ms=created,
        lease_until_ms=created + LEASE_MS,
        expires_at_ms=created + TTL_MS,
        exclusive=exclusive,
        details={"text": 'é"\\', "count": 3, "share": 0.5, "flag": True, "nothing": None},
    )


class JobStoreContract:
    """The suite."""

    async def test_a_job_comes_back_as_it_was(self, store: JobStore) -> None:
        first = job(1, namespace="a/b ç", scope="00ff", exclusive="x")
        assert await store.add(first) == first
        assert await store.get(first.id) == first
        assert await store.get(job(2).id) is None

    async def test_names_that_differ_little_are_different(self, store: JobStore) -> None:
        names = ["films", "Films", "films ", "", "..", "%", "_"]
        for number, name in enumerate(names):
            await store.add(job(number, namespace=name))
        for number, name in enumerate(names):
            assert [each.id for each in await store.list_jobs(JobKind.WARM, name, "", limit=9)] == [job(number).id]

    async def test_an_exclusive_job_is_one_at_a_time(self, store: JobStore) -> None:
        first = await store.add(job(1, exclusive="warm films"))
        assert await store.add(job(2, exclusive="warm films")) == first
        assert await store.get(job(2).id) is None
        assert (await store.add(job(3, exclusive="warm other"))).id == job(3).id
        assert (await store.add(job(4))).id == job(4).id
        assert await store.save(first.ended(NOW_MS + 5, TTL_MS))
        assert (await store.add(job(2, exclusive="warm films"))).id == job(2).id

    async def test_a_job_whose_process_died_excludes_nobody(self, store: JobStore) -> None:
        await store.add(job(1, exclusive="warm films"))
        later = job(2, exclusive="warm films", at=LEASE_MS)
        assert await store.add(later) == later

    async def test_lists_are_newest_first_of_one_kind_namespace_and_scope(self, store: JobStore) -> None:
        for number, at in ((1, 10), (2, 30), (3, 20), (4, 20)):
            await store.add(job(number, at=at))
        await store.add(job(5, namespace="other"))
        await store.add(job(6, scope="ab"))
        await store.add(replace(job(7), kind=JobKind.SCAN))
        listed = await store.list_jobs(JobKind.WARM, "films", "", limit=10)
        assert [each.id for each in listed] == [job(number).id for number in (2, 4, 3, 1)]
        assert [each.id for each in await store.list_jobs(JobKind.WARM, "films", "", limit=2)] == [
            job(2).id,
            job(4).id,
        ]

    async def test_progress_is_kept_until_the_end_and_not_after_it(self, store: JobStore) -> None:
        first = await store.add(job(1))
        half = first.advanced(progress=0.5, documents_scanned=7, stable_as_of_ms=9, details={"more": 1})
        assert await store.save(half)
        assert await store.get(first.id) == half
        ended = half.ended(NOW_MS + 9, TTL_MS, "it broke")
        assert await store.save(ended)
        assert not await store.save(half)
        assert await store.get(first.id) == ended

    async def test_a_deleted_job_cannot_be_saved(self, store: JobStore) -> None:
        first = await store.add(job(1))
        assert await store.delete(first.id) == first
        assert await store.delete(first.id) is None
        assert not await store.save(first)
        assert await store.get(first.id) is None

    async def test_a_namespace_s_jobs_go_but_not_those_made_since(self, store: JobStore) -> None:
        old = [await store.add(job(1)), await store.add(job(2, scope="ab"))]
        await store.add(job(3, at=100))
        await store.add(job(4, namespace="other"))
        removed = await store.delete_namespace("films", NOW_MS + 100)
        assert sorted(each.id for each in removed) == [each.id for each in old]
        assert await store.get(old[0].id) is None
        assert await store.get(job(3).id) is not None
        assert await store.get(job(4).id) is not None

    async def test_a_sweep_fails_lost_jobs_and_removes_expired_ones(self, store: JobStore) -> None:
        lost = await store.add(job(1))
        alive = await store.add(replace(job(2), lease_until_ms=NOW_MS + 10 * LEASE_MS))
        done = (await store.add(job(3))).ended(NOW_MS, 1_000)
        await store.save(done)
        assert await store.sweep(NOW_MS + LEASE_MS, TTL_MS) == [done]
        assert await store.get(done.id) is None
        assert await store.get(alive.id) == alive
        failed = await store.get(lost.id)
        assert failed is not None
        assert (failed.status, failed.completed_at_ms) == (JobStatus.FAILED, NOW_MS + LEASE_MS)
        assert failed.error
        assert await store.sweep(NOW_MS + LEASE_MS + TTL_MS, TTL_MS) == [failed]
