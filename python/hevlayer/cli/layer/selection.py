"""Which documents a command means: the options that queries, scans and counts share."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from hevlayer.cli.layer.kinds import JSON, VECTOR, Rule, number
from hevlayer.cli.layer.options import option

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])
RADIUS_MAX = 1e30


def filter_option(function: FunctionT) -> FunctionT:
    """`--filter`, as often as wanted."""
    return option(
        "--filter",
        "filters",
        type=JSON,
        multiple=True,
        help="""Only documents that match, as Turbopuffer writes it: '["year", "Gte", 1990]'. JSON, @FILE or - for
        standard input; several must all match.""",
    )(function)


def joined(filters: Sequence[Any]) -> Any:
    """One filter of all; None without any."""
    if not filters:
        return None
    return filters[0] if len(filters) == 1 else ["And", list(filters)]


def selector_options(function: FunctionT) -> FunctionT:
    """What scans and counts select by."""
    for decorate in reversed(
        (
            filter_option,
            option(
                "--fts",
                nargs=2,
                metavar="FIELD TEXT",
                default=None,
                help="Documents whose FIELD holds a word of TEXT.",
            ),
            option(
                "--ann",
                type=VECTOR,
                metavar="VECTOR",
                help="Documents within --radius of this vector: a JSON array, @FILE or -.",
            ),
            option(
                "--radius",
                type=Rule("distance", number(-RADIUS_MAX, RADIUS_MAX)),
                help="The largest distance for --ann.",
            ),
            option(
                "--source",
                type=click.Choice(("auto", "snapshot", "cache", "origin")),
                help="Where to look.  [default: auto]",
            ),
            option("--exhaustive", is_flag=True, help="Go on until a ranked count is exact."),
            option("--threads", type=click.IntRange(1), help="Requests side by side."),
        )
    ):
        function = decorate(function)
    return function


def scan_body(mode: str, filters: Sequence[Any], given: dict[str, Any]) -> dict[str, Any]:
    """The body of a scan request. Raises: click.UsageError: the selectors contradict each other."""
    fts, ann, radius = given.pop("fts"), given.pop("ann"), given.pop("radius")
    if fts and ann is not None:
        raise click.UsageError("--fts and --ann exclude each other")
    if (ann is None) != (radius is None):
        raise click.UsageError("--ann and --radius need each other")
    body = {"mode": mode, "filters": joined(filters), **given}
    if fts:
        body["fts"] = {"field": fts[0], "query": fts[1]}
    if ann is not None:
        body["ann"] = {"vector": ann, "radius": radius}
    return {name: value for name, value in body.items() if value is not None and value is not False}
