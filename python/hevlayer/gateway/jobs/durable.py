"""Jobs in PostgreSQL: every gateway over it sees the same ones, and they outlive the gateway that ran them."""

import contextlib
import hashlib
import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import asyncpg

from hevlayer.gateway.jobs.record import LOST_ERROR, JobKind, JobRecord, JobStatus
from hevlayer.gateway.jobs.store import JobStoreError
from hevlayer.stores.postgres.database import Database, DatabaseError
from hevlayer.stores.postgres.queries import load_queries
from hevlayer.wire.names import decode_name, encode_name

if TYPE_CHECKING:
    from hevlayer.stores.postgres.database import Pooled

JOBS_KEPT_MAX = 100_000
# Jobs that one sweep ends, and that it removes; the next sweep goes on.
SWEPT_MAX = 1_000
_SQL = load_queries("jobs.sql")


class PostgresJobStore:
    """The table `hevlayer.jobs`. Texts are kept in ASCII: PostgreSQL takes neither NUL nor lone surrogates."""

    def __init__(self, database: Database, *, jobs_max: int = JOBS_KEPT_MAX) -> None:
        """`jobs_max`: ended jobs that are kept; those next to expire make room at a sweep."""
        self._database = database
        self._jobs_max = jobs_max

    async def add(self, job: JobRecord) -> JobRecord:
        async def work(connection: "Pooled") -> JobRecord:
            async with connection.transaction():
                if job.exclusive:
                    await connection.execute(_SQL["lock_exclusive"].sql, _lock_key(job.exclusive))
                    query = _SQL["running_exclusive"]
                    values = {"exclusive": encode_name(job.exclusive), "now_ms": job.created_at_ms}
                    found = await connection.fetchrow(query.sql, *query.arguments(values))
                    if found is not None:
                        return _record(found)
                query = _SQL["add"]
                await connection.execute(query.sql, *query.arguments(_row(job)))
            return job

        async with _told():
            return await self._database.use(work)

    async def get(self, job_id: str) -> JobRecord | None:
        return _first(await self._fetch("get", id=encode_name(job_id)))

    async def list_jobs(self, kind: JobKind, namespace: str, scope: str, *, limit: int) -> list[JobRecord]:
        return await self._fetch("list", kind=kind.value, namespace=encode_name(namespace), scope=scope, limit=limit)

    async def save(self, job: JobRecord) -> bool:
        query = _SQL["save"]
        row = _row(job)
        values = {name: row[name] for name in query.parameters}
        async with _told():
            return bool(await self._database.fetch(query, **values))

    async def delete(self, job_id: str) -> JobRecord | None:
        return _first(await self._fetch("delete", id=encode_name(job_id)))

    async def delete_namespace(self, namespace: str, created_before_ms: int) -> list[JobRecord]:
        return await self._fetch(
            "delete_namespace", namespace=encode_name(namespace), created_before_ms=created_before_ms
        )

    async def sweep(self, now_ms: int, ttl_ms: int) -> list[JobRecord]:
        async with _told():
            await self._database.fetch(
                _SQL["fail_lost"], now_ms=now_ms, ttl_ms=ttl_ms, error=_quoted(LOST_ERROR), limit=SWEPT_MAX
            )
        return await self._fetch("remove_expired", now_ms=now_ms, kept_max=self._jobs_max, limit=SWEPT_MAX)

    async def _fetch(self, name: str, **values: object) -> list[JobRecord]:
        async with _told():
            return [_record(row) for row in await self._database.fetch(_SQL[name], **values)]


@contextlib.asynccontextmanager
async def _told() -> AsyncIterator[None]:
    """Whatever goes wrong in the database is the job store's failure."""
    try:
        yield
    except DatabaseError as error:
        raise JobStoreError(f"the jobs' store is away: {error.message}") from error
    except asyncpg.PostgresError as error:
        raise JobStoreError("the jobs' store refused a statement") from error


def _row(job: JobRecord) -> dict[str, object]:
    return {
        "id": encode_name(job.id),
        "kind": job.kind.value,
        "namespace": encode_name(job.namespace),
        "scope": job.scope,
        "status": job.status.value,
        "exclusive": encode_name(job.exclusive) if job.exclusive else "",
        "created_at_ms": job.created_at_ms,
        "lease_until_ms": job.lease_until_ms,
        "expires_at_ms": job.expires_at_ms,
        "completed_at_ms": job.completed_at_ms,
        "progress": job.progress,
        "documents_scanned": job.documents_scanned,
        "stable_as_of_ms": job.stable_as_of_ms,
        "error": None if job.error is None else _quoted(job.error),
        "details": _quoted(dict(job.details)),
    }


def _record(row: asyncpg.Record) -> JobRecord:
    values = dict(row)
    return JobRecord(
        **{
            **values,
            "id": decode_name(values["id"]),
            "kind": JobKind(values["kind"]),
            "namespace": decode_name(values["namespace"]),
            "status": JobStatus(values["status"]),
            "exclusive": decode_name(values["exclusive"]) if values["exclusive"] else "",
            "error": None if values["error"] is None else json.loads(values["error"]),
            "details": json.loads(values["details"]),
        }
    )


def _first(jobs: list[JobRecord]) -> JobRecord | None:
    return jobs[0] if jobs else None


def _quoted(value: object) -> str:
    # In ASCII, whatever the text holds.
    return json.dumps(value, ensure_ascii=True)


def _lock_key(exclusive: str) -> int:
    """The text's number among the database's advisory locks, a signed 64-bit integer."""
    digest = hashlib.blake2b(exclusive.encode("utf-8", "surrogatepass"), digest_size=8, person=b"hevlayer-job")
    return int.from_bytes(digest.digest(), "big", signed=True)
