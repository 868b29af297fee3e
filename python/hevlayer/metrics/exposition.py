"""The Prometheus text of a metric, as prometheus_client writes it.

The library writes each child once, with its numbers at zero: names, labels, their order and escapes, the lines that
describe the metric. What a scrape changes is the numbers, so the rest of each line is kept as its head: a scrape of a
hundred namespaces must not keep requests waiting. The text is the library's to the byte, which a property holds.
"""

from collections.abc import Callable, Iterable, Sequence

from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as LibraryMetric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from hevlayer.metrics.declaration import Declaration

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4.encode("ascii")
_INFINITY = float("inf")
_number: Callable[[float], str] = floatToGoString
# How the library ends the line of a sample that is zero.
_ZERO = " 0.0"

Numbers = Iterable[tuple[tuple[str, ...], Sequence[float]]]
"""Label values and numbers of children: one number, or a histogram's cumulative buckets, count and sum."""


class Text:
    """How one metric is written."""

    __slots__ = ("_bounds", "_declaration", "_heads", "described")

    def __init__(self, declaration: Declaration) -> None:
        self._declaration = declaration
        self._bounds = tuple(map(_number, (*declaration.buckets, _INFINITY)))
        self._heads: dict[tuple[str, ...], list[str]] = {}
        self.described = _write(self.family(()))
        """The lines that describe the metric, before its samples."""

    def knows(self, values: tuple[str, ...]) -> bool:
        """Whether a child of these labels was written before."""
        return values in self._heads

    def child(self, values: tuple[str, ...], numbers: Sequence[float]) -> str:
        """The lines of one child."""
        heads = self._heads.get(values)
        if heads is None:
            heads = self._heads[values] = self._make_heads(values, len(numbers))
        return "".join([f"{head} {_number(number)}\n" for head, number in zip(heads, numbers, strict=True)])

    def _make_heads(self, values: tuple[str, ...], lines: int) -> list[str]:
        written = _write(self.family([(values, [0.0] * lines)]))
        samples = written.removeprefix(self.described).removesuffix("\n").split("\n")
        return [sample.removesuffix(_ZERO) for sample in samples]

    def family(self, children: Numbers) -> LibraryMetric:
        """The metric as the library's own kind of family."""
        name, text, labels = self._declaration.name, self._declaration.help, self._declaration.labels
        match self._declaration.kind:
            case "counter":
                counter = CounterMetricFamily(name, text, labels=labels)
                for values, numbers in children:
                    counter.add_metric(_clean(values), numbers[0])
                return counter
            case "gauge":
                gauge = GaugeMetricFamily(name, text, labels=labels)
                for values, numbers in children:
                    gauge.add_metric(_clean(values), numbers[0])
                return gauge
            case "histogram":
                histogram = HistogramMetricFamily(name, text, labels=labels)
                for values, numbers in children:
                    buckets = list(zip(self._bounds, numbers, strict=False))
                    histogram.add_metric(_clean(values), buckets, numbers[-1])
                return histogram


class _Collected(Collector):
    def __init__(self, family: LibraryMetric) -> None:
        self._family = family

    def collect(self) -> Iterable[LibraryMetric]:
        return [self._family]


def _write(family: LibraryMetric) -> str:
    return generate_latest(_Collected(family)).decode()


def _clean(values: Sequence[str]) -> list[str]:
    """Without lone surrogates, which UTF-8 cannot hold."""
    return [value.encode("utf-8", "replace").decode() for value in values]
