"""`layer namespaces`: list, show, delete."""

import sys
from typing import Any

import click

from hevlayer.cli.layer.exits import INTERRUPTED
from hevlayer.cli.layer.options import option
from hevlayer.cli.layer.output import (
    Column,
    cell,
    count,
    moment,
    plain_table,
    safe,
    show,
    show_json,
    show_record,
    show_rows,
    size,
)
from hevlayer.cli.layer.session import GatewayGroup, Session, dump, limit_option, limited, namespace_argument

LISTED_DEFAULT = 1000
_LIST = (
    Column("Namespace", "name"),
    Column("Rows", "row_count", count, right=True),
    Column("Size", "size_bytes", size, right=True),
    Column("Index", "index.status"),
    Column("Cache", "cache_state.state"),
    Column("Stable as of (UTC)", "stable_as_of_ms", moment),
    Column("Last write (UTC)", "last_write_ms", moment),
)
_SHOW = (
    Column("Namespace", "id"),
    Column("Rows, about", "approx_row_count", count),
    Column("Size, about", "approx_logical_bytes", size),
    Column("Created", "created_at"),
    Column("Last write", "last_write_at"),
    Column("Index", "index.status"),
    Column("Not indexed", "index.unindexed_bytes", size),
    Column("Stable", "layer.is_stable"),
    Column("Stable as of (UTC)", "layer.stable_as_of", moment),
    Column("Cache", "layer.cache_state.state"),
    Column("Shards", "layer.shard_count"),
    Column("Shard state", "layer.shard_state"),
)


@click.group(cls=GatewayGroup)
def namespaces() -> None:
    """List, show and delete namespaces."""


@namespaces.command("list")
@option("--prefix", default=None, help="Only names that begin so.")
@limit_option(LISTED_DEFAULT)
@click.pass_obj
def list_(session: Session, prefix: str | None, limit: int) -> None:
    """List namespaces with their rows, index and cache. As JSON: a line for each."""
    pages = (dump(each) for each in session.client.iter_namespaces(prefix=prefix))
    show_rows(_LIST, limited(pages, limit, session), as_json=session.as_json)


@namespaces.command("show")
@namespace_argument
@click.pass_obj
def show_(session: Session, namespace: str) -> None:
    """Show a NAMESPACE: its size, its index, what the gateway knows of it, and its schema."""
    metadata = dump(session.client.get_namespace_metadata(namespace))
    if session.as_json:
        show_json(metadata)
        return
    show_record(_SHOW, metadata, as_json=False)
    table = plain_table(("Attribute", "Type", "Options"))
    for name, attribute in metadata.get("schema", {}).items():
        table.add_row(safe(name), *_attribute(attribute))
    show("")
    show(table)


def _attribute(attribute: Any) -> tuple[str, str]:
    """The type, and what is set besides it."""
    if not isinstance(attribute, dict):
        return cell(attribute), ""
    told = {key: value for key, value in attribute.items() if key != "type" and value not in (None, False)}
    texts = (key if value is True else f"{key} {cell(value)}" for key, value in told.items())
    return cell(attribute.get("type")), ", ".join(safe(text) for text in texts)


@namespaces.command("delete")
@namespace_argument
@option("--yes", "-y", is_flag=True, help="Do not ask.")
@option("--purge-history", is_flag=True, help="Delete the record of its searches too.")
@click.pass_obj
def delete(session: Session, namespace: str, yes: bool, purge_history: bool) -> int:
    """Delete a NAMESPACE with all its documents, after a question."""
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("there is no terminal to ask at; --yes deletes without a question")
        metadata = session.client.get_namespace_metadata(namespace)
        question = f"Delete {safe(namespace)} with about {metadata.approx_row_count:,} documents?"
        if not click.confirm(question, err=True):
            session.note("nothing was deleted")
            return INTERRUPTED
    answer = dump(session.client.delete_namespace(namespace, purge_history=purge_history or None))
    if session.as_json:
        show_json(answer)
    else:
        session.note(f"{namespace} is deleted")
    return 0
