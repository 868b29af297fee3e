"""The catalog's alerts as a Prometheus rule file, which vmalert reads as well."""

import json
from collections.abc import Iterable, Sequence
from itertools import groupby

from hevlayer.metrics.catalog import in_order
from hevlayer.metrics.declaration import Declaration


def rule_file(declarations: Iterable[Declaration]) -> str:
    """YAML: one group a family, one rule an alert, in the catalog's order.

    Texts are written as JSON strings, which are YAML ones with nothing to guess about quotes, colons or braces.
    """
    alerting = in_order(each for each in declarations if each.alert is not None)
    lines = ["# Written by `hevlayer metrics rules`; change the metric's declaration instead.", "groups:"]
    for family, group in groupby(alerting, key=lambda each: each.family):
        lines += [f"  - name: {json.dumps(f'hevlayer-{family}')}", "    rules:"]
        lines += [line for declared in group for line in _rule(declared)]
    return "\n".join(lines) + "\n"


def _rule(declared: Declaration) -> Sequence[str]:
    alert = declared.alert
    assert alert is not None
    return (
        f"      - alert: {json.dumps(alert_name(declared.name))}",
        f"        expr: {json.dumps(alert.expr)}",
        f"        for: {json.dumps(alert.held_for)}",
        "        labels:",
        f"          family: {json.dumps(declared.family)}",
        f"          metric: {json.dumps(declared.name)}",
        "        annotations:",
        f"          summary: {json.dumps(alert.summary)}",
        f"          description: {json.dumps(declared.help)}",
    )


def alert_name(metric: str) -> str:
    """The metric's name in the capitals that alert names have: `layer_cache_errors_total`, `LayerCacheErrorsTotal`."""
    return "".join(part.capitalize() for part in metric.split("_"))
