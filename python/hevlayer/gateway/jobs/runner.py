"""Runs jobs: one supervised task each, bounded, with leases, a deadline, cancellation on delete and an orderly stop."""

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Protocol

from hevlayer.clock import Clock
from hevlayer.errors import LayerError, NotFoundError
from hevlayer.gateway.jobs.record import STOPPED_ERROR, JobKind, JobRecord, JobValue
from hevlayer.gateway.jobs.store import LIST_JOBS_MAX, JobStore, JobTableFullError

TTL_SECONDS = 86_400.0
JOB_SECONDS_MAX = 21_600.0
# Tasks that work at one time; the others wait, and are `running` to their callers all the same.
WORKING_MAX = 16
# Jobs of this process that have not ended.
JOBS_RUNNING_MAX = 1_000
TICK_SECONDS = 0.5
LEASE_SECONDS = 60.0
RENEW_SECONDS = 10.0
SWEEP_SECONDS = 15.0
STOP_SECONDS = 5.0
UNEXPECTED_ERROR = "the job failed unexpectedly; the log has the cause under the job's id"

log = logging.getLogger("hevlayer.jobs")

Work = Callable[["RunningJob"], Awaitable[None]]
"""Does a job's work. Returning completes it, a LayerError fails it with its message."""

Cleanup = Callable[[JobRecord], Awaitable[None]]
"""Removes what a job of one kind left elsewhere. Idempotent; may be called for a job that left nothing."""


class JobMetrics(Protocol):
    """What jobs count."""

    def observe_job(self, kind: str, status: str, seconds: float) -> None: ...


class RunningJob:
    """A job of this process. Its work reports here; reports are written to the store by the runner's ticks."""

    __slots__ = ("_saved", "_saved_at", "cancelled", "record", "task")

    def __init__(self, record: JobRecord, now: float) -> None:
        self.record = record
        self.task: asyncio.Task[None] | None = None
        self.cancelled = False
        self._saved = record
        self._saved_at = now

    @property
    def id(self) -> str:
        return self.record.id

    def report(
        self,
        *,
        progress: float = 0.0,
        documents_scanned: int = 0,
        stable_as_of_ms: int | None = None,
        **details: JobValue,
    ) -> None:
        """How far the work is. Never goes back; cheap, so it may be called for every page."""
        self.record = self.record.advanced(
            progress=progress, documents_scanned=documents_scanned, stable_as_of_ms=stable_as_of_ms, details=details
        )

    def due(self, now: float) -> bool:
        return self.record is not self._saved or now - self._saved_at >= RENEW_SECONDS

    def saved(self, record: JobRecord, now: float) -> None:
        self._saved = record
        self._saved_at = now


class Jobs:
    """Every kind's jobs. Run `run` under a supervisor; `close` at the end, after the last request."""

    def __init__(
        self,
        store: JobStore,
        clock: Clock,
        metrics: JobMetrics,
        *,
        ttl_seconds: float = TTL_SECONDS,
        job_seconds_max: float = JOB_SECONDS_MAX,
        working_max: int = WORKING_MAX,
        running_max: int = JOBS_RUNNING_MAX,
    ) -> None:
        self._store = store
        self._clock = clock
        self._metrics = metrics
        self._ttl_ms = int(ttl_seconds * 1000)
        self._job_seconds_max = job_seconds_max
        self._gate = asyncio.Semaphore(working_max)
        self._running_max = running_max
        self._local: dict[str, RunningJob] = {}
        # Ended, and the store does not know it yet.
        self._unsaved: dict[str, JobRecord] = {}
        self._cleanups: dict[JobKind, Cleanup] = {}
        self._swept_at = clock.monotonic()

    @property
    def running(self) -> int:
        """Jobs of this process that have not ended."""
        return len(self._local)

    def on_removed(self, kind: JobKind, cleanup: Cleanup) -> None:
        """Called with each job of the kind that is deleted or expires."""
        self._cleanups[kind] = cleanup

    def running_here(self, kind: JobKind, namespace: str) -> list[JobRecord]:
        """Jobs of this process that have not ended, in every scope."""
        return [
            job.record for job in self._local.values() if job.record.kind is kind and job.record.namespace == namespace
        ]

    async def start(
        self,
        kind: JobKind,
        namespace: str,
        scope: str,
        work: Work,
        *,
        details: Mapping[str, JobValue] | None = None,
        exclusive: str = "",
        stable_as_of_ms: int | None = None,
    ) -> JobRecord:
        """Makes a job and starts it; with `exclusive`, the running job that has the same text is given instead.

        Raises: JobTableFullError: too many run. JobStoreError.
        """
        if len(self._local) >= self._running_max:
            raise JobTableFullError(f"{self._running_max} jobs are running already; try again when some have ended")
        record = self._record(kind, namespace, scope, stable_as_of_ms, details or {}, exclusive)
        kept = await self._store.add(record)
        if kept.id != record.id:
            return self._latest(kept)
        job = RunningJob(record, self._clock.monotonic())
        self._local[record.id] = job
        job.task = asyncio.get_running_loop().create_task(self._run(job, work), name=f"{kind.value} job")
        return record

    async def add_completed(
        self,
        kind: JobKind,
        namespace: str,
        scope: str,
        *,
        details: Mapping[str, JobValue] | None = None,
        stable_as_of_ms: int | None = None,
    ) -> JobRecord:
        """A job that had nothing to do. Raises: as `start`."""
        record = self._record(kind, namespace, scope, stable_as_of_ms, details or {}, "")
        await self._store.add(record)
        ended = record.ended(self._clock.now_ms(), self._ttl_ms)
        await self._store.save(ended)
        return ended

    def _record(
        self,
        kind: JobKind,
        namespace: str,
        scope: str,
        stable_as_of_ms: int | None,
        details: Mapping[str, JobValue],
        exclusive: str,
    ) -> JobRecord:
        now_ms = self._clock.now_ms()
        return JobRecord(
            id=str(uuid.uuid4()),
            kind=kind,
            namespace=namespace,
            scope=scope,
            created_at_ms=now_ms,
            lease_until_ms=now_ms + int(LEASE_SECONDS * 1000),
            expires_at_ms=now_ms + int(self._job_seconds_max * 1000) + self._ttl_ms,
            stable_as_of_ms=stable_as_of_ms,
            exclusive=exclusive,
            details=dict(details),
        )

    async def get(self, kind: JobKind, namespace: str, scope: str, job_id: str) -> JobRecord:
        """Raises: NotFoundError: no such job there. JobStoreError."""
        found = await self._store.get(job_id)
        if found is None or (found.kind, found.namespace, found.scope) != (kind, namespace, scope):
            raise NotFoundError(f"no {kind.value} job '{job_id}' in namespace '{namespace}'")
        return self._latest(found)

    async def list_jobs(self, kind: JobKind, namespace: str, scope: str) -> list[JobRecord]:
        """Newest first, at most `LIST_JOBS_MAX`."""
        found = await self._store.list_jobs(kind, namespace, scope, limit=LIST_JOBS_MAX)
        return [self._latest(each) for each in found]

    async def delete(self, kind: JobKind, namespace: str, scope: str, job_id: str) -> JobRecord:
        """Cancels the job when it runs, and forgets it and its results. In another process it stops at its next tick.

        Raises: NotFoundError, JobStoreError.
        """
        found = await self.get(kind, namespace, scope, job_id)
        await self._store.delete(job_id)
        await self._cancel(job_id)
        await self._clean(found)
        return found

    async def delete_namespace(self, namespace: str, created_before_ms: int) -> None:
        """Forgets all jobs of a deleted namespace; those made since may be of a new one of the name."""
        for each in await self._store.delete_namespace(namespace, created_before_ms):
            await self._cancel(each.id)
            await self._clean(each)

    # --- the loop ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        while True:
            await self._clock.sleep(TICK_SECONDS)
            await self.tick()

    async def tick(self) -> None:
        """Writes what was reported, renews leases, and now and then removes what has expired."""
        now = self._clock.monotonic()
        for job in list(self._local.values()):
            if job.record.is_running and job.due(now):
                await self._save(job)
        for record in list(self._unsaved.values()):
            await self._save_end(record)
        if now - self._swept_at >= SWEEP_SECONDS:
            self._swept_at = now
            await self._sweep()

    async def _sweep(self) -> None:
        try:
            removed = await self._store.sweep(self._clock.now_ms(), self._ttl_ms)
        except LayerError as error:
            log.warning("cannot remove expired jobs", extra={"error": error.message})
            return
        for each in removed:
            await self._clean(each)

    async def _save(self, job: RunningJob) -> None:
        record = job.record
        renewed = _renewed(record, self._clock.now_ms())
        try:
            kept = await self._store.save(renewed)
        except LayerError as error:
            # The lease is long enough for the next ticks to succeed.
            log.warning("cannot write a job's progress", extra={"job": job.id, "error": error.message})
            return
        if not kept and job.record.is_running:
            await self._cancel(job.id)
            return
        job.saved(record, self._clock.monotonic())

    async def close(self) -> None:
        """Stops every job of this process; each fails, and says why."""
        jobs = list(self._local.values())
        tasks = [job.task for job in jobs if job.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=STOP_SECONDS)
        for job in jobs:
            # One that was cancelled before its first step has not run to its end.
            if job.record.is_running:
                await self._end(job, STOPPED_ERROR)
        self._local.clear()

    # --- one job -----------------------------------------------------------------------------------------------------

    async def _run(self, job: RunningJob, work: Work) -> None:
        started = self._clock.monotonic()
        error: str | None = STOPPED_ERROR
        try:
            async with self._gate, asyncio.timeout(self._job_seconds_max):
                await work(job)
            error = None
        except TimeoutError:
            error = f"the job was not done within {self._job_seconds_max:g} s"
        except LayerError as failure:
            error = failure.message
        except Exception:
            error = UNEXPECTED_ERROR
            log.exception("job failed", extra={"job": job.id, "kind": job.record.kind.value})
        finally:
            if not job.cancelled:
                await self._end(job, error)
            status = "cancelled" if job.cancelled else job.record.status.value
            self._metrics.observe_job(job.record.kind.value, status, self._clock.monotonic() - started)
            self._local.pop(job.id, None)

    async def _end(self, job: RunningJob, error: str | None) -> None:
        # Callers see the end from here on, also while it is being written.
        job.record = job.record.ended(self._clock.now_ms(), self._ttl_ms, error)
        if not await self._save_end(job.record):
            log.warning("cannot write a job's end yet", extra={"job": job.id, "status": job.record.status.value})
            if len(self._unsaved) < self._running_max:
                self._unsaved[job.id] = job.record

    async def _save_end(self, record: JobRecord) -> bool:
        """Whether the store knows the end, or another one: past its lease the job was lost to the others."""
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self._store.save(record)
        except (LayerError, TimeoutError):
            return False
        self._unsaved.pop(record.id, None)
        return True

    async def _cancel(self, job_id: str) -> None:
        job = self._local.pop(job_id, None)
        if job is None or job.task is None:
            return
        job.cancelled = True
        job.task.cancel()
        await asyncio.wait([job.task], timeout=STOP_SECONDS)

    async def _clean(self, job: JobRecord) -> None:
        cleanup = self._cleanups.get(job.kind)
        if cleanup is None:
            return
        try:
            await cleanup(job)
        except LayerError as error:
            log.warning("cannot remove a job's results", extra={"job": job.id, "error": error.message})

    def _latest(self, kept: JobRecord) -> JobRecord:
        """What this process knows of a job that it runs, which may be ahead of the store."""
        local = self._local.get(kept.id)
        return self._unsaved.get(kept.id, kept) if local is None else local.record


def _renewed(record: JobRecord, now_ms: int) -> JobRecord:
    return replace(record, lease_until_ms=now_ms + int(LEASE_SECONDS * 1000))
