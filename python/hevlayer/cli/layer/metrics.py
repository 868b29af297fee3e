"""`layer metrics`: what the gateway measures, and PromQL through it."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, get_args

import click

from hevlayer.cli.layer.options import option
from hevlayer.cli.layer.output import Column, cell, moment, show_json, show_record, show_rows
from hevlayer.cli.layer.session import GatewayGroup, Session, dump
from hevlayer.client import MetricFamily

MILLISECONDS = 1000
_CATALOG = (
    Column("Name", "name"),
    Column("Kind", "kind"),
    Column("Family", "family"),
    Column("Description", "description"),
)
_ENTRY = (
    *_CATALOG,
    Column("Labels", "labels"),
    Column("Example", "example_promql"),
    Column("Alert", "alert.summary"),
    Column("Alert fires when", "alert.expr"),
    Column("Alert waits", "alert.for"),
)
_SERIES = (Column("Series", "series"), Column("Time (UTC)", "time", moment), Column("Value", "value", right=True))


@click.group(cls=GatewayGroup)
def metrics() -> None:
    """The catalog of metrics, and queries to the metrics store."""


@metrics.command("catalog")
@option("--family", type=click.Choice(get_args(MetricFamily)), help="Only this family.")
@click.pass_obj
def catalog(session: Session, family: Any) -> None:
    """List every metric that the gateway exports. As JSON: a line for each."""
    entries = session.client.list_metrics_catalog(family=family).entries
    show_rows(_CATALOG, (dump(entry) for entry in entries), as_json=session.as_json)


@metrics.command("show")
@click.argument("name")
@click.pass_obj
def show(session: Session, name: str) -> None:
    """Show a metric by its NAME, with its labels, an example and its alert."""
    show_record(_ENTRY, dump(session.client.get_metric_catalog_entry(name)), as_json=session.as_json)


@metrics.command("query")
@click.argument("promql")
@option("--time", help="At this time: RFC 3339 or Unix seconds.  [default: now]")
@option("--start", help="Over a range from this time, with --end and --step.")
@option("--end", help="The end of the range.  [default: now]")
@option("--step", default="60s", help="The distance of the points of a range.")
@click.pass_obj
def query(session: Session, promql: str, time: str | None, start: str | None, end: str | None, step: str) -> None:
    """Ask the metrics store PROMQL, through the gateway. As JSON: Prometheus's own answer."""
    if start is None:
        if end is not None:
            raise click.UsageError("--end needs --start")
        answer = session.client.query_metrics(query=promql, time=time)
    else:
        if time is not None:
            raise click.UsageError("--time and --start exclude each other")
        answer = session.client.query_metrics_range(
            query=promql, start=start, end=end or datetime.now(UTC).isoformat(), step=step
        )
    if session.as_json:
        show_json(dump(answer))
    else:
        show_rows(_SERIES, _points(answer.data), as_json=False)


def _points(data: Any) -> Iterator[dict[str, Any]]:
    """Each point of each series; scalars and strings have no labels."""
    if not isinstance(data, dict):
        return
    result = data.get("result")
    if data.get("resultType") in ("scalar", "string"):
        result = [{"metric": {}, "value": result}]
    for series in result or []:
        name = _series(series.get("metric", {}))
        points = series.get("values") or [series.get("value") or [None, None]]
        for at, value in points:
            yield {"series": name, "time": None if at is None else round(float(at) * MILLISECONDS), "value": value}


def _series(labels: Mapping[str, Any]) -> str:
    """As Prometheus writes it."""
    told = ", ".join(f'{name}="{cell(value)}"' for name, value in labels.items() if name != "__name__")
    return f"{labels.get('__name__', '')}{{{told}}}"
