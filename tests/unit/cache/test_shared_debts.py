"""Debts that the engine cannot be told: gateways tell each other on a board, and wait until all know."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from cache_stage import TTL_SECONDS, UNKNOWN_SECONDS, FailingEngine

from hevlayer.kernels.doccache import DocProjection, DocRows
from hevlayer.stores.doccache import DocumentCache, Miss, WriteOutcome
from hevlayer.stores.doccache_shared import TRUST_SECONDS, SharedDebts
from hevlayer.testing.clock import FakeClock
from hevlayer.testing.debt_board import SILENT_SECONDS, MemoryDebtBoard
from hevlayer.testing.doccache_twin import TwinEngine, TwinStore

PLAIN = DocProjection()
KEY = b"\x02a"
ROWS = DocRows(orjson.dumps({"rows": [{"id": "a"}]}), [])
A = b'{"id":"a","attributes":{}}'
DEAF = {"mark", "settle", "owe"}


class Gateway:
    """A policy whose calls of the engine a test can make fail."""

    def __init__(self, store: TwinStore, board: MemoryDebtBoard, clock: FakeClock) -> None:
        self.engine = FailingEngine(TwinEngine(store))
        self.shared = SharedDebts(board, clock)
        self.cache = DocumentCache(
            self.engine, clock, unknown_write_seconds=UNKNOWN_SECONDS, shared_debts=self.shared
        )  # fmt: skip

    async def look(self, namespace: str = "ns") -> bytes | Miss:
        return await self.cache.lookup(namespace, KEY, PLAIN, None)

    async def missed(self, namespace: str = "ns") -> Miss:
        found = await self.look(namespace)
        assert isinstance(found, Miss)
        return found

    async def fill(self, namespace: str = "ns") -> None:
        await self.cache.fill(namespace, [KEY], [(await self.missed(namespace)).ticket], ROWS)


@dataclass
class House:
    """Gateways over one cache and one board; each has looked at it."""

    clock: FakeClock = field(default_factory=FakeClock)

    def __post_init__(self) -> None:
        self.store = TwinStore(self.clock, ttl_seconds=TTL_SECONDS, unknown_write_seconds=UNKNOWN_SECONDS)
        self.board = MemoryDebtBoard(self.clock)
        self.gateways: list[Gateway] = []

    async def open(self) -> Gateway:
        gateway = Gateway(self.store, self.board, self.clock)
        self.gateways.append(gateway)
        await gateway.shared.look_once()
        return gateway

    async def all_look(self) -> None:
        for gateway in self.gateways:
            await gateway.shared.look_once()

    async def write(self, gateway: Gateway, outcome: WriteOutcome = WriteOutcome.APPLIED) -> None:
        """A write of `a` from its begin to its end, while everybody looks at the board."""
        work = asyncio.create_task(self._write(gateway, outcome))
        while not work.done():
            await self.clock.advance(TRUST_SECONDS / 4)
            await self.all_look()
        await work

    @staticmethod
    async def _write(gateway: Gateway, outcome: WriteOutcome) -> None:
        token = await gateway.cache.begin_write("ns", [KEY], 10.0)
        await gateway.cache.settle(token, outcome)


@pytest.fixture
async def house() -> House:
    made = House()
    first = await made.open()
    await made.open()
    for namespace in ("ns", "other"):
        await first.fill(namespace)
    return made


async def test_what_one_gateway_could_not_say_the_others_read(house: House) -> None:
    here, there = house.gateways
    here.engine.failing = set(DEAF)
    await house.write(here)
    assert (await here.missed()).failed
    assert (await there.missed()).failed
    assert there.cache.lookup_now("ns", KEY, PLAIN, None) is None
    assert (await there.cache.lookup_many("ns", [KEY], PLAIN)).documents == [None]
    assert await there.cache.begin_warm("ns") is None
    assert await there.look("other") == A
    await there.cache.fill("ns", [KEY], [1], ROWS)
    assert (await there.missed()).failed


async def test_no_head_is_answered_while_another_gateway_owes(house: House) -> None:
    here, there = house.gateways
    found = (b"HTTP/1.1 200 OK", None, 200, "", "")
    fresh = Gateway(house.store, house.board, house.clock)
    for gateway in (there, fresh):
        gateway.engine.answer_now = lambda *arguments: found
    # What is asked for does not matter to an engine that answers everything.
    asked: Any = (None, None, 0.0, b"")
    assert there.cache.answer_now(*asked) == found
    here.engine.failing = set(DEAF)
    await house.write(here)
    assert there.cache.answer_now(*asked) is None
    assert fresh.cache.answer_now(*asked) is None


async def test_a_write_waits_until_the_others_know_or_trust_nothing(house: House) -> None:
    here, there = house.gateways
    here.engine.failing = set(DEAF)
    work = asyncio.create_task(here.cache.begin_write("ns", [KEY], 10.0))
    await house.clock.advance(TRUST_SECONDS / 2)
    # This one has not looked since, so it serves, and the write must not go out.
    assert await there.look() == A
    assert not work.done()
    await house.clock.advance(TRUST_SECONDS / 2)
    assert work.done()
    assert (await there.missed()).failed
    assert (await there.missed("other")).failed
    await there.shared.look_once()
    assert (await there.missed()).failed
    assert await there.look("other") == A
    await here.cache.settle(work.result(), WriteOutcome.REFUSED)


async def test_the_next_writes_of_the_namespace_need_not_wait(house: House) -> None:
    here, _ = house.gateways
    here.engine.failing = set(DEAF)
    works = [asyncio.create_task(here.cache.begin_write("ns", [KEY], 10.0)) for _ in range(3)]
    await house.clock.advance(TRUST_SECONDS)
    assert all(work.done() for work in works)
    assert house.board.publications == 1
    await here.shared.look_once()
    token = await here.cache.begin_write("ns", [b"\x02b"], 10.0)
    assert house.board.publications == 1
    for each in (token, *(work.result() for work in works)):
        await here.cache.settle(each, WriteOutcome.REFUSED)


async def test_others_serve_again_once_it_is_repaid(house: House) -> None:
    here, there = house.gateways
    here.engine.failing = set(DEAF)
    await house.write(here)
    here.engine.failing = set()
    await house.clock.advance(10.0)
    await house.all_look()
    await here.cache.maintain()
    await house.all_look()
    assert not (await there.missed()).failed
    await there.fill()
    assert await here.look() == A


async def test_what_the_cache_was_told_needs_no_board(house: House) -> None:
    here, there = house.gateways
    here.engine.failing = {"mark", "settle"}
    await house.write(here)
    assert house.board.publications == 0
    assert not isinstance(await there.look(), bytes)


async def test_a_gateway_trusts_nothing_before_its_first_look(house: House) -> None:
    fresh = Gateway(house.store, house.board, house.clock)
    assert (await fresh.missed()).failed
    assert not (await fresh.cache.stats()).available
    await fresh.shared.look_once()
    assert await fresh.look() == A
    assert (await fresh.cache.stats()).available


async def test_a_board_that_is_away_is_trusted_for_a_while(house: House) -> None:
    here, _ = house.gateways
    house.board.failure = "before"
    await house.clock.advance(TRUST_SECONDS / 2)
    await here.shared.look_once()
    assert await here.look() == A
    await house.clock.advance(TRUST_SECONDS / 2)
    await here.shared.look_once()
    assert (await here.missed()).failed
    house.board.failure = ""
    await here.shared.look_once()
    assert await here.look() == A


async def test_a_write_goes_on_when_the_board_is_away_too(house: House) -> None:
    here, _ = house.gateways
    here.engine.failing = set(DEAF)
    house.board.failure = "before"
    token = await asyncio.wait_for(here.cache.begin_write("ns", [KEY], 10.0), 30.0)
    await here.cache.settle(token, WriteOutcome.APPLIED)
    assert (await here.missed()).failed


async def test_a_dead_gateways_debt_is_taken_over(house: House) -> None:
    dead, there = house.gateways
    dead.engine.failing = set(DEAF)
    await house.write(dead)
    house.gateways.remove(dead)
    await house.clock.advance(SILENT_SECONDS)
    await house.all_look()
    await there.cache.maintain()
    assert house.board.removals == 0, "it may still be alive"
    await house.clock.advance(1.0)
    await house.all_look()
    there.engine.failing = {"take_over"}
    await there.cache.maintain()
    assert house.board.removals == 0
    assert (await there.missed()).failed
    there.engine.failing = set()
    await house.clock.advance(10.0)
    await house.all_look()
    await there.cache.maintain()
    assert house.board.removals == 1
    await house.all_look()
    # Now the cache knows. A write that could not be marked may be under way for as long as any.
    found = await there.missed()
    assert not found.failed
    assert found.ticket <= 0
    await house.clock.advance(UNKNOWN_SECONDS)
    await house.all_look()
    await there.fill()
    assert await there.look() == A


async def test_a_gateway_that_was_taken_for_dead_tells_its_debt_again(house: House) -> None:
    here, there = house.gateways
    here.engine.failing = set(DEAF)
    await house.write(here)
    await house.clock.advance(SILENT_SECONDS + 1)
    await there.shared.look_once()
    await there.cache.maintain()
    assert house.board.removals == 1
    await here.shared.look_once()
    work = asyncio.create_task(here.cache.begin_write("ns", [b"\x02b"], 10.0))
    await house.clock.advance(TRUST_SECONDS / 2)
    assert not work.done()
    assert house.board.publications == 2
    await house.clock.advance(TRUST_SECONDS / 2)
    await here.cache.settle(await work, WriteOutcome.REFUSED)


async def test_a_gateway_that_cannot_look_does_not_count_on_what_it_published(house: House) -> None:
    here, _ = house.gateways
    here.engine.failing = set(DEAF)
    await house.write(here)
    # It may have been taken for dead, and cannot know.
    await house.clock.advance(SILENT_SECONDS + 1)
    work = asyncio.create_task(here.cache.begin_write("ns", [b"\x02b"], 10.0))
    await house.clock.advance(TRUST_SECONDS / 2)
    assert not work.done()
    await house.clock.advance(TRUST_SECONDS / 2)
    await here.cache.settle(await work, WriteOutcome.REFUSED)


@pytest.mark.parametrize("failure", ["after", "late"])
async def test_a_debt_that_comes_late_is_taken_back(house: House, failure: str) -> None:
    here, there = house.gateways
    here.engine.failing = set(DEAF)
    house.board.failure = failure
    token = await here.cache.begin_write("ns", [KEY], 10.0)
    await here.cache.settle(token, WriteOutcome.REFUSED)
    here.engine.failing = set()
    house.board.failure = ""
    await house.clock.advance(10.0)
    await here.cache.maintain()
    for effect in house.board.late:
        effect()
    await house.all_look()
    await here.cache.maintain()
    await house.all_look()
    assert await there.look() == A
