"""What the commands of scans, snapshots and warms share: how jobs are shown."""

from typing import Any

from hevlayer.cli.layer.output import Column, cell, count, moment, share, show_record
from hevlayer.cli.layer.session import Session, dump
from hevlayer.client import JobBase

JOB_COLUMNS = (
    Column("Job", "id"),
    Column("Status", "status"),
    Column("Progress", "progress", share, right=True),
    Column("Documents", "documents_scanned", count, right=True),
    Column("Created", "created_at"),
    Column("Completed", "completed_at"),
    Column("Error", "error"),
)


def show_job(session: Session, job: JobBase, *more: Column) -> None:
    """One job as a record."""
    show_record(
        (*JOB_COLUMNS, Column("Stable as of (UTC)", "stable_as_of", moment), *more), dump(job), as_json=session.as_json
    )


def newest_running(jobs: list[Any]) -> Any:
    """The newest job that runs, else the newest; None without any."""
    return max(jobs, key=lambda job: (job.status == "running", job.created_at), default=None)


def of_source(job: JobBase) -> str:
    """Where a job's answer came from."""
    return cell(getattr(job, "effective_source", None) or getattr(job, "source", None))
