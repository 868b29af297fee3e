"""The exchange of floors with the other gateways, over a board that the test plays."""

import asyncio

import pytest

from hevlayer.errors import ServiceUnavailableError
from hevlayer.gateway.consistency import Outcome, PeerFloors, Stamper
from hevlayer.gateway.consistency.peers import PUBLISH_SECONDS, SWEEP_SECONDS, TRUST_SECONDS
from hevlayer.stores.floors import Floors
from hevlayer.testing.clock import FakeClock


class Board:
    def __init__(self):
        self.published = []
        self.others = []
        self.failing = False
        self.retired = 0
        self.swept = 0

    async def publish(self, floors):
        if self.failing:
            raise ServiceUnavailableError("away")
        self.published.append(floors)
        return self.others

    async def retire(self):
        if self.failing:
            raise ServiceUnavailableError("away")
        self.retired += 1

    async def sweep(self):
        self.swept += 1


@pytest.fixture
def clock():
    return FakeClock(now_ms=1_000_000)


@pytest.fixture
def stamper(clock):
    return Stamper(clock)


@pytest.fixture
def board():
    return Board()


@pytest.fixture
def peers(board, stamper, clock):
    return PeerFloors(board, stamper, clock)


async def test_it_publishes_five_times_a_second_and_sweeps_now_and_then(peers, board, clock):
    task = asyncio.create_task(peers.run())
    await clock.advance(1.0 + PUBLISH_SECONDS / 2)
    assert len(board.published) == 5
    assert board.swept == 0
    await clock.advance(SWEEP_SECONDS)
    assert board.swept == 1
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_namespace_has_its_own_floor_while_its_writes_are_old(peers, board, stamper, clock):
    ticket = stamper.begin("a")
    clock.move(3.0)
    await peers.publish_once()
    assert board.published[-1] == Floors(1_003_000, {"a": 1_000_000})
    ticket.settle(Outcome.OK)
    clock.move(1.0)
    await peers.publish_once()
    assert board.published[-1] == Floors(1_004_000, {})


async def test_past_the_bound_the_rest_of_the_namespaces_share_the_general_floor(board, stamper, clock):
    peers = PeerFloors(board, stamper, clock, namespaces_max=2)
    tickets = []
    for name in "abcd":
        tickets.append(stamper.begin(name))
        clock.move(1.0)
    await peers.publish_once()
    assert board.published[-1] == Floors(1_002_000, {"a": 1_000_000, "b": 1_001_000})
    for ticket in tickets:
        ticket.settle(Outcome.OK)


async def test_the_lowest_of_the_others_floors_counts_for_each_namespace(peers, board, clock):
    board.others = [Floors(900_000, {"a": 800_000}), Floors(950_000, {"b": 700_000})]
    await peers.publish_once()
    assert [peers.floor_ms(name) for name in "abc"] == [800_000, 700_000, 900_000]
    # Alone, it is the time at which nobody else was there.
    board.others = []
    await peers.publish_once()
    assert peers.floor_ms("a") == clock.now_ms()


async def test_a_board_that_is_away_leaves_what_was_known_and_then_nothing(peers, board, clock):
    board.others = [Floors(900_000)]
    await peers.publish_once()
    board.failing = True
    clock.move(TRUST_SECONDS)
    await peers.publish_once()
    assert peers.floor_ms("a") == 900_000
    clock.move(0.1)
    assert peers.floor_ms("a") is None
    board.failing = False
    await peers.publish_once()
    assert peers.floor_ms("a") == 900_000


async def test_a_clean_stop_retires_and_an_unclean_one_does_not(peers, board, stamper):
    stamper.begin("a").settle(Outcome.UNKNOWN)
    await peers.stop()
    assert board.retired == 0


async def test_a_stop_without_writes_retires_also_when_the_board_is_away(peers, board):
    await peers.stop()
    assert board.retired == 1
    board.failing = True
    await peers.stop()
    assert board.retired == 1
