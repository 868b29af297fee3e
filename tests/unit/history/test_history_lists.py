"""Lists: pages put together are everything, newest first, each once, whoever wrote it and wherever it still is."""

import json
import random
from dataclasses import replace

import pytest
from history_world import Counted, Objects

from hevlayer.errors import ServiceUnavailableError
from hevlayer.gateway.history.entry import SPAN_NANOS, WRITERS, Feed, Line, object_name
from hevlayer.gateway.history.reader import OBJECTS_READ_MAX, ROUND_OBJECTS, Bodies, Reader, Wanted, plan_reads
from hevlayer.gateway.history.writer import Writer
from hevlayer.testing.clock import FakeClock

START = 1_790_000_000 * 10**9
SECOND = 10**9
FEED = Feed.SEARCHES


def line(nanos, *, tags=(), trace_id="", scope=""):
    rest = {"trace_id": trace_id, "tags": list(tags)} | ({"scope": scope} if scope else {})
    return Line(nanos, b"," + json.dumps(rest, separators=(",", ":")).encode()[1:])


class World:
    """Several gateways that write one namespace, and a reader beside the last of them."""

    def __init__(self, *, objects_max=OBJECTS_READ_MAX):
        self.objects = Objects()
        self.writers = [
            Writer(self.objects, FakeClock(), Counted(), rng=random.Random(each)) for each in range(4)
        ]  # fmt: skip
        self.now = START
        self.reader = Reader(self.objects, self.writers[-1], Bodies(), lambda: self.now, objects_max=objects_max)

    def store(self, lines):
        """One object of these lines, as a flush writes it."""
        body = b"".join(each.text() + b"\n" for each in lines)
        name = object_name(FEED, "films", lines[0].nanos)
        assert name not in self.objects.bodies
        self.objects.bodies[name] = body

    def wait(self, each):
        self.writers[-1].add(FEED, "films", each)

    async def pages(self, wanted, pages_max=10_000):
        pages = []
        for _ in range(pages_max):
            self.objects.gets = 0
            page = await self.reader.page(wanted)
            assert len(page.entries) <= wanted.limit
            pages.append(page)
            if page.next_nanos is None:
                return pages
            assert page.next_nanos < wanted.until_nanos
            wanted = replace(wanted, until_nanos=page.next_nanos)
        raise AssertionError("the pages do not end")

    async def nanos(self, wanted):
        return [entry.nanos for page in await self.pages(wanted) for entry in page.entries]


def history(rng, world):
    """Random lines of up to four gateways: bursts and silences, small and long objects, some not stored yet."""
    written = []
    for number in range(rng.randint(1, 4)):
        nanos = START + rng.choice([0, 1, 3_600, 40 * 86_400]) * SECOND
        for _ in range(rng.randint(1, 30)):
            nanos += int(rng.choice([0.001, 0.5, 20, 4_000, 200_000]) * SECOND)
            lines, first = [], nanos
            for _ in range(rng.randint(1, 6)):
                lines.append(line(nanos // WRITERS * WRITERS + number))
                nanos += int(rng.choice([0.00001, 1, 100]) * SECOND)
                if nanos - first > SPAN_NANOS:
                    break
            day = lines[0].nanos // (86_400 * SECOND)
            lines = [each for each in lines if each.nanos // (86_400 * SECOND) == day]
            world.store(lines)
            written += [each.nanos for each in lines]
        world.now = max(world.now, nanos)
    for _ in range(rng.randint(0, 5)):
        world.now += SECOND
        last = line(world.now // WRITERS * WRITERS + 9)
        world.wait(last)
        written.append(last.nanos)
    return sorted(written, reverse=True)


@pytest.mark.parametrize("seed", range(40))
async def test_pages_together_are_everything_newest_first_each_once(seed):
    rng = random.Random(seed)
    world = World(objects_max=rng.choice([10, 50, OBJECTS_READ_MAX]))
    written = history(rng, world)
    limit = rng.choice([1, 7, 50, 500])
    assert await world.nanos(Wanted(FEED, "films", limit=limit)) == written
    low, high = sorted(rng.sample(range(min(written) - 1, max(written) + 2), 2))
    bounded = Wanted(FEED, "films", limit=limit, from_nanos=low, until_nanos=high)
    assert await world.nanos(bounded) == [each for each in written if low <= each < high]


async def test_a_day_of_many_objects_is_read_200_at_a_time():
    world = World()
    for second in range(3_000):
        world.store([line(START + second * SECOND, tags=["rare"] if second % 600 == 0 else [])])
    world.now = START + 3_001 * SECOND
    page = await world.reader.page(Wanted(FEED, "films", tags=frozenset({"rare"})))
    assert (page.entries, world.objects.gets) == ([], OBJECTS_READ_MAX)
    assert world.objects.lists < 20
    assert page.next_nanos is not None
    # Nothing was skipped, and nothing is looked at twice.
    found = await world.nanos(Wanted(FEED, "films", tags=frozenset({"rare"})))
    assert found == [START + second * SECOND for second in (2_400, 1_800, 1_200, 600, 0)]


async def test_the_newest_of_a_long_history_costs_few_objects():
    world = World()
    for second in range(1_500):
        world.store([line(START + second * SECOND + each * 1000) for each in range(10)])
    world.now = START + 1_501 * SECOND
    page = await world.reader.page(Wanted(FEED, "films"))
    assert len(page.entries) == 50
    assert world.objects.gets <= 2 * ROUND_OBJECTS
    assert world.objects.lists <= 5


async def test_a_sparse_history_is_found_in_few_requests():
    world = World()
    world.store([line(START - 300 * 86_400 * SECOND)])
    assert len(await world.pages(Wanted(FEED, "films"))) == 1
    assert world.objects.lists <= 20


async def test_what_was_read_is_not_fetched_again():
    world = World()
    for second in range(20):
        world.store([line(START + second * SECOND)])
    world.now = START + 60 * SECOND
    await world.reader.page(Wanted(FEED, "films"))
    before = world.objects.gets
    await world.reader.page(Wanted(FEED, "films"))
    assert world.objects.gets == before


async def test_filters_are_and():
    world = World()
    world.store(
        [
            line(START, tags=["a"], trace_id="1", scope="ab"),
            line(START + 1000, tags=["a", "b"], trace_id="2", scope="cd"),
            line(START + 2000, tags=["b", "c"], trace_id="2"),
        ]
    )

    async def found(**filters):
        return [(each - START) // 1000 for each in await world.nanos(Wanted(FEED, "films", **filters))]

    assert await found() == [2, 1, 0]
    assert await found(tags=frozenset("a")) == [1, 0]
    assert await found(tags=frozenset("ab")) == [1]
    assert await found(trace_id="2") == [2, 1]
    assert await found(trace_id="2", tags=frozenset("c")) == [2]
    assert await found(scope="ab") == [0]
    page = await world.reader.page(Wanted(FEED, "films"))
    assert all(b"scope" not in entry.told for entry in page.entries)


async def test_what_is_not_ours_in_the_bucket_is_left_out():
    world = World()
    world.store([line(START)])
    name = object_name(FEED, "films", START + 5000)
    world.objects.bodies[name] = b'no record\n{"timestamp_nanos":"x"}\n\n' + line(START + 6000).text()
    world.objects.bodies["search-history/films/2026-09-21/readme.jsonl"] = b"hello"
    world.objects.bodies["search-history/filmstrip/2026-09-21/1790000000000000000.jsonl"] = line(START).text()
    assert await world.nanos(Wanted(FEED, "films")) == [START + 6000, START]


async def test_a_store_that_is_down_is_an_error_and_not_a_short_list():
    world = World()
    world.wait(line(START))
    world.objects.broken = True
    with pytest.raises(ServiceUnavailableError):
        await world.reader.page(Wanted(FEED, "films"))


def test_a_plan_reads_of_each_gateway_the_object_before():
    one, two = [START + each * SECOND for each in (0, 10, 20)], [START + 1 + each * SECOND for each in (5, 15)]
    names = sorted(one + two)
    # From second 12 on: the objects named there, and of each gateway the one before.
    reads, floor = plan_reads(names, set(), START + 12 * SECOND, 100)
    assert (sorted(reads), floor) == (names[1:], START + 12 * SECOND)
    # With room for three: one object and what may reach into it.
    reads, floor = plan_reads(names, set(), START, 3)
    assert (sorted(reads), floor) == (sorted([one[2], one[1], two[1]]), one[2])
    # Those that were read are not read again.
    assert plan_reads(names, set(names), START, 3) == ([], START)


def test_bodies_are_bounded():
    bodies = Bodies(bytes_max=10)
    bodies.put("a", b"12345")
    bodies.put("b", b"12345")
    assert bodies.get("a") == b"12345"
    bodies.put("c", b"1")
    assert bodies.get("b") is None
    assert bodies.get("a") == b"12345"
    bodies.put("large", b"x" * 11)
    assert bodies.get("large") is None


@pytest.mark.parametrize("ahead", [SPAN_NANOS * 3, 86_400 * SECOND])
async def test_a_clock_that_was_set_back_hides_nothing(ahead):
    world = World()
    nanos = [START - SPAN_NANOS * 2, START - SECOND, START + ahead, START + ahead + SPAN_NANOS]
    for each in nanos:
        world.store([line(each)])
    page = await world.reader.page(Wanted(FEED, "films"))
    assert [entry.nanos for entry in page.entries] == nanos[::-1]
    assert page.next_nanos is None
    pages = await world.pages(Wanted(FEED, "films", limit=1))
    assert [entry.nanos for page in pages for entry in page.entries] == nanos[::-1]
