"""Where jobs are kept: the port, and the bounded table of one process."""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Protocol

from hevlayer.errors import ServiceUnavailableError, Source
from hevlayer.gateway.jobs.record import LOST_ERROR, JobKind, JobRecord

JOBS_KEPT_MAX = 10_000
LIST_JOBS_MAX = 1_000


class JobStoreError(ServiceUnavailableError):
    """The jobs' store failed or is over its time budget."""

    source = Source.STORE


class JobTableFullError(ServiceUnavailableError):
    """As many jobs run as are allowed."""


class JobStore(Protocol):
    """Keeps job records. Records are plain data; every method is atomic for one job, and raises JobStoreError when the
    store fails.

    A durable store lets every gateway over it see the same jobs. A job runs in the process that made it; when that
    process dies its lease runs out and `sweep` fails it. It is not started again: its caller knows whether it is still
    wanted.
    """

    async def add(self, job: JobRecord) -> JobRecord:
        """Keeps a new job and gives it back; or, with `exclusive` set and a running job (lease in the future at the
        new one's `created_at_ms`) that has the same, keeps nothing and gives that one.

        Raises: JobTableFullError.
        """

    async def get(self, job_id: str) -> JobRecord | None: ...

    async def list_jobs(self, kind: JobKind, namespace: str, scope: str, *, limit: int) -> list[JobRecord]:
        """Newest first by `created_at_ms`, then by id."""

    async def save(self, job: JobRecord) -> bool:
        """Replaces what is kept of a job that still runs there, by `advanced` or `ended` of it. False, and nothing is
        changed: it was deleted, or has ended."""

    async def delete(self, job_id: str) -> JobRecord | None:
        """What was kept; None when there was none."""

    async def delete_namespace(self, namespace: str, created_before_ms: int) -> list[JobRecord]:
        """Deletes every scope's jobs of a namespace, those made at or after the moment spared."""

    async def sweep(self, now_ms: int, ttl_ms: int) -> list[JobRecord]:
        """Fails running jobs whose lease is over (`LOST_ERROR`), and removes and gives those that have expired."""


class MemoryJobStore:
    """Jobs of one process, gone with it. The oldest ended ones make room."""

    def __init__(self, *, jobs_max: int = JOBS_KEPT_MAX) -> None:
        self._jobs_max = jobs_max
        self._jobs: OrderedDict[str, JobRecord] = OrderedDict()
        # Ended jobs that had to make room, for the next sweep to tell.
        self._displaced: list[JobRecord] = []

    def __len__(self) -> int:
        return len(self._jobs)

    async def add(self, job: JobRecord) -> JobRecord:
        if job.exclusive:
            for each in self._jobs.values():
                if each.exclusive == job.exclusive and each.is_running and each.lease_until_ms > job.created_at_ms:
                    return each
        if len(self._jobs) >= self._jobs_max:
            ended = next((each for each in self._jobs.values() if not each.is_running), None)
            if ended is None:
                raise JobTableFullError(f"{self._jobs_max} jobs are running already; try again when some have ended")
            self._displaced.append(self._jobs.pop(ended.id))
        self._jobs[job.id] = job
        return job

    async def get(self, job_id: str) -> JobRecord | None:
        return self._jobs.get(job_id)

    async def list_jobs(self, kind: JobKind, namespace: str, scope: str, *, limit: int) -> list[JobRecord]:
        found = [
            each
            for each in self._jobs.values()
            if each.kind is kind and each.namespace == namespace and each.scope == scope
        ]
        found.sort(key=lambda each: (each.created_at_ms, each.id), reverse=True)
        return found[:limit]

    async def save(self, job: JobRecord) -> bool:
        kept = self._jobs.get(job.id)
        if kept is None or not kept.is_running:
            return False
        self._jobs[job.id] = job
        return True

    async def delete(self, job_id: str) -> JobRecord | None:
        return self._jobs.pop(job_id, None)

    async def delete_namespace(self, namespace: str, created_before_ms: int) -> list[JobRecord]:
        return self._remove(
            each
            for each in list(self._jobs.values())
            if each.namespace == namespace and each.created_at_ms < created_before_ms
        )

    async def sweep(self, now_ms: int, ttl_ms: int) -> list[JobRecord]:
        for each in list(self._jobs.values()):
            if each.is_running and each.lease_until_ms <= now_ms:
                self._jobs[each.id] = each.ended(now_ms, ttl_ms, LOST_ERROR)
        displaced, self._displaced = self._displaced, []
        expired = self._remove(
            each for each in list(self._jobs.values()) if not each.is_running and each.expires_at_ms <= now_ms
        )
        return displaced + expired

    def _remove(self, jobs: Iterable[JobRecord]) -> list[JobRecord]:
        removed = list(jobs)
        for each in removed:
            del self._jobs[each.id]
        return removed
