"""The recorder: what is taken, what is dropped, and when it is written out."""

import asyncio
import json
import random
from types import SimpleNamespace

import pytest
from history_world import Counted, Objects

from hevlayer.gateway.history.entry import WRITERS, Feed
from hevlayer.gateway.history.recorder import DRAIN_SECONDS, Recorder
from hevlayer.gateway.history.writer import Writer
from hevlayer.gateway.trail import FROM_CACHE, FROM_UPSTREAM, ServedQuery
from hevlayer.stores.turbopuffer import Answer
from hevlayer.testing.clock import FakeClock

TRACE = "0af7651916cd43dd8448eb211c80319c"


class Request:
    def __init__(self, headers):
        self.headers = headers

    def header(self, name):
        return self.headers.get(name)

    def header_values(self, name):
        return [self.headers[name]] if name in self.headers else []


def context(namespace="films", headers=None, scope=b""):
    return SimpleNamespace(
        namespace=namespace,
        request=Request(headers or {}),
        trace_id=TRACE,
        credential=SimpleNamespace(scope=scope),
    )


def served(body=b'{"top_k":1}', answer=b'{"rows":[{"id":1}]}', stable_as_of_ms=None):
    return ServedQuery(None, body, Answer(200, [], answer), stable_as_of_ms)


class House:
    def __init__(self, **settings):
        self.clock = FakeClock()
        self.metrics = Counted()
        self.nanos = 1_790_000_000 * 10**9
        self.writer = Writer(Objects(), self.clock, self.metrics, rng=random.Random(7))
        self.recorder = Recorder(
            self.writer, self.clock, self.metrics, writer_number=7, now_nanos=lambda: self.nanos, **settings
        )

    async def read(self, feed=Feed.SEARCHES, namespace="films"):
        await self.recorder.drain()
        return [json.loads(line.text()) for line in self.writer.pending(feed, namespace)]


@pytest.fixture
def house():
    return House()


async def test_a_query_with_everything(house):
    headers = {b"x-hevlayer-search-query": "fünf".encode(), b"x-hevlayer-tags": b"b,a"}
    house.recorder.queried(context(headers=headers), served(stable_as_of_ms=77))
    [entry] = await house.read()
    assert entry == {
        "timestamp": "2026-09-21T14:13:20.000Z",
        "timestamp_nanos": 1_790_000_000_000_000_007,
        "namespace": "films",
        "trace_id": TRACE,
        "raw_query": "fünf",
        "stable_as_of": 77,
        "query": {"top_k": 1},
        "top_result_ids": ["1"],
        "tags": ["a", "b"],
    }


async def test_what_is_not_there_is_left_out(house):
    house.recorder.queried(context(scope=b"\xab"), served())
    [entry] = await house.read()
    assert "raw_query" not in entry
    assert "stable_as_of" not in entry
    assert entry["tags"] == []
    assert entry["scope"] == "ab"


async def test_a_query_text_is_bounded_and_may_be_broken(house):
    headers = {b"x-hevlayer-search-query": b"\xff" + b"x" * 10_000}
    house.recorder.queried(context(headers=headers, namespace="a\ud800b"), served())
    [entry] = await house.read(namespace="a\ud800b")
    assert entry["raw_query"].startswith("\ufffdxxx")
    assert len(entry["raw_query"]) == 8192
    assert entry["namespace"] == "a?b"


async def test_nanoseconds_are_unique_and_tell_the_gateway(house):
    for _ in range(50):
        house.recorder.queried(context(), served())
    house.nanos -= 10**9
    house.recorder.fetched(context(headers={b"x-hevlayer-tags": b"a"}), ("1", "2", "3"), FROM_CACHE)
    house.nanos += 10**12
    house.recorder.queried(context(), served())
    searches, clicks = await house.read(), await house.read(Feed.CLICKS)
    nanos = [each["timestamp_nanos"] for each in (*searches[:50], *clicks, *searches[50:])]
    assert nanos == sorted(set(nanos))
    assert {each % WRITERS for each in nanos} == {7}


@pytest.mark.parametrize(
    ("headers", "events"),
    [
        ({}, 0),
        ({b"x-hevlayer-tags": b"session:1"}, 2),
        ({b"traceparent": b"00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01"}, 2),
        ({b"x-hevlayer-search-query": b"q"}, 0),
    ],
)
async def test_a_fetch_is_recorded_when_it_says_what_it_belongs_to(house, headers, events):
    house.recorder.fetched(context(headers=headers), ("a", "b"), FROM_UPSTREAM)
    read = await house.read(Feed.CLICKS)
    assert [(each["doc_id"], each["source"], each["served_from"]) for each in read] == [
        ("a", "fetch", "upstream"),
        ("b", "fetch", "upstream"),
    ][:events]


async def test_a_namespace_that_turned_it_off_leaves_nothing():
    house = House(off=["secret"])
    tagged = {b"x-hevlayer-tags": b"a"}
    house.recorder.queried(context("secret"), served())
    house.recorder.fetched(context("secret", tagged), ("1",), FROM_CACHE)
    house.recorder.queried(context("open"), served())
    assert await house.read(namespace="secret") == []
    assert await house.read(Feed.CLICKS, "secret") == []
    assert len(await house.read(namespace="open")) == 1


@pytest.mark.parametrize("limits", [{"queue_records_max": 3}, {"queue_bytes_max": 3 * 30 + 5}])
async def test_the_queue_is_bounded_and_drops_are_counted(limits):
    house = House(**limits)
    for _ in range(5):
        house.recorder.queried(context(), served())
    house.recorder.fetched(context(headers={b"x-hevlayer-tags": b"a"}), ("1" * 40,), FROM_CACHE)
    assert house.metrics.records == {("search-history", "dropped"): 2, ("clickstream", "dropped"): 1}
    assert len(await house.read()) == 3
    house.recorder.queried(context(), served())
    assert len(await house.read()) == 4


async def test_it_writes_out_later_and_lets_others_run_in_between(house):
    for _ in range(100):
        house.recorder.queried(context(), served())
    steps = 0
    task = asyncio.create_task(house.recorder.drain())
    while not task.done():
        steps += 1
        await asyncio.sleep(0)
    assert steps >= 100 / 8
    running = asyncio.create_task(house.recorder.run())
    house.recorder.queried(context(), served())
    await house.clock.advance(DRAIN_SECONDS * 1.5)
    assert len(house.writer.pending(Feed.SEARCHES, "films")) == 101
    running.cancel()


async def test_a_list_finds_what_was_just_served(house):
    house.recorder.queried(context(), served())
    house.recorder.settle(Feed.SEARCHES, "films")
    assert len(house.writer.pending(Feed.SEARCHES, "films")) == 1
