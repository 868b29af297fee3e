"""`layer history`: what was searched, and what was opened."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from hevlayer.cli.layer.options import option
from hevlayer.cli.layer.output import Column, cell, show_rows
from hevlayer.cli.layer.session import GatewayGroup, Session, dump, limit_option, limited, namespace_argument

LISTED_DEFAULT = 50
PAGE_ROWS_MAX = 500
FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


def _words(value: object) -> str:
    return cell(" ".join(map(str, value)) or None) if isinstance(value, list) else cell(value)


def _length(value: object) -> str:
    return str(len(value)) if isinstance(value, list) else cell(None)


_SEARCHES = (
    Column("Time", "timestamp"),
    Column("Raw query", "raw_query"),
    Column("Query", "query"),
    Column("Results", "top_result_ids", _length, right=True),
    Column("Tags", "tags", _words),
    Column("Trace", "trace_id"),
)
_CLICKS = (
    Column("Time", "timestamp"),
    Column("Document", "doc_id"),
    Column("Served from", "served_from"),
    Column("Tags", "tags", _words),
    Column("Trace", "trace_id"),
)


def _choices(function: FunctionT) -> FunctionT:
    """Which records are meant."""
    for decorate in (
        limit_option(LISTED_DEFAULT),
        option("--to", metavar="TIME", help="Nothing younger than this RFC 3339 time."),
        option("--from", "from_", metavar="TIME", help="Nothing older than this RFC 3339 time."),
        option("--trace", "trace_id", metavar="ID", help="Only what belongs to this trace."),
        option("--tag", "tags", multiple=True, help="Only what carries this tag. Repeatable: all of them."),
        namespace_argument,
    ):
        function = decorate(function)
    return function


@click.group(cls=GatewayGroup)
def history() -> None:
    """The record of searches and of documents that were opened, newest first."""


@history.command("search")
@_choices
@click.pass_obj
def search(session: Session, /, namespace: str, limit: int, tags: Sequence[str], **given: Any) -> None:
    """List the searches of a NAMESPACE. As JSON: a line for each."""
    size = min(limit + 1, PAGE_ROWS_MAX)
    entries = session.client.iter_search_history(namespace, tags=list(tags) or None, page_size=size, **given)
    show_rows(_SEARCHES, limited((dump(each) for each in entries), limit, session), as_json=session.as_json)


@history.command("clicks")
@_choices
@click.pass_obj
def clicks(session: Session, /, namespace: str, limit: int, tags: Sequence[str], **given: Any) -> None:
    """List the documents of a NAMESPACE that were fetched. As JSON: a line for each."""
    size = min(limit + 1, PAGE_ROWS_MAX)
    events = session.client.iter_clickstream(namespace, tags=list(tags) or None, page_size=size, **given)
    show_rows(_CLICKS, limited((dump(each) for each in events), limit, session), as_json=session.as_json)
