"""The report's picture: latency by quantile as SVG, one line for each target and operation."""

import math
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from typing import Any

import pygal
from pygal.style import Style

# pygal leaves a finder for its plugins behind, of a kind that Python warns of at every later import. We use none.
sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, pygal.PluginImportFixer)]

COLOURS = ("#1b6ca8", "#d1495b", "#2e933c", "#8e5ea2", "#e0a100", "#5c6b73", "#00a6a6")
NINES_MAX = 4
SVG = "http://www.w3.org/2000/svg"
_TARGET_DASHES = {"direct": "6, 4", "gateway": ""}


def distance(quantile: float) -> float:
    """Where a quantile stands on the horizontal axis: its number of nines, at most `NINES_MAX`."""
    return NINES_MAX if quantile >= 1 - 10**-NINES_MAX else -math.log10(1 - quantile)


def render_picture(report: Mapping[str, Any]) -> bytes:
    """An SVG without scripts and without anything fetched."""
    operations = [*report["operations"]]
    curves = {
        (operation, name): _points(target["operations"].get(operation, {}).get("latency_ms"))
        for operation in operations
        for name, target in report["targets"].items()
    }
    levels = _levels([value for curve in curves.values() for _, value in curve])
    chart = pygal.XY(
        js=(),
        pretty_print=True,
        title="Latency by quantile",
        x_title="Quantile",
        y_title="Milliseconds",
        xrange=(0, NINES_MAX),
        range=(math.log10(levels[0]), math.log10(levels[-1])),
        y_labels=[{"value": math.log10(level), "label": f"{level:g}"} for level in levels],
        show_dots=False,
        show_x_guides=True,
        legend_at_bottom=True,
        legend_at_bottom_columns=max(1, len(report["targets"])),
        width=960,
        height=600,
        style=Style(
            background="white",
            plot_background="white",
            colors=tuple(COLOURS[index % len(COLOURS)] for index in range(len(operations)) for _ in report["targets"]),
            font_family="sans-serif",
        ),
        x_labels=[{"value": distance(1 - 10**-nines), "label": label} for nines, label in _LABELS],
        x_value_formatter=lambda value: f"{(1 - 10**-value) * 100:.6g} %",
        value_formatter=lambda value: f"{10**value:.4g} ms",
    )
    for (operation, name), curve in curves.items():
        style = {"width": 2, "dasharray": _TARGET_DASHES[name]} if _TARGET_DASHES[name] else {"width": 2}
        # pygal's own logarithmic scale would bend both axes.
        points = [(at, math.log10(value)) for at, value in curve]
        chart.add(f"{operation}, {name}", points, stroke_style=style)
    return _still(chart.render())


_LABELS = ((0, "0"), (0.30103, "50 %"), (1, "90 %"), (2, "99 %"), (3, "99.9 %"), (4, "99.99 %"))
_STEPS = (1, 2, 5)
VALUE_MIN_MS = 0.001
# What lies below says more about the luckiest request than about the service.
QUANTILE_MIN = 0.01


def _still(picture: bytes) -> bytes:
    """The picture without pygal's script, which only moves tooltips."""
    ElementTree.register_namespace("", SVG)
    root = ElementTree.fromstring(picture)  # noqa: S314 -- made a moment ago, by us
    for parent in list(root.iter()):
        for child in [each for each in parent if each.tag == f"{{{SVG}}}script"]:
            parent.remove(child)
    still: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return still


def _levels(values: list[float]) -> list[float]:
    """The marks of the vertical axis: 1, 2 and 5 of each decade around the values."""
    low, high = (min(values), max(values)) if values else (1.0, 1.0)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    marks = [step * 10.0**decade for decade in decades for step in _STEPS]
    first = max((mark for mark in marks if mark <= low), default=marks[0])
    last = min((mark for mark in marks if mark >= high and mark > first), default=marks[-1])
    return [mark for mark in marks if first <= mark <= last]


def _points(latency: Mapping[str, Any] | None) -> list[tuple[float, float]]:
    """Only as far right as the sample reaches: one request in a thousand says nothing about one in ten thousand."""
    if latency is None:
        return []
    seen = 1 - 1 / latency["count"]
    return [
        (distance(quantile), max(VALUE_MIN_MS, value))
        for value, quantile in latency["curve"]
        if QUANTILE_MIN <= quantile <= seen
    ]
