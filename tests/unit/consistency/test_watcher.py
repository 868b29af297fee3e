"""The watcher against an upstream that the test plays."""

import asyncio
import random

import orjson
import pytest

from hevlayer.errors import UpstreamError
from hevlayer.gateway.consistency import Outcome, Registry, Stamper, Status, Watcher
from hevlayer.testing.clock import FakeClock


class Upstream:
    """Answers metadata polls; a namespace in `stuck` never gets an answer."""

    def __init__(self):
        self.calls = []
        self.answers = {}
        self.stuck = set()
        self.running = 0
        self.running_max = 0

    async def read(self, namespace, bearer):
        self.calls.append((namespace, bearer))
        self.running += 1
        self.running_max = max(self.running, self.running_max)
        try:
            if namespace in self.stuck:
                await asyncio.Event().wait()
            await asyncio.sleep(0)
            answer = self.answers.get(namespace, stable())
            if isinstance(answer, Exception):
                raise answer
            return answer
        finally:
            self.running -= 1

    def count(self, namespace):
        return sum(1 for called, _ in self.calls if called == namespace)


class Keys:
    def __init__(self, key=b"k"):
        self.key = key

    def background_bearer(self, namespace, scope=None):
        return self.key


class Counts:
    def __init__(self):
        self.results = []
        self.bytes = {}

    def observe_poll(self, result, seconds):
        self.results.append(result)

    def set_logical_bytes(self, namespace, logical_bytes):
        self.bytes[namespace] = logical_bytes


def answer(status, created="2026-11-20T20:00:00Z"):
    schema = {"id": {"type": "string"}, "_hevlayer_upserted_at": {"type": "int"}}
    return 200, orjson.dumps(
        {"schema": schema, "created_at": created, "approx_logical_bytes": 5, "index": {"status": status}}
    )


def stable(created="2026-11-20T20:00:00Z"):
    return answer("up-to-date", created)


def updating():
    return answer("updating")


class House:
    def __init__(self, **settings):
        self.clock = FakeClock()
        self.stamper = Stamper(self.clock)
        self.registry = Registry(self.clock, self.stamper, interval_seconds=1.0, idle_seconds=100_000)
        self.upstream = Upstream()
        self.keys = Keys()
        self.counts = Counts()
        self.watcher = Watcher(
            self.clock,
            self.registry,
            self.stamper,
            self.upstream.read,
            self.keys,
            self.counts,
            rng=random.Random(7),
            **settings,
        )
        self.task = asyncio.get_running_loop().create_task(self.watcher.run())

    async def close(self):
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        await self.watcher.close()
        assert self.watcher.polls_running == 0


@pytest.fixture
async def house():
    built = House()
    yield built
    await built.close()


async def test_a_registered_namespace_gets_its_watermark(house):
    started = house.clock.now_ms()
    house.registry.touch("a")
    await house.clock.advance(0.1)
    view = house.registry.view("a")
    assert view.status is Status.STABLE
    assert started <= view.polled_at_ms <= house.clock.now_ms()
    assert view.watermark_ms == view.polled_at_ms - 500
    assert view.stamped_in_schema
    assert house.upstream.calls == [("a", b"k")]
    assert house.counts.bytes == {"a": 5}


async def test_a_write_in_flight_holds_the_watermark_until_its_answer(house):
    ticket = house.stamper.begin("a")
    house.registry.touch("a")
    await house.clock.advance(5)
    assert house.registry.view("a").watermark_ms == ticket.stamp_ms - 1
    ticket.settle(Outcome.OK)
    await house.clock.advance(2)
    assert house.registry.view("a").watermark_ms > ticket.stamp_ms


async def test_an_unknown_write_holds_the_watermark_for_its_time(house):
    house.registry.configure("a")
    ticket = house.stamper.begin("a")
    ticket.settle(Outcome.UNKNOWN)
    await house.clock.advance(119)
    assert house.registry.view("a").watermark_ms == ticket.stamp_ms - 1
    await house.clock.advance(3)
    assert house.registry.view("a").watermark_ms > ticket.stamp_ms


async def test_one_stuck_call_holds_nobody_and_ends_at_its_deadline(house):
    house.upstream.stuck = {"stuck"}
    for name in ("stuck", "a", "b"):
        house.registry.configure(name)
    await house.clock.advance(4.9)
    assert house.upstream.count("stuck") == 1
    assert house.upstream.count("a") >= 4
    assert house.upstream.count("b") >= 4
    await house.clock.advance(0.2)
    assert house.upstream.running == 0
    assert "deadline" in house.counts.results
    await house.clock.advance(3)
    assert house.upstream.count("stuck") == 2


async def test_polls_are_bounded_and_nobody_starves():
    house = House(concurrent_max=4)
    try:
        for number in range(50):
            house.registry.touch(f"ns-{number}")
        await house.clock.advance(2)
        assert house.upstream.running_max == 4
        assert all(house.registry.view(f"ns-{number}").is_stable for number in range(50))
    finally:
        await house.close()


async def test_a_quiet_namespace_is_polled_less_until_it_is_used_again(house):
    house.registry.touch("a")
    await house.clock.advance(60)
    busy = house.upstream.count("a")
    assert 55 <= busy <= 70
    await house.clock.advance(600)
    quiet = house.upstream.count("a") - busy
    assert 10 <= quiet <= 20
    before = house.upstream.count("a")
    house.registry.touch("a")
    await house.clock.advance(3)
    assert house.upstream.count("a") >= before + 3


async def test_an_updating_namespace_is_polled_however_idle(house):
    house.upstream.answers["a"] = updating()
    house.registry.touch("a")
    await house.clock.advance(300)
    assert house.upstream.count("a") >= 290


async def test_failures_back_off_and_keep_what_was_known(house):
    house.registry.touch("a")
    await house.clock.advance(0.1)
    known = house.registry.view("a")
    for failure in (
        UpstreamError("reset"),
        (500, b"{}"),
        (429, b""),
        (401, b""),
        (200, b"not json"),
        ValueError("bug"),
    ):
        house.upstream.answers["a"] = failure
        await house.clock.advance(70)
    view = house.registry.view("a")
    assert (view.status, view.watermark_ms, view.schema) == (Status.UNKNOWN, known.watermark_ms, known.schema)
    assert house.upstream.count("a") < 40
    for reason in ("upstream_error", "throttled", "refused", "bad_answer", "internal_error"):
        assert reason in house.counts.results
    house.upstream.answers["a"] = stable()
    await house.clock.advance(61)
    assert house.registry.view("a").watermark_ms > known.watermark_ms


async def test_without_a_key_nothing_is_asked(house):
    house.keys.key = None
    house.registry.touch("a")
    await house.clock.advance(10)
    assert house.upstream.calls == []
    assert set(house.counts.results) == {"no_credential"}
    house.keys.key = b"later"
    await house.clock.advance(1.1)
    assert house.registry.view("a").is_stable


async def test_an_outage_is_over_soon_for_a_namespace_in_use(house):
    house.upstream.answers["a"] = UpstreamError("the upstream cannot be reached")
    for _ in range(10):
        house.registry.touch("a")
        await house.clock.advance(30)
    house.upstream.answers["a"] = stable()
    house.registry.touch("a")
    await house.clock.advance(10.1)
    assert house.registry.view("a").is_stable


async def test_a_missing_and_a_recreated_namespace_void_what_is_held(house):
    heard = []
    house.registry.on_epoch(lambda namespace, reason: heard.append((namespace, reason)))
    house.registry.touch("a")
    await house.clock.advance(1.5)
    house.upstream.answers["a"] = stable("2026-11-21T09:00:00Z")
    await house.clock.advance(1.5)
    assert heard == [("a", "recreated")]
    house.upstream.answers["a"] = (404, b"")
    await house.clock.advance(1.5)
    assert heard == [("a", "recreated"), ("a", "gone")]
    assert "a" not in house.registry


async def test_the_answer_for_a_namespace_forgotten_meanwhile_is_dropped(house):
    house.upstream.stuck = {"a"}
    house.registry.touch("a")
    await house.clock.advance(0.1)
    assert house.upstream.running == 1
    house.registry.forget("a")
    house.upstream.stuck = set()
    await house.clock.advance(6)
    assert "a" not in house.registry
    assert house.upstream.count("a") == 1


async def test_close_leaves_no_task():
    house = House()
    house.upstream.stuck = {"a"}
    house.registry.touch("a")
    await house.clock.advance(0.1)
    assert house.watcher.polls_running == 1
    await house.close()
    assert house.upstream.running == 0
