"""Running jobs: what callers see, deletion, the bound, leases, and the stop."""

import asyncio

import pytest

from hevlayer.errors import NotFoundError, UpstreamError
from hevlayer.gateway.jobs import JobKind, Jobs, JobStatus, JobStoreError, JobTableFullError, MemoryJobStore
from hevlayer.gateway.jobs.runner import LEASE_SECONDS, RENEW_SECONDS, SWEEP_SECONDS, TICK_SECONDS
from hevlayer.testing.clock import FakeClock

KEY = (JobKind.WARM, "films", "")


class Counted:
    def __init__(self):
        self.jobs = []

    def observe_job(self, kind, status, seconds):
        self.jobs.append((kind, status))


class House:
    def __init__(self, **limits):
        self.clock = FakeClock()
        self.store = MemoryJobStore()
        self.metrics = Counted()
        self.jobs = Jobs(self.store, self.clock, self.metrics, **limits)
        self.cleaned = []
        self.jobs.on_removed(JobKind.WARM, self.clean)
        self.go_on = asyncio.Event()

    async def clean(self, job):
        self.cleaned.append(job.id)

    async def wait(self, job):
        await self.go_on.wait()

    async def start(self, work=None, **options):
        return await self.jobs.start(*KEY, work or self.wait, **options)

    async def get(self, job_id):
        return await self.jobs.get(*KEY, job_id)


@pytest.fixture
async def house():
    made = House(job_seconds_max=30.0)
    yield made
    await made.jobs.close()


async def test_a_job_runs_and_reports(house):
    async def work(job):
        job.report(progress=0.5, documents_scanned=10, mode="ids")
        await house.go_on.wait()
        job.report(stable_as_of_ms=77)

    started = await house.start(work, details={"source": "origin"})
    assert (started.status, started.progress) == (JobStatus.RUNNING, 0.0)
    await house.clock.settle()
    seen = await house.get(started.id)
    assert (seen.progress, seen.documents_scanned, seen.details) == (0.5, 10, {"source": "origin", "mode": "ids"})
    assert [each.progress for each in await house.jobs.list_jobs(*KEY)] == [0.5]
    house.go_on.set()
    await house.clock.settle()
    done = await house.get(started.id)
    assert (done.status, done.progress, done.stable_as_of_ms) == (JobStatus.COMPLETED, 1.0, 77)
    assert house.metrics.jobs == [("warm", "completed")]
    assert house.jobs.running == 0


@pytest.mark.parametrize(
    ("failure", "text"),
    [(UpstreamError("the upstream cannot be reached"), "the upstream cannot be reached"), (KeyError("secret"), "log")],
)
async def test_a_job_that_fails_says_why(house, failure, text):
    async def work(job):
        raise failure

    started = await house.start(work)
    await house.clock.settle()
    failed = await house.get(started.id)
    assert failed.status is JobStatus.FAILED
    assert text in failed.error
    assert "secret" not in failed.error


async def test_another_namespace_scope_or_kind_does_not_see_it(house):
    started = await house.start()
    for other in ((JobKind.WARM, "other", ""), (JobKind.WARM, "films", "ab"), (JobKind.SCAN, "films", "")):
        with pytest.raises(NotFoundError):
            await house.jobs.get(*other, started.id)
        with pytest.raises(NotFoundError):
            await house.jobs.delete(*other, started.id)
    assert (await house.get(started.id)).is_running


async def test_a_deleted_job_stops_and_its_results_go(house):
    stopped = asyncio.Event()

    async def work(job):
        try:
            await house.go_on.wait()
        finally:
            stopped.set()

    started = await house.start(work)
    await house.clock.settle()
    await house.jobs.delete(*KEY, started.id)
    assert stopped.is_set()
    assert house.cleaned == [started.id]
    assert house.jobs.running == 0
    assert house.metrics.jobs == [("warm", "cancelled")]
    with pytest.raises(NotFoundError):
        await house.get(started.id)


async def test_a_job_deleted_by_another_process_stops_at_the_next_tick(house):
    started = await house.start()
    await house.clock.settle()
    await house.store.delete(started.id)
    await house.clock.advance(RENEW_SECONDS)
    await house.jobs.tick()
    assert house.jobs.running == 0


async def test_an_exclusive_job_is_given_again(house):
    first = await house.start(exclusive="warm films")
    await house.clock.settle()
    assert (await house.start(exclusive="warm films")).id == first.id
    assert house.jobs.running == 1


async def test_jobs_wait_in_line_and_are_bounded():
    house = House(working_max=1, running_max=2)
    began = []

    def work(name):
        async def run(job):
            began.append(name)
            await house.go_on.wait()

        return run

    await house.start(work("first"))
    await house.start(work("second"))
    with pytest.raises(JobTableFullError, match="2 jobs"):
        await house.start(work("third"))
    await house.clock.settle()
    assert began == ["first"]
    house.go_on.set()
    await house.clock.settle()
    assert began == ["first", "second"]
    await house.jobs.close()


async def test_leases_are_renewed_while_a_job_says_nothing(house):
    started = await house.start()
    for _ in range(int(3 * LEASE_SECONDS / TICK_SECONDS)):
        await house.clock.advance(TICK_SECONDS)
        await house.jobs.tick()
    assert (await house.store.get(started.id)).is_running


async def test_a_store_that_fails_for_a_while_costs_no_job(house, monkeypatch):
    started = await house.start()
    save = house.store.save

    async def broken(job):
        raise JobStoreError("down")

    monkeypatch.setattr(house.store, "save", broken)
    await house.clock.advance(RENEW_SECONDS)
    await house.jobs.tick()
    assert (await house.get(started.id)).is_running
    monkeypatch.setattr(house.store, "save", save)
    house.go_on.set()
    await house.clock.settle()
    assert (await house.get(started.id)).status is JobStatus.COMPLETED


async def test_a_store_that_is_away_at_a_job_s_end_is_told_later(house, monkeypatch):
    save, sweep = house.store.save, house.store.sweep

    async def fail(*_):
        raise JobStoreError("away")

    ticking = asyncio.create_task(house.jobs.run())
    started = await house.start()
    monkeypatch.setattr(house.store, "save", fail)
    monkeypatch.setattr(house.store, "sweep", fail)
    house.go_on.set()
    await house.clock.advance(SWEEP_SECONDS + 2 * TICK_SECONDS)
    assert house.store._jobs[started.id].status is JobStatus.RUNNING
    assert (await house.get(started.id)).status is JobStatus.COMPLETED
    assert (await house.jobs.list_jobs(*KEY))[0].status is JobStatus.COMPLETED
    monkeypatch.setattr(house.store, "save", save)
    monkeypatch.setattr(house.store, "sweep", sweep)
    await house.clock.advance(TICK_SECONDS)
    assert house.store._jobs[started.id].status is JobStatus.COMPLETED
    assert not ticking.done()
    ticking.cancel()


async def test_expired_jobs_and_their_results_go():
    house = House(ttl_seconds=5.0)
    house.go_on.set()
    started = await house.start()
    await house.clock.settle()
    await house.clock.advance(SWEEP_SECONDS)
    await house.jobs.tick()
    assert house.cleaned == [started.id]
    with pytest.raises(NotFoundError):
        await house.get(started.id)


async def test_a_deleted_namespace_s_jobs_go(house):
    started = await house.start()
    await house.clock.settle()
    house.clock.move(1.0)
    later = await house.start()
    await house.jobs.delete_namespace("films", house.clock.now_ms())
    assert house.cleaned == [started.id]
    assert [each.id for each in await house.jobs.list_jobs(*KEY)] == [later.id]


@pytest.mark.parametrize("settled", [True, False])
async def test_at_the_stop_every_job_fails_and_says_why(house, settled):
    started = await house.start()
    if settled:
        await house.clock.settle()
    await house.jobs.close()
    stopped = await house.store.get(started.id)
    assert (stopped.status, stopped.error) == (JobStatus.FAILED, "the gateway was stopped before the job was done")


async def test_a_job_has_a_deadline():
    house = House(job_seconds_max=0.01)
    started = await house.start()
    async with asyncio.timeout(10):
        while house.jobs.running:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    failed = await house.get(started.id)
    assert (failed.status, failed.error) == (JobStatus.FAILED, "the job was not done within 0.01 s")
