"""Which columns are built, and which make room: decisions only, without a cache."""

import pytest

from hevlayer.gateway.scan.columns import (
    ASKS_MIN,
    CHANGED_BYTES_MAX,
    CHANGED_ROWS_MIN,
    CHANGED_SHARE,
    COLUMNS_MAX,
    ROWS_MIN,
    UNUSED_MS_MAX,
    Build,
    Columns,
    Demand,
    Drop,
    columns_that_fit,
    is_worn,
    plan_columns,
)
from hevlayer.kernels.filters import FilterSchema
from hevlayer.metrics import Metrics
from hevlayer.stores.doccache import DocumentCache
from hevlayer.stores.doccache_columns import ColumnFile
from hevlayer.testing.clock import FakeClock
from hevlayer.wire.reserved import STAMP_ATTRIBUTE

SCHEMA = FilterSchema(b'{"id":{"type":"uint"}}')
LARGE = 1 << 40
ROWS = 100_000


def demand(*names, asks=ASKS_MIN, asked_at=0.0, rows=ROWS, **more):
    return Demand(SCHEMA, asked_at, dict.fromkeys(names, asks), rows=rows, **more)


def file(namespace, columns=("a",), *, size=1_000_000, used_ms=0, rows=ROWS, **more):
    return ColumnFile(namespace, rows, size, (STAMP_ATTRIBUTE, *columns), used_ms, **more)


def test_what_is_asked_for_often_is_built():
    demands = {"films": demand("a", "b")}
    assert plan_columns([], demands, 0, 0, LARGE) == [Build("films", (STAMP_ATTRIBUTE, "a", "b"))]
    assert plan_columns([], {"films": demand("a", asks=ASKS_MIN - 1)}, 0, 0, LARGE) == []
    assert plan_columns([], {"films": demand("a", rows=ROWS_MIN - 1)}, 0, 0, LARGE) == []
    assert plan_columns([], {"films": demand("a", not_before=1.0)}, 0.9, 0, LARGE) == []
    assert plan_columns([file("films", ("a", "b"))], demands, 0, 0, LARGE) == []


def test_a_column_more_keeps_those_that_are_there():
    asked = demand("c", left_out=frozenset({"x"}))
    asked.asks["x"] = 100
    steps = plan_columns([file("films", ("a", "b"))], {"films": asked}, 0, 0, LARGE)
    assert steps == [Build("films", (STAMP_ATTRIBUTE, "c", "a", "b"))]


def test_those_asked_for_most_come_first_and_are_bounded():
    many = Demand(SCHEMA, 0, {f"a{number}": ASKS_MIN + number for number in range(100)}, rows=ROWS)
    (build,) = plan_columns([], {"films": many}, 0, 0, LARGE)
    assert build.attributes == (STAMP_ATTRIBUTE, *(f"a{99 - number}" for number in range(COLUMNS_MAX)))


def test_the_latest_question_is_served_first_and_one_build_at_a_time():
    demands = {"old": demand("a", asked_at=1.0), "new": demand("a", asked_at=2.0)}
    assert plan_columns([], demands, 5, 0, LARGE) == [Build("new", (STAMP_ATTRIBUTE, "a"))]


@pytest.mark.parametrize("where", ["changed_rows", "superseded_rows"])
def test_a_file_that_is_worn_is_built_anew(where):
    share = ROWS // CHANGED_SHARE
    assert not is_worn(file("films", **{where: share}))
    assert is_worn(file("films", **{where: share + 1}))
    assert not is_worn(file("films", rows=1_000, **{where: CHANGED_ROWS_MIN}))
    assert is_worn(file("films", changed_bytes=CHANGED_BYTES_MAX + 1))
    worn = file("films", **{where: share + 1})
    assert plan_columns([worn], {"films": demand("a")}, 0, 0, LARGE) == [Build("films", (STAMP_ATTRIBUTE, "a"))]


def test_the_least_used_makes_room():
    files = [file("first", used_ms=3), file("second", used_ms=1), file("third", used_ms=2)]
    assert plan_columns(files, {}, 0, 0, 3_000_000) == []
    assert plan_columns(files, {}, 0, 0, 2_500_000) == [Drop("second", "budget")]
    assert plan_columns(files, {}, 0, 0, 0) == [Drop(name, "budget") for name in ("second", "third", "first")]
    # A build makes room before it begins: so many rows with two columns take at least their ids and codes.
    steps = plan_columns(files, {"fourth": demand("a")}, 0, 0, 5_000_000)
    assert steps == [Drop("second", "budget"), Build("fourth", (STAMP_ATTRIBUTE, "a"))]
    # Columns that are built anew do not count twice.
    steps = plan_columns(files, {"first": demand("b")}, 0, 0, 3_500_000)
    assert steps == [Build("first", (STAMP_ATTRIBUTE, "b", "a"))]


def test_what_does_not_fit_is_not_begun():
    assert plan_columns([file("other")], {"films": demand("a")}, 0, 0, 1_100_000) == []
    # Without what only others asked for it may.
    steps = plan_columns([file("films", ("a", "b", "c"), size=4_000_000)], {"films": demand("d")}, 0, 0, 2_500_000)
    assert steps == [Build("films", (STAMP_ATTRIBUTE, "d"))]


def test_a_build_has_the_memory_it_needs():
    assert columns_that_fit(1_000_000) == COLUMNS_MAX
    assert columns_that_fit(10_000_000) == 3
    assert columns_that_fit(30_000_000) == 0
    asked = demand("a", "b", "c", "d", "e", rows=10_000_000)
    (build,) = plan_columns([], {"films": asked}, 0, 0, LARGE)
    assert build.attributes == (STAMP_ATTRIBUTE, "a", "b", "c")
    # What has no room is not asked for again and again.
    held = file("films", ("a", "b", "c"), size=1 << 28, rows=10_000_000)
    assert plan_columns([held], {"films": asked}, 0, 0, LARGE) == []
    assert plan_columns([], {"films": demand("a", rows=30_000_000)}, 0, 0, LARGE) == []


def test_what_nobody_reads_goes():
    files = [file("idle", used_ms=1), file("busy", used_ms=2)]
    now_ms = UNUSED_MS_MAX + 2
    assert plan_columns(files, {}, 0, now_ms, LARGE) == [Drop("idle", "unused")]
    # It is no drop of the one that is built anew.
    steps = plan_columns(files, {"idle": demand("b")}, 0, now_ms, LARGE)
    assert steps == [Build("idle", (STAMP_ATTRIBUTE, "b", "a"))]


async def test_without_a_cache_or_a_budget_nothing_is_noted():
    clock = FakeClock()
    columns = Columns(DocumentCache(None, clock), Metrics(), clock, bytes_max=LARGE)
    assert columns.bytes_max == 0
    assert await columns.find("films", frozenset({"a"}), SCHEMA, 1.0) is None
    await columns.run()
