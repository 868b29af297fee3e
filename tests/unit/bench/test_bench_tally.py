"""Distributions against their slow twin, a sorted list."""

import math
import random

import pytest
from hdrh.histogram import HdrHistogram

from hevlayer.bench.report import describe
from hevlayer.bench.tally import QUANTILES, Distribution, OperationTally, merged

COUNT = 5000


def recorded(seed: int) -> tuple[Distribution, list[float]]:
    rng = random.Random(seed)
    values = [rng.lognormvariate(-5, 1.2) for _ in range(COUNT)]
    distribution = Distribution()
    for value in values:
        distribution.record(value)
    return distribution, sorted(values)


@pytest.mark.parametrize("seed", range(3))
def test_quantiles_are_those_of_the_sorted_values_to_three_digits(seed):
    distribution, values = recorded(seed)
    expected = [values[math.ceil(quantile * COUNT) - 1] * 1000 for quantile in QUANTILES]
    # A microsecond is the smallest step.
    assert distribution.quantiles_ms(QUANTILES) == pytest.approx(expected, rel=0.002, abs=0.001)
    assert distribution.max_ms == pytest.approx(values[-1] * 1000, rel=0.002)


def test_a_merged_distribution_holds_what_its_parts_held():
    (one, first), (other, second) = recorded(1), recorded(2)
    whole = merged([OperationTally(latency=one), OperationTally(latency=other)])
    assert whole.succeeded == 2 * COUNT
    values = sorted(first + second)
    assert whole.latency.quantiles_ms([0.5]) == pytest.approx([values[COUNT - 1] * 1000], rel=0.002)
    assert whole.latency.seconds == pytest.approx(sum(values))


def test_an_empty_distribution_has_no_quantiles():
    assert Distribution().quantiles_ms([0.5, 0.99]) == [None, None]
    assert Distribution().max_ms is None
    assert describe(Distribution()) is None


def test_the_report_holds_the_whole_histogram_in_an_encoding_that_others_read():
    distribution, values = recorded(4)
    told = describe(distribution)
    assert told is not None
    decoded = HdrHistogram.decode(told["hdr"])
    assert decoded.get_total_count() == told["count"] == COUNT
    assert decoded.get_value_at_percentile(99) / 1000 == told["quantiles"]["p99"]
    assert told["mean"] == pytest.approx(sum(values) / COUNT * 1000, rel=1e-4)


def test_durations_out_of_range_are_kept_at_its_ends():
    distribution = Distribution()
    distribution.record(0.0)
    distribution.record(1e9)
    assert distribution.count == 2
    assert distribution.quantiles_ms([0.5]) == [0.001]
