"""The report of a run: one JSON document that a program reads and the other forms are made from."""

import os
import platform
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import hevlayer
from hevlayer.bench.plan import SUMMARIES, BenchPlan, Kind, Operation
from hevlayer.bench.run import BenchResult
from hevlayer.bench.tally import QUANTILES, Distribution, OperationTally, TargetTally, merged

FORMAT_VERSION = 1
ALL = "all"
"""The name under which a report gives all operations together."""
LIBRARIES = ("uvloop", "orjson", "hdrhistogram", "click", "rich", "pygal")
CURVE_TICKS_PER_HALF_DISTANCE = 4
_DIGITS = 6


def build_report(result: BenchResult) -> dict[str, Any]:
    """The whole report as JSON values. Latencies are milliseconds, rates per second; None where nothing succeeded."""
    plan = result.plan
    targets = {target.name: _target(result, target.name, target.url) for target in plan.targets}
    return {
        "format": FORMAT_VERSION,
        "started_at": rfc3339(result.started_at_ms),
        "finished_at": rfc3339(result.finished_at_ms),
        "interrupted": result.interrupted,
        "problems": [*result.problems, *([str(result.error)] if result.error else [])],
        "loop": loop_of(plan),
        "plan": plan_values(plan),
        "machine": machine(),
        "versions": versions(),
        "operations": {name: SUMMARIES[Operation(name)] for name in result.operations},
        "targets": targets,
        "comparison": _comparison(targets),
    }


def rfc3339(epoch_ms: int) -> str:
    return datetime.fromtimestamp(epoch_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def loop_of(plan: BenchPlan) -> dict[str, object]:
    """How requests were started, and what latency counts from."""
    if plan.rate is None:
        return {
            "kind": "closed",
            "latency_from": "the sending of the request",
            "note": f"{plan.concurrency} callers, each with one request at a time: a target that stalls is sent less, "
            "so waits that its own slowness causes are missing here (coordinated omission). Use a rate to see them.",
        }
    return {
        "kind": "open",
        "latency_from": "the moment at which the request was meant to start",
        "note": f"{plan.rate:g} requests a second at random times that do not depend on the answers, on at most "
        f"{plan.concurrency} connections: what waits for a connection is charged for the wait. `service` counts from "
        "the sending; a difference of about a millisecond is the timer of the load generator.",
    }


def plan_values(plan: BenchPlan) -> dict[str, object]:
    """The plan without its keys."""
    return {
        "documents": plan.documents,
        "dimensions": plan.dimensions,
        "mix": {operation.value: weight for operation, weight in plan.mix.items()},
        "concurrency": plan.concurrency,
        "rate": plan.rate,
        "duration_seconds": plan.duration_seconds,
        "warm_up_seconds": plan.warm_up_seconds,
        "slice_seconds": plan.slice_seconds,
        "top_k": plan.top_k,
        "write_rows": plan.write_rows,
        "seed": plan.seed,
        "timeout_seconds": plan.timeout_seconds,
    }


def machine() -> dict[str, object]:
    """Where the load came from. None for what the system does not tell."""
    return {
        "cpu": _cpu() or platform.processor() or None,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": _memory_bytes(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "implementation": sys.implementation.name,
    }


def _cpu() -> str | None:
    try:
        found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    except OSError:
        return None
    return found[1] if found else None


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


def versions() -> dict[str, str | None]:
    """This project and the libraries that the load stands on."""
    found: dict[str, str | None] = {"hevlayer": hevlayer.__version__}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def _target(result: BenchResult, name: str, url: str) -> dict[str, Any]:
    tally = result.targets.get(name, TargetTally())
    kept = {operation: tally.operations[operation] for operation in result.operations if operation in tally.operations}
    operations = {operation: _operation(each, tally.seconds) for operation, each in kept.items()}
    operations[ALL] = _operation(merged(kept.values()), tally.seconds)
    return {
        "url": url,
        "namespace": result.namespaces[name],
        "requests": dict(tally.requests),
        "load_seconds": _round(tally.load_seconds),
        "measured_seconds": _round(tally.seconds),
        "operations": operations,
        "slices": [
            {"seconds": _round(each.seconds), "succeeded": each.succeeded, "failed": each.failed}
            for each in tally.slices
        ],
    }


def _operation(tally: OperationTally, seconds: float) -> dict[str, Any]:
    return {
        "requests": tally.total,
        "succeeded": tally.succeeded,
        "failed": tally.failed,
        "per_second": _round(tally.succeeded / seconds) if seconds else None,
        "outcomes": dict(sorted(tally.outcomes.items())),
        "cache": dict(sorted(tally.cache.items())),
        "latency_ms": describe(tally.latency),
        "service_ms": describe(tally.service),
    }


def quantile_name(quantile: float) -> str:
    """p50, p99, p99.9"""
    return f"p{quantile * 100:.10g}"


def describe(distribution: Distribution) -> dict[str, Any] | None:
    """Quantiles, the curve in steps that halve the distance to 1, and the histogram in HdrHistogram's own encoding."""
    if not distribution.count:
        return None
    histogram = distribution.histogram
    curve = [
        [_round(item.value_iterated_to / 1000), round(item.percentile_level_iterated_to / 100, _DIGITS)]
        for item in histogram.get_percentile_iterator(CURVE_TICKS_PER_HALF_DISTANCE)
    ]
    quantiles = zip(QUANTILES, distribution.quantiles_ms(QUANTILES), strict=True)
    return {
        "count": distribution.count,
        "min": _round(histogram.get_min_value() / 1000),
        "mean": _round(distribution.seconds / distribution.count * 1000),
        "max": _round(histogram.get_max_value() / 1000),
        "quantiles": {quantile_name(quantile): value for quantile, value in quantiles},
        "curve": curve,
        "hdr": histogram.encode().decode("ascii"),
    }


def _comparison(targets: Mapping[str, Any]) -> dict[str, Any] | None:
    """The gateway divided by the direct endpoint, for each operation that both answered; None for one target."""
    if Kind.DIRECT not in targets or Kind.GATEWAY not in targets:
        return None
    direct, gateway = targets[Kind.DIRECT]["operations"], targets[Kind.GATEWAY]["operations"]
    ratios = {}
    for name in direct.keys() & gateway.keys():
        one, other = direct[name], gateway[name]
        if one["latency_ms"] and other["latency_ms"]:
            base, own = one["latency_ms"]["quantiles"], other["latency_ms"]["quantiles"]
            ratios[name] = {
                # In a mix the slowest operation holds the others back: only the whole has a throughput of its own.
                **({"per_second": _round(other["per_second"] / one["per_second"])} if name == ALL else {}),
                **{quantile: _round(own[quantile] / base[quantile]) for quantile in base if base[quantile]},
            }
    return {"what": "gateway divided by direct", "ratios": {name: ratios[name] for name in direct if name in ratios}}


def _round(value: float) -> float:
    return round(value, _DIGITS)
