"""The catalog and the exposition say the same, and the helpers reach every metric."""

from typing import Literal

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from hevlayer.gateway.access_log import OFF, AccessLog
from hevlayer.gateway.consistency import NamespaceView, Outcome, Registry, Stamper, Status
from hevlayer.gateway.observe import (
    attach_access_log,
    attach_cache,
    attach_consistency,
    attach_process,
    attach_server,
)
from hevlayer.metrics import CATALOG_VERSION, Billing, Metrics, catalog, declared, read_billing, status_label
from hevlayer.metrics.declaration import Declaration
from hevlayer.stores.doccache import DocumentCache
from hevlayer.testing.clock import FakeClock

Family = Literal["query", "upsert", "fetch", "cache", "pipeline", "storage", "saturation"]


class Alert(msgspec.Struct, rename={"for_": "for"}):
    summary: str
    expr: str
    for_: str


class Entry(msgspec.Struct):
    """An entry as published clients require it."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    family: Family
    labels: list[str]
    description: str
    example_promql: str
    alert: Alert | None = None


class Catalog(msgspec.Struct):
    version: str
    entries: list[Entry]


def read_catalog(metrics, family=None):
    return msgspec.convert(catalog(metrics.registry.declarations(), family), Catalog)


def exported(metrics):
    families = text_string_to_metric_families(metrics.registry.exposition().decode())
    # The parser takes `_total` off a counter's name.
    return {family.name + ("_total" if family.type == "counter" else ""): family for family in families}


@pytest.fixture
def exercised():
    """A recorder after one of everything that a gateway does."""
    metrics = Metrics(namespaces_max=2)
    clock = FakeClock()
    stamper = Stamper(clock)
    registry = Registry(clock, stamper)
    registry.touch("films")
    for entry in registry:
        entry.view = NamespaceView(status=Status.STABLE, watermark_ms=clock.now_ms() - 2_500)
    attach_consistency(metrics, registry, stamper, clock)
    attach_server(metrics, lambda: 3, lambda: 2)
    attach_process(metrics)
    attach_cache(metrics, DocumentCache(None, clock))
    attach_access_log(metrics, AccessLog(OFF))
    stamper.begin("films").settle(Outcome.UNKNOWN)
    metrics.observe_request("query", 200)
    metrics.observe_query("films", 200, 0.02, 0.015, True, False, "filtered")
    metrics.observe_multi_query("films", 200, 3, 1)
    metrics.observe_write("films", 200, 0.2, 0.19, 10)
    metrics.observe_head("films", 404, 0.01)
    metrics.observe_list(200, 0.01)
    metrics.count_throttle_retry("films", 200)
    metrics.add_billing("films", written=1, queried=2, returned=3)
    metrics.observe_fetch("batch", "films", "partial", 0.001, 7)
    metrics.observe_cache_lookup("films", 0.0001, 3, 4, 4096)
    metrics.observe_backfill(0.001, 4)
    metrics.count_cache_error("lookup")
    metrics.observe_poll("stable", 0.01)
    metrics.set_logical_bytes("films", 1_000)
    metrics.count_cleanup("watermark", ok=True)
    metrics.count_scatter("films")
    metrics.observe_object_operation("get", "busy", 0.02)
    metrics.observe_job("warm", "completed", 3.0)
    metrics.observe_permit_wait("background", 0.1, granted=True)
    metrics.permits_held.read_from(lambda: [(("background",), 1)])
    metrics.count_history("search-history", "written", 3)
    metrics.history_pending.read_from(lambda: [((), 100)])
    metrics.observe_scan("films", "count", "filter", "origin", "ok", 0.1, 7)
    metrics.observe_snapshot("films", "written", 0.1)
    metrics.jobs_running.read_from(lambda: [((), 1)])
    metrics.observe_columns_build(0.4, ok=True)
    metrics.count_columns_dropped("budget")
    metrics.count_columns_answer("count", "columns")
    for level in (metrics.columns, metrics.columns_bytes, metrics.columns_capacity, metrics.columns_changed_rows):
        level.read_from(lambda: [((), 1)])
    return metrics


def test_the_catalog_is_what_clients_can_read(exercised):
    read = read_catalog(exercised)
    assert read.version == CATALOG_VERSION
    for entry in read.entries:
        assert entry.name in entry.example_promql
        assert entry.description.endswith(".")
        if entry.alert is not None:
            assert entry.name in entry.alert.expr


def test_the_catalog_lists_exactly_what_is_exported(exercised):
    families = exported(exercised)
    entries = {entry.name: entry for entry in read_catalog(exercised).entries}
    assert entries.keys() == families.keys()
    for name, family in families.items():
        assert family.type == entries[name].kind
        assert family.documentation == entries[name].description
        assert family.samples, f"{name} is never emitted"
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(entries[name].labels)


def test_nothing_is_declared_that_no_recorder_has(exercised):
    declarations = {value.name for value in vars(declared).values() if isinstance(value, Declaration)}
    assert declarations == {entry.name for entry in read_catalog(exercised).entries}


def test_a_family_can_be_asked_for():
    entries = read_catalog(Metrics(), "fetch").entries
    assert {entry.name for entry in entries} == {"layer_fetch_duration_seconds", "layer_fetch_batch_size"}


def value(metrics, name, **labels):
    for family in exported(metrics).values():
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return sample.value
    return None


def test_levels_are_read_at_the_scrape(exercised):
    assert value(exercised, "layer_consistency_watermark_age_seconds", namespace="films") == 2.5
    assert value(exercised, "layer_consistency_unknown_writes_total") == 1
    assert value(exercised, "layer_consistency_namespaces") == 1
    assert value(exercised, "layer_http_connections") == 3
    assert value(exercised, "process_resident_memory_bytes") > 1_000_000


def test_the_gateways_own_time_is_never_negative():
    metrics = Metrics()
    metrics.observe_query("films", 200, 0.010, 0.011, False, True, "stable")
    assert value(metrics, "layer_query_overhead_seconds_sum", pipeline_id="", namespace="films", status="ok") == 0


def test_a_look_up_of_several_records_is_counted_by_record(exercised):
    labels = {"set": "documents", "namespace": "films"}
    assert value(exercised, "layer_cache_lookups_total", result="hit", **labels) == 3
    assert value(exercised, "layer_cache_lookups_total", result="miss", **labels) == 4
    assert value(exercised, "layer_cache_lookup_duration_seconds_count", set="documents", result="partial") == 1


def test_names_that_fail_take_no_label():
    metrics = Metrics(namespaces_max=1)
    for number in range(50):
        metrics.observe_query(f"made-up-{number}", 404, 0.01, 0.01, False, True, "stable")
        metrics.observe_write(f"made-up-{number}", 400, 0.01, 0.01, 1)
    metrics.observe_query("films", 200, 0.01, 0.01, False, True, "stable")
    metrics.observe_query("second", 200, 0.01, 0.01, False, True, "stable")
    family = exported(metrics)["layer_query_duration_seconds"]
    assert {sample.labels["namespace"] for sample in family.samples} == {"films", "other"}


@pytest.mark.parametrize(
    ("code", "label"),
    [(200, "ok"), (202, "ok"), (304, "ok"), (404, "client_error"), (429, "throttled"), (503, "error"), (999, "error")],
)
def test_status_labels(code, label):
    assert status_label(code) == label


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"rows":[],"billing":{"billable_logical_bytes_queried":5,"billable_logical_bytes_returned":7}}', (0, 5, 7)),
        (
            b'{"billing": {"billable_logical_bytes_written": 3, "query": {"billable_logical_bytes_queried": 1,'
            b'"billable_logical_bytes_returned": 2}}, "performance": {"server_total_ms": 12}}',
            (3, 1, 2),
        ),
        (b'{"billing":{},"performance":{}}', (0, 0, 0)),
        (b'{"rows":[{"id":1,"billing":"x"}],"billing":{"billable_logical_bytes_written":9}}', (9, 0, 0)),
        (b'{"rows":[{"id":1,"t":"\\"billing\\":{"}]}', None),
        (b'{"billing":{"billable_logical_bytes_written":1}}' + b" " * 5_000, None),
        (b"", None),
    ],
)
def test_billing_is_read_from_the_end_of_an_answer(body, expected):
    assert read_billing(body) == (None if expected is None else Billing(*expected))
