"""A job as plain data: what is stored of it, and the only ways in which it changes."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import Enum

JobValue = str | int | float | bool | None
"""What a job's details hold: values that every store keeps as they are."""

LOST_ERROR = "the process that ran the job ended before the job did"
STOPPED_ERROR = "the gateway was stopped before the job was done"


class JobKind(Enum):
    """What a job does."""

    SCAN = "scan"
    SNAPSHOT = "snapshot"
    WARM = "warm"


class JobStatus(Enum):
    """RUNNING turns into COMPLETED or FAILED, once. A deleted job is no longer there at all."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class JobRecord:
    """One job.

    Attributes:
        id: a random UUID's text; one id space for all kinds.
        scope: who may see it: `Credential.scope` as hex, empty for all who read with the gateway's own key.
        progress: a fraction in 0..1 that only grows; 1.0 exactly when completed.
        documents_scanned: rows looked at so far; only grows.
        stable_as_of_ms: the watermark that the job's result stands for, epoch milliseconds.
        lease_until_ms: while it runs, its process lives as long as this is in the future.
        expires_at_ms: when the record, and what the job left in the object store, goes.
        exclusive: at most one running job has this text; empty: no such rule.
        details: what only this kind has (mode, source, …), as the caller sees it; keys that hold None are not shown.
    """

    id: str
    kind: JobKind
    namespace: str
    scope: str
    created_at_ms: int
    lease_until_ms: int
    expires_at_ms: int
    status: JobStatus = JobStatus.RUNNING
    progress: float = 0.0
    documents_scanned: int = 0
    stable_as_of_ms: int | None = None
    completed_at_ms: int | None = None
    error: str | None = None
    exclusive: str = ""
    details: Mapping[str, JobValue] = field(default_factory=dict)

    @property
    def is_running(self) -> bool:
        return self.status is JobStatus.RUNNING

    def advanced(
        self,
        *,
        progress: float = 0.0,
        documents_scanned: int = 0,
        stable_as_of_ms: int | None = None,
        details: Mapping[str, JobValue] | None = None,
    ) -> "JobRecord":
        """Further on; what would go back, and anything after the end, is ignored."""
        if not self.is_running:
            return self
        return replace(
            self,
            progress=max(self.progress, min(1.0, progress)),
            documents_scanned=max(self.documents_scanned, documents_scanned),
            stable_as_of_ms=self.stable_as_of_ms if stable_as_of_ms is None else stable_as_of_ms,
            details={**self.details, **details} if details else self.details,
        )

    def ended(self, now_ms: int, ttl_ms: int, error: str | None = None) -> "JobRecord":
        """Completed, or failed with `error`; a job that has ended stays as it is."""
        if not self.is_running:
            return self
        return replace(
            self,
            status=JobStatus.COMPLETED if error is None else JobStatus.FAILED,
            progress=1.0 if error is None else self.progress,
            completed_at_ms=now_ms,
            expires_at_ms=now_ms + ttl_ms,
            error=error,
        )

    def as_json(self) -> dict[str, object]:
        """The job as callers see it; times are RFC 3339 in UTC."""
        told: dict[str, object] = {
            "id": self.id,
            "namespace": self.namespace,
            "status": self.status.value,
            "progress": self.progress,
            "documents_scanned": self.documents_scanned,
            "created_at": rfc3339(self.created_at_ms),
        }
        if self.stable_as_of_ms is not None:
            told["stable_as_of"] = self.stable_as_of_ms
        if self.completed_at_ms is not None:
            told["completed_at"] = rfc3339(self.completed_at_ms)
        if self.error is not None:
            told["error"] = self.error
        told.update((name, value) for name, value in self.details.items() if value is not None)
        return told


def rfc3339(epoch_ms: int) -> str:
    """`2026-05-26T10:00:00.000Z`."""
    moment = datetime.fromtimestamp(epoch_ms // 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{epoch_ms % 1000:03}Z"
