"""One slice of load under a clock that the test moves: what is sent, and what latency counts from."""

import asyncio
import itertools
import random

import pytest

from hevlayer.bench.data import Call
from hevlayer.bench.endpoint import Outcome
from hevlayer.bench.load import CANCELLED, NOT_SENT, Lane, run_slice
from hevlayer.bench.plan import BenchPlan, Kind, Operation, Target
from hevlayer.bench.tally import TargetTally
from hevlayer.testing.clock import FakeClock

TARGET = Target(Kind.DIRECT, "http://origin:1")
OK = Outcome("200", succeeded=True, cache="hit")


class FakeEndpoint:
    """Answers after the seconds that `service` gives for each request, by its number."""

    target = TARGET

    def __init__(self, clock: FakeClock, service) -> None:
        self.clock = clock
        self.service = service
        self.sent_at: list[float] = []
        self.busy = self.busy_max = 0

    async def perform(self, _call: Call) -> Outcome:
        number = len(self.sent_at)
        self.sent_at.append(self.clock.monotonic())
        self.busy += 1
        self.busy_max = max(self.busy, self.busy_max)
        await self.clock.sleep(self.service(number))
        self.busy -= 1
        return OK


def lane_of(endpoint) -> Lane:
    calls = itertools.repeat(Call(Operation.VECTOR, b"{}"))
    return Lane(endpoint, calls, random.Random(1), TargetTally())


async def run(plan: BenchPlan, service, seconds: float, *, ahead: float = 1000.0) -> tuple[Lane, FakeEndpoint, float]:
    clock = FakeClock()
    begin = clock.monotonic()
    endpoint = FakeEndpoint(clock, service)
    lane = lane_of(endpoint)
    task = asyncio.create_task(run_slice(lane, plan, seconds, clock))
    for _ in range(int(ahead / 0.25)):
        if task.done():
            break
        await clock.advance(0.25)
    await task
    return lane, endpoint, begin


async def test_closed_loop_callers_send_one_after_the_other_until_the_end():
    plan = BenchPlan((TARGET,), concurrency=2)
    lane, endpoint, begin = await run(plan, lambda _number: 0.5, 3.0)
    # Two callers, half a second each, three seconds.
    assert len(endpoint.sent_at) == 12
    assert endpoint.busy_max == 2
    assert max(endpoint.sent_at) < begin + 3.0
    tally = lane.tally.operations["vector"]
    assert tally.outcomes == {"200": 12}
    assert tally.cache == {"hit": 12}
    assert lane.tally.requests == {"measure": 12}
    assert [(each.succeeded, each.failed) for each in lane.tally.slices] == [(12, 0)]
    assert tally.latency.max_ms == pytest.approx(500, rel=0.001)
    assert tally.service.count == 0


async def test_closed_loop_waits_for_what_is_in_flight_at_the_end():
    lane, endpoint, _ = await run(BenchPlan((TARGET,), concurrency=1), lambda _number: 2.0, 3.0)
    assert len(endpoint.sent_at) == 2
    assert lane.tally.operations["vector"].succeeded == 2
    assert lane.tally.slices[0].seconds >= 4.0


async def test_open_loop_charges_a_stall_to_everything_that_it_held_up():
    # The first answer takes four seconds, every other one a millisecond; one connection.
    plan = BenchPlan((TARGET,), concurrency=1, rate=10.0)
    lane, endpoint, _ = await run(plan, lambda number: 4.0 if number == 0 else 0.001, 5.0)
    tally = lane.tally.operations["vector"]
    assert 25 < tally.total < 85
    assert tally.total == len(endpoint.sent_at)
    # By their own account nearly all were quick; seen from outside most waited for seconds.
    assert tally.service.quantiles_ms([0.9])[0] < 10
    assert tally.latency.quantiles_ms([0.5])[0] > 1000


async def test_open_loop_sends_at_its_rate_whatever_the_answers_take():
    plan = BenchPlan((TARGET,), concurrency=64, rate=20.0)
    quick, _, _ = await run(plan, lambda _number: 0.001, 5.0)
    slow, _, _ = await run(plan, lambda _number: 1.0, 5.0)
    assert quick.tally.requests == slow.tally.requests
    assert 60 < quick.tally.requests["measure"] < 140


async def test_open_loop_never_sends_before_the_time():
    plan = BenchPlan((TARGET,), concurrency=4, rate=20.0)
    lane, _, _ = await run(plan, lambda _number: 0.25, 5.0)
    tally = lane.tally.operations["vector"]
    assert tally.latency.histogram.get_min_value() >= tally.service.histogram.get_min_value()


async def test_what_would_be_sent_much_too_late_is_counted_and_not_sent():
    plan = BenchPlan((TARGET,), concurrency=1, rate=10.0, timeout_seconds=1.0)
    lane, endpoint, _ = await run(plan, lambda number: 60.0 if number == 0 else 0.001, 5.0)
    tally = lane.tally.operations["vector"]
    assert len(endpoint.sent_at) == 1
    assert tally.outcomes[NOT_SENT] == tally.total - 1 > 10
    assert lane.tally.requests["measure"] == 1
    assert tally.failed == tally.outcomes[NOT_SENT]


async def test_an_interrupted_slice_counts_what_was_under_way():
    clock = FakeClock()
    lane = lane_of(FakeEndpoint(clock, lambda _number: 3.0))
    task = asyncio.create_task(run_slice(lane, BenchPlan((TARGET,), concurrency=3), 60.0, clock))
    await clock.advance(4.0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    tally = lane.tally.operations["vector"]
    assert tally.outcomes == {"200": 3, CANCELLED: 3}
    assert lane.tally.requests == {"measure": 6}
    assert [(each.succeeded, each.failed) for each in lane.tally.slices] == [(3, 3)]
