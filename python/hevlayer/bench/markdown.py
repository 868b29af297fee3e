"""The report for people: a page of Markdown."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

SHOWN_QUANTILES = ("p50", "p90", "p99", "p99.9")
GIBIBYTE = 1 << 30


def number(value: float | None, digits: int = 3) -> str:
    """Three significant digits, thousands apart; a dash for nothing."""
    if value is None:
        return "–"
    if abs(value) >= 10 ** (digits - 1):
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def render_markdown(report: Mapping[str, Any], picture: str | None) -> str:
    """Args: picture: the file name of the picture beside the page, if there is one."""
    parts = ["# Load report", _summary(report)]
    if report["interrupted"]:
        parts.append("**Interrupted: the figures are of what was measured until then.**")
    if report["problems"]:
        parts.append("## Problems\n\n" + "\n".join(f"* {problem}" for problem in report["problems"]))
    parts += ["## Latency", f"In milliseconds, from {report['loop']['latency_from']}. {report['loop']['note']}"]
    parts.append(
        _table(
            ("Operation", "Target", "Requests", "Failed", "Per second", *SHOWN_QUANTILES, "max"), operation_rows(report)
        )
    )
    if picture:
        parts.append(f"![Latency by quantile]({picture})")
    comparison = report["comparison"]
    if comparison and comparison["ratios"]:
        parts += [
            "## Gateway against direct",
            "The gateway's figure divided by the direct one. Both had the same requests, in turns within one run.",
            _table(
                ("Operation", "Per second", *SHOWN_QUANTILES),
                (
                    (
                        name,
                        number(ratios.get("per_second")),
                        *(number(ratios.get(quantile)) for quantile in SHOWN_QUANTILES),
                    )
                    for name, ratios in comparison["ratios"].items()
                ),
            ),
        ]
    failures = list(_failures(report))
    if failures:
        parts += ["## What failed", _table(("Target", "Operation", "Outcome", "Requests"), failures)]
    cached = list(_cached(report))
    if cached:
        parts += ["## Answers by cache status", _table(("Target", "Operation", "Status", "Answers"), cached)]
    parts += ["## Operations", "\n".join(f"* `{name}`: {what}" for name, what in report["operations"].items())]
    parts += ["## Circumstances", _circumstances(report)]
    return "\n\n".join(parts) + "\n"


def _summary(report: Mapping[str, Any]) -> str:
    plan = report["plan"]
    load = f"{plan['rate']:g} requests a second" if plan["rate"] else f"{plan['concurrency']} callers"
    mix = ", ".join(f"{name} {weight}" for name, weight in plan["mix"].items() if weight)
    return (
        f"{report['started_at']}: {plan['documents']:,} documents of {plan['dimensions']} dimensions, "
        f"{load} for {plan['duration_seconds']:g} s per target after {plan['warm_up_seconds']:g} s of warm-up, "
        f"in turns of {plan['slice_seconds']:g} s. Mix: {mix}. Seed {plan['seed']}."
    )


def operation_rows(report: Mapping[str, Any]) -> Iterable[Sequence[str]]:
    """Operation, target, requests, failed, per second, the shown quantiles and the most, as they are written."""
    for operation in [*report["operations"], "all"]:
        for name, target in report["targets"].items():
            figures = target["operations"].get(operation)
            if figures is None:
                continue
            latency = figures["latency_ms"]
            quantiles = [number(latency["quantiles"][each] if latency else None) for each in SHOWN_QUANTILES]
            yield (
                operation,
                name,
                f"{figures['requests']:,}",
                f"{figures['failed']:,}",
                number(figures["per_second"]),
                *quantiles,
                number(latency["max"] if latency else None),
            )


def _failures(report: Mapping[str, Any]) -> Iterable[Sequence[str]]:
    for name, target in report["targets"].items():
        for operation in report["operations"]:
            figures = target["operations"].get(operation, {"outcomes": {}})
            for outcome, count in figures["outcomes"].items():
                if not outcome.startswith("2"):
                    yield name, operation, outcome, f"{count:,}"


def _cached(report: Mapping[str, Any]) -> Iterable[Sequence[str]]:
    for name, target in report["targets"].items():
        for operation in report["operations"]:
            for status, count in target["operations"].get(operation, {"cache": {}})["cache"].items():
                yield name, operation, status, f"{count:,}"


def _circumstances(report: Mapping[str, Any]) -> str:
    machine, versions = report["machine"], report["versions"]
    memory = machine["memory_bytes"]
    lines = [
        f"* Load from: {machine['cpu'] or 'an unknown processor'}, {machine['cores']} cores, "
        f"{f'{memory / GIBIBYTE:.1f} GiB, ' if memory else ''}{machine['system']}, "
        f"{machine['implementation']} {machine['python']}",
        "* Versions: " + ", ".join(f"{name} {version or 'not installed'}" for name, version in versions.items()),
    ]
    for name, target in report["targets"].items():
        requests = ", ".join(f"{phase} {count:,}" for phase, count in target["requests"].items())
        lines.append(f"* {name}: {target['url']}, namespace `{target['namespace']}`; requests: {requests}")
    return "\n".join(lines)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
