"""`layer scan`, `layer count` and `layer scans`."""

from collections.abc import Iterator, Sequence
from typing import Any

import click

from hevlayer.cli.layer.exits import DONE, REFUSED
from hevlayer.cli.layer.jobs import JOB_COLUMNS, of_source, show_job
from hevlayer.cli.layer.options import option
from hevlayer.cli.layer.output import Column, count, safe, show_json, show_rows
from hevlayer.cli.layer.selection import scan_body, selector_options
from hevlayer.cli.layer.session import (
    GatewayCommand,
    GatewayGroup,
    Session,
    dump,
    limit_option,
    limited,
    namespace_argument,
    wait_option,
)
from hevlayer.client import HevlayerError, ScanCountResponse, ScanIdsResponse, ScanJob

IDS_DEFAULT = 1_000_000
PAGE_ROWS = 10_000
PAGES_MAX = 100_000
_MODE = Column("Mode", "mode")
_VALUES = (Column("Value", "v"), Column("Documents", "n", count, right=True))


@click.command(cls=GatewayCommand)
@namespace_argument
@selector_options
@option("--values", "field", metavar="FIELD", help="Count the values of this attribute in place of listing ids.")
@option("--page-size", type=click.IntRange(1), help="Rows of one request upstream.")
@limit_option(IDS_DEFAULT)
@wait_option
@option("--detach", is_flag=True, help="Start it, print the job, and do not wait.")
@option("--keep", is_flag=True, help="Keep the scan and its result on the server.")
@click.pass_obj
def scan(
    session: Session,
    /,
    namespace: str,
    filters: Sequence[Any],
    limit: int,
    wait: float,
    detach: bool,
    keep: bool,
    **given: Any,
) -> int:
    """List the ids of a NAMESPACE that match, one a line, or count the values of an attribute.

    As JSON: a line {"id": …} for each id, or {"v": …, "n": …} for each value.
    """
    body = scan_body("values" if given["field"] else "ids", filters, given)
    job = session.client.create_scan(namespace, body)
    assert isinstance(job, ScanJob)
    if detach:
        show_job(session, job, _MODE)
        return DONE
    ended = False
    try:
        with session.progress(f"scanning {namespace}") as progress:
            job = session.client.wait_for_scan(namespace, job.id, timeout=wait, progress=progress)
        ended = True
        _show_results(session, namespace, job, limit)
    finally:
        # A scan that nobody waits for any more would work for nobody, and its result lie there until it expires.
        if not keep:
            _drop(session, namespace, job.id, loud=ended)
    if not session.as_json:
        session.note(f"{job.documents_scanned:,} documents read, from {of_source(job)}")
    return DONE


def _drop(session: Session, namespace: str, scan_id: str, *, loud: bool) -> None:
    try:
        session.client.delete_scan(namespace, scan_id)
    except HevlayerError as error:
        if loud:
            session.note(f"the scan {safe(scan_id)} is left on the server: {error.message}")


def _show_results(session: Session, namespace: str, job: ScanJob, limit: int) -> None:
    if job.mode == "values":
        show_rows(_VALUES, limited(_values(session, namespace, job.id), limit, session), as_json=session.as_json)
        return
    ids = ({"id": each} for each in session.client.iter_scan_ids(namespace, job.id))
    for item in limited(ids, limit, session):
        if session.as_json:
            show_json(item)
        else:
            click.echo(safe(item["id"]))


def _values(session: Session, namespace: str, scan_id: str) -> Iterator[dict[str, Any]]:
    offset = 0
    for _ in range(PAGES_MAX):
        page = session.client.get_scan_results(namespace, scan_id, limit=PAGE_ROWS, offset=offset)
        assert not isinstance(page, ScanIdsResponse)
        yield from (dump(each) for each in page.values)
        offset += len(page.values)
        if not page.values or offset >= page.total:
            return


@click.command("count", cls=GatewayCommand)
@namespace_argument
@selector_options
@option("--server-timeout", type=click.IntRange(1), help="Seconds after which the server gives what it has.")
@click.pass_obj
def count_(
    session: Session, /, namespace: str, filters: Sequence[Any], server_timeout: int | None, **given: Any
) -> int:
    """Count the documents of a NAMESPACE that match. Prints the number; as JSON the whole answer.

    The exit status is 1 when the server ran out of time.
    """
    body = scan_body("count", filters, {**given, "timeout_seconds": server_timeout})
    answer = session.client.create_scan(namespace, body)
    assert isinstance(answer, ScanCountResponse)
    if session.as_json:
        show_json(dump(answer))
    else:
        click.echo(answer.count)
        limits = [
            word for word, told in (("at least this", answer.bounded), ("approximate", answer.approximate)) if told
        ]
        session.note(", ".join([*limits, f"from {answer.served_by}", f"{answer.elapsed_ms} ms"]))
    if answer.timed_out:
        session.note("the server ran out of time; the number is what it had found")
        return REFUSED
    return DONE


@click.group(cls=GatewayGroup)
def scans() -> None:
    """List, watch and delete scans that were started before."""


@scans.command("list")
@namespace_argument
@click.pass_obj
def list_(session: Session, namespace: str) -> None:
    """List the scans of a NAMESPACE. As JSON: a line for each."""
    jobs = (dump(job) for job in session.client.list_scans(namespace).scans)
    show_rows((*JOB_COLUMNS, _MODE), jobs, as_json=session.as_json)


@scans.command("show")
@namespace_argument
@click.argument("scan_id")
@click.pass_obj
def show(session: Session, namespace: str, scan_id: str) -> None:
    """Show a scan of a NAMESPACE."""
    show_job(session, session.client.get_scan(namespace, scan_id), _MODE)


@scans.command("results")
@namespace_argument
@click.argument("scan_id")
@limit_option(IDS_DEFAULT)
@wait_option
@click.pass_obj
def results(session: Session, namespace: str, scan_id: str, limit: int, wait: float) -> None:
    """Wait for a scan of a NAMESPACE, then print what it found, as `layer scan` does."""
    with session.progress(f"scanning {namespace}") as progress:
        job = session.client.wait_for_scan(namespace, scan_id, timeout=wait, progress=progress)
    _show_results(session, namespace, job, limit)


@scans.command("delete")
@namespace_argument
@click.argument("scan_id")
@click.pass_obj
def delete(session: Session, namespace: str, scan_id: str) -> None:
    """Delete a scan of a NAMESPACE and its result; one that runs is cancelled."""
    answer = dump(session.client.delete_scan(namespace, scan_id))
    if session.as_json:
        show_json(answer)
    else:
        session.note(f"the scan {scan_id} is deleted")
