"""`layer bench`: load on an endpoint, directly and through a gateway side by side, and a report."""

import os
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import orjson
import uvloop

from hevlayer.bench.markdown import render_markdown
from hevlayer.bench.picture import render_picture
from hevlayer.bench.plan import (
    CONCURRENCY_MAX,
    DEFAULT_MIX,
    DIMENSIONS_MAX,
    DOCUMENTS_MAX,
    RATE_MAX,
    SECONDS_MAX,
    SUMMARIES,
    TOP_K_MAX,
    WRITE_ROWS_MAX,
    BenchPlan,
    Kind,
    Target,
    parse_mix,
)
from hevlayer.bench.report import ALL, build_report
from hevlayer.bench.run import BenchResult, BenchRun
from hevlayer.cli.failures import sentence
from hevlayer.cli.layer.bench_view import BenchView
from hevlayer.cli.layer.exits import DONE, INTERRUPTED, REFUSED, UNREACHABLE
from hevlayer.cli.layer.kinds import Rule, number
from hevlayer.cli.layer.options import option
from hevlayer.clock import SystemClock
from hevlayer.stopping import stop_event

JSON_FILE, MARKDOWN_FILE, PICTURE_FILE = "report.json", "report.md", "latency.svg"
PREFIX_CHARACTERS_MAX = 80
FAILURES_SHARE_MAX = 0.01
_DEFAULTS = BenchPlan(targets=())
_MIX = ",".join(f"{operation.value}={weight}" for operation, weight in DEFAULT_MIX.items())
_OPERATIONS = "\b\nOperations:\n" + "\n".join(f"  {operation.value:<8}{what}" for operation, what in SUMMARIES.items())
_IN_SECONDS = ("duration", "warm_up", "slice", "timeout", "index_wait")
_SECONDS = Rule("seconds", number(0, SECONDS_MAX))


def _prefix(text: str) -> str:
    allowed = text.isascii() and all(each.isalnum() or each in "-_." for each in text)
    if not allowed or not 1 <= len(text) <= PREFIX_CHARACTERS_MAX:
        raise ValueError(f"must be 1 to {PREFIX_CHARACTERS_MAX} letters, digits, '-', '_' and '.'")
    return text


def _count(high: int) -> click.IntRange:
    return click.IntRange(1, high)


@click.command(epilog=_OPERATIONS)
@option("--direct", metavar="URL", help="Endpoint to load directly; its key is TURBOPUFFER_API_KEY.")
@option("--gateway", metavar="URL", help="Gateway to load; its key is LAYER_GATEWAY_API_KEY, else TURBOPUFFER_API_KEY.")
@option("--documents", type=_count(DOCUMENTS_MAX), default=_DEFAULTS.documents, help="Documents to load first.")
@option("--dimensions", type=_count(DIMENSIONS_MAX), default=_DEFAULTS.dimensions, help="Dimensions of each vector.")
@option("--mix", type=Rule("mix", parse_mix), default=_MIX, help="Operations and their weights.")
@option(
    "--concurrency",
    type=_count(CONCURRENCY_MAX),
    default=_DEFAULTS.concurrency,
    help="Requests in flight at most, per target.",
)
@option(
    "--duration",
    type=_SECONDS,
    default=_DEFAULTS.duration_seconds,
    help="Seconds of measured load, per target.",
)
@option(
    "--warm-up",
    type=_SECONDS,
    default=_DEFAULTS.warm_up_seconds,
    help="Seconds of load before that, not measured.",
)
@option(
    "--slice",
    type=_SECONDS,
    default=_DEFAULTS.slice_seconds,
    help="Seconds of one target's turn.",
)
@option(
    "--rate",
    type=Rule("rate", number(0.001, RATE_MAX)),
    help="Open loop: requests a second, per target. Without it a closed loop: each caller waits for its answer.",
)
@option("--top-k", type=_count(TOP_K_MAX), default=_DEFAULTS.top_k, help="Rows that a query asks for.")
@option("--write-rows", type=_count(WRITE_ROWS_MAX), default=_DEFAULTS.write_rows, help="Rows of one write.")
@option("--seed", type=click.IntRange(0), default=_DEFAULTS.seed, help="Seed of documents and requests.")
@option(
    "--timeout",
    type=_SECONDS,
    default=_DEFAULTS.timeout_seconds,
    help="Seconds that one request may take.",
)
@option(
    "--index-wait",
    type=_SECONDS,
    default=_DEFAULTS.index_wait_seconds,
    help="Seconds that indexing the documents may take.",
)
@option(
    "--namespace-prefix",
    type=Rule("prefix", _prefix),
    default=_DEFAULTS.namespace_prefix,
    help="What the names of the namespaces begin with.",
)
@option("--keep/--no-keep", default=False, help="Leave the namespaces in place.")
@option(
    "--failures-max",
    type=Rule("share", number(0, 1)),
    default=FAILURES_SHARE_MAX,
    help="Share of failed requests above which the exit status is 1.",
)
@option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory of the report; without it, layer-bench-TIME.",
)
@option("--json", "as_json", is_flag=True, envvar="LAYER_CLI_JSON", help="Print the report as JSON.")
def bench(*, output: Path | None, as_json: bool, failures_max: float, **given: Any) -> int:
    """Load endpoints that speak the Turbopuffer API, and write a report.

    Give --direct, --gateway or both. With both they take turns within one run, on the same documents and the same
    requests, so that noise hits both alike. Each has a namespace of its own, which is deleted afterwards, also when the
    run is interrupted. The report is a directory: the distributions as JSON, a page of Markdown and a picture.
    """
    plan = plan_of(given, os.environ).check()
    now = datetime.now(UTC)
    # Before the load, so that a run of an hour does not end at a directory that cannot be written.
    folder = _make_folder(output or Path(f"layer-bench-{now:%Y%m%dT%H%M%SZ}"))
    view = BenchView(plan)
    with view:
        result = uvloop.run(_run(plan, f"{now:%Y%m%d%H%M%S}-{secrets.token_hex(3)}", view))
    report = build_report(result)
    page = _write(folder, report)
    if as_json:
        click.echo(orjson.dumps(report))
    else:
        if any(target["slices"] for target in report["targets"].values()):
            view.show(report)
        click.echo(f"Report: {page}")
    for problem in report["problems"]:
        click.echo(f"layer bench: {problem}", err=True)
    return status_of(result, report, failures_max)


def plan_of(given: Mapping[str, Any], environ: Mapping[str, str]) -> BenchPlan:
    """The plan of the options; keys come from the environment. An empty URL counts as not given."""
    values = dict(given)
    upstream_key = environ.get("TURBOPUFFER_API_KEY", "")
    for name in _IN_SECONDS:
        values[f"{name}_seconds"] = values.pop(name)
    direct, gateway = values.pop("direct"), values.pop("gateway")
    targets = []
    if direct:
        targets.append(Target(Kind.DIRECT, direct, upstream_key))
    if gateway:
        targets.append(Target(Kind.GATEWAY, gateway, environ.get("LAYER_GATEWAY_API_KEY") or upstream_key))
    return BenchPlan(tuple(targets), **values)


async def _run(plan: BenchPlan, run_id: str, view: BenchView) -> BenchResult:
    run = BenchRun(plan, run_id, SystemClock(), view.watch)
    view.attach(run.result)
    return await run.run(stop_event())


def _make_folder(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise click.UsageError(f"--output {folder}: {sentence(error)}") from error
    return folder


def _write(folder: Path, report: Mapping[str, Any]) -> Path:
    (folder / JSON_FILE).write_bytes(orjson.dumps(report, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    (folder / PICTURE_FILE).write_bytes(render_picture(report))
    page = folder / MARKDOWN_FILE
    page.write_text(render_markdown(report, PICTURE_FILE), encoding="utf-8")
    return page


def status_of(result: BenchResult, report: Mapping[str, Any], failures_max: float) -> int:
    """The exit status of a run."""
    if result.interrupted:
        return INTERRUPTED
    if result.error is not None:
        return UNREACHABLE if result.error.unreachable else REFUSED
    for target in report["targets"].values():
        whole = target["operations"][ALL]
        if not whole["requests"] or whole["failed"] / whole["requests"] > failures_max:
            return REFUSED
    return DONE
