"""`layer query` and `layer fetch`."""

from collections.abc import Mapping, Sequence
from typing import Any

import click

from hevlayer.cli.layer.exits import DONE, REFUSED
from hevlayer.cli.layer.kinds import JSON, VECTOR
from hevlayer.cli.layer.options import option
from hevlayer.cli.layer.output import (
    Column,
    KeyColumn,
    cell,
    columns_of,
    moment,
    safe,
    show_json,
    show_record,
    show_rows,
)
from hevlayer.cli.layer.selection import filter_option, joined
from hevlayer.cli.layer.session import GatewayCommand, Session, dump, namespace_argument
from hevlayer.client import LayerPerf

TOP_K_DEFAULT = 10
_RANKS = ("vector", "near", "bm25", "order_by", "rank_by", "body")
_FIRST = (Column("id", "id"), Column("$dist", "$dist", right=True))


@click.command(cls=GatewayCommand)
@namespace_argument
@option("--vector", type=VECTOR, metavar="VECTOR", help="Nearest to this vector: a JSON array, @FILE or -.")
@option("--vector-field", default="vector", help="The attribute that --vector searches.")
@option("--near", metavar="ID", help="Nearest to the document with this id.")
@option("--bm25", nargs=2, metavar="FIELD TEXT", default=None, help="By BM25 of TEXT in FIELD.")
@option("--order-by", metavar="FIELD[:asc|desc]", help="In the order of an attribute.")
@option("--rank-by", type=JSON, metavar="JSON", help="Any other ranking, as Turbopuffer writes it.")
@option("--body", type=JSON, metavar="JSON", help="The whole request, in place of all the above.")
@filter_option
@option("--top-k", "-k", type=click.IntRange(1, 10_000), default=TOP_K_DEFAULT, help="So many documents at most.")
@option("--include", "-i", multiple=True, metavar="FIELD", help="Show this attribute too; '*' shows all. Repeatable.")
@option("--consistency", type=click.Choice(("strong", "eventual")), help="Ask for this consistency.")
@option("--tag", "tags", multiple=True, help="A label for the search history. Repeatable.")
@option("--raw-query", help="What the person typed, for the search history.")
@click.pass_obj
def query(
    session: Session,
    /,
    namespace: str,
    tags: Sequence[str],
    raw_query: str | None,
    **given: Any,
) -> None:
    """Search a NAMESPACE by a vector, a text or an order, with filters. As JSON: the whole answer."""
    body = query_body(given)
    answer = session.client.query_namespace(
        namespace, body, raw_query=raw_query, tags=list(tags) or None, with_perf=True
    )
    whole = dump(answer.data)
    if session.as_json:
        show_json(whole)
        return
    for part in _parts(whole):
        _show_part(part)
    session.note(_circumstances(answer.perf))


def query_body(given: Mapping[str, Any]) -> dict[str, Any]:
    """The request that the options stand for. Raises: click.UsageError: they contradict each other."""
    asked = [name for name in _RANKS if given[name] is not None]
    if len(asked) > 1:
        raise click.UsageError(" and ".join(_flag(name) for name in asked) + " exclude each other")
    filters = joined(given["filters"])
    if given["body"] is not None:
        if not isinstance(given["body"], dict):
            raise click.UsageError("--body must be a JSON object")
        if filters is not None or given["include"] or given["consistency"]:
            raise click.UsageError("--body is the whole request: --filter, --include and --consistency belong into it")
        return given["body"]
    if not asked and filters is None:
        raise click.UsageError(f"one of {', '.join(_flag(name) for name in _RANKS)} or --filter is needed")
    body: dict[str, Any] = {"top_k": given["top_k"]}
    if given["near"] is not None:
        body["nearest_to_id"] = given["near"]
    else:
        body["rank_by"] = _rank(asked[0] if asked else "", given)
    if filters is not None:
        body["filters"] = filters
    if given["include"]:
        body["include_attributes"] = True if "*" in given["include"] else list(given["include"])
    if given["consistency"]:
        body["consistency"] = {"level": given["consistency"]}
    return body


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _rank(asked: str, given: Mapping[str, Any]) -> Any:
    match asked:
        case "vector":
            return [given["vector_field"], "ANN", given["vector"]]
        case "bm25":
            field, text = given["bm25"]
            return [field, "BM25", text]
        case "order_by":
            field, _, direction = given["order_by"].partition(":")
            if not field or direction not in ("", "asc", "desc"):
                raise click.UsageError("--order-by must be FIELD, FIELD:asc or FIELD:desc")
            return [field, direction or "asc"]
        case "rank_by":
            return given["rank_by"]
        case _:
            return ["id", "asc"]


def _parts(answer: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The answer of each query in it; of one query, the answer itself."""
    results = answer.get("results")
    if not answer.get("rows") and results and "rows" in results[0]:
        return list(results)
    return [answer]


def flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of either dialect with its attributes beside its id and `$dist`."""
    if not isinstance(row.get("attributes"), dict):
        return dict(row)
    rest = {key: value for key, value in row.items() if key not in ("attributes", "dist")}
    distance = {"$dist": row["dist"]} if "dist" in row else {}
    return {**rest, **distance, **row["attributes"]}


def _show_part(answer: Mapping[str, Any]) -> None:
    for name in ("aggregations", "aggregation_groups"):
        if answer.get(name):
            found = answer[name]
            groups = found if isinstance(found, list) else [found]
            show_rows([KeyColumn(key, key) for key in groups[0]], groups, as_json=False)
            return
    rows = [flat(row) for row in answer.get("rows") or []]
    first = [column for column in _FIRST if column.path == "id" or any(column.path in row for row in rows)]
    show_rows(columns_of(rows, first), rows, as_json=False)


def _circumstances(perf: LayerPerf) -> str:
    told = [f"{perf.latency_ms:.1f} ms"]
    if perf.consistency:
        told.append(perf.consistency)
    if perf.stable_as_of is not None:
        told.append(f"stable as of {moment(perf.stable_as_of)} UTC")
    if perf.fallback:
        told.append("answered by Turbopuffer itself")
    if perf.trace_id:
        told.append(f"trace {perf.trace_id}")
    return ", ".join(told)


@click.command(cls=GatewayCommand)
@namespace_argument
@click.argument("ids", nargs=-1, required=True)
@option("--include", "-i", multiple=True, metavar="FIELD", help="Only this attribute, also a vector. Repeatable.")
@option("--tag", "tags", multiple=True, help="A label for the clickstream. Repeatable.")
@option("--trace", "traceparent", help="The W3C traceparent of the search that led here.")
@click.pass_obj
def fetch(
    session: Session,
    namespace: str,
    ids: Sequence[str],
    include: Sequence[str],
    tags: Sequence[str],
    traceparent: str | None,
) -> int:
    """Fetch documents of a NAMESPACE by their IDS. As JSON: a line for each.

    The exit status is 1 when one of them is not there.
    """
    body = {"ids": list(ids), **({"include_attributes": list(include)} if include else {})}
    answer = session.client.fetch_documents(
        namespace, body, tags=list(tags) or None, traceparent=traceparent, with_perf=True
    )
    documents = [dump(document) for document in answer.data.documents]
    if session.as_json:
        for document in documents:
            show_json(document)
    elif len(documents) == 1:
        fields = flat(documents[0])
        show_record([KeyColumn(key, key) for key in fields if key != "id_type"], fields, as_json=False)
    elif documents:
        rows = [{key: value for key, value in flat(document).items() if key != "id_type"} for document in documents]
        show_rows(columns_of(rows, _FIRST[:1]), rows, as_json=False)
    if not session.as_json:
        session.note(f"{answer.perf.latency_ms:.1f} ms, cache {cell(answer.perf.cache_status)}")
    if answer.data.missing:
        session.note("not there: " + ", ".join(safe(each) for each in answer.data.missing))
    return REFUSED if answer.data.missing else DONE
