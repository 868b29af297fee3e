"""A day of ten million entries: what one list reads of it, whoever wrote it and whatever is asked."""

import json
from bisect import bisect_left, bisect_right

import pytest

from hevlayer.gateway.history.entry import NANOS_PER_SECOND, Feed, Line, object_name, prefix_of, read_name
from hevlayer.gateway.history.reader import OBJECTS_READ_MAX, Bodies, Reader, Wanted
from hevlayer.stores.objects import LIST_KEYS_MAX

DAY_SECONDS = 86_400
ENTRIES = 10_000_000
# Midnight of 2026-09-21, in UTC.
START = 1_789_948_800 * NANOS_PER_SECOND
NAMESPACE = "films"
FEED = Feed.SEARCHES
# Entries with the rare tag: one in so many objects.
RARE = 2_000


class LargeDay:
    """A store that makes its objects when they are read: one a second of each gateway, as a flush writes them."""

    def __init__(self, gateways):
        self.names = sorted(
            START + second * NANOS_PER_SECOND + 1000 * gateway + gateway
            for second in range(DAY_SECONDS)
            for gateway in range(gateways)
        )
        self.lines_each = -(-ENTRIES // len(self.names))
        self.gets = 0
        self.lists = 0

    def tags(self, nanos):
        return ["all", "rare"] if bisect_left(self.names, nanos) % RARE == 0 else ["all"]

    async def get(self, key):
        self.gets += 1
        first = read_name(key)
        tags = json.dumps(self.tags(first)).encode()
        step = NANOS_PER_SECOND // 1000 // self.lines_each * 1000
        rest = b',"trace_id":"%032x","tags":%b}' % (first, tags)
        return b"".join(Line(first + number * step, rest).text() + b"\n" for number in range(self.lines_each))

    async def list_keys(self, prefix, *, after="", before="", limit=LIST_KEYS_MAX):
        self.lists += 1
        assert prefix == prefix_of(FEED, NAMESPACE)
        assert before == ""
        # Keys sort as their nanoseconds do; `after` may be a key, or one without its ending.
        is_key = after.endswith(".jsonl")
        low = read_name(after if is_key else f"{after}.jsonl") if after else 0
        begin = bisect_right(self.names, low) if is_key else bisect_left(self.names, low)
        return [object_name(FEED, NAMESPACE, nanos) for nanos in self.names[begin : begin + limit]]


class Nothing:
    def pending(self, feed, namespace):
        return []


@pytest.fixture(scope="module", params=[1, 3], ids=["one gateway", "three gateways"])
def day(request):
    return LargeDay(request.param)


async def page_of(day, wanted):
    """The page, and how many objects and listings it took."""
    day.gets = day.lists = 0
    reader = Reader(day, Nothing(), Bodies(), lambda: START + DAY_SECONDS * NANOS_PER_SECOND)
    page = await reader.page(wanted)
    return page, day.gets, day.lists


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"limit": 500},
        {"tags": frozenset({"all"}), "limit": 500},
        {"tags": frozenset({"rare"})},
        {"tags": frozenset({"none"})},
        {"trace_id": "f" * 32},
        {"scope": "ab"},
        {"until_nanos": START + DAY_SECONDS // 2 * NANOS_PER_SECOND + 1},
        {"from_nanos": START + 60 * NANOS_PER_SECOND, "tags": frozenset({"none"})},
        {"until_nanos": START + 61 * NANOS_PER_SECOND, "tags": frozenset({"none"})},
    ],
    ids=lambda asked: ",".join(asked) or "newest",
)
async def test_a_list_reads_200_objects_at_most_and_tells_where_to_go_on(day, asked):
    assert len(day.names) * day.lines_each >= ENTRIES
    page, gets, lists = await page_of(day, Wanted(FEED, NAMESPACE, **asked))
    assert gets <= OBJECTS_READ_MAX == 200
    assert lists <= 64
    if page.next_nanos is None:
        # All that was asked for is a minute at the day's beginning.
        assert asked["until_nanos"] == START + 61 * NANOS_PER_SECOND
    elif len(page.entries) < asked.get("limit", 50):
        assert gets > OBJECTS_READ_MAX // 2, "a page was given up early"
    times = [entry.nanos for entry in page.entries]
    assert times == sorted(times, reverse=True)


async def test_its_newest_entries_cost_a_handful_of_objects(day):
    page, gets, lists = await page_of(day, Wanted(FEED, NAMESPACE))
    assert len(page.entries) == 50
    assert gets <= 16
    assert lists <= 8


async def test_its_pages_find_a_rare_tag_however_far_down_it_is(day):
    wanted = Wanted(FEED, NAMESPACE, tags=frozenset({"rare"}), until_nanos=day.names[3 * RARE] + NANOS_PER_SECOND)
    found, pages, until = [], 0, wanted.until_nanos
    for _ in range(200):
        page, gets, _ = await page_of(day, Wanted(FEED, NAMESPACE, tags=wanted.tags, until_nanos=until, limit=500))
        assert gets <= OBJECTS_READ_MAX
        pages += 1
        found += [int(entry.trace_id, 16) for entry in page.entries]
        if page.next_nanos is None or page.next_nanos < day.names[2 * RARE]:
            break
        assert page.next_nanos < until
        until = page.next_nanos
    assert set(found) == {day.names[3 * RARE], day.names[2 * RARE]}
    assert len(found) == 2 * day.lines_each
    assert pages > RARE // OBJECTS_READ_MAX
