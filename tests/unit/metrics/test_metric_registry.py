"""The exposition is what Prometheus reads, checked with its own parser."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from hevlayer.metrics.declaration import Declaration
from hevlayer.metrics.registry import MetricRegistry, NamespaceLabels


def declare(kind, labels=(), buckets=()):
    name = "layer_x_total" if kind == "counter" else "layer_x"
    return Declaration(name, kind, "query", labels, "Help with \\ and\nnewline.", "x", None, buckets)


def parse(registry):
    return list(text_string_to_metric_families(registry.exposition().decode()))


def test_a_counter_and_its_labels_survive_the_text():
    registry = MetricRegistry()
    counter = registry.counter(declare("counter", ("name",)))
    odd = 'quote " backslash \\ newline \n ü'
    counter.bind(odd).inc(3)
    counter.bind("b").inc(0.5)
    (family,) = parse(registry)
    assert family.type == "counter"
    assert {(sample.labels["name"], sample.value) for sample in family.samples} == {(odd, 3.0), ("b", 0.5)}


def test_a_lone_surrogate_does_not_break_the_exposition():
    registry = MetricRegistry()
    registry.counter(declare("counter", ("name",))).bind("\ud800").inc()
    assert len(parse(registry)[0].samples) == 1


def test_histogram_buckets_are_cumulative_and_include_their_bound():
    registry = MetricRegistry()
    child = registry.histogram(declare("histogram", ("a",), (0.1, 1.0))).bind("v")
    for value in (0.05, 0.1, 0.100001, 1.0, 7):
        child.observe(value)
    (family,) = parse(registry)
    values = {(sample.name, sample.labels.get("le")): sample.value for sample in family.samples}
    assert values == {
        ("layer_x_bucket", "0.1"): 2,
        ("layer_x_bucket", "1.0"): 4,
        ("layer_x_bucket", "+Inf"): 5,
        ("layer_x_count", None): 5,
        ("layer_x_sum", None): pytest.approx(8.250001),
    }


def test_a_gauge_can_be_read_when_it_is_scraped():
    registry = MetricRegistry()
    level = 1
    registry.gauge(declare("gauge", ("a",))).read_from(lambda: [(("x",), level)])
    level = 42
    assert parse(registry)[0].samples[0].value == 42


def test_an_unlabelled_metric_is_exported_from_the_start():
    registry = MetricRegistry()
    registry.counter(declare("counter"))
    assert parse(registry)[0].samples[0].value == 0


@pytest.mark.parametrize("values", [(), ("a", "b")])
def test_a_child_has_exactly_the_declared_labels(values):
    with pytest.raises(ValueError, match="layer_x_total has the labels"):
        MetricRegistry().counter(declare("counter", ("one",))).bind(*values)


def test_a_metric_is_registered_once_and_as_declared():
    registry = MetricRegistry()
    registry.counter(declare("counter"))
    with pytest.raises(ValueError, match="twice"):
        registry.counter(declare("counter"))
    with pytest.raises(ValueError, match="declared as a counter"):
        MetricRegistry().gauge(declare("counter"))
    with pytest.raises(ValueError, match="must end in _total"):
        MetricRegistry().counter(declare("gauge"))
    with pytest.raises(ValueError, match="rising order"):
        MetricRegistry().histogram(declare("histogram", (), (1.0, 0.5)))
    with pytest.raises(ValueError, match="from 0 on"):
        MetricRegistry().histogram(declare("histogram", (), (-1.0, 0.5)))


def test_a_large_exposition_comes_in_parts():
    registry = MetricRegistry()
    counter = registry.counter(declare("counter", ("name",)))
    for number in range(120):
        counter.bind(str(number)).inc(number)
    parts = list(registry.exposition_parts())
    # New children are more work than known ones.
    again = list(registry.exposition_parts())
    assert len(parts) > len(again) > 1
    assert b"".join(parts) == registry.exposition()
    assert len(parse(registry)[0].samples) == 120


def test_the_namespace_label_is_bounded():
    labels = NamespaceLabels(2)
    assert labels.label("made up", admit=False) == "other"
    assert [labels.label(name) for name in ("a", "b", "c", "a")] == ["a", "b", "other", "a"]
    assert labels.label("b", admit=False) == "b"


NAMES = st.lists(st.tuples(st.text(max_size=4), st.text(max_size=4)), max_size=5)
NUMBERS = st.one_of(st.integers(0, 10**20), st.floats(0, allow_nan=False), st.floats(max_value=0, allow_nan=False))


@given(NAMES, st.lists(NUMBERS, min_size=1, max_size=6))
def test_the_text_is_what_the_library_writes_of_the_same_collector(names, numbers):
    registry = MetricRegistry()
    counter = registry.counter(declare("counter", ("b", "a")))
    gauge = registry.gauge(declare("gauge"))
    bounds = (0.1, 1.0, 2.5e7)
    histogram = registry.histogram(
        Declaration("layer_y", "histogram", "query", ("b", "a"), "Help.", "layer_y", None, bounds)
    )
    registry.gauge(Declaration("layer_z", "gauge", "query", ("b", "a"), "Help.", "layer_z")).read_from(
        lambda: [(pair, numbers[0]) for pair in dict.fromkeys(names)]
    )
    for number in numbers:
        gauge.bind().set(number)
        for pair in names:
            counter.bind(*pair).inc(abs(number))
            histogram.bind(*pair).observe(number)
        # The first time every label is new, later ones reuse what was kept.
        assert registry.exposition() == generate_latest(registry)
