"""Snapshots as data: hashes, keys, what they tell, and how the store is looked through."""

import orjson
import pytest

from hevlayer.errors import ValidationError
from hevlayer.gateway.snapshots.activity import Activity, read_cursor
from hevlayer.gateway.snapshots.body import BrokenSnapshotError, Facet, Histogram, Skipped, Snapshot, read_snapshot
from hevlayer.gateway.snapshots.counts import count_in
from hevlayer.gateway.snapshots.policy import Policies, Policy, duration_ms, duration_text, read_configured, read_policy
from hevlayer.gateway.snapshots.store import AD_HOC, SnapshotStore, entry_of, key_of
from hevlayer.stores.objects import LocalObjects
from hevlayer.testing.clock import FakeClock

DAY_MS = 86_400_000
NOW_MS = 1_747_300_000_123
TEXTS = Facet("a", "string", (("x", 1),), 2)
NUMBERS = Facet("b", "int", ((1, 2), (2, 1)), 0)


def snapshot(watermark_ms, rows=3, place="films"):
    return Snapshot.of(place, watermark_ms, Histogram(rows, (TEXTS,), ()))


def test_the_hash_is_of_the_counts_alone():
    one = Histogram(3, (NUMBERS, TEXTS), ())
    other = Histogram(3, (TEXTS, NUMBERS._replace(values=((2, 1), (1, 2)))), ())
    assert one.sha() == other.sha()
    assert Snapshot.of("films", 1, one).sha == Snapshot.of("other", 2, other, identity="then").sha
    different = [
        one,
        Histogram(4, one.fields, ()),
        Histogram(3, (NUMBERS._replace(type="string", values=(("1", 2), ("2", 1))), TEXTS), ()),
        Histogram(3, (NUMBERS, TEXTS._replace(missing_rows=1)), ()),
        Histogram(3, (NUMBERS, TEXTS), (Skipped("c", 10_000),)),
    ]
    assert len({each.sha() for each in different}) == len(different)


def test_a_body_is_read_back_as_it_was():
    made = Snapshot.of("films", 5, Histogram(3, (NUMBERS, TEXTS), (Skipped("c", 10_000),)), identity="then")
    assert read_snapshot("films", made.encode()) == made


@pytest.mark.parametrize(
    "spoil",
    [
        lambda body: body[:-1],
        lambda body: body.replace(b'["x",1]', b'["x",2]'),
        lambda body: orjson.dumps({**orjson.loads(body), "fields": None}),
        lambda body: b"[]",
    ],
)
def test_a_body_that_is_not_what_its_hash_says_is_never_used(spoil):
    with pytest.raises(BrokenSnapshotError):
        read_snapshot("films", spoil(snapshot(5).encode()))


def test_keys():
    made = Snapshot.of("a/b", 5, Histogram(0, (), ()))
    entry = entry_of(key_of(made))
    assert key_of(made) == f"snapshots/a~2fb/0000000000005-{made.sha[:7]}.json"
    assert (entry.place, entry.watermark_ms, entry.short_sha) == ("a/b", 5, made.sha[:7])
    for key in ("snapshots/a/manifest.json", "snapshots/a/12-3f9e8b.json", "snapshots/a", f"{AD_HOC}/a/b/c.json"):
        assert entry_of(key) is None


UUID = "0f1e2d3c-0000-4000-8000-000000000001"


@pytest.mark.parametrize(
    ("kind", "values", "missing", "filters", "rows"),
    [
        ("string", (("x", 3), ("y", 2)), 1, ["f", "Eq", "x"], 3),
        ("string", (("x", 3), ("y", 2)), 1, ["f", "In", ["x", "y", "x", "z"]], 5),
        ("string", (("x", 3),), 1, ["f", "In", "x"], 3),
        ("string", (("x", 3),), 1, ["f", "Eq", None], 1),
        ("string", (("1", 3),), 1, ["f", "Eq", 1], None),
        ("string", (("x", 3),), 1, ["f", "In", ["x", None]], None),
        ("int", ((1, 3),), 0, ["f", "Eq", 1], 3),
        ("int", ((1, 3),), 0, ["f", "Eq", True], None),
        ("int", ((1, 3),), 0, ["f", "Eq", 1.0], None),
        ("bool", ((True, 3),), 0, ["f", "Eq", True], 3),
        ("bool", ((True, 3),), 0, ["f", "Eq", 1], None),
        ("uuid", ((UUID, 3),), 0, ["f", "Eq", UUID.upper()], 3),
        ("uuid", ((UUID, 3),), 0, ["f", "Eq", "no uuid"], None),
        ("float", ((0.5, 3),), 0, ["f", "Eq", 0.5], None),
        ("datetime", (("2026-01-01T00:00:00Z", 3),), 0, ["f", "Eq", "2026-01-01"], None),
        ("[]string", (("x", 3),), None, ["f", "In", ["x"]], None),
        ("[]string", (("x", 3),), None, ["f", "Eq", None], None),
        ("string", (("x", 3),), 1, ["g", "Eq", "x"], None),
        ("string", (("x", 3),), 1, ["f", "NotEq", "x"], None),
        ("string", (("x", 3),), 1, ["Not", ["f", "Eq", "x"]], None),
        ("string", (("x", 3),), 1, None, None),
    ],
)
def test_what_a_snapshot_tells(kind, values, missing, filters, rows):
    made = Snapshot.of("films", 5, Histogram(6, (Facet("f", kind, values, missing),), ()))
    assert count_in(made, filters) == rows


# --- the store -------------------------------------------------------------------------------------------------------


@pytest.fixture
def objects(tmp_path):
    return LocalObjects(tmp_path)


@pytest.fixture
def store(objects):
    return SnapshotStore(objects, FakeClock(now_ms=NOW_MS))


AGES_MS = [0, 1, 3 * 3_600_000, DAY_MS, DAY_MS + 1, 9 * DAY_MS, 40 * DAY_MS, 400 * DAY_MS, NOW_MS]


async def fill(store, place="films", ages=AGES_MS):
    made = [snapshot(NOW_MS - age, rows=number, place=place) for number, age in enumerate(ages)]
    for each in made:
        assert await store.publish(each) == len(each.encode())
        # Of one time and content there is one.
        assert await store.publish(each) is None
    return made


async def test_newest_first_through_every_window(store):
    made = await fill(store)
    assert [entry.key for entry in await store.newest("films", 100)] == [key_of(each) for each in made]
    assert [entry.key for entry in await store.newest("films", 3)] == [key_of(each) for each in made[:3]]
    for at, each in enumerate(made):
        assert [entry.key for entry in await store.newest("films", 100, before=key_of(each))] == [
            key_of(later) for later in made[at + 1 :]
        ]
        found = await store.at("films", each.watermark_ms, each.sha[:7])
        assert found.key == key_of(each)
        assert await store.find("films", each.sha[:9]) == each
    assert await store.newest("film", 100) == []


async def test_ranges_of_time(store):
    made = await fill(store)
    for first in range(len(made)):
        for last in range(first, len(made)):
            since_ms, through_ms = made[last].watermark_ms, made[first].watermark_ms
            found = [entry.key async for entry in store.newest_first("films", since_ms=since_ms, through_ms=through_ms)]
            assert found == [key_of(each) for each in made[first : last + 1]]


async def test_pruning_leaves_the_latest(store):
    made = await fill(store, ages=[DAY_MS, 9 * DAY_MS, 40 * DAY_MS])
    await store.publish(made[2], where=AD_HOC)
    assert await store.prune("films", NOW_MS - 10 * DAY_MS) == 2
    assert [entry.key for entry in await store.newest("films", 9)] == [key_of(each) for each in made[:2]]
    assert await store.prune("films", NOW_MS) == 1
    assert [entry.key for entry in await store.newest("films", 9)] == [key_of(made[0])]
    assert await store.newest("films", 9, where=AD_HOC) == []


async def test_pages_of_the_activity_hold_each_event_once(store):
    """Also those of one moment, which pages may divide."""
    made = [*await fill(store), *await fill(store, "notes"), *await fill(store, "a/b")]
    everything = [entry.key for entry in (await Activity(store).page(0, 500, None, None)).entries]
    assert sorted(everything) == sorted(key_of(each) for each in made)
    for limit in (1, 2, 5, len(made)):
        seen, cursor = [], None
        while True:
            page = await Activity(store).page(0, limit, None, read_cursor(cursor))
            seen += [entry.key for entry in page.entries]
            cursor = page.cursor
            if cursor is None:
                break
        assert seen == everything


@pytest.mark.parametrize("text", ["", "!", "MTIz", "bm8gbnVtYmVy", "ä", "A" * 3_000])
def test_a_cursor_that_no_page_gave(text):
    if text == "MTIz":
        assert read_cursor(text) == (123, "")
        return
    with pytest.raises(ValidationError, match="cursor: not one"):
        read_cursor(text)


# --- policies --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "ms"), [("1ms", 1), ("90s", 90_000), ("5m", 300_000), ("36h", 129_600_000), ("2w", 14 * DAY_MS)]
)
def test_durations(text, ms):
    assert duration_ms("interval", text) == ms
    assert duration_ms("interval", duration_text(ms)) == ms


async def test_a_policy_goes_before_the_configuration_key_by_key(objects):
    policies = Policies(objects, read_configured('{"films": ["year"]}'), min_interval_ms=300_000)
    assert (await policies.rules("films")).as_json() == {
        "facetFields": ["year"],
        "interval": "5m",
        "retention": "never",
    }
    await policies.put("films", read_policy(b'{"interval": "1h", "retention": "30d"}'), 5)
    assert (await policies.rules("films")).as_json() == {"facetFields": ["year"], "interval": "1h", "retention": "30d"}
    await policies.put("films", read_policy(b'{"facetFields": [], "interval": "1s", "retention": "never"}'), 6)
    assert (await policies.rules("films")).as_json() == {"facetFields": [], "interval": "5m", "retention": "never"}
    assert await policies.places() == ["films"]
    await policies.delete("films", 5)
    assert await policies.places() == ["films"]
    await policies.delete("films", 6)
    assert await policies.places() == []
    assert policies.rules_of("other", Policy()).fields == ()


@pytest.mark.parametrize("text", ["[]", "{", '{"films": "year"}', '{"films": ["id"]}', '{"films": [1]}'])
def test_configured_fields_that_break_the_rule(text):
    with pytest.raises(ValueError, match="must be a JSON object of arrays of attribute names"):
        read_configured(text)
