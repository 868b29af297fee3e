"""Jobs: scans, snapshots and warms that go on when their request is answered; one table, one state machine."""

from hevlayer.gateway.jobs.record import JobKind, JobRecord, JobStatus, JobValue, rfc3339
from hevlayer.gateway.jobs.runner import Jobs, RunningJob
from hevlayer.gateway.jobs.store import JobStore, JobStoreError, JobTableFullError, MemoryJobStore

__all__ = [
    "JobKind",
    "JobRecord",
    "JobStatus",
    "JobStore",
    "JobStoreError",
    "JobTableFullError",
    "JobValue",
    "Jobs",
    "MemoryJobStore",
    "RunningJob",
    "rfc3339",
]
