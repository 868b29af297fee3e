"""`layer warm`: every row of a namespace into the document cache."""

import click

from hevlayer.cli.layer.exits import DONE, REFUSED
from hevlayer.cli.layer.jobs import JOB_COLUMNS, newest_running, show_job
from hevlayer.cli.layer.options import option
from hevlayer.cli.layer.output import show_json, show_rows
from hevlayer.cli.layer.session import GatewayGroup, Session, dump, namespace_argument, wait_option


@click.group(cls=GatewayGroup)
def warm() -> None:
    """Warm the document cache, watch that, and cancel it."""


@warm.command("start")
@namespace_argument
@option("--page-size", type=click.IntRange(1), help="Rows of one request upstream.")
@wait_option
@option("--detach", is_flag=True, help="Start it, print the job, and do not wait.")
@click.pass_obj
def start(session: Session, namespace: str, page_size: int | None, wait: float, detach: bool) -> None:
    """Warm a NAMESPACE and wait for the end. An interruption leaves it running; `layer warm cancel` ends it."""
    job = session.client.warm_cache(namespace, page_size=page_size)
    if not detach:
        with session.progress(f"warming {namespace}") as progress:
            job = session.client.wait_for_warm_job(namespace, job.id, timeout=wait, progress=progress)
    show_job(session, job)


@warm.command("list")
@namespace_argument
@click.pass_obj
def list_(session: Session, namespace: str) -> None:
    """List the warms of a NAMESPACE. As JSON: a line for each."""
    jobs = session.client.list_warm_jobs(namespace).warm_jobs
    show_rows(JOB_COLUMNS, (dump(job) for job in jobs), as_json=session.as_json)


@warm.command("watch")
@namespace_argument
@click.argument("job_id", required=False)
@wait_option
@click.pass_obj
def watch(session: Session, namespace: str, job_id: str | None, wait: float) -> int:
    """Wait for a warm of a NAMESPACE; without JOB_ID for the one that runs, else show the last."""
    if job_id is None:
        job = newest_running(session.client.list_warm_jobs(namespace).warm_jobs)
        if job is None:
            session.note(f"{namespace} has no warm")
            return REFUSED
        job_id = job.id
    with session.progress(f"warming {namespace}") as progress:
        ended = session.client.wait_for_warm_job(namespace, job_id, timeout=wait, progress=progress)
    show_job(session, ended)
    return DONE


@warm.command("cancel")
@namespace_argument
@click.argument("job_id", required=False)
@click.pass_obj
def cancel(session: Session, namespace: str, job_id: str | None) -> int:
    """Cancel a warm of a NAMESPACE; without JOB_ID the one that runs. Rows in the cache stay there."""
    if job_id is None:
        job = newest_running(session.client.list_warm_jobs(namespace).warm_jobs)
        if job is None or job.status != "running":
            session.note(f"no warm of {namespace} runs")
            return REFUSED
        job_id = job.id
    answer = dump(session.client.delete_warm_job(namespace, job_id))
    if session.as_json:
        show_json(answer)
    else:
        session.note(f"the warm {job_id} is cancelled")
    return DONE
