"""The ledger's bounds, turns and deadlines."""

import asyncio
import random

import pytest

from hevlayer.gateway.permits import AGGREGATE_COST, KNN_COST, WAITERS_MAX, Lane, PermitLedger, PermitTimeoutError
from hevlayer.testing.clock import FakeClock

NS, SCOPE = "films", b""


class Waits:
    def __init__(self):
        self.seen = []

    def observe_permit_wait(self, lane, seconds, *, granted):
        self.seen.append((lane, granted))


@pytest.fixture
def ledger():
    return PermitLedger(FakeClock(), Waits())


class Reads:
    """Reads that hold their permits until they are told to end."""

    def __init__(self, ledger):
        self.ledger = ledger
        self.order = []
        self.ends = {}
        self.tasks = []

    def read(self, name, cost=1, job=None, namespace=NS):
        self.ends[name] = asyncio.Event()

        async def run():
            if job is None:
                held = self.ledger.foreground(namespace, SCOPE, cost)
            else:
                held = self.ledger.background(namespace, SCOPE, job, cost)
            async with held:
                self.order.append(name)
                await self.ends[name].wait()

        self.tasks.append(asyncio.ensure_future(run()))
        return self.tasks[-1]

    async def end(self, *names):
        for name in names:
            self.ends[name].set()
        await FakeClock.settle()

    async def close(self):
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        assert self.ledger.held(Lane.FOREGROUND) == self.ledger.held(Lane.BACKGROUND) == self.ledger.waiting == 0
        assert not self.ledger._accounts


@pytest.fixture
async def reads(ledger):
    made = Reads(ledger)
    yield made
    await made.close()


async def test_background_work_takes_four_of_sixteen(reads):
    for number in range(6):
        reads.read(f"b{number}", job="warm")
    for number in range(13):
        reads.read(f"f{number}")
    await FakeClock.settle()
    assert reads.order == [f"b{number}" for number in range(4)] + [f"f{number}" for number in range(12)]
    await reads.end("f0")
    assert reads.order[-1] == "f12"
    await reads.end("b0", "b1")
    assert reads.order[-2:] == ["b4", "b5"]


async def test_an_aggregate_takes_all_of_the_background_s(reads):
    reads.read("page", job="warm")
    reads.read("aggregate", AGGREGATE_COST, job="count")
    reads.read("later", job="warm")
    await FakeClock.settle()
    # The page after it does not overtake it for ever.
    assert reads.order == ["page"]
    await reads.end("page")
    assert reads.order == ["page", "aggregate"]
    await reads.end("aggregate")
    assert reads.order == ["page", "aggregate", "later"]


async def test_an_exhaustive_search_counts_twice(reads):
    for number in range(3):
        reads.read(f"k{number}", KNN_COST, job="scan")
    await FakeClock.settle()
    assert reads.order == ["k0", "k1"]


async def test_jobs_take_turns(reads):
    for number in range(8):
        reads.read(f"a{number}", job="a")
    for number in range(2):
        reads.read(f"b{number}", job="b")
    await FakeClock.settle()
    await reads.end("a0", "a1")
    assert set(reads.order[4:]) == {"a4", "b0"}
    await reads.end("a2", "a3")
    assert set(reads.order[6:]) == {"a5", "b1"}


async def test_namespaces_and_scopes_have_their_own(reads, ledger):
    for number in range(4):
        reads.read(f"x{number}", job="warm")
    reads.read("y", job="warm", namespace="other")
    await FakeClock.settle()
    assert "y" in reads.order
    async with ledger.background(NS, b"another", "warm", AGGREGATE_COST):
        assert ledger.held(Lane.BACKGROUND) == 9


async def test_a_wait_has_a_deadline(reads, ledger):
    reads.read("held", AGGREGATE_COST, job="count")
    await FakeClock.settle()
    with pytest.raises(PermitTimeoutError, match=r"films.*0\.01 s"):
        async with ledger.background(NS, SCOPE, "warm", seconds=0.01):
            pytest.fail("there was none")
    assert ledger.waiting == 0
    assert ledger._metrics.seen == [("background", True), ("background", False)]


async def test_those_who_wait_are_bounded(ledger):
    reads = Reads(ledger)
    for number in range(4 + WAITERS_MAX):
        reads.read(number, job="warm")
    await FakeClock.settle()
    assert (ledger.held(Lane.BACKGROUND), ledger.waiting) == (4, WAITERS_MAX)
    with pytest.raises(PermitTimeoutError, match=str(WAITERS_MAX)):
        async with ledger.foreground(NS, SCOPE):
            pytest.fail("too many wait")
    await reads.close()


@pytest.mark.parametrize(("job", "cost"), [(None, 17), (None, 0), ("warm", 5)])
async def test_a_cost_that_can_never_be_met_is_a_mistake(ledger, job, cost):
    held = ledger.foreground(NS, SCOPE, cost) if job is None else ledger.background(NS, SCOPE, job, cost)
    with pytest.raises(ValueError, match=f"not {cost}"):
        async with held:
            pytest.fail("granted")


async def test_permits_come_back_whatever_happens(ledger):
    rng = random.Random(11)
    most = {Lane.FOREGROUND: 0, Lane.BACKGROUND: 0}

    async def read():
        job = rng.choice([None, "a", "b"])
        cost = rng.randint(1, 4)
        held = ledger.foreground(NS, SCOPE, cost) if job is None else ledger.background(NS, SCOPE, job, cost)
        async with held:
            for lane in most:
                most[lane] = max(most[lane], ledger.held(lane))
            assert ledger.held(Lane.BACKGROUND) <= 4
            assert ledger.held(Lane.FOREGROUND) + ledger.held(Lane.BACKGROUND) <= 16
            for _ in range(rng.randint(0, 3)):
                await asyncio.sleep(0)
            if rng.random() < 0.2:
                raise RuntimeError

    tasks = []
    for _ in range(600):
        tasks.append(asyncio.ensure_future(read()))
        if rng.random() < 0.3:
            await asyncio.sleep(0)
        if rng.random() < 0.3:
            rng.choice(tasks).cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert most[Lane.BACKGROUND] == 4
    assert most[Lane.FOREGROUND] > 8
    assert not ledger._accounts
