"""Lines on their way to the store: batches, the bound on objects, a store that fails, hangs or forgets to answer."""

import asyncio
import json
import random

import pytest
from history_world import Counted, Objects

from hevlayer.gateway.history.entry import SPAN_NANOS, Feed, Line, object_name
from hevlayer.gateway.history.writer import FLUSH_SECONDS, OBJECTS_PER_SECOND, STOP_SECONDS, Writer
from hevlayer.testing.clock import FakeClock

START = 1_790_000_000 * 10**9
FEED = Feed.SEARCHES
NAME = FEED.value


class House:
    def __init__(self, **limits):
        self.clock = FakeClock()
        self.objects = Objects(self.clock)
        self.metrics = Counted()
        self.told = []
        self.writer = Writer(
            self.objects,
            self.clock,
            self.metrics,
            rng=random.Random(7),
            written=lambda name, body: self.told.append(name),
            **limits,
        )
        self.task = asyncio.create_task(self.writer.run())
        self.number = 0

    def add(self, namespace="films", nanos=None):
        self.number += 1
        nanos = START + self.number * 1000 if nanos is None else nanos
        self.writer.add(FEED, namespace, Line(nanos, b',"n":%d}' % self.number))
        return nanos

    def stored(self):
        return [json.loads(line)["n"] for line in self.objects.lines()]

    async def close(self):
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


@pytest.fixture
async def house():
    made = House()
    yield made
    await made.close()


async def test_lines_wait_for_company_and_become_one_object(house):
    first = house.add()
    for _ in range(9):
        house.add()
    await house.clock.advance(FLUSH_SECONDS / 2)
    assert house.objects.bodies == {}
    assert len(house.writer.pending(FEED, "films")) == 10
    await house.clock.advance(FLUSH_SECONDS)
    name = f"search-history/films/2026-09-21/{first}.jsonl"
    assert list(house.objects.bodies) == [name] == house.told
    assert house.stored() == list(range(1, 11))
    assert house.writer.pending(FEED, "films") == []
    assert house.writer.pending_bytes == 0
    assert house.metrics.records[NAME, "written"] == 10


async def test_under_ten_objects_a_second_at_any_number_of_namespaces(house):
    for _ in range(30):
        for number in range(200):
            house.add(f"ns{number}")
        await house.clock.advance(1.0)
    assert most_in_a_second(house) <= OBJECTS_PER_SECOND < 10
    assert len(house.objects.put_at) > 250
    # Each namespace had its turn, oldest first, and took all that waited with it.
    assert len({key.split("/")[1] for _, key in house.objects.put_at}) == 200
    house.task.cancel()
    await house.writer.stop()
    assert sorted(house.stored()) == list(range(1, 6001))


async def test_under_ten_objects_a_second_after_a_silence_and_with_more_lines_than_they_can_take():
    house = House(pending_bytes_max=10 << 20)
    long = b"x" * (1 << 18)
    for silence in (30.0, 30.0, 0.1, 0.1, 0.1, 5.0):
        await house.clock.advance(silence)
        for number in range(40):
            house.number += 1
            text = b',"n":%d,"text":"%b"}' % (house.number, long)
            house.writer.add(FEED, f"ns{number % 3}", Line(START + house.number * 1000, text))
    await house.clock.advance(30.0)
    assert most_in_a_second(house) <= OBJECTS_PER_SECOND < 10
    dropped, written = (house.metrics.records[NAME, outcome] for outcome in ("dropped", "written"))
    assert dropped > 0
    assert dropped + written == house.number == 240
    await house.close()


def most_in_a_second(house):
    times = [at for at, _ in house.objects.put_at]
    # A hair less than a second: the clock's own steps are tenths that do not add up exactly.
    return max(sum(start <= at < start + 0.999 for at in times) for start in times)


async def test_a_store_that_is_down_loses_nothing_for_a_while(house):
    house.objects.broken = True
    for _ in range(20):
        house.add()
        await house.clock.advance(1.0)
    assert len(house.writer.pending(FEED, "films")) == 20
    house.objects.broken = False
    await house.clock.advance(30.0)
    assert house.stored() == list(range(1, 21))
    assert house.metrics.records[NAME, "dropped"] == 0
    assert house.metrics.records[NAME, "retried"] > 0


async def test_past_the_bound_the_oldest_are_dropped_and_counted():
    house = House(pending_bytes_max=20 * 100)
    house.objects.broken = True
    for number in range(100):
        house.add(f"ns{number % 10}")
        await house.clock.advance(0.5)
    dropped = house.metrics.records[NAME, "dropped"]
    assert 75 <= dropped <= 95
    assert house.writer.pending_bytes <= 20 * 100
    house.objects.broken = False
    await house.clock.advance(60.0)
    assert len(house.stored()) == 100 - dropped
    assert max(house.stored()) == 100
    await house.close()


async def test_a_hanging_store_holds_a_bounded_number_of_puts_and_nobody_up(house):
    house.objects.hanging = True
    for number in range(100):
        house.add(f"ns{number}")
    await house.clock.advance(60.0)
    assert len(house.writer._writing) == 8
    assert len(house.writer.pending(FEED, "ns0")) == 1
    house.objects.go_on.set()
    await house.clock.advance(60.0)
    assert len(house.stored()) == 100


async def test_an_answer_that_was_lost_does_not_write_twice(house):
    house.objects.lost_answers = 1
    house.add()
    await house.clock.advance(20.0)
    assert house.stored() == [1]
    assert house.metrics.records[NAME, "written"] == 1


async def test_a_name_of_another_gateway_is_stepped_over(house):
    nanos = house.add()
    house.add()
    other = object_name(FEED, "films", nanos)
    house.objects.bodies[other] = b'{"n":0}\n'
    await house.clock.advance(5.0)
    assert house.objects.bodies[other] == b'{"n":0}\n'
    read = [json.loads(line) for line in house.objects.lines()]
    assert [each["n"] for each in read] == [0, 1, 2]
    assert [each["timestamp_nanos"] for each in read[1:]] == [nanos + 1000, nanos + 2000]


async def test_an_object_is_of_one_day_and_of_one_span(house):
    midnight = (START // (86_400 * 10**9) + 1) * 86_400 * 10**9
    for nanos in (midnight - 2000, midnight - 1000, midnight, midnight + SPAN_NANOS + 1000):
        house.add(nanos=nanos)
    await house.clock.advance(5.0)
    assert [key.split("/")[2] for key in sorted(house.objects.bodies)] == ["2026-09-21", "2026-09-22", "2026-09-22"]
    assert house.stored() == [1, 2, 3, 4]


async def test_a_stop_writes_everything_at_once(house):
    for number in range(50):
        house.add(f"ns{number}")
    house.task.cancel()
    await house.writer.stop()
    assert sorted(house.stored()) == list(range(1, 51))
    assert house.writer.pending_bytes == 0


async def test_a_stop_does_not_wait_for_a_store_that_hangs(house, monkeypatch):
    monkeypatch.setattr("hevlayer.gateway.history.writer.STOP_SECONDS", 0.05)
    assert STOP_SECONDS <= 10
    house.objects.hanging = True
    house.add()
    house.add("other")
    house.task.cancel()
    await house.writer.stop()
    assert house.metrics.records[NAME, "dropped"] == 2


async def test_a_purged_namespace_s_lines_are_forgotten(house):
    house.add("films")
    house.add("other")
    house.writer.forget(FEED, "films")
    await house.clock.advance(5.0)
    assert house.stored() == [2]
    assert house.writer.pending_bytes == 0
