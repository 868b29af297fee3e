"""Tables over the watcher's pure decisions."""

import orjson
import pytest

from hevlayer.gateway.consistency.decide import (
    Failed,
    Gone,
    Seen,
    after_failure,
    judge_poll,
    plan_delay,
    plan_watermark,
)
from hevlayer.gateway.consistency.facts import read_schema
from hevlayer.gateway.consistency.view import COLD, NO_SCHEMA, NamespaceView, Status, VectorField


@pytest.mark.parametrize(
    ("start", "margin", "floor", "expected"),
    [
        (10_000, 500, None, 9_500),
        (10_000, 500, 9_800, 9_500),
        (10_000, 500, 9_500, 9_499),
        (10_000, 500, 7_000, 6_999),
        # A write may begin in the poll's own millisecond: a margin of nothing would call it covered.
        (10_000, 0, None, 9_999),
        (10_000, 0, 10_000, 9_999),
        (10_000, 500, 0, None),
        (10_000, 500, 1, None),
        (300, 500, None, None),
    ],
)
def test_the_watermark_stays_below_the_poll_and_every_write_in_flight(start, margin, floor, expected):
    assert plan_watermark(start, margin, floor) == expected


def judged(before=COLD, status=200, body=None, *, start=10_000, floor=None):
    answer = orjson.dumps(body) if body is not None else b""
    return judge_poll(before, status, answer, poll_start_ms=start, floor_ms=floor, margin_ms=500)


def metadata(status="up-to-date", created="2026-11-20T20:00:00Z", **more):
    return {"schema": {"id": {"type": "uint"}}, "created_at": created, "index": {"status": status}, **more}


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (404, None, Gone()),
        (401, None, Failed("refused")),
        (403, None, Failed("refused")),
        (429, None, Failed("throttled")),
        (500, None, Failed("upstream_error")),
        (202, None, Failed("upstream_error")),
        (200, None, Failed("bad_answer")),
        (200, [], Failed("bad_answer")),
        (200, "text", Failed("bad_answer")),
    ],
)
def test_an_answer_that_says_nothing(status, body, expected):
    assert judged(status=status, body=body) == expected


def test_an_up_to_date_poll_moves_the_watermark():
    result = judged(body=metadata(approx_logical_bytes=7))
    assert isinstance(result, Seen)
    assert not result.recreated
    view = result.view
    assert (view.status, view.watermark_ms, view.polled_at_ms) == (Status.STABLE, 9_500, 10_000)
    assert (view.created_at, view.id_type, view.logical_bytes) == ("2026-11-20T20:00:00Z", "uint", 7)


def test_an_updating_poll_leaves_the_watermark():
    before = NamespaceView(status=Status.STABLE, watermark_ms=9_000, created_at="2026-11-20T20:00:00Z")
    result = judged(before, body=metadata("updating", index={"status": "updating", "unindexed_bytes": 12}))
    assert isinstance(result, Seen)
    assert (result.view.status, result.view.watermark_ms) == (Status.UPDATING, 9_000)
    assert result.view.unindexed_bytes == 12


def test_a_state_that_is_not_known_is_no_evidence():
    result = judged(body=metadata("compacting"))
    assert isinstance(result, Seen)
    assert (result.view.status, result.view.watermark_ms) == (Status.UNKNOWN, None)


def test_the_watermark_never_goes_back():
    before = NamespaceView(status=Status.STABLE, watermark_ms=9_900, created_at="2026-11-20T20:00:00Z")
    for floor in (None, 5_000):
        result = judged(before, body=metadata(), floor=floor)
        assert isinstance(result, Seen)
        assert result.view.watermark_ms == 9_900


def test_another_creation_time_is_another_namespace():
    before = NamespaceView(status=Status.UPDATING, watermark_ms=9_000, created_at="2025-01-01T00:00:00Z")
    result = judged(before, body=metadata("updating"))
    assert isinstance(result, Seen)
    assert result.recreated
    assert result.view.watermark_ms is None


@pytest.mark.parametrize(
    ("status", "idle", "failures", "previous", "writing", "expected"),
    [
        (Status.UPDATING, 3_600, 0, 60, False, 1.0),
        (Status.STABLE, 0, 0, 1, False, 1.0),
        (Status.STABLE, 59, 0, 1, False, 1.0),
        (Status.STABLE, 60, 0, 1, False, 2.0),
        (Status.STABLE, 100, 0, 32, False, 60.0),
        (Status.UNKNOWN, 100, 0, 60, False, 60.0),
        (Status.STABLE, 100, 0, 60, True, 1.0),
        (Status.UPDATING, 0, 1, 1, False, 2.0),
        (Status.UPDATING, 0, 3, 1, False, 8.0),
        (Status.UPDATING, 0, 10_000, 60, False, 10.0),
        (Status.STABLE, 59, 10_000, 60, False, 10.0),
        (Status.STABLE, 60, 10_000, 60, False, 60.0),
    ],
)
def test_when_the_next_poll_is_due(status, idle, failures, previous, writing, expected):
    delay = plan_delay(
        status,
        idle_seconds=idle,
        failures=failures,
        previous_seconds=previous,
        interval_seconds=1.0,
        writing=writing,
        jitter=0.0,
    )
    assert delay == expected


def test_an_interval_above_the_backoff_is_kept_and_jitter_only_shortens():
    arguments = {"idle_seconds": 1e6, "failures": 0, "previous_seconds": 90.0, "writing": False}
    assert plan_delay(Status.STABLE, interval_seconds=90.0, jitter=0.0, **arguments) == 90.0
    assert plan_delay(Status.STABLE, interval_seconds=90.0, jitter=1.0, **arguments) == pytest.approx(81.0)


@pytest.mark.parametrize(
    ("status", "age_ms", "expected"),
    [
        (Status.STABLE, 30_000, Status.STABLE),
        (Status.STABLE, 30_001, Status.UNKNOWN),
        (Status.UPDATING, 3_600_000, Status.UPDATING),
        (Status.UNKNOWN, 0, Status.UNKNOWN),
    ],
)
def test_what_is_known_after_a_poll_that_says_nothing(status, age_ms, expected):
    view = NamespaceView(status=status, watermark_ms=5, polled_at_ms=1_000_000)
    after = after_failure(view, 1_000_000 + age_ms)
    assert (after.status, after.watermark_ms) == (expected, 5)
    assert after_failure(COLD, 10**12) == COLD


def test_facts_of_a_schema():
    facts = read_schema(
        {
            "id": {"type": "uuid"},
            "title": {"type": "string", "filterable": False},
            "seen": {"type": "datetime"},
            "vector": {"type": "[384]f16", "ann": {"distance_metric": "cosine_distance"}},
            "late": {"type": "[][64]f32", "ann": {"distance_metric": "cosine_distance"}},
            "weights": {"type": "{}f16", "sparse_knn": {"distance_metric": "dot_product"}},
            "_hevlayer_upserted_at": {"type": "int", "filterable": True},
        }
    )
    assert facts.stamped
    assert facts.id_type == "uuid"
    assert facts.distance_metric == "cosine_distance"
    assert facts.vectors == (VectorField("vector", 384, "f16"), VectorField("late", 64, "f32"))
    assert facts.fields == ("id", "late", "seen", "title", "vector", "weights")
    assert (facts.has_f16, facts.has_datetime, facts.has_embedding) == (True, True, False)
    assert not facts.stored_forms_known


@pytest.mark.parametrize("schema", [None, [], "text", 3])
def test_a_schema_that_is_no_map_has_no_facts(schema):
    assert read_schema(schema) == NO_SCHEMA


def test_strange_schema_entries_are_skipped():
    facts = read_schema({"id": "string", "a": None, "b": {"type": 3}, "vector": {"type": "[2]f32", "ann": True}})
    assert facts.id_type == "string"
    assert facts.distance_metric is None
    assert facts.stored_forms_known


def test_an_embedded_attribute_is_rewritten_upstream():
    assert read_schema({"text": {"type": "string", "embed": {"model": "m"}}}).has_embedding
    assert read_schema({"$embed_text": {"type": "[8]f32"}}).has_embedding
