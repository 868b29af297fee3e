"""One slice of load on one target, in a closed or an open loop."""

import asyncio
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from hevlayer.bench.data import Call
from hevlayer.bench.endpoint import Endpoint, Outcome
from hevlayer.bench.plan import BenchPlan
from hevlayer.bench.tally import Slice, TargetTally
from hevlayer.clock import Clock

CANCELLED = "interrupted"
NOT_SENT = "not sent in time"


@dataclass(slots=True)
class Lane:
    """A target under load: its endpoint, what it is sent next, and the random source of its arrival times."""

    endpoint: Endpoint
    calls: Iterator[Call]
    arrivals: random.Random
    tally: TargetTally
    phase: str = "measure"

    @property
    def name(self) -> str:
        return self.endpoint.target.name


def slice_order(names: list[str], round_number: int) -> list[str]:
    """The order of the targets in a round. Every other round runs backwards, so that drift favours nobody."""
    return names if round_number % 2 == 0 else names[::-1]


async def run_slice(lane: Lane, plan: BenchPlan, seconds: float, clock: Clock) -> None:
    """Loads one target for `seconds`, then waits for what is in flight. Adds to the lane's tally.

    Closed loop: each caller sends when its last answer is there, and latency counts from the sending. Open loop: the
    times are drawn before (exponential gaps), and latency counts from them, also when every caller is busy then: a
    stall of the target is charged to all requests that it held up.
    """
    begin = clock.monotonic()
    before = lane.tally.requests[lane.phase]
    succeeded = failed = 0

    def note(call: Call, outcome: Outcome, intended: float, sent: float) -> None:
        nonlocal succeeded, failed
        now = clock.monotonic()
        tally = lane.tally.of(call.operation.value)
        tally.outcomes[outcome.name] += 1
        if outcome.cache is not None:
            tally.cache[outcome.cache] += 1
        if outcome.succeeded:
            succeeded += 1
            tally.latency.record(now - intended)
            if plan.rate is not None:
                tally.service.record(now - sent)
        else:
            failed += 1

    starts = _closed(begin + seconds, clock) if plan.rate is None else _open(lane, plan.rate, begin, seconds)
    callers = [_caller(lane, starts, plan, clock, note) for _ in range(plan.concurrency)]
    try:
        await asyncio.gather(*callers)
    finally:
        if lane.tally.requests[lane.phase] > before:
            lane.tally.slices.append(Slice(clock.monotonic() - begin, succeeded, failed))


def _closed(end: float, clock: Clock) -> Iterator[float]:
    while (now := clock.monotonic()) < end:
        yield now


def _open(lane: Lane, rate: float, begin: float, seconds: float) -> Iterator[float]:
    at = begin + lane.arrivals.expovariate(rate)
    while at < begin + seconds:
        yield at
        at += lane.arrivals.expovariate(rate)


Note = Callable[[Call, Outcome, float, float], None]


async def _caller(lane: Lane, starts: Iterator[float], plan: BenchPlan, clock: Clock, note: Note) -> None:
    """Takes the next start that nobody has taken, until there is none."""
    for intended in starts:
        # Timers count in milliseconds and may end too early; a request sent before its time would seem too quick.
        while (sent := clock.monotonic()) < intended:
            await clock.sleep(intended - sent)
        call = next(lane.calls)
        if sent - intended > plan.timeout_seconds:
            # Nobody would wait this long; without this a stalled target would hold the run for ever.
            note(call, Outcome(NOT_SENT, succeeded=False), intended, sent)
            continue
        lane.tally.requests[lane.phase] += 1
        try:
            outcome = await lane.endpoint.perform(call)
        except asyncio.CancelledError:
            note(call, Outcome(CANCELLED, succeeded=False), intended, sent)
            raise
        note(call, outcome, intended, sent)
