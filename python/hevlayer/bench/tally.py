"""Counts and distributions of what was sent. Distributions are HdrHistograms: exact to three digits at any size."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from hdrh.histogram import HdrHistogram

HIGHEST_US = 24 * 3600 * 1_000_000
DIGITS = 3
QUANTILES = (0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 0.9999)
MICROSECONDS = 1_000_000
SUCCESS = range(200, 300)


class Distribution:
    """Durations of what succeeded."""

    __slots__ = ("histogram", "seconds")

    def __init__(self) -> None:
        self.histogram = HdrHistogram(1, HIGHEST_US, DIGITS)
        self.seconds = 0.0
        """The sum of all; the histogram's own mean walks through every bucket."""

    def record(self, seconds: float) -> None:
        self.seconds += seconds
        self.histogram.record_value(min(HIGHEST_US, max(1, round(seconds * MICROSECONDS))))

    def add(self, other: "Distribution") -> None:
        self.histogram.add(other.histogram)
        self.seconds += other.seconds

    @property
    def count(self) -> int:
        return self.histogram.get_total_count()  # type: ignore[no-any-return]

    @property
    def max_ms(self) -> float | None:
        return self.histogram.get_max_value() / 1000 if self.count else None

    def quantiles_ms(self, quantiles: Sequence[float]) -> list[float | None]:
        """One for each; None when there is nothing. One walk through the buckets."""
        if not self.count:
            return [None] * len(quantiles)
        percentiles = [quantile * 100 for quantile in quantiles]
        found = self.histogram.get_percentile_to_value_dict(percentiles)
        return [found[percentile] / 1000 for percentile in percentiles]


@dataclass(slots=True)
class OperationTally:
    """One operation on one target.

    `latency` and `service` hold what was answered with success: `latency` from the moment at which the request was
    meant to start, `service` from the moment at which it did; in a closed loop these are the same, and it is empty.
    `outcomes` counts everything: an HTTP status, or the name of a failure. `cache` counts the answers' cache statuses.
    """

    latency: Distribution = field(default_factory=Distribution)
    service: Distribution = field(default_factory=Distribution)
    outcomes: Counter[str] = field(default_factory=Counter)
    cache: Counter[str] = field(default_factory=Counter)

    @property
    def total(self) -> int:
        return self.outcomes.total()

    @property
    def succeeded(self) -> int:
        return self.latency.count

    @property
    def failed(self) -> int:
        return self.total - self.succeeded

    def add(self, other: "OperationTally") -> None:
        self.latency.add(other.latency)
        self.service.add(other.service)
        self.outcomes.update(other.outcomes)
        self.cache.update(other.cache)


def merged(tallies: Iterable[OperationTally]) -> OperationTally:
    """All of them as one."""
    whole = OperationTally()
    for tally in tallies:
        whole.add(tally)
    return whole


@dataclass(slots=True)
class Slice:
    """One stretch of load on one target: how long it took, and what succeeded and failed in it."""

    seconds: float
    succeeded: int
    failed: int


@dataclass(slots=True)
class TargetTally:
    """Everything that one target was sent while it was measured, and the requests of the other phases."""

    operations: dict[str, OperationTally] = field(default_factory=dict)
    slices: list[Slice] = field(default_factory=list)
    requests: Counter[str] = field(default_factory=Counter)
    """Requests by phase: `load`, `index`, `warm-up`, `measure`, `cleanup`."""
    load_seconds: float = 0.0

    def of(self, operation: str) -> OperationTally:
        return self.operations.setdefault(operation, OperationTally())

    @property
    def seconds(self) -> float:
        """How long the target was under measured load."""
        return sum(each.seconds for each in self.slices)
