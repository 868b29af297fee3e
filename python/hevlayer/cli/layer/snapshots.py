"""`layer snapshot`: the counts of attributes' values at one moment."""

from collections.abc import Sequence
from typing import Any

import click

from hevlayer.cli.layer.exits import DONE, REFUSED
from hevlayer.cli.layer.jobs import JOB_COLUMNS, show_job
from hevlayer.cli.layer.options import option
from hevlayer.cli.layer.output import Column, count, moment, plain_table, safe, show_json, show_record, show_rows
from hevlayer.cli.layer.output import show as show_table
from hevlayer.cli.layer.selection import filter_option, joined
from hevlayer.cli.layer.session import (
    GatewayGroup,
    Session,
    dump,
    namespace_argument,
    wait_option,
)

LISTED_DEFAULT = 50
LISTED_MAX = 500
VALUES_DEFAULT = 20
_LIST = (
    Column("Cut at (UTC)", "watermark_ms", moment),
    Column("Watermark", "watermark_ms", right=True),
    Column("SHA", "sha"),
    Column("Tags", "tags"),
)
_SHOW = (
    Column("Namespace", "namespace"),
    Column("SHA", "sha"),
    Column("Cut at (UTC)", "watermark_ms", moment),
    Column("Documents", "row_count", count),
)
_JOB = (Column("Field", "field"), Column("SHA", "sha"))


@click.group(cls=GatewayGroup)
def snapshot() -> None:
    """Make, list and show snapshots: how often each value of an attribute occurs."""


@snapshot.command("list")
@namespace_argument
@option("--limit", type=click.IntRange(1, LISTED_MAX), default=LISTED_DEFAULT, help="Show so many at most.")
@click.pass_obj
def list_(session: Session, namespace: str, limit: int) -> None:
    """List the snapshots of a NAMESPACE that its policy asks for, newest first. As JSON: a line for each."""
    entries = session.client.list_namespace_history(namespace, limit=limit)
    show_rows(_LIST, (dump(entry) for entry in entries), as_json=session.as_json)


@snapshot.command("jobs")
@namespace_argument
@click.pass_obj
def jobs(session: Session, namespace: str) -> None:
    """List the snapshots of a NAMESPACE that are being made, and those that were. As JSON: a line for each."""
    found = session.client.list_snapshot_jobs(namespace).snapshot_jobs
    show_rows((*JOB_COLUMNS, *_JOB), (dump(job) for job in found), as_json=session.as_json)


@snapshot.command("create")
@namespace_argument
@click.argument("field")
@filter_option
@option(
    "--source",
    type=click.Choice(("auto", "stored", "cache", "origin")),
    help="Where to count.  [default: auto]",
)
@wait_option
@option("--detach", is_flag=True, help="Start it, print the job, and do not wait.")
@click.pass_obj
def create(
    session: Session,
    namespace: str,
    field: str,
    filters: Sequence[Any],
    source: str | None,
    wait: float,
    detach: bool,
) -> None:
    """Count the values of a FIELD in a NAMESPACE. Prints the job, whose SHA names the snapshot.

    A snapshot that was asked for is not in the list; its SHA shows it.
    """
    body = {"field": field, "filters": joined(filters), "source": source}
    given = {name: value for name, value in body.items() if value is not None}
    job = session.client.create_snapshot(namespace, given)
    if not detach:
        with session.progress(f"counting {field} of {namespace}") as progress:
            job = session.client.wait_for_snapshot_job(namespace, job.id, timeout=wait, progress=progress)
    show_job(session, job, *_JOB)


@snapshot.command("show")
@namespace_argument
@click.argument("sha")
@option("--field", help="Only this attribute.")
@option("--top", type=click.IntRange(1), default=VALUES_DEFAULT, help="Show so many values of each attribute.")
@click.pass_obj
def show(session: Session, namespace: str, sha: str, field: str | None, top: int) -> int:
    """Show a snapshot of a NAMESPACE by its SHA. As JSON: the whole snapshot."""
    body = dump(session.client.get_namespace_snapshot(namespace, sha))
    if session.as_json:
        show_json(body)
        return DONE
    show_record(_SHOW, body, as_json=False)
    shown = [each for each in body["fields"] if field in (None, each["name"])]
    for each in shown:
        table = plain_table((each["name"], "Documents"), right=("Documents",))
        for value in each["values"][:top]:
            table.add_row(safe(str(value["v"])), count(value["n"]))
        show_table("")
        show_table(table)
        if len(each["values"]) > top:
            session.note(f"{each['name']}: {len(each['values']) - top:,} more values; --top shows more")
    for each in body.get("fields_skipped", []):
        session.note(f"{each['name']} is left out: {each['distinct_observed']:,} values, more than {each['cap']:,}")
    if field is not None and not shown:
        session.note(f"there is no attribute {field} in this snapshot")
        return REFUSED
    return DONE
