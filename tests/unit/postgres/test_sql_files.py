"""Named SQL files and the plan of migrations."""

import pytest

from hevlayer.stores.postgres.migrations import Migration, MigrationError, load_migrations, plan_migrations
from hevlayer.stores.postgres.queries import SQL_DIRECTORY, load_queries, parse_queries

KNOWN = (Migration(1, "one", "SELECT 1"), Migration(2, "two", "SELECT 2"))


def test_parameters_are_numbered_by_first_use():
    queries = parse_queries("""
-- find --
-- Casts and comments with a :colon stay out of it.
SELECT :b::text, x FROM t WHERE a = :a AND b = :b;

-- all --
SELECT 1
""")
    assert queries["find"].sql == "SELECT $1::text, x FROM t WHERE a = $2 AND b = $1"
    assert queries["find"].parameters == ("b", "a")
    assert queries["find"].arguments({"a": 1, "b": 2}) == [2, 1]
    assert queries["all"].arguments({}) == []


@pytest.mark.parametrize("values", [{}, {"a": 1}, {"a": 1, "b": 2, "c": 3}])
def test_missing_and_extra_values_are_told(values):
    query = parse_queries("-- find --\nSELECT :a, :b")["find"]
    with pytest.raises(TypeError, match=r"find takes \['a', 'b'\]"):
        query.arguments(values)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("SELECT 1\n-- a --\nSELECT 2", "before the first heading"),
        ("-- a --\nSELECT 1\n-- a --\nSELECT 2", "called 'a'"),
    ],
)
def test_a_file_that_is_not_in_order_is_refused(text, rule):
    with pytest.raises(ValueError, match=rule):
        parse_queries(text)


def test_every_file_of_the_package_can_be_read():
    files = [path.name for path in SQL_DIRECTORY.glob("*.sql")]
    assert files
    for name in files:
        assert load_queries(name)
    assert load_migrations()


def test_what_is_not_applied_is_left():
    assert plan_migrations(KNOWN, {}) == KNOWN
    assert plan_migrations(KNOWN, {1: KNOWN[0].fingerprint}) == KNOWN[1:]
    assert plan_migrations(KNOWN, {each.version: each.fingerprint for each in KNOWN} | {3: "newer"}) == ()


def test_another_text_is_refused():
    with pytest.raises(MigrationError, match=r"0002 \(two\)"):
        plan_migrations(KNOWN, {1: KNOWN[0].fingerprint, 2: "another"})
